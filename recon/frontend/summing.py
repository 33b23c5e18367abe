"""Frames on their way through the front end, and summing them where the crystals turn slowly enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(slots=True, eq=False)
class Held:
    """A good frame, or a sum of good frames, that waits for the detection window or the smoothing lag.

    Attributes
    ----------
    index : of the frame, or of the middle one of a sum.
    time_s : of that frame.
    data : (rows, columns) counts, on the host or on a device.
    mean : mean count per pixel.
    members : indices of the frames it stands for.
    """

    index: int
    time_s: float
    data: Any
    mean: float
    members: tuple[int, ...]


class FrameSummer:
    """Sums a fixed number of consecutive good frames; 1 passes them through.

    A sum must not span a gap: its members lie within twice its length, others are given back as left over.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._waiting: list[Held] = []

    def add(self, held: Held) -> tuple[Held | None, tuple[int, ...]]:
        """Take one frame; return a sum when it is complete, and the indices of frames that no sum can use."""
        if self.count == 1:
            return held, ()
        self._waiting.append(held)
        left_over: list[int] = []
        while held.index - self._waiting[0].index >= 2 * self.count:
            left_over.append(self._waiting.pop(0).index)
        if len(self._waiting) < self.count:
            return None, tuple(left_over)
        members, self._waiting = self._waiting, []
        return summed(members), tuple(left_over)

    def rest(self) -> tuple[int, ...]:
        """Give back the indices of an incomplete sum and forget it."""
        waiting, self._waiting = self._waiting, []
        return tuple(held.index for held in waiting)


def summed(members: list[Held]) -> Held:
    """Sum of several frames, in a type that holds it."""
    kind = members[0].data.dtype.kind
    total = members[0].data.astype(np.float32 if kind == "f" else np.int32 if kind == "i" else np.uint32)
    for held in members[1:]:
        total += held.data
    middle = members[len(members) // 2]
    indices = tuple(held.index for held in members)
    return Held(middle.index, middle.time_s, total, float(sum(held.mean for held in members)), indices)
