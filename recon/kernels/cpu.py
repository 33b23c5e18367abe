"""CPU launchers of the kernel bodies: numba threads over particles' frames and poses.

Every launcher has a twin of the same name and arguments in `cuda.py`. Arrays are C-contiguous float32 unless said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange
from numpy.typing import NDArray

from . import pixels_cpu
from .bodies import Team, build
from .rows import interpolate as _interpolate

pixels = pixels_cpu


@njit(cache=True, inline="always")
def _first():
    return 0


@njit(cache=True, inline="always")
def _stride():
    return 1


@njit(cache=True, inline="always")
def _total(value):
    return value


@njit(cache=True, inline="always")
def _meet():
    pass


@njit(cache=True, fastmath=True, inline="always")
def _add(array, index, value):
    array[index] += value


# one thread a pose: these vanish in the compiler
_team = Team(first=_first, stride=_stride, total=_total, meet=_meet, add=_add)
# Forced into their callers: a body that is called is optimised differently in the process that compiles it and in those
# that load it from the cache, and with `fastmath` its last bits then differ between the first run and the next.
_bodies = build(njit(cache=True, fastmath=True, error_model="numpy", forceinline=True), _team, _interpolate)
_score_pair = _bodies.score_pair
_refine_pose = _bodies.refine_pose
_insert_slice = _bodies.insert_slice

Floats = NDArray[np.float32]


@njit(parallel=True, cache=True, fastmath=True)
def _slice_all(volume, half, pad, rotations, kx, ky, count, out):
    for i in prange(rotations.shape[0]):
        r = rotations[i]
        for j in range(count):
            u, v = np.float32(kx[j]), np.float32(ky[j])
            real, imaginary = _interpolate(
                volume,
                half,
                pad * (r[0, 0] * u + r[1, 0] * v) + np.float32(half),
                pad * (r[0, 1] * u + r[1, 1] * v) + np.float32(half),
                pad * (r[0, 2] * u + r[1, 2] * v) + np.float32(half),
            )
            out[i, j, 0] = real
            out[i, j, 1] = imaginary


def slice_volume(volume: Floats, pad: float, rotations: Floats, kx: Any, ky: Any, count: int) -> Floats:
    """Central slices of a Fourier volume: (m, count, 2) for (m, 3, 3) rotations."""
    out = np.empty((len(rotations), count, 2), np.float32)
    _slice_all(volume.reshape(-1), volume.shape[0] // 2, np.float32(pad), rotations, kx, ky, count, out)
    return out


@njit(parallel=True, cache=True, fastmath=True)
def _score_all(
    volume, half, pad, frames, rotations, starts, coefficients, kx, ky, weight, count, limit, step, work, score, shift
):
    # frame after frame for each pose: neighbouring slices of a path share most of their cache lines
    count_frames = frames.shape[0]
    for i in prange(count_frames * rotations.shape[1]):
        k, t = i // count_frames, i % count_frames
        _score_pair(
            volume, half, pad, rotations[t, k], coefficients[frames[t]], kx, ky, weight, count, limit, step,
            starts[t, k, 0], starts[t, k, 1], work[get_thread_id()], score[t, k], shift[t, k],
        )  # fmt: skip


def score_pairs(
    volume: Floats,
    pad: float,
    frames: NDArray[np.int64],
    rotations: Floats,
    starts: Floats,
    coefficients: Floats,
    kx: Any,
    ky: Any,
    weight: Floats,
    count: int,
    box_px: int,
) -> tuple[Floats, Floats]:
    """Score k poses of each of t frames, and each pose's half turn about the beam.

    Parameters
    ----------
    frames : (t,) int64, rows of `coefficients` (n_frames, n, 2).
    rotations : (t, k, 3, 3). starts : (t, k, 2, 2) pixels, ``[.., pose or half turn, x or y]``.

    Returns
    -------
    score : (t, k, 2) log-likelihood against no particle. shift : (t, k, 2, 2) pixels.
    """
    limit = int(max(np.abs(kx[:count]).max(), ky[:count].max()))
    work = np.empty((get_num_threads(), 4 * count + 8 * limit + 4), np.float32)
    score = np.empty((*rotations.shape[:2], 2), np.float32)
    shift = np.empty((*rotations.shape[:2], 2, 2), np.float32)
    _score_all(
        volume.reshape(-1), volume.shape[0] // 2, np.float32(pad), frames, rotations, starts,
        coefficients.reshape(len(coefficients), -1), kx, ky, weight, count,
        limit, np.float32(2 * np.pi / box_px), work, score, shift,
    )  # fmt: skip
    return score, shift


@njit(parallel=True, cache=True, fastmath=True)
def _refine_all(
    volume, half, pad, frames, rotations, shifts, coefficients, kx, ky, weight, count, limit, step, rounds,
    tables, normals, matrices, deltas, trials, score,
):  # fmt: skip
    for i in prange(frames.shape[0]):
        thread = get_thread_id()
        score[i] = _refine_pose(
            volume, half, pad, rotations[i], coefficients[frames[i]], kx, ky, weight, count, limit, step, shifts[i],
            rounds, tables[thread], normals[thread], matrices[thread], deltas[thread], trials[thread],
        )  # fmt: skip


def refine_poses(
    volume: Floats,
    pad: int,
    frames: NDArray[np.int64],
    rotations: Floats,
    shifts: Floats,
    coefficients: Floats,
    kx: Any,
    ky: Any,
    weight: Floats,
    count: int,
    box_px: int,
    rounds: int,
) -> tuple[Floats, Floats, Floats]:
    """Levenberg-Marquardt refinement of (m,) poses: returns rotations (m, 3, 3), shifts (m, 2) and scores (m,).

    Marquardt, SIAM J. Appl. Math. 11, 431 (1963), on the whitened residual between box and slice.
    """
    limit = int(max(np.abs(kx[:count]).max(), ky[:count].max()))
    threads = get_num_threads()
    rotations, shifts = rotations.astype(np.float32), shifts.astype(np.float32)
    score = np.empty(len(frames), np.float32)
    _refine_all(
        volume.reshape(-1), volume.shape[0] // 2, np.float32(pad), frames, rotations, shifts,
        coefficients.reshape(len(coefficients), -1), kx, ky, weight, count,
        limit, np.float32(2 * np.pi / box_px), rounds, np.empty((threads, 8 * limit + 4), np.float32),
        np.empty((threads, 2, 20)), np.empty((threads, 5, 5)), np.empty((threads, 5)),
        np.empty((threads, 3, 3), np.float32), score,
    )  # fmt: skip
    return rotations, shifts, score


@njit(parallel=True, cache=True, fastmath=True)
def _insert_all(
    numerators, denominators, target, half, pad, frames, rotations, shifts, shares, coefficients, kx, ky, weight, count,
    limit, step, tables,
):  # fmt: skip
    # one accumulator per thread: no races, and the order of additions never depends on the threads
    for h in prange(numerators.shape[0]):
        for i in range(frames.shape[0]):
            if target[i] == h:
                _insert_slice(
                    numerators[h], denominators[h], half, pad, rotations[i], coefficients[frames[i]], kx, ky, weight,
                    count, limit, step, shifts[i], shares[i], tables[h],
                )  # fmt: skip


def insert_poses(
    numerators: Floats,
    denominators: Floats,
    target: NDArray[np.int64],
    pad: int,
    frames: NDArray[np.int64],
    rotations: Floats,
    shifts: Floats,
    shares: Floats,
    coefficients: Floats,
    kx: Any,
    ky: Any,
    weight: Floats,
    count: int,
    box_px: int,
) -> None:
    """Insert (m,) boxes into accumulators, in place.

    Parameters
    ----------
    numerators : (a, s, s, s // 2 + 1, 2) and denominators : (a, s, s, s // 2 + 1), `a` accumulators (halves, folds).
    target : (m,) int64, accumulator of each box. shares : (m,) weight of each box, negative to take it out again.
    """
    limit = int(max(np.abs(kx[:count]).max(), ky[:count].max()))
    _insert_all(
        numerators, denominators, target, numerators.shape[1] // 2, np.float32(pad), frames,
        rotations.astype(np.float32), shifts.astype(np.float32), shares.astype(np.float32),
        coefficients.reshape(len(coefficients), -1), kx, ky,
        weight, count, limit, np.float32(2 * np.pi / box_px), np.empty((len(numerators), 8 * limit + 4), np.float32),
    )  # fmt: skip
