"""Frames on their way in: room for them that is used again, and, on a GPU, copies that overlap with the computing.

Two buffers of page-locked memory are filled in turn. A stream of its own copies one to the device while the frame
before is worked on; the device waits for the copy, the host does not.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from .loops import take
from .quality import Levels, sample_stride

KEPT = 2  # spare rooms of each type


@dataclass(slots=True, eq=False)
class _Buffer:
    """Page-locked memory of a frame, and the event after which its last copy has left it."""

    counts: NDArray[Any]
    left: Any = None


class Feed:
    """Room for frames of one size on one device.

    Attributes
    ----------
    ahead : whether `send` returns before the frame is there, so that the frame before should be worked on meanwhile.
    """

    def __init__(self, shape: tuple[int, int], device: Device) -> None:
        self.shape, self.device = shape, device
        self.ahead = device.xp is not np
        # rooms of the types that are asked for, and the event after which nobody reads them any more
        self._spare: dict[np.dtype[Any], list[tuple[Any, Any]]] = {}
        self._buffers: dict[int, _Buffer] = {}  # by turn
        self._turn = 0
        self._stream = device.xp.cuda.Stream(non_blocking=True) if self.ahead else None

    def send(self, data: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """Start a frame on its way.

        Parameters
        ----------
        data : (rows, columns) counts; may be overwritten afterwards.

        Returns
        -------
        The counts on the host, good until the next frame but one, and on the device. On the CPU both are `data` itself.
        """
        if self._stream is None:
            return data, data
        cuda, stream = self.device.xp.cuda, self._stream
        buffer = self._buffer(data.dtype)
        np.copyto(buffer.counts, data)
        target, read = self._room(data.dtype)
        if read is not None:
            stream.wait_event(read)
        target.set(buffer.counts, stream=stream)
        buffer.left = stream.record()
        cuda.get_current_stream().wait_event(buffer.left)
        return buffer.counts, target

    def keep(self, frame: Any) -> tuple[Any, Levels | None]:
        """The frame of `send`, to be held for longer, a copy on the CPU; its levels where they cost nothing more."""
        if self.ahead:
            return frame, None
        kept, _ = self._room(frame.dtype)
        if frame.dtype.kind not in "ui" or frame.dtype.itemsize > 2:
            np.copyto(kept, frame)
            return kept, None
        top, stride = np.iinfo(frame.dtype).max, sample_stride(frame.size)
        sample = np.empty(-(-frame.size // stride), frame.dtype)
        edges = np.linspace(0, len(frame), self.device.threads + 1).astype(int).tolist()
        parts = self.device.each(
            lambda _, rows: take(frame, frame.dtype.type(top), kept, sample, stride, rows),
            list(itertools.pairwise(edges)),
        )
        return kept, Levels(sum(int(total) for total, _ in parts), sum(int(at_top) for _, at_top in parts), sample)

    def room(self, dtype: np.dtype[Any]) -> Any:
        """(rows, columns) to write a frame to, used before where it is free: fresh large buffers cost page faults."""
        room, read = self._room(dtype)
        if read is not None:
            self.device.xp.cuda.get_current_stream().wait_event(read)
        return room

    def give_back(self, room: Any) -> None:
        """What came from `send`, `keep` or `room` is not needed any more."""
        spare = self._spare.get(room.dtype)
        if spare is not None and len(spare) < KEPT:
            spare.append((room, self._now() if self.ahead else None))

    def _room(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        spare = self._spare.setdefault(dtype, [])
        if spare:
            return spare.pop()
        # what lay in that memory before may still be read
        return self.device.xp.empty(self.shape, dtype), self._now() if self.ahead else None

    def _now(self) -> Any:
        """When all that the device has been told to do so far is done."""
        return self.device.xp.cuda.get_current_stream().record()

    def _buffer(self, dtype: np.dtype[Any]) -> _Buffer:
        """The page-locked buffer whose turn it is, once its last copy has left."""
        self._turn = 1 - self._turn
        buffer = self._buffers.get(self._turn)
        if buffer is not None and buffer.left is not None:
            buffer.left.synchronize()
        if buffer is None or buffer.counts.dtype != dtype:
            buffer = self._buffers[self._turn] = _Buffer(self._locked(dtype))
        return buffer

    def _locked(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        size = self.shape[0] * self.shape[1]
        memory = self.device.xp.cuda.alloc_pinned_memory(size * dtype.itemsize)
        return np.frombuffer(memory, dtype, size).reshape(self.shape)
