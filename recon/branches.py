"""Telling the branches apart: every frame's lattice candidates times 48, or what its crystal has, scored on the filled
map, decided by continuity.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from .chain import NOT_SCORED, decode, distinct_modulo
from .device import Device, resident
from .rotations import angle_deg, midpoints, multiply, to_matrix
from .site import FIRST, Site
from .symmetry import CUBE, Operations, Symmetry
from .volume import Grid
from .whitened import Whitened

Floats = NDArray[np.float64]
CANDIDATES = 3
HALF_FRAMES = 25  # halves are blocks of time, longer than the correlation of pose and background
CHAIN_WIDENING = 1.15  # of the step per axis, for pose errors
SURE = 0.9  # posterior mass within 8 degrees from which a pose is used
IMPROBABLE = 1e-5  # lattice candidates below this probability are not scored
AROUND_FRAMES = 51  # with which the likelihood of a frame is compared
LEAST_EXPLAINED = 0.25  # of the likelihood that is usual around a frame
EXCURSION_FRAMES = 25  # a longer stretch between two jumps has the evidence of its own frames
MOST_EXCURSIONS = 0.15  # share of the frames that may be left out as excursions
IMPLAUSIBLE = 6.0  # standard deviations of the rotation per frame and axis that are a jump
LEAST_SIGMA_DEG = 1.0  # of the pose errors, however slowly a crystal turns
TWIN_REACH_PX = 2.5  # from the map centre to the site that both grains are counted from
ALONG_AXES = np.array([step * np.eye(3, dtype=int)[axis] for axis in range(3) for step in (-1, 0, 1)])
CLIPPED = 60.0  # no frame counts for more, where states are compared


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One pose per frame: the map's origin is seen at ``shifts`` from the box centre."""

    poses: Floats  # (t, 4)
    shifts: Floats  # (t, 2) pixels
    score: Floats  # (t,)
    used: NDArray[np.bool_]  # (t,)


