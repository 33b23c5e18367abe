"""The poses of one reconstruction tried on the map of another: the branches it took must win there as well.

Agreement of atoms certifies a map, not every pose; agreement of poses fails as soon as one of two reconstructions errs.
A map that knows nothing of some frames can judge their branches, though, even if a part of its own frames is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import Path, Shortlist, clear_by, lattice_position, score_branches
from .compare import SAME_POSE_DEG
from .coverage import REACH_DEG, view_directions, view_grid
from .rotations import C2Z, angle_deg, from_matrix, multiply, to_matrix
from .site import Site
from .whitened import Whitened

Floats = NDArray[np.float64]
STRETCH_FRAMES = 50  # whose branch is judged together
MOST_FRAMES = 800  # that are tried, or a few more
DECIDED = 5.0  # log-likelihood by which a pose must beat another one to prove it wrong: odds of 150 to 1
KNOWN = 0.75  # share of what a frame measures that the other map must know, to judge it
LEAST_KNOWN = 10  # such frames of a stretch
MOST_DISPUTED = 0.5  # share of the common frames; with more the two accounts are not of one crystal


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A map to try poses on.

    Attributes
    ----------
    volume : filled map in kernel layout. centre_px, middle_px : (3,) x, y, z of its lattice centre and of the centroid
        of its atoms, pixels from its origin. site : its lattice sites. k_max : cycles per box.
    number, path : frame numbers (t,), ascending, and sure poses of the frames that it is made of.
    """

    volume: Any
    centre_px: Floats
    middle_px: Floats
    site: Site
    k_max: float
    number: NDArray[np.int64]
    path: Path


def carried_over(path: Path, middle_px: Floats, turn: Floats, shift_px: Floats, to: Scorer) -> tuple[Floats, Floats]:
    """Poses (t, 4) in the gauge of another map, and where its origin is seen, (t, 2) pixels.

    Parameters
    ----------
    path : poses in the own gauge, of a map whose atoms have their centroid at `middle_px`.
    turn, shift_px : ``own = turn @ other + shift`` about the centroids, from `compare.compare_atoms`.
    """
    hand = float(np.sign(np.linalg.det(turn)))
    poses = multiply(path.poses, from_matrix(hand * turn))
    if hand < 0:  # the image of the inverted body is that of the body after half a turn about the beam
        poses = multiply(C2Z, poses)
    seen = path.shifts + to_matrix(path.poses)[:, :2] @ (middle_px + shift_px)
    return poses, seen - to_matrix(poses)[:, :2] @ to.middle_px


