"""One series on its way through the receiver: recorded, waiting, handed over; and its books."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..stream.counters import Cut
from ..stream.encoded import EncodedFrame
from ..stream.frame import SeriesEnd, SeriesStart
from ..stream.keeper import Keeper
from .books import IntakeBooks
from .folders import RECORDING, lock

RING_FULL = "ring full"


class Reception:
    """The receiver's part of one series.

    Parameters
    ----------
    number : of the series in this run, from 1.
    folder : of its session.
    record : keep its frames there.
    before : what the source had counted when the series before was over.

    Attributes
    ----------
    end, cut : how it has ended, and what the source had counted by then; ``None`` while it goes on.
    geometry : shape and type of its frames, known with the first one.
    handed_over, rejected, dropped : what became of frames here; that of the source is counted there.

    Raises
    ------
    TumbleError : another process records into the folder.
    """

    def __init__(self, number: int, folder: Path, *, record: bool, before: Cut) -> None:
        self.number, self.folder, self.record = number, folder, record
        self.start: SeriesStart | None = None
        self.scaled = False
        self.end: SeriesEnd | None = None
        self.cut: Cut | None = None
        self.geometry: tuple[tuple[int, int], np.dtype[Any]] | None = None
        self.handed_over = 0
        self.rejected: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._before = before
        self._resumed = self._awaited = 0
        self._lock = lock(folder) if record else None
        self.keeper = Keeper(folder / RECORDING if record else None)

    def begin(self, start: SeriesStart, *, scaled: bool) -> None:
        """Its start has come. `scaled`: the operator gave the pixel size, so that the stream need not.

        Raises
        ------
        RecordingError : the recording exists already or cannot be made.
        """
        self._introduce(start, scaled)
        self.keeper.begin(start)

    def resume(self, start: SeriesStart, *, scaled: bool) -> int:
        """It was begun by a process that was killed; returns the number of the frame that is awaited.

        Raises
        ------
        RecordingError : there is no recording, or it cannot be read.
        """
        self._introduce(start, scaled)
        self._resumed, self._awaited = self.keeper.resume(start)
        return self._awaited

    def _introduce(self, start: SeriesStart, scaled: bool) -> None:
        self.start = start
        self.scaled = scaled or start.pixel_size_A is not None

    @property
    def complete(self) -> bool:
        """Whether all frames that were announced have come."""
        announced = None if self.start is None else self.start.number_of_images
        return announced is not None and self._awaited >= announced

    @property
    def over(self) -> bool:
        """Whether all is known and done."""
        return self.end is not None and self.cut is not None and not self.keeper.waiting

    def take(self, frame: EncodedFrame, arrived_s: float) -> None:
        """Record a frame and let it wait for a slot."""
        if not self.keeper.take(frame, arrived_s):
            self.dropped[RING_FULL] += 1

    def rest(self) -> None:
        """It is complete, and waits until those before it are worked off: it needs neither memory nor open files."""
        self.keeper.rest()
        self._unlock()

    def close(self) -> None:
        """Close the recording."""
        self.keeper.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def books(self, now: Cut, queue_size: int) -> IntakeBooks:
        """Its books, where the source has counted `now`; what is in its queue or in hand is waiting."""
        counted = (self.cut or now).since(self._before)
        received = counted.received + self._resumed
        rejected = Counter(counted.rejected) + self.rejected
        dropped = Counter(counted.dropped) + self.dropped
        return IntakeBooks(
            series=self.number,
            received=received,
            handed_over=self.handed_over,
            rejected=dict(rejected),
            dropped=dict(dropped),
            missing=counted.missing + self._awaited - self._resumed,
            recorded=self.keeper.recorded,
            unrecorded=dict(self.keeper.unrecorded),
            queue=received - self.handed_over - rejected.total() - dropped.total(),
            queue_size=queue_size,
            later=0 if self.cut is None else now.received - self.cut.received,
            warnings=(*counted.warnings, *self.keeper.warnings),
            told_s=time.monotonic(),
        )
