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
_ONE, _WORD, _LONG, _MORE = np.uint64(1), np.uint64(8), np.uint64(15), np.uint64(255)


@njit(inline="always")
def _copy_8(source: NDArray[np.uint8], read: np.uint64, target: NDArray[np.uint8], write: np.uint64) -> None:
    """Copy eight bytes; all are read before one is written, so the compiler makes one load and one store of it."""
    byte_0, byte_1 = source[read], source[read + np.uint64(1)]
    byte_2, byte_3 = source[read + np.uint64(2)], source[read + np.uint64(3)]
    byte_4, byte_5 = source[read + np.uint64(4)], source[read + np.uint64(5)]
    byte_6, byte_7 = source[read + np.uint64(6)], source[read + np.uint64(7)]
    target[write], target[write + np.uint64(1)] = byte_0, byte_1
    target[write + np.uint64(2)], target[write + np.uint64(3)] = byte_2, byte_3
    target[write + np.uint64(4)], target[write + np.uint64(5)] = byte_4, byte_5
    target[write + np.uint64(6)], target[write + np.uint64(7)] = byte_6, byte_7


@njit(inline="always")
def _copy(
    source: NDArray[np.uint8],
    read: np.uint64,
    read_stop: np.uint64,
    target: NDArray[np.uint8],
    write: np.uint64,
    write_stop: np.uint64,
    length: np.uint64,
) -> None:
    """Copy `length` bytes. Up to seven bytes more may be written, within the limits: what follows overwrites them."""
    if read + length + _WORD <= read_stop and write + length + _WORD <= write_stop:
        done = np.uint64(0)
        while done < length:
            _copy_8(source, read + done, target, write + done)
            done += _WORD
    else:
        for i in range(length):
            target[write + i] = source[read + i]


@njit(nogil=True, cache=True)
def decompress_block(
    source: NDArray[np.uint8], start: int, stop: int, target: NDArray[np.uint8], out_start: int, out_stop: int
) -> int:
    """Expand ``source[start:stop]`` into ``target[out_start:out_stop]``.

    Parameters
    ----------
    source, target : one-dimensional uint8 arrays, contiguous; they must not overlap. The limits have to lie in them.

    Returns
    -------
    Bytes written, or -1 where the block is malformed or does not fit.
    """
    # unsigned throughout: with a signed index the compiler has to provide for counting from the end
    read, read_stop = np.uint64(start), np.uint64(stop)
    write, write_stop, first = np.uint64(out_start), np.uint64(out_stop), np.uint64(out_start)
    while read < read_stop:
        token = source[read]
        read += _ONE
        length = np.uint64(token >> 4)
        if length == _LONG:
            more = _MORE
            while more == _MORE:
                if read >= read_stop:
                    return -1
                more = np.uint64(source[read])
                read += _ONE
                length += more
        if length > read_stop - read or length > write_stop - write:
            return -1
        _copy(source, read, read_stop, target, write, write_stop, length)
        read += length
        write += length
        if read == read_stop:
            return np.int64(write - first)  # the last sequence has literals only
        if read_stop - read < np.uint64(2):
            return -1
        distance = np.uint64(source[read]) | (np.uint64(source[read + _ONE]) << _WORD)
        read += np.uint64(2)
        if distance == np.uint64(0) or distance > write - first:
            return -1
        length = np.uint64(token & 15)
        if length == _LONG:
            more = _MORE
            while more == _MORE:
                if read >= read_stop:
                    return -1
                more = np.uint64(source[read])
                read += _ONE
                length += more
        length += np.uint64(4)
        if length > write_stop - write:
            return -1
        if distance == _ONE:  # a run of one value: by far the commonest match in sparse counts
            target[np.int64(write) : np.int64(write + length)] = target[write - _ONE]
        elif distance >= _WORD:
            _copy(target, write - distance, write_stop, target, write, write_stop, length)
        else:
            for i in range(length):
                target[write + i] = target[write + i - distance]
        write += length
    return -1


