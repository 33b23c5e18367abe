"""Following a path over its edge: where it jumps, the poses of either side are carried on into the other.

The frames of a stretch that was put on a wrong branch agree with each other. They tell those around them a wrong
place, the right branch is then tried on wrong lattice sites, and deciding anew confirms what is there. From the other
side of the jump a frame is looked for near the pose and the place of the one before, and so on, until the path is met
again. A stretch of 46 frames of a twinned crystal at 25 e/A^2 that ten rounds of re-decision had left wrong came out
right, all 46.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import CHAIN_WIDENING, Path, explained, jumps, lattice_position
from .claims import Evidence, Reading
from .indexing import Candidates
from .place import spread_px
from .rotations import angle_deg, multiply, to_matrix
from .site import FIRST, Site
from .whitened import Whitened

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
DOUBTFUL = 4.0  # standard deviations of the rotation per frame and axis: one true step in a thousand
UNSURE = 3  # frames in a row whose pose is not sure: the path may have been lost there
MOST_EDGES = 20  # looked at in one round; a path with more of them is not yet one path
LONGEST = 100  # frames that are followed over an edge
EDGE = 10  # frames beside an edge of which one must be sure, to begin from; the nearest may be wrong already
REACH = 6.0  # standard deviations of the rotation per frame within which a frame is looked for
NEAREST = 12  # lattice poses looked at in each frame
ROUNDS = 6  # of refinement
SURE_GAIN = 10.0  # log-likelihood by which what was found must be better, in all frames together
HOPELESS = -60.0  # the same where following ends
CLAIMS = 3  # edges beside the longest stretches: frames followed over them are judged together
LEAST_CLAIM = 8  # of these frames, found elsewhere than they were
LONGEST_CLAIM = 500
HOPELESS_CLAIM = 0.1  # share of the likelihood that such frames may lose; in directions not seen yet it is 2 to 5 %
REJOINED_DEG, REJOINED_PX = 3.0, 1.0  # nearer than this the path that was there is met
REJOINED = 5  # frames in a row, after which it is gone on with


@dataclass(frozen=True, slots=True)
class _Found:
    """A frame found anew: pose, shift, log-likelihood, how much more that is than the pose that was there has, and
    whether it is the same pose.
    """

    row: int
    pose: Floats
    shift: Floats
    score: float
    gain: float
    same: bool


@dataclass(slots=True, eq=False)
class _Front:
    """The way over one edge: rows still to come, the pose and the place (px in the field) of the last one."""

    ahead: Iterator[int]
    edge: int
    pose: Floats
    place: Floats
    may_lose: float = 0.0  # share of the likelihood that was there
    row: int = -1  # the next one; none when negative
    found: list[_Found] = field(default_factory=list)
    gain: float = 0.0  # of all that was found
    least: float = HOPELESS
    crossed: bool = False
    rejoined: int = 0  # frames in a row, beyond the edge, that have the pose that was there

    def __post_init__(self) -> None:
        self.row = next(self.ahead, -1)

    def take(self, found: _Found, place: Floats) -> None:
        """Go on to the next row, unless the path that was there has been met again or explains the frames better."""
        self.found.append(found)
        self.pose, self.place = found.pose, place
        self.gain += found.gain
        self.crossed = self.crossed or found.row == self.edge
        self.rejoined = self.rejoined + 1 if found.same and self.crossed else 0
        self.least -= self.may_lose * max(found.score - found.gain, 0.0)
        over = self.rejoined == REJOINED or self.gain < self.least
        self.row = -1 if over else next(self.ahead, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What frames are followed in: boxes, maps that leave them out, and the lattice.

    Attributes
    ----------
    frames : (t,) rows of `data`. volumes : kernel layout, of each fold. fold : (t,) of the frames. candidates : lattice
        poses (t, c). centre_px : (3,) lattice centre of the maps. origin_px : (t, 2) middle of the box in the field.
    """

    data: Whitened
    frames: Rows
    volumes: dict[int, Any]
    fold: Rows
    candidates: Candidates
    centre_px: Floats
    site: Site
    origin_px: Floats
    k_max: float
    sigma_deg: float

    def place(self, rows: Any, poses: Floats, shifts: Floats) -> Floats:
        """Where the middle of the particle is, (..., 2) px in the field."""
        return self.origin_px[rows] + shifts - to_matrix(poses)[..., :2, :] @ self.site.offset_px

    def near(self, row: int, own: Path, pose: Floats, place: Floats) -> tuple[Floats, Floats]:
        """Poses (n, 4) to look at in a frame: those that its lattice allows near `pose`, at most NEAREST, then `pose`
        itself, last its own; and shifts.
        """
        symmetry = self.site.kind.symmetry
        listed = symmetry.equivalents(np.concatenate([own.poses[row : row + 1], self.candidates.poses[row]]))
        first = lattice_position(own.poses[row], own.shifts[row], self.centre_px)
        seen = np.concatenate([first[None], self.candidates.shifts[row]])
        middle = place - self.origin_px[row]
        turned = [listed if grain is FIRST else multiply(listed, grain.turn) for grain in self.site.grains]
        away = angle_deg(np.stack(turned), pose).reshape(-1)
        nearest = np.argsort(away)[:NEAREST]
        nearest = nearest[away[nearest] < REACH * self.sigma_deg]
        grain, candidate, branch = np.unravel_index(nearest, (len(turned), len(listed), symmetry.order))
        poses = np.repeat(pose[None], len(nearest) + 2, axis=0)
        shifts = np.repeat((middle + to_matrix(pose)[:2] @ self.site.offset_px)[None], len(poses), axis=0)
        poses[-1], shifts[-1] = own.poses[row], own.shifts[row]
        for g, which in enumerate(self.site.grains):
            mine = np.flatnonzero(grain == g)
            poses[mine] = turned[g][candidate[mine], branch[mine]]
            found = seen[candidate[mine]] - to_matrix(poses[mine])[:, :2] @ self.centre_px
            shifts[mine] = self.site.placed(poses[mine], found - middle, which) + middle
        return poses, shifts


