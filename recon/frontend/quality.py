"""Which frames are fit to be used, and why the others are not."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device, cpu
from .options import FrontEndOptions

DARK = 0.2  # of the running median dose
SETTLED = 8  # consecutive frames at a new dose before it counts as the new normal
SAMPLED = 4096  # counts, about, that two frames are compared by


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What is known of a frame of integer counts after a pass over it.

    Attributes
    ----------
    total : sum of the counts.
    at_top : how many are at the top of the range.
    sample : every `sample_stride`-th count, row after row.
    """

    total: int
    at_top: int
    sample: NDArray[Any]


def sample_stride(size: int) -> int:
    """Distance of the counts that a frame of `size` of them is known by."""
    return max(1, size // SAMPLED)


def median(values: Collection[float]) -> float:
    """What `numpy.median` gives of some dozens of finite numbers, in a tenth of the time."""
    ordered, half = sorted(values), len(values) // 2
    return float(ordered[half]) if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


class FrameGate:
    """Checks frames against running robust statistics; order of the frames is all it depends on.

    Reasons: ``wrong shape``, ``wrong type``, ``duplicate``, ``not finite``, ``blank``, ``saturated``, ``dose jump``.
    """

    def __init__(self, rows: int, columns: int, options: FrontEndOptions, device: Device | None = None) -> None:
        self.shape = (rows, columns)
        self._pixels = (device or cpu(1)).kernels.pixels
        self.options = options
        self._means: deque[float] = deque(maxlen=64)
        self._top_shares: deque[float] = deque(maxlen=64)
        self._jumped: deque[float] = deque(maxlen=SETTLED)
        self._last_index: int | None = None
        self._last: tuple[float, NDArray[Any]] | None = None
        self.mean = 0.0

    def unfit(self, data: NDArray[Any]) -> str:
        """Return why an array cannot be a frame of this series at all, or ""."""
        if data.dtype.kind not in "uif":
            return "wrong type"
        return "wrong shape" if data.shape != self.shape else ""

    def check(
        self,
        index: int,
        data: NDArray[Any],
        corrected_mean: float | None = None,
        frame: Any | None = None,
        levels: Levels | None = None,
    ) -> str:
        """Return the reason to reject the frame, or "" when it is good; `mean` is then its mean count per pixel.

        Parameters
        ----------
        data : (rows, columns) counts of any integer or real type, as the detector sent them.
        corrected_mean : mean of the good pixels after dark and gain, where the frame is corrected.
        frame : the same counts on the device; None: `data`.
        levels : where they are known already.
        """
        if reason := self.unfit(data):
            return reason
        if self._last_index is not None and index <= self._last_index:
            return "duplicate"
        self._last_index = index
        top_share, usable_mean = self._levels(data, data if frame is None else frame, levels)
        if corrected_mean is not None:
            usable_mean = corrected_mean
        if not np.isfinite(usable_mean):
            return "not finite"
        if usable_mean <= 0 or (self._means and usable_mean < DARK * median(self._means)):
            return "blank"
        sample = data.reshape(-1)[:: sample_stride(data.size)].copy() if levels is None else levels.sample
        if self._same_as_last(usable_mean, sample):
            return "duplicate"
        # Detectors mark bad pixels with the highest value: a constant share is a mask, not saturation.
        usual = median(self._top_shares) if self._top_shares else min(top_share, 0.5)
        if top_share > usual + self.options.saturated_fraction:
            self._top_shares.append(top_share)
            return "saturated"
        if self._is_jump(usable_mean):
            return "dose jump"
        self._means.append(usable_mean)
        self._top_shares.append(top_share)
        self.mean = usable_mean
        return ""

    def _levels(self, data: NDArray[Any], frame: Any, levels: Levels | None) -> tuple[float, float]:
        """Share of pixels at the top of an integer range, and the mean of the others (NaN if not finite)."""
        if data.dtype.kind == "f":
            mean = float(data.mean(dtype=np.float64))
            return 0.0, mean if np.isfinite(mean) else float("nan")
        top = int(np.iinfo(data.dtype).max)
        total, at_top = self._pixels.levels(frame, top) if levels is None else (levels.total, levels.at_top)
        if at_top == 0:
            return 0.0, total / data.size
        if at_top == data.size:
            return 1.0, 0.0
        return at_top / data.size, (total - at_top * float(top)) / (data.size - at_top)

    def _same_as_last(self, mean: float, sample: NDArray[Any]) -> bool:
        """Whether the very same counts came before: a few thousand pixels tell, counting noise never repeats."""
        same = self._last is not None and self._last[0] == mean and np.array_equal(self._last[1], sample)
        self._last = (mean, sample)
        return same

    def _is_jump(self, mean: float) -> bool:
        """Whether the dose left its running median; a lasting new level is taken over after `SETTLED` frames."""
        if not self._means:
            return False
        usual = median(self._means)
        spread = 1.4826 * median([abs(mean - usual) for mean in self._means])
        if abs(mean - usual) <= max(self.options.dose_jump * usual, 8 * spread if len(self._means) > 16 else 0.0):
            self._jumped.clear()
            return False
        self._jumped.append(mean)
        level = median(self._jumped)
        if len(self._jumped) == SETTLED and max(abs(m - level) for m in self._jumped) <= self.options.dose_jump * level:
            self._means.clear()
            self._jumped.clear()
            return False
        return True
