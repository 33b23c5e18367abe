"""Twinned crystals: two fcc grains that share a (111) plane, the commonest defect of small metal crystals.

A frame of a twin is indexed on whichever grain scatters more just then. A path that may take only one lattice must
then jump between grains that no tumbling joins; one that may take either, the second turned by half a turn about <111>
(a Sigma-3 twin), goes on without a jump. Which of the four <111> it is does not matter: they differ by the choice of
the body axes, which are free until the first map, so that it is [111].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chain import NOT_SCORED, distinct_modulo, probable_path
from .indexing import Candidates
from .rotations import GROUP_ORDER, equivalents, multiply

Floats = NDArray[np.float64]
TURN: Floats = np.array([0.0, 1.0, 1.0, 1.0]) / math.sqrt(3.0)  # half a turn about [111]
CANDIDATES = 5
GAIN = 1.0  # log-probability per frame by which the second grain must explain the path better; without one it was 0.1


@dataclass(frozen=True, slots=True, eq=False)
class TwinPath:
    """A continuous path through both grains: poses (t, 4) of the body, where a lattice site is seen (t, 2) px, scores
    (t,), and whether it is a site of the second grain (t,).
    """

    poses: Floats
    shifts: Floats
    score: Floats
    second: NDArray[np.bool_]


def twin_path(found: Candidates, sigma_deg: float) -> TwinPath | None:
    """The path through both grains; None when one lattice explains the movie nearly as well.

    Parameters
    ----------
    found : lattice candidates (t, c). sigma_deg : rotation per frame and axis.
    """
    index = distinct_modulo(found.poses, CANDIDATES)
    absent = index == 0
    absent[:, 0] = False
    score = np.where(absent, NOT_SCORED, np.take_along_axis(found.score, index, axis=1))
    single = equivalents(np.take_along_axis(found.poses, index[..., None], axis=1))
    both = np.concatenate([single, multiply(single, TURN)], axis=2)
    frames = len(score)

    def path(branches: Floats) -> tuple[NDArray[np.int64], float]:
        of_each = branches.shape[2]
        return probable_path(branches.reshape(frames, -1, 4), np.repeat(score, of_each, axis=1), sigma_deg)

    chosen, worth = path(both)
    if worth - path(single)[1] < GAIN * frames:
        return None
    each = np.arange(frames)
    candidate, branch = np.divmod(chosen, 2 * GROUP_ORDER)
    taken = index[each, candidate]
    return TwinPath(
        both[each, candidate, branch], found.shifts[each, taken], found.score[each, taken], branch >= GROUP_ORDER
    )
