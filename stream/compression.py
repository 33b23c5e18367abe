"""Compressed payloads as detectors and HDF5 files hold them: ``none``, ``lz4`` and ``bslz4``.

Both framings are those of the HDF5 filters (32004 and 32008), so the bytes of a detector frame and the bytes of an HDF5
chunk are interchangeable. All numbers of the framings are big-endian::

    bslz4 : u64 raw bytes, u32 block bytes, then per block u32 length and an LZ4 block of bit planes; up to seven
            elements that do not fill a group of eight follow as they are
    lz4   : u64 raw bytes, u32 block bytes, then per block u32 length and an LZ4 block, or the raw bytes where
            compression did not help (length equal to the block)
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .bitshuffle import shuffle_block, unshuffle_block
from .errors import CompressionError
from .lz4 import HASH_BITS, block_bound, compress_block, decompress_block

ALGORITHMS: Final = ("none", "lz4", "bslz4")
MAX_RAW_BYTES: Final = 1 << 30  # 1 GiB: four times the largest detector frame there is; beyond it, the bytes are lying
HEADER_BYTES: Final = 12
_MAX_RATIO = 255  # LZ4 cannot expand a byte to more
_MAX_BLOCK_BYTES = 1 << 26
_BSLZ4_BLOCK_BYTES = 8192  # what the reference implementation chooses
_LZ4_BLOCK_BYTES = 1 << 20
_GROUP = 8

Buffer = bytes | bytearray | memoryview


def decompress(
    blob: Buffer, algorithm: str, element_size: int, raw_bytes: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Expand a payload of a known size.

    Parameters
    ----------
    blob : the payload with its framing.
    algorithm : ``"none"``, ``"lz4"`` or ``"bslz4"``.
    element_size : bytes per element (bslz4 needs it; the others ignore it).
    raw_bytes : what it has to expand to, known from shape and type; nothing is allocated on the word of the payload.
    out : optional (raw_bytes,) contiguous uint8 array to write to; its contents are undefined after an error.

    Returns
    -------
    (raw_bytes,) uint8 array: `out`, or a new one. For ``"none"`` without `out` it shares the memory of `blob`.

    Raises
    ------
    CompressionError : for every payload that is not exactly what the arguments say.
    """
    source = read_only(np.frombuffer(blob, np.uint8))
    _check_sizes(source.size, algorithm, element_size, raw_bytes)
    _check_output(out, raw_bytes)
    if algorithm == "none":
        if out is None:
            return source
        out[:] = source
        return out
    block_bytes = _read_header(source, raw_bytes)
    target = np.empty(raw_bytes, np.uint8) if out is None else out
    if algorithm == "lz4":
        _check_block(block_bytes, 1)
        used = _expand_lz4(source, target, block_bytes)
    else:
        block_bytes = block_bytes or default_block_bytes(element_size)
        _check_block(block_bytes, _GROUP * element_size)
        used = _expand_bslz4(source, target, block_bytes, element_size)
    if used != source.size:
        problem = "has bytes left over" if used >= 0 else "is truncated or damaged"
        raise CompressionError(f"{algorithm} payload of {source.size} bytes {problem}")
    return target


