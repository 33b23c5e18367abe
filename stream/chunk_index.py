"""Where the chunks of a growing HDF5 dataset lie: an extensible array, as HDF5 itself keeps it, that we write.

HDF5 lets nobody say where a chunk lies, and copies every chunk through the page cache. Layout after the HDF5 File
Format Specification, version 3.0, section VII.D (Extensible Array Index); sizes are those that HDF5 uses for every
dataset with one dimension that grows. An array is made of blocks that become larger: the first four elements lie in the
index block, which points to six data blocks and to super blocks, which point to data blocks. Those of more than 1024
elements are made of pages.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .checksum import lookup3

Write = tuple[int, bytes]  # an address in the file, and what belongs there
PARAMETERS = (32, 4, 4, 16, 10)  # as in the layout of a dataset: bits of a number, elements of the index block, ...
_IN_INDEX_BLOCK, _SMALLEST, _PAGE = 4, 16, 1024  # elements
_DIRECT_LEVELS, _LEVELS = 4, 29
_DIRECT_BLOCKS = 6
_NOWHERE = 0xFFFFFFFFFFFFFFFF
_CHECKSUM = 4


@dataclass(frozen=True, slots=True)
class _Level:
    """Data blocks of one size: those of a super block."""

    number: int
    blocks: int
    elements: int  # of a block
    start: int  # first element, not counting those in the index block
    first_block: int

    @property
    def pages(self) -> int:
        """Pages of a block; none where it is small."""
        return self.elements // _PAGE if self.elements > _PAGE else 0


@cache
def _levels() -> tuple[_Level, ...]:
    found: list[_Level] = []
    start = first_block = 0
    for number in range(_LEVELS):
        blocks, elements = 1 << number // 2, _SMALLEST << (number + 1) // 2
        found.append(_Level(number, blocks, elements, start, first_block))
        start, first_block = start + blocks * elements, first_block + blocks
    return tuple(found)


@dataclass(slots=True)
class _Piece:
    """What is being filled: a data block, or a page of one."""

    address: int
    prefix: bytes
    rows: NDArray[np.uint8]


@dataclass(slots=True)
class _SuperBlock:
    level: _Level
    address: int
    initialised: NDArray[np.uint8]  # a bit for each page
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
        self._index_block = reserve(14 + _IN_INDEX_BLOCK * self.element_bytes + 8 * (_DIRECT_BLOCKS + 25) + _CHECKSUM)
        self._first = self._empty(_IN_INDEX_BLOCK)
        self._pointers = np.full(_DIRECT_BLOCKS + _LEVELS - _DIRECT_LEVELS, _NOWHERE, np.uint64)
        self._blocks: list[int] = []  # addresses of all data blocks
        self._piece: _Piece | None = None
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

    def where(self, number: int) -> int:
        """Address of an element in the file."""
        if number < _IN_INDEX_BLOCK:
            return self._index_block + 14 + number * self.element_bytes
        level, block, at = _locate(number - _IN_INDEX_BLOCK)
        begin = self._blocks[level.first_block + block] + 18
        if level.pages:
            begin += _CHECKSUM * (1 + at // _PAGE)
        return begin + at * self.element_bytes

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
        """Put as many elements as fit into the block or page that comes next; how many they were."""
        level, block, at = _locate(self.count - _IN_INDEX_BLOCK)
        if at == 0:
            self._begin_block(level, block, writes)
        inside = at % _PAGE if level.pages else at
        if inside == 0:
            self._begin_piece(level, block, at)
        assert self._piece is not None  # noqa: S101  # an element that is not the first of a piece comes after one
        taken = min(len(rows), len(self._piece.rows) - inside)
        self._piece.rows[inside : inside + taken] = rows[:taken]
        self.count += taken
        writes.append((self._piece.address, _checked(self._piece.prefix + self._piece.rows.tobytes())))
        return taken

    def _begin_block(self, level: _Level, block: int, writes: list[Write]) -> None:
        if level.number >= _DIRECT_LEVELS and block == 0:
            self._begin_super(level, writes)
        sums = max(1, level.pages + 1 if level.pages else 1)
        size = 18 + level.elements * self.element_bytes + _CHECKSUM * sums
        address = self._reserve(size)
        self._blocks.append(address)
        if self._super is None:
            self._pointers[len(self._blocks) - 1] = address
        else:
            self._super.pointers[block] = address
        self._count_block(2, size)
        self._stored[5] += level.elements
        if level.pages:
            writes.append((address, _checked(self._prefix(b"EADB", level.start + block * level.elements))))

    def _begin_super(self, level: _Level, writes: list[Write]) -> None:
        if self._super is not None:
            writes.append(self._super_block(self._super))
        bitmap = np.zeros(level.blocks * ((level.pages + 7) // 8), np.uint8)
        size = 18 + len(bitmap) + 8 * level.blocks + _CHECKSUM
        self._super = _SuperBlock(level, self._reserve(size), bitmap, np.full(level.blocks, _NOWHERE, np.uint64))
        self._pointers[_DIRECT_BLOCKS + level.number - _DIRECT_LEVELS] = self._super.address
        self._count_block(0, size)

    def _begin_piece(self, level: _Level, block: int, at: int) -> None:
        address = self._blocks[level.first_block + block]
        if not level.pages:
            prefix = self._prefix(b"EADB", level.start + block * level.elements)
            self._piece = _Piece(address, prefix, self._empty(level.elements))
            return
        page = at // _PAGE
        assert self._super is not None  # noqa: S101  # small blocks alone have none
        bit = block * level.pages + page
        self._super.initialised[bit // 8] |= 0x80 >> bit % 8
        address += 18 + _CHECKSUM + page * (_PAGE * self.element_bytes + _CHECKSUM)
        self._piece = _Piece(address, b"", self._empty(_PAGE))

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
        return block.address, _checked(prefix + block.initialised.tobytes() + block.pointers.tobytes())

    def _index(self) -> Write:
        head = struct.pack("<4sBBQ", b"EAIB", 0, self._client, self.address)
        return self._index_block, _checked(head + self._first.tobytes() + self._pointers.tobytes())

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
        return self.address, _checked(head)


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


def _checked(content: bytes) -> bytes:
    return content + lookup3(content).to_bytes(_CHECKSUM, "little")