def half_of(frame: NDArray[np.int64]) -> NDArray[np.int64]:
    """Half (0 or 1) of each frame: alternate blocks of time."""
    return (frame // HALF_FRAMES) % 2


def lattice_position(poses: Floats, shifts: Floats, centre_px: Floats) -> Floats:
    """Where the lattice centre of the map, at `centre_px` (x, y, z), is seen: (..., 2) pixels from the box centre."""
    return shifts + (to_matrix(poses)[..., :2, :] @ centre_px)


@lru_cache(maxsize=8)
def _shell_band(of: tuple[int, float, float]) -> NDArray[np.float32]:
    """1 between two radii of a half spectrum: `of` is (samples, low, high), cycles per box."""
    samples, low, high = of
    axis = np.fft.fftfreq(samples) * samples
    radius = np.sqrt(
        axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + (np.arange(samples // 2 + 1) ** 2)[None, None]
    )
    return ((radius >= low) & (radius <= high)).astype(np.float32)


@lru_cache(maxsize=8)
def _near(of: tuple[int, float]) -> NDArray[np.bool_]:
    """Places of a correlation that are near along every axis: `of` is (samples, reach in samples)."""
    samples, reach = of
    near = np.abs(np.fft.fftfreq(samples) * samples) <= reach
    return np.asarray(near[:, None, None] & near[None, :, None] & near[None, None, :])


def centre_within(operations: Operations | None) -> float | None:
    """How far from the map's middle, px, the centre of these operations may be; None, anywhere, of a cubic lattice."""
    return None if operations is None or operations.everywhere else TWIN_REACH_PX


def find_centre(
    rough: Any, lattice: Any, grid: Grid, low: float, high: float, device: Device, reach_px: float | None = None
) -> Floats:
    """Lattice centre (x, y, z) in pixels from the map centre: peak of the correlation with the symmetrised lattice map.

    `rough` and `lattice` are real maps of the same sampling; only radii between `low` and `high` cycles per box count,
    and with `reach_px` only centres as near as that.
    """
    xp, samples = device.xp, rough.shape[0]
    band = resident(device, _shell_band, (samples, low, high))
    a = device.rfftn(xp.fft.ifftshift(rough))
    b = device.rfftn(xp.fft.ifftshift(lattice))
    correlation = allowed = device.irfftn(a * b.conj() * band, rough.shape)
    if reach_px is not None:
        allowed = xp.where(resident(device, _near, (samples, reach_px * samples / grid.box_px)), correlation, -np.inf)
    peak = np.array(np.unravel_index(int(allowed.argmax()), rough.shape))
    around = np.ravel_multi_index(((peak + ALONG_AXES) % samples).T, rough.shape)
    values = device.to_host(correlation.reshape(-1)[device.asarray(around)]).reshape(3, 3)
    offset = np.zeros(3)
    for i in range(3):
        left, middle, right = values[i]
        bend = left - 2 * middle + right
        offset[i] = np.clip(0.5 * (left - right) / bend, -0.5, 0.5) if bend < 0 else 0.0
    zyx = np.where(peak > samples // 2, peak - samples, peak) + offset
    return zyx[::-1] * (grid.box_px / samples)


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """All branches of a few candidates: poses (t, s, 4), shifts (t, s, 2), score (t, s)."""

    poses: Floats
    shifts: Floats
    score: Floats


def joined(parts: Sequence[States]) -> States:
    """States of frames that follow those of the part before."""
    poses, shifts, score = (np.concatenate([getattr(p, name) for p in parts]) for name in ("poses", "shifts", "score"))
    return States(poses, shifts, score)


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """Lattice candidates of frames that differ modulo 48.

    Attributes
    ----------
    poses : (t, k, 4). seen : (t, k, 2), where the lattice centre is seen, pixels from the box centre.
    worth : (t, k) whether a candidate is worth scoring; the first always is.
    """

    poses: Floats
    seen: Floats
    worth: NDArray[np.bool_]


def shortlist(poses: Floats, seen: Floats, probability: Floats, keep: int, symmetry: Symmetry = CUBE) -> Shortlist:
    """The first `keep` of candidates (t, c, 4) that differ modulo `symmetry`; improbable ones are not worth scoring."""
    index = distinct_modulo(poses, keep, symmetry=symmetry)
    worth = (index > 0) & (np.take_along_axis(probability, index, axis=1) > IMPROBABLE)
    worth[:, 0] = True
    every = index[..., None]
    return Shortlist(np.take_along_axis(poses, every, axis=1), np.take_along_axis(seen, every, axis=1), worth)


def score_branches(
    data: Whitened,
    volume: Any,
    frames: NDArray[np.int64],
    candidates: Shortlist,
    centre_px: Floats,
    k_max: float,
    site: Site,
    *,
    placed: bool = False,
    around: Floats | None = None,
) -> States:
    """Score the branches of all candidates worth it, 48 of a cubic lattice, for every grain that may have been indexed;
    the others get a score that loses.

    A branch turns the particle about its lattice centre, which therefore stays where it is seen, up to the lattice
    vector that puts the particle where it was tracked. With `placed` the first candidates come from the map itself,
    which knows their place better than the tracker: they stay there. `around` (t, 2) is where the middle of the
    particle is expected, px from the middle of the box, zero if not given.
    """
    middle = np.zeros((len(frames), 1, 1, 2)) if around is None else around[:, None, None]
    count, k = candidates.worth.shape
    grains, symmetry = len(site.grains), site.kind.symmetry
    own, order = symmetry.equivalents(candidates.poses), symmetry.order
    turned = np.empty((count, k, grains, order, 4))
    placed_at = np.empty((count, k, grains, order, 2))
    for g, grain in enumerate(site.grains):
        turned[:, :, g] = own if grain is FIRST else multiply(own, grain.turn)
        found = candidates.seen[:, :, None] - to_matrix(turned[:, :, g])[..., :2, :] @ centre_px
        placed_at[:, :, g] = site.placed(turned[:, :, g], found - middle, grain) + middle
        if placed and grain is FIRST:
            placed_at[:, 0, g, 0] = found[:, 0, 0]
    poses, shifts = turned.reshape(count, -1, order, 4), placed_at.reshape(count, -1, order, 2)
    score = np.full(shifts.shape[:3], NOT_SCORED)
    for c in range(k * grains):
        rows = np.flatnonzero(candidates.worth[:, c // grains])
        if len(rows):
            one = slice(c, c + 1)
            score[rows, one], shifts[rows, one] = data.score_branches(
                volume, frames[rows], poses[rows, one], shifts[rows, one], k_max, centred=symmetry.centred
            )
    return States(poses.reshape(count, -1, 4), shifts.reshape(count, -1, 2), score.reshape(count, -1))


def decide(states: States, sigma_deg: float, anchor: Floats | None = None) -> Path:
    """The branch of every frame, by the likelihood of all of them and continuity in time."""
    chosen, mass = decode(states.poses, states.score, sigma_deg * CHAIN_WIDENING, anchor=anchor)
    rows = np.arange(len(chosen))
    poses = states.poses[rows, chosen]
    score = states.score[rows, chosen]
    used = trusted(poses, mass, sigma_deg, anchor) & explained(score)
    return Path(poses, states.shifts[rows, chosen], score, used)


def clear_by(score: Floats) -> Floats:
    """Log-likelihood (t, s - 1) by which the first of the states (t, s) beats each other one, clipped."""
    return np.asarray(np.clip(score[:, :1] - score[:, 1:], -CLIPPED, CLIPPED))


def explained(score: Floats) -> NDArray[np.bool_]:
    """Frames (t,) of which the map explains as much as of those around them: not far less than their running median.

    What falls short is a pose between two candidates, or an image that the projection model does not describe (a zone
    axis, another particle in front): of 1600 frames of a twinned crystal they held most of those with a wrong pose.
    """
    usual = median_filter(score, AROUND_FRAMES, mode="nearest")
    return np.asarray((score > LEAST_EXPLAINED * usual) | (usual <= 0))


def trusted(poses: Floats, mass: Floats, sigma_deg: float, anchor: Floats | None = None) -> NDArray[np.bool_]:
    """Frames whose pose may enter the map: sure of the branch, and not off the path of their neighbours."""
    line = poses if anchor is None else np.concatenate([anchor[None], poses])
    detour = angle_deg(midpoints(line), line)
    new = slice(len(line) - len(poses), None)
    smooth = detour[new] < 3 * max(sigma_deg, LEAST_SIGMA_DEG)
    return np.asarray((mass > SURE) & smooth & ~excursions(line, sigma_deg)[new])


def jumps(poses: Floats, sigma_deg: float, sigmas: float = IMPLAUSIBLE) -> NDArray[np.intp]:
    """Frames whose pose tumbling does not reach from that of the frame before."""
    turns = angle_deg(poses[1:], poses[:-1])
    return np.flatnonzero(turns > sigmas * max(sigma_deg, LEAST_SIGMA_DEG)) + 1


def excursions(poses: Floats, sigma_deg: float) -> NDArray[np.bool_]:
    """Frames of short stretches between two jumps that no tumbling makes: a branch that was left for a moment."""
    out = np.zeros(len(poses), np.bool_)
    for first, last in itertools.pairwise(jumps(poses, sigma_deg)):
        if last - first <= EXCURSION_FRAMES:
            out[first:last] = True
    if out.mean() > MOST_EXCURSIONS:  # no moments then: the path hops, as between the grains of a twin
        out[:] = False
    return out