def decompress_lz4_block(blob: Buffer, raw_bytes: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Expand one bare LZ4 block (SIMPLON v1 sends those); parameters and errors as for `decompress`."""
    source = read_only(np.frombuffer(blob, np.uint8))
    _check_sizes(source.size, "lz4", 1, raw_bytes)
    _check_output(out, raw_bytes)
    target = np.empty(raw_bytes, np.uint8) if out is None else out
    if decompress_block(source, 0, source.size, target, 0, raw_bytes) != raw_bytes:
        raise CompressionError(f"lz4 block of {source.size} bytes is truncated or damaged")
    return target


def compress(data: NDArray[Any], algorithm: str) -> bytes:
    """Compress an array of any shape, in C order, with the framing of the HDF5 filters.

    Raises
    ------
    CompressionError : `algorithm` is unknown or the array is larger than `MAX_RAW_BYTES`.
    """
    if algorithm not in ALGORITHMS:
        raise CompressionError(f"unknown compression {algorithm!r}; known are {', '.join(ALGORITHMS)}")
    if data.nbytes > MAX_RAW_BYTES:
        raise CompressionError(f"{data.nbytes} bytes are more than the {MAX_RAW_BYTES} a frame may have")
    source = read_only(np.ascontiguousarray(data).reshape(-1).view(np.uint8))
    if algorithm == "none":
        return source.tobytes()
    if algorithm == "lz4":
        block_bytes = max(1, min(_LZ4_BLOCK_BYTES, source.size))
    else:
        block_bytes = default_block_bytes(data.itemsize)
    blocks = -(-source.size // block_bytes) + 1
    target = np.empty(HEADER_BYTES + source.size + source.size // 255 + 20 * blocks, np.uint8)
    target[:8] = np.frombuffer(int(source.size).to_bytes(8, "big"), np.uint8)
    target[8:12] = np.frombuffer(int(block_bytes).to_bytes(4, "big"), np.uint8)
    if algorithm == "lz4":
        used = _shrink_lz4(source, target, block_bytes)
    else:
        used = _shrink_bslz4(source, target, block_bytes, data.itemsize)
    return target[:used].tobytes()


def prepare() -> None:
    """Compile everything above (once; later it comes from a cache), so that the first frame does not wait for it."""
    for algorithm in ("lz4", "bslz4"):
        pixels = np.zeros(64, np.uint16)
        decompress(compress(pixels, algorithm), algorithm, 2, pixels.nbytes)
    decompress_lz4_block(b"\x10\x00", 1)


def read_only(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrays one may write to are another type to the compiler, and every type is compiled anew."""
    values = values.view()
    values.flags.writeable = False
    return values


def default_block_bytes(element_size: int) -> int:
    """Block size of the bitshuffle reference implementation: about 8 KiB, whole groups, at least 128 elements."""
    return int(max(_BSLZ4_BLOCK_BYTES // element_size // _GROUP * _GROUP, 128) * element_size)


def _check_sizes(blob_bytes: int, algorithm: str, element_size: int, raw_bytes: int) -> None:
    if algorithm not in ALGORITHMS:
        raise CompressionError(f"unknown compression {algorithm!r}; known are {', '.join(ALGORITHMS)}")
    if not 1 <= element_size <= 16:
        raise CompressionError(f"element size {element_size} is not between 1 and 16 bytes")
    if not 0 <= raw_bytes <= MAX_RAW_BYTES or raw_bytes % element_size:
        raise CompressionError(f"{raw_bytes} raw bytes cannot be a frame of {element_size}-byte elements")
    if algorithm == "none":
        if blob_bytes != raw_bytes:
            raise CompressionError(f"payload has {blob_bytes} bytes, its shape and type need {raw_bytes}")
    elif raw_bytes > _MAX_RATIO * blob_bytes:
        raise CompressionError(f"{algorithm} payload of {blob_bytes} bytes cannot hold {raw_bytes} bytes")


def _check_output(out: NDArray[np.uint8] | None, raw_bytes: int) -> None:
    if out is not None and (out.dtype != np.uint8 or out.shape != (raw_bytes,) or not out.flags.c_contiguous):
        raise CompressionError(f"the output buffer has to be a contiguous uint8 array of {raw_bytes} bytes")


def _read_header(source: NDArray[np.uint8], raw_bytes: int) -> int:
    """Check the raw size, return the block size. An all-zero header (the public v1 mock sends those) says nothing."""
    if source.size < HEADER_BYTES:
        raise CompressionError(f"payload of {source.size} bytes is shorter than its header")
    header = source[:HEADER_BYTES].tobytes()
    announced, block_bytes = int.from_bytes(header[:8], "big"), int.from_bytes(header[8:], "big")
    if announced != raw_bytes and header != bytes(HEADER_BYTES):
        raise CompressionError(f"payload announces {announced} raw bytes, its shape and type need {raw_bytes}")
    return block_bytes


def _check_block(block_bytes: int, multiple: int) -> None:
    if not 0 < block_bytes <= _MAX_BLOCK_BYTES or block_bytes % multiple:
        raise CompressionError(f"block size {block_bytes} is not a multiple of {multiple} up to {_MAX_BLOCK_BYTES}")


@njit(inline="always")
def _get_u32(source: NDArray[np.uint8], at: int) -> int:
    return (
        (np.int64(source[at]) << 24)
        | (np.int64(source[at + 1]) << 16)
        | (np.int64(source[at + 2]) << 8)
        | np.int64(source[at + 3])
    )


@njit(inline="always")
def _put_u32(target: NDArray[np.uint8], at: int, value: int) -> None:
    target[at] = (value >> 24) & 255
    target[at + 1] = (value >> 16) & 255
    target[at + 2] = (value >> 8) & 255
    target[at + 3] = value & 255


@njit(nogil=True, cache=True)
def _expand_bslz4(source: NDArray[np.uint8], target: NDArray[np.uint8], block_bytes: int, element_size: int) -> int:
    """Return the bytes of `source` used, or -1."""
    group_bytes = _GROUP * element_size
    grouped = target.size // group_bytes * group_bytes
    planes = np.empty(min(block_bytes, grouped), np.uint8)
    read = HEADER_BYTES
    write = 0
    while write < grouped:
        size = min(block_bytes, grouped - write)
        if source.size - read < 4:
            return -1
        length = _get_u32(source, read)
        read += 4
        if length > source.size - read:
            return -1
        if decompress_block(source, read, read + length, planes, 0, size) != size:
            return -1
        read += length
        unshuffle_block(planes[:size], target[write : write + size], element_size)
        write += size
    rest = target.size - grouped
    if source.size - read < rest:
        return -1
    for i in range(rest):
        target[grouped + i] = source[read + i]
    return read + rest


@njit(nogil=True, cache=True)
def _shrink_bslz4(source: NDArray[np.uint8], target: NDArray[np.uint8], block_bytes: int, element_size: int) -> int:
    group_bytes = _GROUP * element_size
    grouped = source.size // group_bytes * group_bytes
    planes = np.empty(grouped, np.uint8)
    table = np.zeros(1 << HASH_BITS, np.uint64)
    write = HEADER_BYTES
    for start in range(0, grouped, block_bytes):
        size = min(block_bytes, grouped - start)
        shuffle_block(source[start : start + size], planes[start : start + size], element_size)
        length = compress_block(planes, start, start + size, target, write + 4, table)
        _put_u32(target, write, length)
        write += 4 + length
    rest = source.size - grouped
    for i in range(rest):
        target[write + i] = source[grouped + i]
    return write + rest


@njit(nogil=True, cache=True)
def _expand_lz4(source: NDArray[np.uint8], target: NDArray[np.uint8], block_bytes: int) -> int:
    """Return the bytes of `source` used, or -1."""
    read = HEADER_BYTES
    write = 0
    while write < target.size:
        size = min(block_bytes, target.size - write)
        if source.size - read < 4:
            return -1
        length = _get_u32(source, read)
        read += 4
        if length > source.size - read:
            return -1
        if length == size:
            for i in range(size):
                target[write + i] = source[read + i]
        elif decompress_block(source, read, read + length, target, write, write + size) != size:
            return -1
        read += length
        write += size
    return read


@njit(nogil=True, cache=True)
def _shrink_lz4(source: NDArray[np.uint8], target: NDArray[np.uint8], block_bytes: int) -> int:
    table = np.zeros(1 << HASH_BITS, np.uint64)
    scratch = np.empty(block_bound(block_bytes), np.uint8)
    write = HEADER_BYTES
    for start in range(0, source.size, block_bytes):
        size = min(block_bytes, source.size - start)
        length = compress_block(source, start, start + size, scratch, 0, table)
        if length >= size:
            length = size
            target[write + 4 : write + 4 + size] = source[start : start + size]
        else:
            target[write + 4 : write + 4 + length] = scratch[:length]
        _put_u32(target, write, length)
        write += 4 + length
    return write
