"""The books of a stream: which frames belong to which series, what is missing, what cannot be used. No sockets."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .encoded import EncodedFrame
from .frame import SeriesEnd, SeriesStart
from .words import printable

WireEvent = SeriesStart | EncodedFrame | SeriesEnd

_IMPLAUSIBLE_GAP = 1_000_000  # a single jump this large is a damaged number, not a loss
_STRIDE_SAMPLES = 8
_MAX_WARNINGS = 16
_LONGEST_WARNING = 300  # characters


@dataclass(frozen=True, slots=True)
class Tally:
    """What a `SeriesTracker` had counted at some moment."""

    received: int = 0
    missing: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass
class SeriesTracker:
    """Turns whatever a sender says into a well-formed sequence: start, frames in order, end; start, frames, end; ...

    Feed it events; what it returns is to be delivered. Frames that cannot be delivered are counted in `rejected` under
    a reason, numbers that never came in `missing`, and everything a person should know since the last end is in
    `warnings`. `at_end` is what had been counted when the series that ended last was over.
    """

    dealt: bool = True  # the source deals frames out among its clients, so that another one would leave a stride
    received: int = 0
    missing: int = 0
    ignored: int = 0  # repeated starts, repeated or stale ends
    rejected: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    current: SeriesStart | None = None
    at_end: Tally = field(default_factory=Tally)
    _ended: SeriesStart | None = None
    _ended_reason: str = ""
    _next_index: int = 0
    _doubted: int = -2  # number of the newest frame that was too far ahead
    _shape: tuple[int, int] | None = None
    _dtype: np.dtype[Any] | None = None
    _steps: deque[int] = field(default_factory=lambda: deque(maxlen=_STRIDE_SAMPLES))
    _stride_told: int = 0
    _told: set[str] = field(default_factory=set)  # what has been said of the series
    _resumed: bool = False  # frames of the series have been recorded, so that its shape is known

    def feed(self, event: WireEvent) -> list[WireEvent]:
        """Take one event from the wire, return what has to be delivered, in order."""
        if isinstance(event, EncodedFrame):
            return [event] if self._is_next(event) else self._feed_frame(event)
        if isinstance(event, SeriesStart):
            if self._is_repeated(event):
                self.ignored += 1
                return []
            return [*self._close("superseded"), self._open(event)]
        if self.current is None or event.series_id != self.current.series_id:
            self.ignored += 1
            return []
        return self._close(event.reason)

    def _is_next(self, frame: EncodedFrame) -> bool:
        """Book the frame that is awaited, with nothing said against it, as nearly all are; False: it is another."""
        current = self.current
        if current is None or frame.series_id != current.series_id or frame.index != self._next_index:
            return False
        if frame.shape != self._shape or frame.dtype != self._dtype or not math.isfinite(frame.time_s):
            return False
        self.received += 1
        self._next_index += 1
        self._steps.append(1)
        return True

    def _is_repeated(self, start: SeriesStart) -> bool:
        """Whether the running series is announced once more, as a tee does when somebody else joins it."""
        current = self.current
        return current is not None and (current.series_id, current.unique_id) == (start.series_id, start.unique_id) != (
            start.series_id,
            "",
        )

    def resume(self, start: SeriesStart, next_index: int) -> None:
        """Take it that `start` came and the frames before number `next_index` did; only what follows is delivered."""
        self._open(start)
        self._next_index, self._resumed = next_index, True

    def time_out(self) -> list[WireEvent]:
        """The source has been silent for too long: end the series."""
        return self._close("timeout")

    def tally(self) -> Tally:
        """What has been counted so far."""
        return Tally(self.received, self.missing, dict(self.rejected), tuple(self.warnings))

    def warn(self, text: str) -> None:
        """Keep a line for the operator; the list is bounded, the first ones matter most."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(printable(text, _LONGEST_WARNING))

    def _feed_frame(self, frame: EncodedFrame) -> list[WireEvent]:
        before: list[WireEvent] | None = []
        if self.current is None or frame.series_id != self.current.series_id:
            before = self._open_for(frame)
        self.received += 1  # only now: with what it belongs to
        if before is None:
            self.rejected["of a series that is over"] += 1
            return []
        problem = self._number_problem(frame) or self._shape_problem(frame)
        if problem:
            self.rejected[problem] += 1
            return before
        return [*before, self._with_time(frame)]

    def _number_problem(self, frame: EncodedFrame) -> str:
        gap = frame.index - self._next_index
        if gap < 0:
            self._warn_once(
                "repeated",
                f"frame {frame.index} of series {frame.series_id} comes behind frame {self._next_index - 1}: such "
                "frames are rejected; if the detector was reset, begin another series",
            )
            return "image number repeated or out of order"
        if gap > _IMPLAUSIBLE_GAP and frame.index != self._doubted + 1:
            self._doubted = frame.index  # the next one in a row confirms it
            return "implausible image number"
        gap -= gap > _IMPLAUSIBLE_GAP  # the one that was doubted did come
        self.missing += gap
        self._steps.append(gap + 1)
        self._look_for_theft()
        self._next_index = frame.index + 1
        return ""

    def _shape_problem(self, frame: EncodedFrame) -> str:
        if self._dtype is None:
            self._learn(frame)
        if frame.shape == self._shape and frame.dtype == self._dtype:
            return ""
        height, width = self._shape or frame.shape
        self._warn_once(
            "shape",
            f"frame {frame.index} of series {frame.series_id} is {frame.shape[1]} x {frame.shape[0]} "
            f"{frame.dtype}, but the series is {width} x {height} {self._dtype}: such frames are "
            "rejected; for another form begin another series",
        )
        return "shape or type changed within the series"

    def _learn(self, frame: EncodedFrame) -> None:
        """The first frame knows better than the header what the others are like, as with a region of interest."""
        self._dtype = frame.dtype
        if self._shape is not None and frame.shape != self._shape and not self._resumed:
            height, width = self._shape
            self.warn(
                f"series {frame.series_id} was announced with {width} x {height} pixels, but its frames have "
                f"{frame.shape[1]} x {frame.shape[0]}: they are taken as they are"
            )
            self._shape = None
        self._shape = self._shape or frame.shape

    def _open_for(self, frame: EncodedFrame) -> list[WireEvent] | None:
        """A frame without a start of its own: we came late, or the start was lost. None: the frame is a stale one."""
        if self.current is not None:
            if frame.series_id < self.current.series_id:
                self._warn_of_stale(frame, self.current)
                return None
        elif self._ended is not None:
            if frame.series_id < self._ended.series_id:
                self._warn_of_stale(frame, self._ended)
                return None
            if frame.series_id == self._ended.series_id:
                if self._ended_reason != "timeout":
                    return None
                next_index = self._next_index
                opened: list[WireEvent] = [self._open(self._ended)]
                self.warn(f"series {frame.series_id} goes on after a pause that was taken for its end")
                self._next_index = next_index
                return opened
        height, width = frame.shape
        start = SeriesStart(frame.series_id, width=width, height=height, dtype=frame.dtype)
        before: list[WireEvent] = [*self._close("superseded"), self._open(start)]
        self.warn(f"series {frame.series_id} has no start message: connected late? Taking its shape from the frame")
        self._next_index = frame.index
        return before

    def _warn_once(self, about: str, text: str) -> None:
        """Say something once in a series."""
        if about not in self._told:
            self._told.add(about)
            self.warn(text)

    def _warn_of_stale(self, frame: EncodedFrame, newest: SeriesStart) -> None:
        self._warn_once(
            "stale",
            f"frames of series {frame.series_id} come after series {newest.series_id} has begun, and are rejected: if "
            "the detector was switched off, arm it again",
        )

    def _open(self, start: SeriesStart) -> SeriesStart:
        self.current = start
        self._next_index = 0
        self._doubted = -2
        self._shape = (start.height, start.width) if start.height and start.width else None
        self._dtype = None  # the arrays know better than the header
        self._steps.clear()
        self._stride_told = 0
        self._resumed = False
        self._told.clear()
        return start

    def _close(self, reason: str) -> list[WireEvent]:
        if self.current is None:
            return []
        self._ended, self._ended_reason = self.current, reason
        self.current = None
        self.at_end = self.tally()
        self.warnings.clear()
        return [SeriesEnd(self._ended.series_id, reason)]

    def _with_time(self, frame: EncodedFrame) -> EncodedFrame:
        if math.isfinite(frame.time_s) or self.current is None:
            return frame
        return replace(frame, time_s=frame.index * (self.current.frame_time_s or 0.0))

    def _look_for_theft(self) -> None:
        """PULL clients share the messages in turn: a second one leaves every second frame, and so on."""
        stride = self._steps[-1]
        if not self.dealt or stride < 2 or stride == self._stride_told or len(self._steps) < _STRIDE_SAMPLES:
            return
        if all(step == stride for step in self._steps):
            self._stride_told = stride
            self.warn(
                f"only one frame in {stride} arrives: another client is connected to the detector and takes the rest: "
                "disconnect it"
            )
