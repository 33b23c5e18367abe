"""How long things take, lately: from the wire to the snapshot, and per frame."""

from __future__ import annotations

from collections import deque

import numpy as np

RECENT = 16384  # frames over which percentiles are taken
BETWEEN = 16384  # frames that can wait for the next snapshot: 4000 a second, four snapshots a second


class Latency:
    """From the arrival of a frame to when the first snapshot that includes it is made."""

    def __init__(self) -> None:
        self._included: deque[float] = deque(maxlen=BETWEEN)
        self._recent_s: deque[float] = deque(maxlen=RECENT)

    def add(self, arrived_s: float) -> None:
        """A frame that arrived at `arrived_s` (`time.monotonic`) will be in the next snapshot."""
        self._included.append(arrived_s)

    def published(self, now_s: float) -> None:
        """A snapshot is being made."""
        self._recent_s.extend(now_s - arrived_s for arrived_s in self._included)
        self._included.clear()

    def percentiles_ms(self) -> tuple[float | None, float | None]:
        """Median and 99th percentile over the recent frames, ms."""
        if not self._recent_s:
            return None, None
        half, most = np.percentile(np.array(self._recent_s), (50, 99)) * 1e3
        return round(float(half), 1), round(float(most), 1)


class TimePerFrame:
    """Mean time per frame over the last frames: their whole time by their number, so that long pieces count in full.

    Parameters
    ----------
    frames : how many.
    """

    def __init__(self, frames: int = 1000) -> None:
        self._wanted = frames
        self._parts: deque[tuple[int, float]] = deque()
        self._frames, self._seconds = 0, 0.0

    def add(self, frames: int, seconds: float) -> None:
        """`frames` more were done in `seconds` more; 0 frames is time for those to come."""
        if self._parts and not self._parts[-1][0]:  # belongs to the frames that come now
            before = self._parts.pop()[1]
            self._seconds -= before
            seconds += before
        self._parts.append((frames, seconds))
        self._frames += frames
        self._seconds += seconds
        while self._frames - self._parts[0][0] >= self._wanted:
            gone, spent = self._parts.popleft()
            self._frames -= gone
            self._seconds -= spent

    @property
    def ms(self) -> float | None:
        """Milliseconds per frame; ``None`` before the first."""
        return 1e3 * self._seconds / self._frames if self._frames else None