def leads(
    data: Whitened, rows: NDArray[np.int64], path: Path, middle_px: Floats, turn: Floats, shift_px: Floats, to: Scorer
) -> Floats:
    """By how much each pose beats its alternatives on another map: (t, alternatives), log-likelihood, clipped."""
    poses, shifts = carried_over(path, middle_px, turn, shift_px, to)
    candidates = Shortlist(
        poses[:, None], lattice_position(poses, shifts, to.centre_px)[:, None], np.ones((len(rows), 1), np.bool_)
    )
    score = score_branches(data, to.volume, rows, candidates, to.centre_px, to.k_max, to.site, placed=True).score
    return clear_by(score)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial on another map says, every frame of a stretch put under the same alternative.

    Attributes
    ----------
    told : share of the stretches of frames that the other map can judge, see `known`. upheld : of these the share whose
        branch wins. margin : log-likelihood per frame by which it beats its best alternative, in the stretch where that
        is least.
    erred : numbers of frames whose pose in the other account both maps refute, see `refuted`.
    """

    told: float
    upheld: float
    margin: float
    erred: tuple[int, ...] = ()


def sampled(rows: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of these rows, with their frame numbers, whole stretches that make no more than some 800 frames."""
    return rows[(number // STRETCH_FRAMES) % max(1, len(rows) // MOST_FRAMES) == 0]


def known(poses: Floats, others: Floats) -> Floats:
    """Share of what each pose measures of which a map of other poses, in the same gauge, knows anything: (t,).

    Where it was measured from too few sides a map holds what its lattice would look like, or nothing; a right pose may
    lose there to one that falls on what was measured.

    Parameters
    ----------
    poses : (t, 4). others : (m, 4), of the frames that the map is made of.
    """
    grid, reach = view_grid(), np.sin(np.radians(REACH_DEG))
    measured = (np.abs(grid @ view_directions(others).T) < reach).any(axis=1)
    plane = np.abs(view_directions(poses) @ grid.T) < reach
    return np.asarray((plane & measured).sum(axis=1) / np.maximum(plane.sum(axis=1), 1))


def judged(lead: Floats, number: NDArray[np.int64], share: Floats) -> Trial | None:
    """The outcome of a trial; None without frames that can be judged.

    Parameters
    ----------
    lead : (t, alternatives) from `leads`. number : (t,) frame numbers, ascending. share : (t,) from `known`.
    """
    stretch, sure = number // STRETCH_FRAMES, share >= KNOWN
    every = np.unique(stretch)
    frames = [np.flatnonzero((stretch == s) & sure) for s in every]
    least = [float(lead[rows].mean(axis=0).min()) for rows in frames if len(rows) >= LEAST_KNOWN]
    return Trial(len(least) / len(every), float(np.mean(np.array(least) > 0)), min(least)) if least else None


def refuted(
    data: Whitened, rows: NDArray[np.int64], own: Scorer, turn: Floats, shift_px: Floats, other: Scorer
) -> tuple[int, ...]:
    """Numbers of the frames that have other poses in two accounts, and where both maps together are for the own one.

    The poses are refined on either map. Each map holds the frame as its own account has it, so that neither has an
    advantage; where the own one is wrong, the other map is against it and its own, made of many frames, hardly for it.

    Parameters
    ----------
    data, rows : the boxes of `own.number`. turn, shift_px : ``own = turn @ other + shift`` about the atoms' centroids.
    """
    _, mine, theirs = np.intersect1d(own.number, other.number, return_indices=True)
    first, second = _part(own.path, mine), _part(other.path, theirs)
    over = carried_over(first, own.middle_px, turn, shift_px, other)
    apart = np.flatnonzero(angle_deg(over[0], second.poses) >= SAME_POSE_DEG)
    if len(apart) == 0 or len(apart) > MOST_DISPUTED * len(mine):
        return ()
    back = carried_over(second, other.middle_px, turn.T, -turn.T @ shift_px, own)
    frames, lead = rows[mine[apart]], np.zeros(len(apart))
    for scorer, ours, others in (
        (own, (first.poses, first.shifts), back), (other, over, (second.poses, second.shifts)),
    ):  # fmt: skip
        for sign, (poses, shifts) in ((1, ours), (-1, others)):
            lead += sign * data.refine(scorer.volume, frames, poses[apart], shifts[apart], scorer.k_max)[2]
    return tuple(int(number) for number in own.number[mine[apart[lead > DECIDED]]])


def _part(path: Path, rows: NDArray[np.int64]) -> Path:
    return Path(path.poses[rows], path.shifts[rows], path.score[rows], path.used[rows])


def tried(
    data: Whitened, rows: NDArray[np.int64], own: Scorer, turn: Floats, shift_px: Floats, other: Scorer
) -> Trial | None:
    """The sure poses of one account tried on the map of another, where that knows anything; None where it does not.

    Arguments as of `refuted`.
    """
    picked = sampled(np.arange(len(rows)), own.number)
    path = _part(own.path, picked)
    lead = leads(data, rows[picked], path, own.middle_px, turn, shift_px, other)
    poses, _ = carried_over(path, own.middle_px, turn, shift_px, other)
    trial = judged(lead, own.number[picked], known(poses, other.path.poses))
    return replace(trial, erred=refuted(data, rows, own, turn, shift_px, other)) if trial else None