@njit(inline="always")
def _read_u32(source: NDArray[np.uint8], at: np.uint64) -> np.uint32:
    return np.uint32(
        np.uint32(source[at])
        | (np.uint32(source[at + np.uint64(1)]) << np.uint32(8))
        | (np.uint32(source[at + np.uint64(2)]) << np.uint32(16))
        | (np.uint32(source[at + np.uint64(3)]) << np.uint32(24))
    )


@njit(inline="always")
def _match_stop(source: NDArray[np.uint8], read: np.uint64, candidate: np.uint64, stop: np.uint64) -> np.uint64:
    """Where bytes from `read` on stop being equal to those from `candidate` on."""
    four = np.uint64(4)
    while read + four <= stop and _read_u32(source, read) == _read_u32(source, candidate):
        read += four
        candidate += four
    while read < stop and source[read] == source[candidate]:
        read += _ONE
        candidate += _ONE
    return read


@njit(inline="always")
def _write_length(target: NDArray[np.uint8], write: np.uint64, length: np.uint64) -> np.uint64:
    while length >= _MORE:
        target[write] = 255
        write += _ONE
        length -= _MORE
    target[write] = length
    return write + _ONE


@njit(inline="always")
def _write_literals(
    source: NDArray[np.uint8], anchor: np.uint64, read: np.uint64, target: NDArray[np.uint8], write: np.uint64, low: int
) -> np.uint64:
    """Write a token with `low` in its lower half, and the literals ``source[anchor:read]``."""
    literals = read - anchor
    target[write] = (min(literals, _LONG) << np.uint64(4)) | np.uint64(low)
    write += _ONE
    if literals >= _LONG:
        write = _write_length(target, write, literals - _LONG)
    _copy(source, anchor, np.uint64(source.size), target, write, np.uint64(target.size), literals)
    return write + literals


@njit(nogil=True, cache=True)
def compress_block(
    source: NDArray[np.uint8],
    start: int,
    stop: int,
    target: NDArray[np.uint8],
    out_start: int,
    table: NDArray[np.uint64],
) -> int:
    """Compress ``source[start:stop]`` to ``target[out_start:]``, which has to have room for `block_bound` bytes.

    Parameters
    ----------
    source, target : one-dimensional uint8 arrays, contiguous.
    table : (2**HASH_BITS,) uint64 array of positions + 1, zero before the first block; may be handed on as it is from
        block to block of one `source`, since positions before `start` are never matched: that saves clearing it.

    Returns
    -------
    Bytes written.
    """
    read, write = np.uint64(start), np.uint64(out_start)
    first, anchor = read, read
    misses = np.uint64(0)
    last_match = np.int64(stop) - _MATCH_LIMIT
    copy_stop = np.uint64(max(stop - _LAST_LITERALS, start))
    while np.int64(read) <= last_match:
        word = _read_u32(source, read)
        slot = np.uint64(np.uint32(word * np.uint32(2654435761)) >> np.uint32(32 - HASH_BITS))
        candidate = table[slot]
        table[slot] = read + _ONE
        if (
            candidate <= first
            or read - candidate >= np.uint64(_MAX_DISTANCE)
            or _read_u32(source, candidate - _ONE) != word
        ):
            misses += _ONE
            read += _ONE + (misses >> np.uint64(6))  # data that does not compress is passed over faster and faster
            continue
        candidate -= _ONE
        misses = np.uint64(0)
        while read > anchor and candidate > first and source[read - _ONE] == source[candidate - _ONE]:
            read -= _ONE
            candidate -= _ONE
        matched = _match_stop(source, read + np.uint64(4), candidate + np.uint64(4), copy_stop)
        extra = matched - read - np.uint64(4)
        write = _write_literals(source, anchor, read, target, write, min(extra, _LONG))
        distance = read - candidate
        target[write] = distance & _MORE
        target[write + _ONE] = distance >> _WORD
        write += np.uint64(2)
        if extra >= _LONG:
            write = _write_length(target, write, extra - _LONG)
        read = matched
        anchor = read
    write = _write_literals(source, anchor, np.uint64(stop), target, write, 0)
    return np.int64(write) - out_start


@njit(inline="always")
def block_bound(length: int) -> int:
    """Most bytes a block of `length` bytes can take after compression."""
    return length + length // 255 + 16
