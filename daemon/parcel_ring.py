"""Parcels in shared memory from the pipeline to one worker: one writer, one reader, in order, without pickling.

The writer announces each parcel with a ticket over a pipe and gets back how much has been taken out; so the pipe, whose
system calls also order the memory accesses, never holds more tickets than there are parcels in the ring.
"""

from __future__ import annotations

import contextlib
import struct
from collections import deque
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from .parcels import Parcel
from .ring import shared_block

MOST_PARCELS = 256  # in the ring; what lies there is worked off in order, whatever is more urgent elsewhere
TICKET = struct.Struct("<QII")  # where, bytes of the head, bytes of the values
_ALIGN = 64


class ParcelRing:
    """A block of shared memory used round and round. `create` it in one process, `attach` it in the other."""

    def __init__(self, memory: SharedMemory, *, owner: bool) -> None:
        self._memory = memory
        self._bytes = np.ndarray((memory.size,), np.uint8, memory.buf)
        self._owner = owner
        self._next = 0
        self._spans: deque[int] = deque()  # bytes of the parcels in the ring, the skipped end of the block included
        self._used = 0

    @classmethod
    def create(cls, size_MiB: float) -> ParcelRing:
        """A new block of at most `size_MiB` MiB, less where the machine has little.

        Raises
        ------
        TumbleError : shared memory is refused.
        """
        return cls(shared_block(size_MiB, share=0.125), owner=True)

    @classmethod
    def attach(cls, name: str) -> ParcelRing:
        """The block that another process created under `name`."""
        return cls(SharedMemory(name=name), owner=False)

    @property
    def name(self) -> str:
        """Name by which the other process opens it."""
        return self._memory.name

    def fits(self, parcel: Parcel) -> bool:
        """Whether a parcel of this size can ever be put in."""
        return _rounded(parcel.nbytes) <= self._memory.size

    def put(self, parcel: Parcel) -> bytes | None:
        """Writer: copy a parcel in and return its ticket; ``None`` when there is no room now."""
        size = _rounded(parcel.nbytes)
        capacity = self._memory.size
        skip = capacity - self._next if self._next + size > capacity else 0
        if not self._spans:  # empty: begin anew, so that a large parcel finds all of it
            self._next = skip = 0
        if len(self._spans) >= MOST_PARCELS or self._used + skip + size > capacity:
            return None
        start = (self._next + skip) % capacity
        middle, end = start + len(parcel.head), start + parcel.nbytes
        self._bytes[start:middle] = np.frombuffer(parcel.head, np.uint8)
        self._bytes[middle:end] = parcel.values.view(np.uint8)
        self._next = (start + size) % capacity
        self._spans.append(skip + size)
        self._used += skip + size
        return TICKET.pack(start, len(parcel.head), parcel.values.nbytes)

    def taken(self, parcels: int) -> None:
        """Writer: the reader has taken out the oldest `parcels`."""
        for _ in range(parcels):
            self._used -= self._spans.popleft()

    def take(self, ticket: bytes) -> Parcel:
        """Reader: a copy of the parcel of `ticket`."""
        start, head, values = TICKET.unpack(ticket)
        middle, end = start + head, start + head + values
        return Parcel(self._bytes[start:middle].tobytes(), self._bytes[middle:end].copy().view(np.float32))

    def close(self) -> None:
        """Let go of the memory; the owner also removes it."""
        self._bytes = np.zeros(0, np.uint8)
        with contextlib.suppress(BufferError):
            self._memory.close()
        if self._owner:
            self._memory.unlink()


def _rounded(size: int) -> int:
    return -(-max(size, 1) // _ALIGN) * _ALIGN
