"""The sums of both halves over all decided frames, kept up to date by differences: a frame is inserted once, not once
per map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .branches import Path, half_of
from .maps import Accumulator
from .volume import Grid
from .whitened import Whitened

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Ledger:
    """Which rows of the buffer are in the sums, and with which pose; frames that left the buffer stay in for good.

    Attributes
    ----------
    sums : two sets (halves) over frames inside and outside of the buffer. inside : (capacity,) rows that are in them.
    """

    def __init__(self, data: Whitened, grid: Grid, capacity: int) -> None:
        self._data = data
        self.sums = Accumulator(grid, 2, data.device)
        self.inside = np.zeros(capacity, np.bool_)
        self._left: Accumulator | None = None  # the part of frames that left
        self._half = np.zeros(capacity, np.int64)
        self._poses, self._shifts = np.zeros((capacity, 4)), np.zeros((capacity, 2))

    @property
    def left(self) -> Accumulator | None:
        """Sums of the frames that left the buffer; None while none has."""
        return self._left

    def update(self, rows: Rows, number: NDArray[np.int64], path: Path) -> None:
        """Bring the sums in line with the poses of `rows`: what has changed is taken out and put in again.

        Parameters
        ----------
        rows : (m,) rows of the buffer. number : (m,) frame numbers. path : their poses.
        """
        held = self.inside[rows]
        same = (self._poses[rows] == path.poses).all(axis=1) & (self._shifts[rows] == path.shifts).all(axis=1)
        out, into = rows[held & ~(path.used & same)], path.used & ~(held & same)
        if 2 * len(out) > self.inside.sum():  # beginning anew is less work, and forgets the rounding of old differences
            self.inside[rows[held]] = False
            others = np.flatnonzero(self.inside)
            self.sums = Accumulator(self.sums.grid, 2, self._data.device)
            if self._left is not None:
                self.sums.add_cropped(self._left)
            self._add(others, 1.0)
            into = path.used
        else:
            self._add(out, -1.0)
            self.inside[out] = False
        fresh = rows[into]
        self._half[fresh] = half_of(number[into])
        self._poses[fresh], self._shifts[fresh] = path.poses[into], path.shifts[into]
        self.inside[fresh] = True
        self._add(fresh, 1.0)

    def _add(self, rows: Rows, share: float, target: Accumulator | None = None) -> None:
        self._data.insert(
            target or self.sums, self._half[rows], rows, self._poses[rows], self._shifts[rows],
            np.full(len(rows), share),
        )  # fmt: skip

    def leave(self, count: int) -> None:
        """The first `count` rows leave the buffer, their contribution stays; call it before they are dropped."""
        if self._left is None:
            self._left = Accumulator(self.sums.grid, 2, self._data.device)
        self._add(np.flatnonzero(self.inside[:count]), 1.0, self._left)
        for array in (self.inside, self._half, self._poses, self._shifts):
            array[:-count] = array[count:].copy()
        self.inside[-count:] = False
