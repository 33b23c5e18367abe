"""Two readings of a stretch of frames, and which of them makes the frames agree with each other and with the rest.

A map knows only directions that have been seen. Where a path enters others, its frames score better on a wrong branch
that turns them into known directions than on the right one, frame by frame: a crystal that looks alike from two sides
in nine atoms of ten explains nine tenths of them, the empty map at the right place nothing. Following such a path
frame by frame is hopeless then, and deciding anew confirms the error. Taken together the frames tell: where a reading
is right, every other frame makes a map on which those between them score well; a wrong one spoils the map. This is the
evidence of the frames by the chain rule of probability, in two steps instead of one per frame.

A crystal of 400 atoms had 53 % of its poses right without this, two stretches of 28 and 200 frames having gone astray,
and all of them with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import Path
from .maps import Accumulator, Sums
from .volume import Grid
from .whitened import Whitened

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
ROUNDS = 4  # of refinement


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Poses (m, 4) and shifts (m, 2) px of a stretch of frames."""

    poses: Floats
    shifts: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The sums that a map is made of, and how it is made.

    Attributes
    ----------
    frames : (t,) rows of `data`. half : (t,) of each. path : what was inserted, its `used` frames. total : sums of both
        halves. solve : kernel volume of such sums.
    """

    data: Whitened
    frames: Rows
    half: Rows
    path: Path
    total: tuple[Sums, Sums]
    grid: Grid
    solve: Callable[[list[Sums]], Any]
    k_max: float

    def gains(self, rows: Rows, present: Reading, rival: Reading) -> Floats:
        """Log-likelihood (m,) by which `rival` explains `rows` better than `present`, each frame on a map with every
        other one of them read in the same way.
        """
        used = rows[self.path.used[rows]]
        taken_out = self._sums(used, self.path.poses[used], self.path.shifts[used])
        base = [_sum(whole, part, -1) for whole, part in zip(self.total, taken_out, strict=True)]
        return self._scores(rows, rival, base) - self._scores(rows, present, base)

    def after(self, rows: Rows, reading: Reading) -> Evidence:
        """The same when these rows are read so."""
        path, used = self.path, rows[self.path.used[rows]]
        taken_out = self._sums(used, path.poses[used], path.shifts[used])
        put_in = self._sums(rows, reading.poses, reading.shifts)
        left = (_sum(whole, part, -1) for whole, part in zip(self.total, taken_out, strict=True))
        first, second = (_sum(whole, part, 1) for whole, part in zip(left, put_in, strict=True))
        poses, shifts, use = path.poses.copy(), path.shifts.copy(), path.used.copy()
        poses[rows], shifts[rows], use[rows] = reading.poses, reading.shifts, True
        return replace(self, path=Path(poses, shifts, path.score, use), total=(first, second))

    def _sums(self, rows: Rows, poses: Floats, shifts: Floats) -> tuple[Sums, Sums]:
        into = Accumulator(self.grid, 2, self.data.device)
        self.data.insert(into, self.half[rows], self.frames[rows], poses, shifts, np.ones(len(rows)))
        return into.halves()

    def _scores(self, rows: Rows, reading: Reading, base: list[Sums]) -> Floats:
        scores = np.empty(len(rows))
        for first in (0, 1):
            shown, asked = slice(first, None, 2), slice(1 - first, None, 2)
            added = self._sums(rows[shown], reading.poses[shown], reading.shifts[shown])
            volume = self.solve([_sum(whole, part, 1) for whole, part in zip(base, added, strict=True)])
            scores[asked] = self.data.refine(
                volume, self.frames[rows[asked]], reading.poses[asked], reading.shifts[asked], self.k_max, rounds=ROUNDS
            )[2]
        return scores


def _sum(first: Sums, second: Sums, sign: int) -> Sums:
    return first[0] + sign * second[0], first[1] + sign * second[1]
