"""Deciding the branch of every buffered frame anew, each block of frames against a map that leaves it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import (
    CANDIDATES,
    Path,
    Shortlist,
    States,
    centre_within,
    clear_by,
    decide,
    find_centre,
    half_of,
    joined,
    lattice_position,
    score_branches,
    shortlist,
)  # fmt: skip
from .claims import Evidence
from .crossings import turned
from .device import Device
from .indexing import Candidates
from .maps import Accumulator, Sums, filled_map, rough_map
from .pursuit import Scene, pursue
from .rotations import GROUP_ORDER, angle_deg, midpoints
from .site import Site
from .volume import Grid, added, as_kernel_volume
from .whitened import Whitened

Floats = NDArray[np.float64]
FOLDS = 4
FOLD_FRAMES = 100  # consecutive frames left out of the map together
SAME_BRANCH_DEG = 3.0  # nearer than this a decision leaves a pose where refinement had put it
SAME_SITE_PX = 1.0  # a shift that changes by more is another lattice site
CHANGED_DEG = 8.0  # farther than this a pose is another one
STRETCH_FRAMES = 50  # long enough to tell a branch, short enough to find the stretch that went wrong
MOST_STATES = 300  # of a frame in the chain, whose memory goes with their square: two candidates of an icosahedron
DETOUR_DEG = 4.0  # off the midpoint of its neighbours: the midpoint becomes a candidate


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
    typical: float  # the same, median: frames that nothing explains do not count
    margin: float  # of the path before, see `weakest_margin`


def weakest_margin(score: Floats, order: int = GROUP_ORDER) -> float:
    """Log-likelihood per frame by which a branch beats its best alternative, where in time that is least.

    Parameters
    ----------
    score : (t, states), the first `order` of them the branches of the path itself.
    """
    lead = clear_by(score[:, :order])
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
    doubting: bool = False,
    base: Accumulator | None = None,
    around: Floats,
    origin_px: Floats,
) -> tuple[Path, Redecision, Floats]:
    """Decide the branch of every buffered frame anew, each block of frames against a map that leaves it out.

    Parameters
    ----------
    frames : (t,) rows of `data`. number : (t,) frame numbers (they set halves and folds).
    candidates : lattice candidates (t, c), their shifts being where the lattice centre is seen.
    lattice_real : real O_h-symmetrised map on the grid's own sampling, for finding the lattice centre.
    keep : candidates per frame. folds : maps that leave out a share of the frames each. polish : refine every pose;
        else only those whose branch changed, so that poses refined in full band stay as they are.
    doubting : look for wrong turns at zone axes as well, see `crossings`.
    base : sums of older frames that are no longer in the buffer, two sets (halves), always part of the map; on this
        grid or a larger one. around : (t, 2) where the particle's middle is expected, px from the middle of the box.
    origin_px : (t, 2) the middle of the box in the field.

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
    rough = rough_map(added(total[0][0], total[1][0], device), added(total[0][1], total[1][1], device), grid, device)
    same = site.operations
    centre = find_centre(rough, lattice_real, grid, band_k[0] * 0.85, band_k[1], device, centre_within(same))
    filled = filled_map(total[0], total[1], grid, centre, device, operations=same)
    whole = as_kernel_volume(filled.joint, device)

    first = lattice_position(path.poses, path.shifts, centre)[:, None]
    chosen = shortlist(
        np.concatenate([path.poses[:, None], candidates.poses], axis=1),
        np.concatenate([first, candidates.shifts], axis=1),
        np.concatenate([np.ones((len(frames), 1)), candidates.probability], axis=1),
        min(keep, MOST_STATES // (site.kind.symmetry.order * len(site.grains))),
        site.kind.alike,
    )
    add_midpoints(data, whole, frames, path, chosen, centre, k_score)

    def solve(halves: list[Sums], device: Device = device) -> Any:
        known = filled.asymmetry
        joint = filled_map(halves[0], halves[1], grid, centre, device, asymmetry=known, operations=same).joint
        return as_kernel_volume(joint, device)

    def without(device: Device, f: int) -> Any:
        left_out = [sums.sums(2 * f + h) for h in (0, 1)]
        return solve([(total[h][0] - left_out[h][0], total[h][1] - left_out[h][1]) for h in (0, 1)], device)

    present = [f for f in range(folds) if (fold == f).any()]
    volumes = dict(zip(present, device.each(without, present), strict=True))
    states = _score_folds(data, volumes, fold, frames, chosen, centre, k_score, site, around)
    evidence = Evidence(data, frames, half_of(number), path, (total[0], total[1]), grid, solve, k_score)
    scene = Scene(data, frames, volumes, fold, candidates, centre, site, origin_px, k_score, sigma_deg)
    fresh = pursue(decide(states, sigma_deg), scene, evidence)
    if doubting:
        fresh = turned(fresh, path, states, scene, evidence)
    numbers = Redecision(
        int((angle_deg(fresh.poses, path.poses) > CHANGED_DEG).sum()),
        int(fresh.used.sum()),
        float(fresh.score.mean()),
        float(np.median(fresh.score)),
        weakest_margin(states.score, site.kind.symmetry.order * (1 + len(site.kind.mates))),
    )
    return _refined(data, whole, frames, path, fresh, k_score, everything=polish), numbers, centre


def _refined(
    data: Whitened, volume: Any, frames: NDArray[np.int64], before: Path, fresh: Path, k_max: float, *, everything: bool
) -> Path:
    """`fresh` at its optima: all of it, or what is another branch or site than `before`; the rest as it was before."""
    turn = angle_deg(fresh.poses, before.poses)
    jump = np.hypot(*(fresh.shifts - before.shifts).T)
    moved = np.flatnonzero((turn > SAME_BRANCH_DEG) | (jump > SAME_SITE_PX) | everything)
    refined = Path(before.poses.copy(), before.shifts.copy(), before.score.copy(), fresh.used)
    if len(moved):
        refined.poses[moved], refined.shifts[moved], refined.score[moved] = data.refine(
            volume, frames[moved], fresh.poses[moved], fresh.shifts[moved], k_max
        )
    return refined


def _score_folds(
    data: Whitened,
    volumes: dict[int, Any],
    fold: NDArray[np.int64],
    frames: NDArray[np.int64],
    chosen: Shortlist,
    centre_px: Floats,
    k_max: float,
    site: Site,
    around: Floats,
) -> States:
    """`score_branches` of frames (t,), each on the volume that leaves its `fold` (t,) out."""
    parts = [np.flatnonzero(fold == f) for f in volumes]
    scored = [
        score_branches(
            data, volume, frames[rows],
            Shortlist(chosen.poses[rows], chosen.seen[rows], chosen.worth[rows]), centre_px, k_max, site, placed=True,
            around=around[rows],
        )
        for rows, volume in zip(parts, volumes.values(), strict=True)
    ]  # fmt: skip
    order = np.argsort(np.concatenate(parts))
    states = joined(scored)
    return States(states.poses[order], states.shifts[order], states.score[order])
