"""Frames in a file, whatever the format: what a reader has to answer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .encoded import EncodedFrame
from .frame import Event, Frame, Quaternion, SeriesEnd, SeriesStart


@dataclass(frozen=True, slots=True)
class Known:
    """What an operator knows of a recording; it wins over what the file says. ``None``: not known."""

    pixel_size_A: float | None = None
    frame_time_s: float | None = None
    dose_e_per_A2: float | None = None  # per frame
    voltage_kV: float | None = None
    series_id: int = 1


class Recording(ABC):
    """Frames in a file. Made by `open_recording`; use it as a context manager, or `close` it.

    A format adds `read`, and `close` where there is something to close; frames are read when they are asked for.

    Attributes
    ----------
    path : the file.
    start : what is known about the series; fields the file does not tell are ``None``.
    """

    def __init__(self, path: Path, start: SeriesStart, length: int) -> None:
        self.path = path
        self.start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    @abstractmethod
    def read(self, position: int) -> NDArray[Any]:
        """(height, width) counts ``[row=y, column=x]`` of the frame at a position that exists.

        Raises
        ------
        RecordingError : the file is damaged there.
        """

    def index(self, position: int) -> int:
        """Image number of the frame at a position."""
        return position

    def time_s(self, position: int) -> float:
        """Start of the exposure of the frame at a position, seconds since the series began."""
        return self.index(position) * (self.start.frame_time_s or 0.0)

    def pose(self, position: int) -> Quaternion | None:  # noqa: ARG002  # only own recordings have poses
        """Pose of the frame at a position; None where the file has none."""
        return None

    def frame(self, position: int) -> Frame:
        """Read one frame.

        Raises
        ------
        IndexError : no such position.
        RecordingError : the file is damaged there.
        """
        self._check(position)
        data = np.asarray(self.read(position))
        native = np.ascontiguousarray(data, data.dtype.newbyteorder("="))
        return Frame(self.start.series_id, self.index(position), native, self.time_s(position), self.pose(position))

    def encoded(self, position: int) -> EncodedFrame:
        """Read one frame without decompressing it, where the file stores frames as they go over the wire.

        Raises
        ------
        IndexError : no such position.
        RecordingError : the file is damaged there.
        """
        frame = self.frame(position)
        height, width = frame.data.shape
        blob = frame.data.reshape(-1).view(np.uint8).data
        return EncodedFrame(
            frame.series_id, frame.index, frame.time_s, (height, width), frame.data.dtype, "none", blob, pose=frame.pose
        )

    @property
    def forwards(self) -> bool:
        """Whether `encoded` gives compressed bytes of the file."""
        return False

    def __iter__(self) -> Iterator[Event]:
        """Start, frames, end: the events any source yields."""
        yield self.start
        for position in range(len(self)):
            yield self.frame(position)
        yield SeriesEnd(self.start.series_id)

    def encoded_events(self) -> Iterator[SeriesStart | EncodedFrame | SeriesEnd]:
        """Start, frames, end; the frames still compressed where they can be."""
        yield self.start
        for position in range(len(self)):
            yield self.encoded(position)
        yield SeriesEnd(self.start.series_id)

    def close(self) -> None:  # noqa: B027  # a format without anything open has nothing to close
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, position: int) -> None:
        if not 0 <= position < self._length:
            raise IndexError(f"frame {position} of {self._length}")


def positive(value: Any) -> float | None:
    """A positive, finite number, or ``None``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def start_of(known: Known, shape: tuple[int, int], dtype: np.dtype[Any], length: int, **said: Any) -> SeriesStart:
    """The start of a recorded series: what the operator knows, else what the file `said` (names as in `Known`)."""
    height, width = shape
    numbers: dict[str, Any] = {
        name: getattr(known, name) or positive(said.pop(name, None))
        for name in ("frame_time_s", "pixel_size_A", "dose_e_per_A2", "voltage_kV")
    }
    facts = {name: value for name, value in said.items() if name not in numbers}
    return SeriesStart(
        series_id=known.series_id,
        width=width,
        height=height,
        dtype=dtype.newbyteorder("="),
        number_of_images=length,
        **numbers,
        **facts,
    )