def doubtful(path: Path, sigma_deg: float) -> list[int]:
    """Rows at which the path may have taken a wrong turn, those beside the longest stretches first: after a jump, and
    where frames that are not sure begin.
    """
    lost = np.diff(np.concatenate([[0], ~path.used, [0]]))
    first, last = np.flatnonzero(lost == 1), np.flatnonzero(lost == -1)
    both = np.concatenate([jumps(path.poses, sigma_deg, DOUBTFUL), first[last - first >= UNSURE]])
    found = np.unique(both[both > 0])
    bounds = np.diff([0, *found, len(path.poses)])
    beside = np.maximum(bounds[1:], bounds[:-1])  # frames of the longer stretch beside each
    return found[np.argsort(-beside, kind="stable")[:MOST_EDGES]].tolist()


def edges(path: Path, rows: list[int], longest: int = LONGEST) -> list[tuple[int, int, range]]:
    """Where to follow from, over what, and to: at both sides of doubtful rows a sure frame, the first frame beyond, and
    the frames from there up to `longest` beyond it. The nearest sure frame is begun from, and the farthest one: a wrong
    turn may have been taken before it shows.
    """
    starts: dict[tuple[int, int], tuple[int, range]] = {}
    for row in rows:
        before = [other for other in range(max(row - EDGE, 0), row) if path.used[other]]
        after = [other for other in range(row, min(row + EDGE, len(path.poses))) if path.used[other]]
        for start in before[:1] + before[-1:]:
            starts.setdefault((start, 1), (row, range(start + 1, min(row + longest, len(path.poses)))))
        for start in after[-1:] + after[:1]:
            starts.setdefault((start, -1), (row - 1, range(start - 1, max(row - longest, 0) - 1, -1)))
    return [(start, row, ahead) for (start, _), (row, ahead) in starts.items()]


