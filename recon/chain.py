"""Hidden Markov chains of poses: continuity of the tumbling over candidates of each frame.

Transitions are Gaussian in the rotation angle between consecutive frames. "Modulo" chains identify the 48 poses that
give the same lattice image; plain chains keep them apart. Emissions are tempered log-likelihoods: the projection model
is not exact and neighbouring coefficients are correlated, so that the raw likelihood is overconfident.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from .symmetry import CUBE, Symmetry

Floats = NDArray[np.float64]
_DEG = 180.0 / math.pi


@njit(cache=True, forceinline=True)
def _half_turned(b, h):  # type: ignore[no-untyped-def]
    """Components of b, or after half a turn about the beam (`h` = 1) of C2Z b."""
    return (b[0], b[1], b[2], b[3]) if h == 0 else (-b[3], -b[2], b[1], b[0])


@njit(cache=True, forceinline=True)
def _dot_cubic(a, b):  # type: ignore[no-untyped-def]
    """|cos(angle / 2)| between a and the nearest of the 48 equivalents of b of a cubic lattice.

    For p = a^-1 b the best of the 24 cube rotations has a closed form in the sorted |components| (Grimmer 1974).
    """
    best = 0.0
    for h in range(2):
        w, x, y, z = _half_turned(b, h)
        p0 = abs(a[0] * w + a[1] * x + a[2] * y + a[3] * z)
        p1 = abs(a[0] * x - a[1] * w - a[2] * z + a[3] * y)
        p2 = abs(a[0] * y + a[1] * z - a[2] * w - a[3] * x)
        p3 = abs(a[0] * z - a[1] * y + a[2] * x - a[3] * w)
        if p0 < p1:
            p0, p1 = p1, p0
        if p2 < p3:
            p2, p3 = p3, p2
        first, second = (p0, max(p1, p2)) if p0 > p2 else (p2, max(p3, p0))
        value = max(first, (first + second) * math.sqrt(0.5), 0.5 * (p0 + p1 + p2 + p3))
        best = max(best, value)
    return best


@njit(cache=True)
def _dot_listed(a, b, turns, flips):  # type: ignore[no-untyped-def]
    """The same for the operations of any point group: with a' = b^-1 a they are ``|a' . turn|``."""
    best = 0.0
    for h in range(2):
        w, x, y, z = _half_turned(b, h)
        p0 = w * a[0] + x * a[1] + y * a[2] + z * a[3]
        p1 = w * a[1] - x * a[0] - y * a[3] + z * a[2]
        p2 = w * a[2] + x * a[3] - y * a[0] - z * a[1]
        p3 = w * a[3] - x * a[2] + y * a[1] - z * a[0]
        group = turns if h == 0 else flips
        for i in range(len(group)):
            value = abs(p0 * group[i, 0] + p1 * group[i, 1] + p2 * group[i, 2] + p3 * group[i, 3])
            best = max(best, value)
    return best


@njit(cache=True, forceinline=True)
def _dot_modulo(a, b, turns, flips):  # type: ignore[no-untyped-def]
    """|cos(angle / 2)| between a and the nearest equivalent of b; no operations listed: those of the cube."""
    if len(turns) == 0:
        return _dot_cubic(a, b)
    return _dot_listed(a, b, turns, flips)


@njit(cache=True, forceinline=True)
def _angle(dot):  # type: ignore[no-untyped-def]
    return 2.0 * _DEG * math.acos(min(dot, 1.0))


@njit(parallel=True, cache=True)
def _weights(poses, start, column, sigma, turns, flips, out):  # type: ignore[no-untyped-def]
    for i in prange(len(poses)):
        for k in range(start[i], start[i + 1]):
            angle = _angle(_dot_modulo(poses[i], poses[column[k]], turns, flips)) / sigma
            out[k] = math.exp(-0.5 * angle * angle)


def transition_weights(
    poses: Floats, start: NDArray[np.int64], column: NDArray[np.int32], sigma_deg: float, symmetry: Symmetry = CUBE
) -> NDArray[np.float32]:
    """Gaussian transition weights modulo `symmetry` between poses (g, 4), for pairs in compressed rows."""
    out = np.empty(len(column), np.float32)
    _weights(poses, start, column, sigma_deg, *symmetry.listed, out)
    return out


@njit(parallel=True, cache=True)
def _transitions_modulo(poses, sigma, floor, turns, flips):  # type: ignore[no-untyped-def]
    """(t - 1, k, k) log transition from candidate i of frame t to candidate j of frame t + 1, modulo a point group."""
    steps, k = poses.shape[0] - 1, poses.shape[1]
    out = np.empty((steps, k, k), np.float32)
    for t in prange(steps):
        for i in range(k):
            for j in range(k):
                angle = _angle(_dot_modulo(poses[t, i], poses[t + 1, j], turns, flips)) / sigma
                out[t, i, j] = max(-0.5 * angle * angle, floor)
    return out


@njit(parallel=True, cache=True, fastmath=True)
def _transitions(poses, sigma, floor):  # type: ignore[no-untyped-def]
    """The same with all poses kept apart; `poses` is (t, 4, k) float32, so that the inner loop runs over vectors."""
    steps, k = poses.shape[0] - 1, poses.shape[2]
    out = np.empty((steps, k, k), np.float32)
    scale = np.float32(-0.5 * (_DEG / sigma) ** 2)
    least = np.float32(floor)
    for t in prange(steps):
        now, after = poses[t], poses[t + 1]
        for i in range(k):
            a, b, c, d = now[0, i], now[1, i], now[2, i], now[3, i]
            for j in range(k):
                dot = abs(a * after[0, j] + b * after[1, j] + c * after[2, j] + d * after[3, j])
                u = max(np.float32(1) - dot, np.float32(0))
                # (2 acos(1 - u))^2 as a series: off by 1e-4 of itself at 60 degrees, far below the floor by then
                square = u * (
                    np.float32(8) + u * (np.float32(4 / 3) + u * (np.float32(16 / 45) + u * np.float32(4 / 35)))
                )
                out[t, i, j] = max(scale * square, least)
    return out


@njit(cache=True)
def _viterbi(emission, transitions):  # type: ignore[no-untyped-def]
    frames, k = emission.shape
    score = emission[0].astype(np.float32)
    back = np.zeros((frames, k), np.int32)
    fresh = np.empty(k, np.float32)
    for t in range(1, frames):
        origin = back[t]
        fresh[:] = np.float32(-1e30)
        for i in range(k):
            base, row = score[i], transitions[t - 1, i]
            for j in range(k):
                value = base + row[j]
                better = value > fresh[j]
                fresh[j] = value if better else fresh[j]
                origin[j] = i if better else origin[j]
        top = np.float32(-1e30)
        for j in range(k):
            fresh[j] += np.float32(emission[t, j])
            top = max(top, fresh[j])
        for j in range(k):
            score[j] = fresh[j] - top
    path = np.empty(frames, np.int64)
    path[-1] = np.argmax(score)
    for t in range(frames - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path


@njit(parallel=True, cache=True, fastmath=True)
def _exponentiate(transitions):  # type: ignore[no-untyped-def]
    for t in prange(transitions.shape[0]):
        for i in range(transitions.shape[1]):
            for j in range(transitions.shape[2]):
                transitions[t, i, j] = math.exp(transitions[t, i, j])


@njit(cache=True)
def _share_out(probability):  # type: ignore[no-untyped-def]
    """Divide by the sum, in place."""
    total = 0.0
    for value in probability:
        total += value
    total = max(total, 1e-300)
    for j in range(len(probability)):
        probability[j] /= total


# Element by element: for what is assigned to a row as a whole numba compiles words about shapes that do not fit.
@njit(cache=True, fastmath=True)
def _posterior(emission, factors):  # type: ignore[no-untyped-def]
    """Forward-backward; `factors` are transition probabilities, up to a constant."""
    frames, k = emission.shape
    seen = np.empty((frames, k))
    alpha = np.empty((frames, k))
    for t in range(frames):
        top = emission[t, 0]
        for j in range(k):
            top = max(top, emission[t, j])
        for j in range(k):
            seen[t, j] = math.exp(emission[t, j] - top)
            alpha[t, j] = seen[t, j] if t == 0 else 0.0
    _share_out(alpha[0])
    for t in range(1, frames):
        now = alpha[t]
        for i in range(k):
            share, row = alpha[t - 1, i], factors[t - 1, i]
            for j in range(k):
                now[j] += share * row[j]
        for j in range(k):
            now[j] *= seen[t, j]
        _share_out(now)
    beta = np.ones(k)
    ahead = np.empty(k)
    for t in range(frames - 2, -1, -1):
        for j in range(k):
            ahead[j] = seen[t + 1, j] * beta[j]
        top = 0.0
        for i in range(k):
            row = factors[t, i]
            total = 0.0
            for j in range(k):
                total += row[j] * ahead[j]
            beta[i] = total
            top = max(top, total)
        for j in range(k):
            beta[j] /= max(top, 1e-300)
            alpha[t, j] *= beta[j]
        _share_out(alpha[t])
    return alpha


NOT_SCORED = -1e6  # score of a state that nobody computed
IMPOSSIBLE = -1e9


def tempered(score: NDArray[np.floating], exponent: float, clip: float = 130.0) -> Floats:
    """Emission ``exponent * max(L - max L, -clip)`` per frame, (t, k); states NOT_SCORED are impossible."""
    relative = score.astype(np.float64) - score.max(axis=1, keepdims=True)
    return np.where(score <= NOT_SCORED, IMPOSSIBLE, exponent * np.maximum(relative, -clip))


def posterior_modulo(
    poses: Floats,
    score: Floats,
    sigma_deg: float,
    exponent: float = 0.3,
    jump: float = 1e-7,
    symmetry: Symmetry = CUBE,
) -> Floats:
    """Forward-backward probabilities (t, k) of candidates (t, k, 4) modulo the equivalents of `symmetry`."""
    factors = _transitions_modulo(np.ascontiguousarray(poses), sigma_deg, math.log(jump), *symmetry.listed)
    _exponentiate(factors)
    return np.asarray(_posterior(tempered(score, exponent, 200.0), factors))


def chosen_modulo(
    poses: Floats,
    score: Floats,
    sigma_deg: float,
    *,
    exponent: float = 0.3,
    floor: float = -25.0,
    anchor: Floats | None = None,
    symmetry: Symmetry = CUBE,
) -> NDArray[np.int64]:
    """Candidate (t,) of every frame on the most probable path modulo the equivalents of `symmetry`: Viterbi over
    candidates (t, k, 4). `anchor` is the pose before the first frame.
    """
    emission = tempered(score, exponent)
    if anchor is not None:
        poses = np.concatenate([np.repeat(anchor[None, None], poses.shape[1], axis=1), poses])
        emission = np.concatenate([np.zeros((1, emission.shape[1])), emission])
    transitions = _transitions_modulo(np.ascontiguousarray(poses), sigma_deg, floor, *symmetry.listed)
    chosen = np.asarray(_viterbi(emission, transitions))
    return chosen if anchor is None else chosen[1:]


def path_modulo(
    poses: Floats, score: Floats, sigma_deg: float, *, anchor: Floats | None = None, symmetry: Symmetry = CUBE
) -> tuple[Floats, NDArray[np.int64]]:
    """The path of `chosen_modulo` unwrapped into one continuous branch: poses (t, 4), each the equivalent nearest to
    its predecessor, and the candidate chosen in each frame (t,).
    """
    chosen = chosen_modulo(poses, score, sigma_deg, anchor=anchor, symmetry=symmetry)
    path = poses[np.arange(len(poses)), chosen].copy()
    for t in range(len(path)):
        before = path[t - 1] if t else anchor
        if before is not None:
            path[t] = symmetry.nearest(before, path[t])
    return path, chosen


def probable_path(
    poses: Floats, score: Floats, sigma_deg: float, exponent: float = 0.3, floor: float = -60.0
) -> tuple[NDArray[np.int64], float]:
    """State (t,) of every frame on the most probable path among `poses` (t, states, 4), and the log of its probability
    (up to a constant): emissions and transitions.
    """
    emission = tempered(score, exponent)
    transitions = _transitions(np.ascontiguousarray(poses.swapaxes(1, 2), np.float32), sigma_deg, floor)
    chosen = _viterbi(emission, transitions)
    steps = np.arange(len(chosen) - 1)
    worth = emission[np.arange(len(chosen)), chosen].sum() + transitions[steps, chosen[:-1], chosen[1:]].sum()
    return chosen, float(worth)


@njit(cache=True)
def _mass_near(poses, probability, chosen, cosine):  # type: ignore[no-untyped-def]
    out = np.zeros(poses.shape[0])
    for t in range(poses.shape[0]):
        a = poses[t, chosen[t]]
        total = 0.0
        for j in range(poses.shape[1]):
            b = poses[t, j]
            if abs(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]) > cosine:
                total += probability[t, j]
        out[t] = total
    return out


def decode(
    poses: Floats,
    score: Floats,
    sigma_deg: float,
    *,
    anchor: Floats | None = None,
    exponent: float = 0.3,
    floor: float = -60.0,
    within_deg: float = 8.0,
) -> tuple[NDArray[np.int64], Floats]:
    """Most probable state of every frame among all branches, and how sure that is.

    Parameters
    ----------
    poses : (t, states, 4), equivalents kept apart. score : (t, states) log-likelihoods. anchor : (4,) pose accepted
        just before the first frame.

    Returns
    -------
    chosen : (t,) state on the Viterbi path. mass : (t,) forward-backward probability, at half the exponent, of all
        states within `within_deg` of the chosen pose.
    """
    emission = tempered(score, exponent)
    if anchor is not None:
        dot = np.abs(poses[0] @ anchor)
        angle = 2 * np.degrees(np.arccos(np.minimum(dot, 1.0))) / sigma_deg
        emission[0] += np.maximum(-0.5 * angle**2, floor)
    transitions = _transitions(np.ascontiguousarray(poses.swapaxes(1, 2), np.float32), sigma_deg, floor)
    chosen = _viterbi(emission, transitions)
    softer = tempered(score, exponent / 2)
    if anchor is not None:
        softer[0] += np.maximum(-0.5 * angle**2, floor)
    _exponentiate(transitions)
    probability = _posterior(softer, transitions)
    return chosen, np.asarray(_mass_near(poses, probability, chosen, math.cos(math.radians(within_deg / 2))))


@njit(cache=True)
def _distinct(poses, keep, cosine, turns, flips):  # type: ignore[no-untyped-def]
    out = np.zeros((poses.shape[0], keep), np.int64)
    for t in range(poses.shape[0]):
        found = 1
        for k in range(1, poses.shape[1]):
            if found == keep:
                break
            near = False
            for j in range(found):
                if _dot_modulo(poses[t, out[t, j]], poses[t, k], turns, flips) > cosine:
                    near = True
            if not near:
                out[t, found] = k
                found += 1
    return out


def distinct_modulo(poses: Floats, keep: int, apart_deg: float = 4.0, symmetry: Symmetry = CUBE) -> NDArray[np.int64]:
    """Indices (t, keep) of the first candidates that differ, modulo `symmetry`, by more than `apart_deg`; padded with
    the first.
    """
    cosine = math.cos(math.radians(apart_deg / 2))
    return np.asarray(_distinct(np.ascontiguousarray(poses), keep, cosine, *symmetry.listed))


def step_per_axis_deg(path: Floats) -> float:
    """Rotation per frame, rms per axis, from the median step of a path (Maxwell distribution: median 1.538 sigma)."""
    dot = np.abs((path[1:] * path[:-1]).sum(axis=1))
    return float(np.median(2 * np.degrees(np.arccos(np.minimum(dot, 1.0)))) / 1.538)
