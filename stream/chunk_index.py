"""Where the chunks of a growing HDF5 dataset lie: an extensible array, as HDF5 itself keeps it, that we write.

HDF5 lets nobody say where a chunk lies, and copies every chunk through the page cache. Layout after the HDF5 File
Format Specification, version 3.0, section VII.D (Extensible Array Index); sizes are those that HDF5 uses for every
dataset with one dimension that grows. An array is made of blocks that become larger: the first four elements lie in the
index block, which points to six data blocks and to super blocks, which point to data blocks. Those of more than 1024
elements are made of pages.

Whenever the writer is killed, what is in the file is a whole array: what fits into a page of the system is written in
one go, and a larger block is written where nothing points to yet (`_Place`), before what points to it.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .checksum import SEAL_BYTES, sealed
from .direct import PAGE, Write

PARAMETERS = (32, 4, 4, 16, 10)  # as in the layout of a dataset: bits of a number, elements of the index block, ...
_IN_INDEX_BLOCK, _SMALLEST, _LEAF = 4, 16, 1024  # elements; what HDF5 calls a page is a leaf here
_DIRECT_LEVELS, _LEVELS = 4, 29
_DIRECT_BLOCKS = 6
_NOWHERE = 0xFFFFFFFFFFFFFFFF
_PREFIX = 18  # bytes at the beginning of a data block or super block


@dataclass(frozen=True, slots=True)
class _Level:
    """Data blocks of one size: those of a super block."""

    number: int
    blocks: int
    elements: int  # of a block
    start: int  # first element, not counting those in the index block
    first_block: int

    @property
    def leaves(self) -> int:
        """Of a block; none where it is small."""
        return self.elements // _LEAF if self.elements > _LEAF else 0

    def offset(self, at: int, element_bytes: int) -> int:
        """Of an element from the beginning of its block."""
        return _PREFIX + at * element_bytes + (SEAL_BYTES * (1 + at // _LEAF) if self.leaves else 0)

    def block_bytes(self, element_bytes: int) -> int:
        """Of a data block."""
        return _PREFIX + self.elements * element_bytes + SEAL_BYTES * (1 + self.leaves)


@cache
def _levels() -> tuple[_Level, ...]:
    found: list[_Level] = []
    start = first_block = 0
    for number in range(_LEVELS):
        blocks, elements = 1 << number // 2, _SMALLEST << (number + 1) // 2
        found.append(_Level(number, blocks, elements, start, first_block))
        start, first_block = start + blocks * elements, first_block + blocks
    return tuple(found)


class _Place:
    """Where a block lies. One larger than a page, which a kill could tear, has two places and is written to them in
    turn: what the file points to stays as it is until something that fits into a page points to the other one.
    """

    def __init__(self, reserve: Callable[[int], int], size: int) -> None:
        self._reserve, self._size = reserve, size
        self.address = reserve(size)
        self._other = _NOWHERE
        self._written = False

    def turn(self) -> int:
        """The address that the block is written to next."""
        if self._written and self._size > PAGE:
            if self._other == _NOWHERE:
                self._other = self._reserve(self._size)
            self.address, self._other = self._other, self.address
        self._written = True
        return self.address


@dataclass(slots=True)
class _DataBlock:
    """The one that is being filled."""

    number: int  # in its level
    place: _Place
    content: NDArray[np.uint8]


@dataclass(slots=True)
class _SuperBlock:
    level: _Level
    place: _Place
    initialised: NDArray[np.uint8]  # a bit for each leaf
    pointers: NDArray[np.uint64]


class ChunkIndex:
    """The index of one dataset, from its first chunk on.

    Parameters
    ----------
    reserve : gives the address of as many bytes of the file as it is asked for.
    chunk_bytes : of a chunk before it is compressed; 0: chunks are not compressed, and elements have an address only.

    Attributes
    ----------
    address : of its header, which the object header of the dataset has to name.
    count : chunks in it.
    """

    def __init__(self, reserve: Callable[[int], int], chunk_bytes: int = 0) -> None:
        self._reserve = reserve
        self._client = int(chunk_bytes > 0)
        self.size_bytes = _size_bytes(chunk_bytes) if chunk_bytes else 0
        self.element_bytes = 12 + self.size_bytes if chunk_bytes else 8
        self.count = 0
        self.address = reserve(72)
        self._index_block = reserve(14 + _IN_INDEX_BLOCK * self.element_bytes + 8 * (_DIRECT_BLOCKS + 25) + SEAL_BYTES)
        self._first = self._empty(_IN_INDEX_BLOCK)
        self._pointers = np.full(_DIRECT_BLOCKS + _LEVELS - _DIRECT_LEVELS, _NOWHERE, np.uint64)
        self._blocks: list[int] = []  # addresses of all data blocks
        self._block: _DataBlock | None = None
        self._super: _SuperBlock | None = None
        # super blocks, their bytes, data blocks, theirs, chunks, elements
        self._stored = [0, 0, 0, 0, 0, _IN_INDEX_BLOCK]

    def rows(self, addresses: NDArray[np.uint64], sizes: NDArray[np.uint64] | None = None) -> NDArray[np.uint8]:
        """Elements (n, bytes) of n chunks that lie at `addresses`, with `sizes` in bytes where they are compressed."""
        found = np.zeros((len(addresses), self.element_bytes), np.uint8)
        found[:, :8] = addresses.astype("<u8").view(np.uint8).reshape(-1, 8)
        if sizes is not None:
            found[:, 8 : 8 + self.size_bytes] = sizes.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : self.size_bytes]
        return found

    def place(self, row: bytes) -> tuple[int, int]:
        """Address and size of the chunk of an element."""
        return int.from_bytes(row[:8], "little"), int.from_bytes(row[8 : 8 + self.size_bytes], "little")

    def settled(self, count: int) -> int:
        """How many of the first `count` elements, once these are written, lie where they will stay."""
        if count <= _IN_INDEX_BLOCK:
            return count
        level, _, at = _locate(count - _IN_INDEX_BLOCK)
        return count - at if level.block_bytes(self.element_bytes) > PAGE else count

    def where(self, number: int) -> int:
        """Address in the file of an element that is settled."""
        if number < _IN_INDEX_BLOCK:
            return self._index_block + 14 + number * self.element_bytes
        level, block, at = _locate(number - _IN_INDEX_BLOCK)
        return self._blocks[level.first_block + block] + level.offset(at, self.element_bytes)

    def extend(self, rows: NDArray[np.uint8]) -> list[Write]:
        """Append elements; what has to be written for that, in this order, so that a reader sees a whole array."""
        writes: list[Write] = []
        if not len(rows):
            return writes
        inner = max(0, min(len(rows), _IN_INDEX_BLOCK - self.count))
        self._first[self.count : self.count + inner] = rows[:inner]
        self.count += inner
        at = inner
        while at < len(rows):
            at += self._fill(rows[at:], writes)
        if self._super is not None:
            writes.append(self._super_block(self._super))
        self._stored[4] = self.count
        return [*writes, self._index(), self._header()]

    def _fill(self, rows: NDArray[np.uint8], writes: list[Write]) -> int:
        """Put as many elements as fit into the block that comes next; how many they were."""
        level, number, at = _locate(self.count - _IN_INDEX_BLOCK)
        if at == 0:
            self._begin_block(level, number, writes)
        block, width = self._block, self.element_bytes
        assert block is not None  # noqa: S101  # an element that is not the first of a block comes after one
        taken = min(len(rows), level.elements - at)
        inside, end = min(level.elements, _LEAF), 0  # elements that share a check sum
        for first in range(at - at % inside, at + taken, inside):
            begin = level.offset(first, width)
            end = begin + inside * width
            low, high = max(at, first), min(at + taken, first + inside)
            filled = begin + (low - first) * width
            block.content[filled : filled + (high - low) * width] = rows[low - at : high - at].reshape(-1)
            part = block.content[begin if level.leaves else 0 : end + SEAL_BYTES]
            part[:] = np.frombuffer(sealed(part[:-SEAL_BYTES].tobytes()), np.uint8)
            if level.leaves and self._super is not None:
                bit = number * level.leaves + first // _LEAF
                self._super.initialised[bit // 8] |= 0x80 >> bit % 8
        self.count += taken
        address = block.place.turn()
        self._point(block.number, address)
        writes.append((address, block.content[: end + SEAL_BYTES].tobytes()))
        return taken

    def _begin_block(self, level: _Level, number: int, writes: list[Write]) -> None:
        if level.number >= _DIRECT_LEVELS and number == 0:
            self._begin_super(level, writes)
        size = level.block_bytes(self.element_bytes)
        content = np.zeros(size, np.uint8)
        prefix = self._prefix(b"EADB", level.start + number * level.elements)
        if level.leaves:
            prefix = sealed(prefix)
        content[: len(prefix)] = np.frombuffer(prefix, np.uint8)
        inside = min(level.elements, _LEAF)
        for first in range(0, level.elements, inside):
            begin = level.offset(first, self.element_bytes)
            content[begin : begin + inside * self.element_bytes] = self._empty(inside).reshape(-1)
        self._block = _DataBlock(number, _Place(self._reserve, size), content)
        self._blocks.append(_NOWHERE)
        self._count_block(2, size)
        self._stored[5] += level.elements

    def _point(self, number: int, address: int) -> None:
        """Let the newest data block, `number` of its level, be at an address."""
        self._blocks[-1] = address
        if self._super is None:
            self._pointers[len(self._blocks) - 1] = address
        else:
            self._super.pointers[number] = address

    def _begin_super(self, level: _Level, writes: list[Write]) -> None:
        if self._super is not None:
            writes.append(self._super_block(self._super))
        bitmap = np.zeros(level.blocks * ((level.leaves + 7) // 8), np.uint8)
        size = _PREFIX + len(bitmap) + 8 * level.blocks + SEAL_BYTES
        place = _Place(self._reserve, size)
        self._super = _SuperBlock(level, place, bitmap, np.full(level.blocks, _NOWHERE, np.uint64))
        self._count_block(0, size)

    def _count_block(self, kind: int, size: int) -> None:
        self._stored[kind] += 1
        self._stored[kind + 1] += size

    def _empty(self, number: int) -> NDArray[np.uint8]:
        rows = np.zeros((number, self.element_bytes), np.uint8)
        rows[:, :8] = 0xFF
        return rows

    def _prefix(self, signature: bytes, start: int) -> bytes:
        return struct.pack("<4sBBQI", signature, 0, self._client, self.address, start)

    def _super_block(self, block: _SuperBlock) -> Write:
        prefix = self._prefix(b"EASB", block.level.start)
        address = block.place.turn()
        self._pointers[_DIRECT_BLOCKS + block.level.number - _DIRECT_LEVELS] = address
        return address, sealed(prefix + block.initialised.tobytes() + block.pointers.tobytes())

    def _index(self) -> Write:
        head = struct.pack("<4sBBQ", b"EAIB", 0, self._client, self.address)
        return self._index_block, sealed(head + self._first.tobytes() + self._pointers.tobytes())

    def _header(self) -> Write:
        bits, inside, pointers, smallest, page = PARAMETERS
        head = struct.pack(
            "<4s8B6QQ",
            b"EAHD",
            0,
            self._client,
            self.element_bytes,
            bits,
            inside,
            smallest,
            pointers,
            page,
            *self._stored,
            self._index_block,
        )
        return self.address, sealed(head)


def largest(chunk_bytes: int) -> int:
    """How large a chunk may be when it is compressed, so that its size can be written down."""
    return int(256 ** _size_bytes(chunk_bytes) - 1)


def _size_bytes(chunk_bytes: int) -> int:
    return min(8, 1 + (chunk_bytes.bit_length() + 7) // 8)


def _locate(number: int) -> tuple[_Level, int, int]:
    """Level, block in it and place in that of an element, not counting those in the index block."""
    level = _levels()[bisect.bisect_right(_levels(), number, key=lambda item: item.start) - 1]
    block, at = divmod(number - level.start, level.elements)
    return level, block, at
