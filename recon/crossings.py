"""Wrong turns at zone axes: a path that comes near one of its own mirror images may have gone on as that.

Seen along a twofold axis a lattice is its own mirror image, and the two poses are one. A path that passes such an axis
can leave it as either, by a step no longer than many a true one: nothing jumps. From there on the frames agree with
each other, and with no map that the frames before it make. Frame by frame they are for the wrong pose, which they
have drawn into the map; taken together (`claims`) they tell. Of 300 frames at 40 e/A^2 120 were on the mirror image of
the path of the others, after any beginning and any number of rounds; turned together they were worth 395 in
log-likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from .branches import Path, States, clear_by, explained, lattice_position
from .claims import Evidence, Reading
from .pursuit import LEAST_CLAIM, LONGEST_CLAIM, SURE_GAIN, Scene
from .rotations import angle_deg, to_matrix
from .site import FIRST

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
REACH = 5.0  # standard deviations of the rotation per frame and axis: what a wrong turn can be without a jump
PASSAGE = 31  # frames that one passage of an axis takes
AHEAD = 50  # frames beyond a crossing whose lead over the mirror image is looked at
DOUBT = 0.03  # share of the likelihood; a lead beyond it is no doubt
MOST_TURNED = 4  # stretches in one round
MOST = 6  # crossings tried at a time, those of the least lead
SAME_DEG = 3.0  # farther from the path before, a frame was decided anew and its lead is not known


def crossings(branches: Floats, sigma_deg: float) -> list[tuple[int, int]]:
    """Where a path comes nearest to one of its own branches, and near enough to be taken for it: (row, branch).

    Parameters
    ----------
    branches : (t, order, 4) those of a path, itself the first.
    """
    away = angle_deg(branches, branches[:, :1])
    away[:, 0] = np.inf
    nearest = away == minimum_filter(away, (PASSAGE, 1), mode="nearest")
    return [(int(row), int(branch)) for row, branch in np.argwhere(nearest & (away < REACH * sigma_deg))]


def turned(path: Path, before: Path, states: States, scene: Scene, evidence: Evidence) -> Path:
    """`path` with frames beyond crossings on the other branch, where that makes them agree better with all others.

    Parameters
    ----------
    before : the path whose branches the first of `states` are. evidence : of `before`.
    """
    result = Path(path.poses.copy(), path.shifts.copy(), path.score.copy(), path.used.copy())
    for _ in range(MOST_TURNED):
        tried = [
            _tried(result, rows, branch, scene, evidence) for rows, branch in _doubted(result, before, states, scene)
        ]
        best = max(tried, key=lambda one: float(one.gains.sum()), default=None)
        if best is None or best.gains.sum() <= SURE_GAIN or len(best.rows) < LEAST_CLAIM:
            break
        result.poses[best.rows], result.shifts[best.rows] = best.rival.poses, best.rival.shifts
        result.score[best.rows] += best.gains
        result.used[best.rows] = explained(result.score)[best.rows]
        evidence = evidence.after(best.rows, best.rival)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """Rows of a path, how else they may be read, and the log-likelihood (t,) that this gains."""

    rows: Rows
    rival: Reading
    gains: Floats


def _tried(path: Path, rows: Rows, branch: int, scene: Scene, evidence: Evidence) -> _Trial:
    """Rows of a path read as their mirror image, up to where another crossing leads back."""
    poses = scene.site.kind.symmetry.equivalents(path.poses[rows])[:, branch]
    rival = _mirrored(path, rows, poses, scene)
    gains = evidence.gains(rows, Reading(path.poses[rows], path.shifts[rows]), rival)
    part = _best_part(gains)
    return _Trial(rows[part], Reading(rival.poses[part], rival.shifts[part]), gains[part])


def _best_part(gains: Floats) -> slice:
    """The stretch of (t,) that gains most."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    least = np.minimum.accumulate(total)
    stop = int(np.argmax(total - least))
    return slice(int(total[: stop + 1].argmin()), stop)


def _doubted(path: Path, before: Path, states: States, scene: Scene) -> list[tuple[Rows, int]]:
    """Rows beyond crossings, either way, and the branch that they would change to, the most doubtful first."""
    every, branches = np.arange(len(path.poses)), scene.site.kind.symmetry.equivalents(path.poses)
    lead = clear_by(states.score[:, : branches.shape[1]])
    lead[angle_deg(path.poses, before.poses) > SAME_DEG] = np.nan
    doubt = DOUBT * float(np.median(np.maximum(path.score, 0.0)))
    found = []
    for row, branch in crossings(branches, scene.sigma_deg):
        for beyond in (every[row : row + LONGEST_CLAIM], every[max(row - LONGEST_CLAIM, 0) : row][::-1]):
            told = lead[beyond[:AHEAD], branch - 1]
            told = told[np.isfinite(told)]
            if len(beyond) >= LEAST_CLAIM and len(told) and told.mean() < doubt:
                found.append((float(told.mean()), beyond, branch))
    found.sort(key=lambda one: one[0])
    return [(beyond, branch) for _, beyond, branch in found[:MOST]]


def _mirrored(path: Path, rows: Rows, poses: Floats, scene: Scene) -> Reading:
    """Equivalent `poses` of rows of a path: the lattice centre stays where it is seen, and the particle where it is."""
    own, seen = path.poses[rows], path.shifts[rows]
    middle = scene.place(rows, own, seen) - scene.origin_px[rows]
    shifts = lattice_position(own, seen, scene.centre_px) - to_matrix(poses)[:, :2] @ scene.centre_px
    return Reading(poses, scene.site.placed(poses, shifts - middle, FIRST) + middle)
