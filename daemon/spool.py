"""Parcels of one particle that wait on disk, first in first out: what a bounded memory has no room for."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .parcels import Parcel

SEGMENT_BYTES = 64 << 20  # disk is given back in pieces of this size
RESERVE_BYTES = 1 << 30  # of the disk, left to the recording and to the files of the session
_LENGTHS = struct.Struct("<II")  # bytes of head and values


@dataclass(slots=True)
class _Segment:
    file: BinaryIO
    written: int = 0
    read: int = 0


class Spool:
    """A queue on disk in files without a name, which are gone with the process, however it ends.

    Parameters
    ----------
    folder : on the disk to be used.
    segment_bytes : size of the files.
    reserve_bytes : free space on the disk below which nothing is taken.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder, self._segment_bytes, self._reserve_bytes = folder, segment_bytes, reserve_bytes
        self._segments: deque[_Segment] = deque()
        self._first: Parcel | None = None  # read already
        self.count = 0
        self.nbytes = 0

    def put(self, parcel: Parcel) -> None:
        """Append a parcel.

        Raises
        ------
        OSError : the disk is full or fails; the parcel is then not in the queue, and the others still are.
        """
        if not self._segments or self._segments[-1].written >= self._segment_bytes:
            self._open()
        segment = self._segments[-1]
        head = _LENGTHS.pack(len(parcel.head), parcel.values.nbytes) + parcel.head
        size = len(head) + parcel.values.nbytes
        if os.pwritev(segment.file.fileno(), [head, parcel.values.data], segment.written) != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        segment.written += size
        self.count += 1
        self.nbytes += size

    def _open(self) -> None:
        wanted = self._reserve_bytes + self._segment_bytes
        if shutil.disk_usage(self._folder).free < wanted:
            raise OSError(errno.ENOSPC, f"less than {wanted >> 20} MiB are free in {self._folder}: free some")
        file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  # closed when it is read
        self._segments.append(_Segment(file))

    def first(self) -> Parcel | None:
        """The parcel that has waited longest; it stays in the queue.

        Raises
        ------
        OSError : the disk fails.
        """
        if self._first is None and self.count:
            segment = self._segments[0]
            heads, values = _LENGTHS.unpack(self._read(segment, segment.read, _LENGTHS.size))
            body = self._read(segment, segment.read + _LENGTHS.size, heads + values)
            self._first = Parcel(body[:heads], np.frombuffer(body, np.uint8)[heads:].copy().view(np.float32))
        return self._first

    @staticmethod
    def _read(segment: _Segment, offset: int, size: int) -> bytes:
        data = os.pread(segment.file.fileno(), size, offset)
        if len(data) != size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def drop(self) -> None:
        """Remove the parcel that `first` gave."""
        if self._first is None:
            return
        segment = self._segments[0]
        size = _LENGTHS.size + self._first.nbytes
        segment.read += size
        self.count -= 1
        self.nbytes -= size
        self._first = None
        if segment.read >= segment.written:
            segment.file.close()
            self._segments.popleft()

    def close(self) -> None:
        """Forget everything and free the disk."""
        while self._segments:
            self._segments.pop().file.close()
        self.count = self.nbytes = 0
        self._first = None
