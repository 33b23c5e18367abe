"""The LZ4 block format, compiled: no framing, no allocation, no interpreter lock.

Written from the public block format description (lz4_Block_format.md of the LZ4 project). The packages that wrap the C
library have no wheels for every Python version this project supports, and none of them can be told to stay within a
slice of an existing buffer, which is what the framings around the blocks need. Every read and every write is checked
against the limits given, so hostile bytes end in a negative return value.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

HASH_BITS = 12
_LAST_LITERALS = 5  # the format demands: the last five bytes are literals,
_MATCH_LIMIT = 12  # and the last match starts at least twelve bytes before the end
_MAX_DISTANCE = 65535


@njit(nogil=True, cache=True)
def decompress_block(
    source: NDArray[np.uint8], start: int, stop: int, target: NDArray[np.uint8], out_start: int, out_stop: int
) -> int:
    """Expand ``source[start:stop]`` into ``target[out_start:out_stop]``.

    Parameters
    ----------
    source, target : one-dimensional uint8 arrays, contiguous; they must not overlap.

    Returns
    -------
    Bytes written, or -1 where the block is malformed or does not fit.
    """
    read = start
    write = out_start
    while read < stop:
        token = source[read]
        read += 1
        length = np.int64(token >> 4)
        if length == 15:
            more = 255
            while more == 255:
                if read >= stop:
                    return -1
                more = np.int64(source[read])
                read += 1
                length += more
        if length > stop - read or length > out_stop - write:
            return -1
        for i in range(length):
            target[write + i] = source[read + i]
        read += length
        write += length
        if read == stop:
            return write - out_start  # the last sequence has literals only
        if stop - read < 2:
            return -1
        distance = np.int64(source[read]) | (np.int64(source[read + 1]) << 8)
        read += 2
        if distance == 0 or distance > write - out_start:
            return -1
        length = np.int64(token & 15)
        if length == 15:
            more = 255
            while more == 255:
                if read >= stop:
                    return -1
                more = np.int64(source[read])
                read += 1
                length += more
        length += 4
        if length > out_stop - write:
            return -1
        if distance == 1:  # a run of one value: by far the commonest match in sparse counts
            value = target[write - 1]
            for i in range(length):
                target[write + i] = value
        elif distance >= length:
            for i in range(length):
                target[write + i] = target[write - distance + i]
        else:
            for i in range(length):
                target[write + i] = target[write + i - distance]
        write += length
    return -1


@njit(inline="always")
def _read_u32(source: NDArray[np.uint8], at: int) -> int:
    return np.uint32(
        np.uint32(source[at])
        | (np.uint32(source[at + 1]) << np.uint32(8))
        | (np.uint32(source[at + 2]) << np.uint32(16))
        | (np.uint32(source[at + 3]) << np.uint32(24))
    )


@njit(inline="always")
def _write_length(target: NDArray[np.uint8], write: int, length: int) -> int:
    while length >= 255:
        target[write] = 255
        write += 1
        length -= 255
    target[write] = length
    return write + 1


@njit(nogil=True, cache=True)
def compress_block(
    source: NDArray[np.uint8],
    start: int,
    stop: int,
    target: NDArray[np.uint8],
    out_start: int,
    table: NDArray[np.int64],
) -> int:
    """Compress ``source[start:stop]`` to ``target[out_start:]``, which has to have room for `block_bound` bytes.

    Parameters
    ----------
    source, target : one-dimensional uint8 arrays, contiguous.
    table : (2**HASH_BITS,) int64 array, filled with -1 before the first block; may be handed on from block to block of
        one `source` as they are (positions before `start` are never matched), which saves clearing it.

    Returns
    -------
    Bytes written.
    """
    write = out_start
    anchor = start
    read = start
    misses = 0
    match_stop = stop - _MATCH_LIMIT
    copy_stop = stop - _LAST_LITERALS
    while read <= match_stop:
        word = _read_u32(source, read)
        slot = np.uint32(word * np.uint32(2654435761)) >> np.uint32(32 - HASH_BITS)
        candidate = table[slot]
        table[slot] = read
        if candidate < start or read - candidate > _MAX_DISTANCE or _read_u32(source, candidate) != word:
            misses += 1
            read += 1 + (misses >> 6)  # data that does not compress is passed over faster and faster
            continue
        misses = 0
        while read > anchor and candidate > start and source[read - 1] == source[candidate - 1]:
            read -= 1
            candidate -= 1
        length = 4
        while read + length < copy_stop and source[read + length] == source[candidate + length]:
            length += 1
        literals = read - anchor
        extra = length - 4
        target[write] = (min(literals, 15) << 4) | min(extra, 15)
        write += 1
        if literals >= 15:
            write = _write_length(target, write, literals - 15)
        for i in range(literals):
            target[write + i] = source[anchor + i]
        write += literals
        distance = read - candidate
        target[write] = distance & 255
        target[write + 1] = distance >> 8
        write += 2
        if extra >= 15:
            write = _write_length(target, write, extra - 15)
        read += length
        anchor = read
    literals = stop - anchor
    target[write] = min(literals, 15) << 4
    write += 1
    if literals >= 15:
        write = _write_length(target, write, literals - 15)
    for i in range(literals):
        target[write + i] = source[anchor + i]
    return write + literals - out_start


@njit(inline="always")
def block_bound(length: int) -> int:
    """Most bytes a block of `length` bytes can take after compression."""
    return length + length // 255 + 16
