"""The bounded memory of one particle: whitened boxes of its recent frames with their candidates and decided poses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import Path
from .device import Device
from .indexing import Candidates

Floats = NDArray[np.float64]
KEPT = 8  # lattice candidates remembered per frame


class FrameBuffer:
    """Rows 0..length are frames in order; capacity is fixed, the oldest rows leave through `drop`."""

    def __init__(self, capacity: int, coefficients: int, device: Device) -> None:
        self.capacity, self.device = capacity, device
        self.length = 0
        self.coefficients = device.xp.zeros((capacity, coefficients, 2), np.float32)
        self.number = np.zeros(capacity, np.int64)
        self.time_s = np.zeros(capacity)
        self.origin_px = np.zeros((capacity, 2))  # box centre pixel in the frame
        self.candidates = np.zeros((capacity, KEPT, 4))
        self.candidate_px = np.zeros((capacity, KEPT, 2))  # where the lattice centre is seen
        self.candidate_share = np.zeros((capacity, KEPT))  # probability modulo 48
        self.poses = np.zeros((capacity, 4))
        self.shifts = np.zeros((capacity, 2))
        self.score = np.zeros(capacity)
        self.used = np.zeros(capacity, np.bool_)
        self.refined = np.zeros(capacity, np.bool_)  # in full band, since its branch was last changed

    @property
    def _host_arrays(self) -> tuple[NDArray[Any], ...]:
        return (
            self.number, self.time_s, self.origin_px, self.candidates, self.candidate_px, self.candidate_share,
            self.poses, self.shifts,
            self.score, self.used, self.refined,
        )  # fmt: skip

    def append(
        self, coefficients: Any, number: NDArray[np.int64], time_s: Floats, origin_px: Floats
    ) -> NDArray[np.int64]:
        """Add frames; returns their rows. The caller makes room first."""
        rows = np.arange(self.length, self.length + len(number))
        self.coefficients[rows[0] : rows[-1] + 1] = coefficients
        self.number[rows], self.time_s[rows], self.origin_px[rows] = number, time_s, origin_px
        self.refined[rows] = False
        self.length += len(number)
        return rows

    def remember(self, rows: NDArray[np.int64], found: Candidates) -> None:
        """Store lattice candidates of rows."""
        self.candidates[rows] = found.poses[:, :KEPT]
        self.candidate_px[rows] = found.shifts[:, :KEPT]
        self.candidate_share[rows] = found.probability[:, :KEPT]

    def recall(self) -> Candidates:
        """Lattice candidates of all rows (their likelihoods are not kept)."""
        rows = slice(0, self.length)
        share = self.candidate_share[rows]
        return Candidates(self.candidates[rows], self.candidate_px[rows], np.zeros_like(share), share)

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.arange(self.length)

    def path(self, rows: NDArray[np.int64] | slice | None = None) -> Path:
        """Decided poses of rows (all by default)."""
        r = slice(0, self.length) if rows is None else rows
        return Path(self.poses[r], self.shifts[r], self.score[r], self.used[r])

    def accept(self, rows: NDArray[np.int64], path: Path) -> None:
        """Store decided poses of rows."""
        self.poses[rows], self.shifts[rows], self.score[rows], self.used[rows] = (
            path.poses, path.shifts, path.score, path.used,
        )  # fmt: skip

    def drop(self, count: int) -> None:
        """Forget the oldest `count` rows."""
        left = self.length - count
        for array in (self.coefficients, *self._host_arrays):
            array[:left] = array[count : self.length].copy()
        self.length = left
