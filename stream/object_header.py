"""The two things in the object header of an HDF5 dataset that change while it grows: its length and its chunk index.

Layout after the HDF5 File Format Specification, version 3.0, section IV.A (version 2 of object headers, of the
dataspace message 0x01, and version 4 of the data layout message 0x08).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from .checksum import SEAL_BYTES, lookup3, sealed
from .chunk_index import PARAMETERS
from .direct import Write
from .errors import RecordingError

_DATASPACE, _LAYOUT, _CONTINUATION = 0x01, 0x08, 0x10
_EXTENSIBLE_ARRAY = 4
_LARGEST = 1 << 20  # of a part of a header


@dataclass(slots=True)
class _Part:
    """A part of a header with its messages, without its check sum."""

    address: int
    content: bytearray


class ObjectHeader:
    """The header of a dataset that grows along its first dimension, chunk by chunk.

    Parameters
    ----------
    file : descriptor of the file. address : of the header.

    Raises
    ------
    RecordingError : it is no header of such a dataset.
    OSError : the file cannot be read.
    """

    def __init__(self, file: int, address: int) -> None:
        self._parts: list[_Part] = []
        places: dict[int, tuple[_Part, int]] = {}  # of the two numbers, with the part that holds each, by message
        head = os.pread(file, 64, address)
        if head[:5] != b"OHDR\x02":
            raise RecordingError("the header of a dataset cannot be found")
        flags = head[5]
        begin = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(head[begin : begin + width], "little")
        tracked = 2 if flags & 0x04 else 0
        waiting = [(address, begin + width, begin + width + size)]
        while waiting:
            where, first, end = waiting.pop()
            part = self._read(file, where, end)
            waiting += self._messages(part, first, tracked, places)
        if set(places) != {_DATASPACE, _LAYOUT}:
            raise RecordingError("a dataset of the recording is not one that grows")
        self._places = (places[_LAYOUT], places[_DATASPACE])

    def _read(self, file: int, address: int, size: int) -> _Part:
        if size > _LARGEST:
            raise RecordingError("the header of a dataset is damaged")
        content = os.pread(file, size + SEAL_BYTES, address)
        if len(content) < size + SEAL_BYTES or lookup3(content[:size]) != int.from_bytes(content[size:], "little"):
            raise RecordingError("the header of a dataset is damaged")
        self._parts.append(_Part(address, bytearray(content[:size])))
        return self._parts[-1]

    def _messages(
        self, part: _Part, at: int, tracked: int, places: dict[int, tuple[_Part, int]]
    ) -> list[tuple[int, int, int]]:
        """Note what is looked for among the messages of a part; the parts that it names."""
        named: list[tuple[int, int, int]] = []
        while at + 4 + tracked <= len(part.content):
            kind, size = struct.unpack_from("<BH", part.content, at)
            at += 4 + tracked
            body = bytes(part.content[at : at + size])
            if kind == _DATASPACE and body[0] == 2:
                places[kind] = part, at + 4
            elif kind == _LAYOUT and body[:2] == b"\x04\x02":
                behind = 5 + body[3] * body[4]  # the sizes of a chunk
                if body[behind : behind + 6] == bytes((_EXTENSIBLE_ARRAY, *PARAMETERS)):
                    places[kind] = part, at + behind + 6
            elif kind == _CONTINUATION:
                address, length = struct.unpack_from("<QQ", body)
                if len(self._parts) + len(named) > 64:
                    raise RecordingError("the header of a dataset is damaged")
                named.append((address, 4, length - SEAL_BYTES))
            at += size
        return named

    def changed(self, length: int, index: int) -> list[Write]:
        """What has to be written so that the dataset has this length, and its chunk index at this address."""
        for (part, at), number in zip(self._places, (index, length), strict=True):
            struct.pack_into("<Q", part.content, at, number)
        parts = {part.address: part for part, _ in self._places}
        return [(part.address, sealed(bytes(part.content))) for part in parts.values()]
