"""Telling the 48 branches apart: every frame's lattice candidates times 48, scored on the filled map, decided by
continuity.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from .chain import NOT_SCORED, decode, distinct_modulo
from .device import Device, resident
from .indexing import Candidates
from .maps import Accumulator, Sums, filled_map, rough_map
from .rotations import GROUP_ORDER, angle_deg, equivalents, midpoints, multiply, to_matrix
from .site import FIRST, Site
from .volume import Grid, as_kernel_volume
from .whitened import Whitened

Floats = NDArray[np.float64]
CANDIDATES = 3
FOLDS = 4
FOLD_FRAMES = 100  # consecutive frames left out of the map together
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
SAME_BRANCH_DEG = 3.0  # nearer than this a decision leaves a pose where refinement had put it
SAME_SITE_PX = 1.0  # a shift that changes by more is another lattice site
TWIN_REACH_PX = 2.5  # from the map centre to the site that both grains are counted from
STRETCH_FRAMES = 50  # long enough to tell a branch, short enough to find the stretch that went wrong
CLIPPED = 60.0  # no frame counts for more in a margin
DETOUR_DEG = 4.0  # off the midpoint of its neighbours: the midpoint becomes a candidate
ALONG_AXES = np.array([step * np.eye(3, dtype=int)[axis] for axis in range(3) for step in (-1, 0, 1)])


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


def shortlist(poses: Floats, seen: Floats, probability: Floats, keep: int) -> Shortlist:
    """The first `keep` of candidates (t, c, 4) that differ modulo 48; improbable ones are not worth scoring."""
    index = distinct_modulo(poses, keep)
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
) -> States:
    """Score the 48 branches of all candidates worth it, for every grain that may have been indexed; the others get a
    score that loses.

    A branch turns the particle about its lattice centre, which therefore stays where it is seen, up to the lattice
    vector that puts the particle where it was tracked. With `placed` the first candidates come from the map itself,
    which knows their place better than the tracker: they stay there.
    """
    count, k = candidates.worth.shape
    grains = len(site.grains)
    own = equivalents(candidates.poses)
    turned = np.empty((count, k, grains, GROUP_ORDER, 4))
    placed_at = np.empty((count, k, grains, GROUP_ORDER, 2))
    for g, grain in enumerate(site.grains):
        turned[:, :, g] = own if grain is FIRST else multiply(own, grain.turn)
        found = candidates.seen[:, :, None] - to_matrix(turned[:, :, g])[..., :2, :] @ centre_px
        placed_at[:, :, g] = site.placed(turned[:, :, g], found, grain)
        if placed and grain is FIRST:
            placed_at[:, 0, g, 0] = found[:, 0, 0]
    poses, shifts = turned.reshape(count, -1, GROUP_ORDER, 4), placed_at.reshape(count, -1, GROUP_ORDER, 2)
    score = np.full(shifts.shape[:3], NOT_SCORED)
    for c in range(k * grains):
        rows = np.flatnonzero(candidates.worth[:, c // grains])
        if len(rows):
            one = slice(c, c + 1)
            score[rows, one], shifts[rows, one] = data.score_branches(
                volume, frames[rows], poses[rows, one], shifts[rows, one], k_max
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


def excursions(poses: Floats, sigma_deg: float) -> NDArray[np.bool_]:
    """Frames of short stretches between two jumps that no tumbling makes: a branch that was left for a moment."""
    turns = angle_deg(poses[1:], poses[:-1])
    jumps = np.flatnonzero(turns > IMPLAUSIBLE * max(sigma_deg, LEAST_SIGMA_DEG)) + 1
    out = np.zeros(len(poses), np.bool_)
    for first, last in itertools.pairwise(jumps):
        if last - first <= EXCURSION_FRAMES:
            out[first:last] = True
    if out.mean() > MOST_EXCURSIONS:  # no moments then: the path hops, as between the grains of a twin
        out[:] = False
    return out


def add_midpoints(
    data: Whitened,
    volume: Any,
    frames: NDArray[np.int64],
    path: Path,
    candidates: Shortlist,
    centre_px: Floats,
    k_max: float,
) -> None:
    """Where a pose lies off its neighbours, their refined midpoint takes the place of the last candidate (in place)."""
    middle = midpoints(path.poses)
    off = np.flatnonzero(angle_deg(middle, path.poses) > DETOUR_DEG)
    if len(off) == 0:
        return
    poses, shifts, _ = data.refine(volume, frames[off], middle[off], path.shifts[off], k_max)
    candidates.poses[off, -1] = poses
    candidates.seen[off, -1] = lattice_position(poses, shifts, centre_px)
    candidates.worth[off, -1] = True


@dataclass(frozen=True, slots=True)
class Redecision:
    """Numbers of one re-decision round."""

    changed: int
    used: int
    likelihood: float  # mean over frames, each against a map that leaves its block out
    margin: float  # of the path before, see `weakest_margin`


def weakest_margin(score: Floats) -> float:
    """Log-likelihood per frame by which a branch beats its best alternative, where in time that is least.

    Parameters
    ----------
    score : (t, states), the first of them the 48 branches of the path itself.
    """
    lead = np.clip(score[:, :1] - score[:, 1:GROUP_ORDER], -CLIPPED, CLIPPED)
    stretches = np.array_split(lead, max(1, len(lead) // STRETCH_FRAMES))
    return min(float(stretch.mean(axis=0).min()) for stretch in stretches)


def redecide(
    data: Whitened,
    frames: NDArray[np.int64],
    number: NDArray[np.int64],
    path: Path,
    candidates: Candidates,
    lattice_real: Any,
    grid: Grid,
    k_score: float,
    band_k: tuple[float, float],
    sigma_deg: float,
    site: Site,
    *,
    keep: int = CANDIDATES,
    folds: int = FOLDS,
    polish: bool = True,
    base: Accumulator | None = None,
) -> tuple[Path, Redecision, Floats]:
    """Decide the branch of every buffered frame anew, each block of frames against a map that leaves it out.

    Parameters
    ----------
    frames : (t,) rows of `data`. number : (t,) frame numbers (they set halves and folds).
    candidates : lattice candidates (t, c), their shifts being where the lattice centre is seen.
    lattice_real : real O_h-symmetrised map on the grid's own sampling, for finding the lattice centre.
    keep : candidates per frame. folds : maps that leave out a share of the frames each. polish : refine every pose;
        else only those whose branch changed, so that poses refined in full band stay as they are.
    base : sums of older frames that are no longer in the buffer, two sets (halves), always part of the map; on this
        grid or a larger one.

    Returns
    -------
    path, numbers of the round, lattice centre (x, y, z) pixels.
    """
    device = data.device
    fold = (number // FOLD_FRAMES) % folds
    sums = Accumulator(grid, 2 * folds, device)
    use = np.flatnonzero(path.used)
    data.insert(
        sums, 2 * fold[use] + half_of(number[use]), frames[use], path.poses[use], path.shifts[use], np.ones(len(use))
    )
    old = Accumulator(grid, 2, device)
    if base is not None:
        old.add_cropped(base)

    def summed(_: Device, half: int) -> Sums:
        inside, before = sums.sums(*range(half, 2 * folds, 2)), old.sums(half)
        return inside[0] + before[0], inside[1] + before[1]

    total = device.each(summed, (0, 1))
    rough = rough_map(total[0][0] + total[1][0], total[0][1] + total[1][1], grid, device)
    twinned = len(site.grains) > 1
    centre = find_centre(
        rough, lattice_real, grid, band_k[0] * 0.85, band_k[1], device, TWIN_REACH_PX if twinned else None
    )
    filled = filled_map(total[0], total[1], grid, centre, device, twinned=twinned)
    whole = as_kernel_volume(filled.joint, device)

    first = lattice_position(path.poses, path.shifts, centre)[:, None]
    chosen = shortlist(
        np.concatenate([path.poses[:, None], candidates.poses], axis=1),
        np.concatenate([first, candidates.shifts], axis=1),
        np.concatenate([np.ones((len(frames), 1)), candidates.probability], axis=1),
        keep,
    )
    add_midpoints(data, whole, frames, path, chosen, centre, k_score)
    score = np.empty((len(frames), keep * GROUP_ORDER * len(site.grains)))
    poses, shifts = np.empty((*score.shape, 4)), np.empty((*score.shape, 2))

    def without(device: Device, f: int) -> Any:
        left_out = [sums.sums(2 * f + h) for h in (0, 1)]
        rest = [(total[h][0] - left_out[h][0], total[h][1] - left_out[h][1]) for h in (0, 1)]
        known = filled.asymmetry
        return filled_map(rest[0], rest[1], grid, centre, device, asymmetry=known, twinned=twinned).joint

    present = [f for f in range(folds) if (fold == f).any()]
    for f, volume in zip(present, device.each(without, present), strict=True):
        rows = np.flatnonzero(fold == f)
        part = Shortlist(chosen.poses[rows], chosen.seen[rows], chosen.worth[rows])
        kernel_volume = as_kernel_volume(volume, device)
        states = score_branches(data, kernel_volume, frames[rows], part, centre, k_score, site, placed=True)
        score[rows], poses[rows], shifts[rows] = states.score, states.poses, states.shifts
    fresh = decide(States(poses, shifts, score), sigma_deg)
    turn = angle_deg(fresh.poses, path.poses)
    jump = np.hypot(*(fresh.shifts - path.shifts).T)
    moved = np.arange(len(turn)) if polish else np.flatnonzero((turn > SAME_BRANCH_DEG) | (jump > SAME_SITE_PX))
    refined = Path(path.poses.copy(), path.shifts.copy(), path.score.copy(), fresh.used)
    if len(moved):
        refined.poses[moved], refined.shifts[moved], refined.score[moved] = data.refine(
            whole, frames[moved], fresh.poses[moved], fresh.shifts[moved], k_score
        )
    changed = int((turn > 8).sum())
    numbers = Redecision(changed, int(fresh.used.sum()), float(fresh.score.mean()), weakest_margin(score))
    return refined, numbers, centre