def pursue(path: Path, scene: Scene, evidence: Evidence) -> Path:
    """`path` with the frames beyond its jumps found anew from their sure side, where that explains them better."""
    rows = doubtful(path, scene.sigma_deg)
    if not rows:
        return path
    result = Path(path.poses.copy(), path.shifts.copy(), path.score.copy(), path.used.copy())
    anew: list[int] = []
    for front in sorted(_followed(path, scene, edges(path, rows), 0.0), key=lambda front: front.gain):
        anew += _accept(result, front, np.array([found.gain for found in front.found]))  # the better of two comes last
    left = [row for row in doubtful(result, scene.sigma_deg) if row in rows][:CLAIMS]
    for front in _followed(result, scene, edges(result, left, LONGEST_CLAIM), HOPELESS_CLAIM):
        if sum(not found.same for found in front.found) >= LEAST_CLAIM:
            anew += _accept(result, front, _claimed(result, front, evidence), LEAST_CLAIM)
    result.used[anew] = explained(result.score)[anew]
    return result


def _claimed(path: Path, front: _Front, evidence: Evidence) -> Floats:
    found = front.found
    rows = np.array([one.row for one in found])
    rival = Reading(np.stack([one.pose for one in found]), np.stack([one.shift for one in found]))
    return evidence.gains(rows, Reading(path.poses[rows], path.shifts[rows]), rival)


def _accept(path: Path, front: _Front, gains: Floats, least: int = 1) -> list[int]:
    """Put what a front has found into `path` up to where that gains most, if it is enough; the rows put in.

    `gains` (m,) of its frames; `least` of them are put in or none.
    """
    total = np.cumsum(gains)[least - 1 :]
    if not len(total) or total.max() <= SURE_GAIN:
        return []
    kept = front.found[: int(np.argmax(total)) + least]
    for found in kept:
        path.poses[found.row], path.shifts[found.row], path.score[found.row] = found.pose, found.shift, found.score
    return [found.row for found in kept]


def _followed(path: Path, scene: Scene, starts: list[tuple[int, int, range]], may_lose: float) -> list[_Front]:
    """The ways over edges, each to its end."""
    every = np.arange(len(path.poses))
    place = scene.place(every, path.poses, path.shifts)
    motion_px = spread_px(np.diff(place[path.used], axis=0))
    fronts = [_Front(iter(ahead), edge, path.poses[row], place[row], may_lose) for row, edge, ahead in starts]
    while active := [front for front in fronts if front.row >= 0]:
        folds = [int(scene.fold[front.row]) for front in active]
        for fold in sorted(set(folds)):
            _step([active[i] for i, other in enumerate(folds) if other == fold], path, scene, fold, motion_px)
    return fronts


def _step(fronts: list[_Front], own: Path, scene: Scene, fold: int, motion_px: float) -> None:
    """One frame further, all fronts whose next frame is left out of the map of `fold` at once."""
    near = [scene.near(front.row, own, front.pose, front.place) for front in fronts]
    rows = np.repeat([front.row for front in fronts], [len(poses) for poses, _ in near])
    poses, shifts, score = scene.data.refine(
        scene.volumes[fold], scene.frames[rows], np.concatenate([poses for poses, _ in near]),
        np.concatenate([shifts for _, shifts in near]), scene.k_max, rounds=ROUNDS,
    )  # fmt: skip
    place = scene.place(rows, poses, shifts)
    first = 0
    for front, (looked_at, _) in zip(fronts, near, strict=True):
        found, last = slice(first, first + len(looked_at) - 1), first + len(looked_at) - 1
        turned = angle_deg(poses[found], front.pose) / (CHAIN_WIDENING * scene.sigma_deg)
        moved = np.hypot(*(place[found] - front.place).T) / motion_px
        best = first + int(np.argmax(score[found] - (turned**2 + moved**2) / 2))
        gain = float(score[best] - score[last])
        near_own = np.hypot(*(shifts[best] - own.shifts[front.row])) < REJOINED_PX
        same = bool(near_own and angle_deg(poses[best], own.poses[front.row]) < REJOINED_DEG)
        front.take(_Found(front.row, poses[best], shifts[best], float(score[best]), gain, same), place[best])
        first = last + 1
