"""The bit transposition of the bitshuffle filter (Masui et al. 2015, Astronomy and Computing 12, 181), compiled.

A block of ``count`` elements (a multiple of 8) becomes one plane per bit of the element, lowest bit of the lowest byte
first; byte ``g`` of a plane holds that bit of elements ``8 g`` to ``8 g + 7``, lowest first. Counts from a detector are
small numbers, so most planes are zero; both directions use that.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SWAP_7 = np.uint64(0x00AA00AA00AA00AA)
_SWAP_14 = np.uint64(0x0000CCCC0000CCCC)
_SWAP_28 = np.uint64(0x00000000F0F0F0F0)
_BY_7, _BY_14, _BY_28 = np.uint64(7), np.uint64(14), np.uint64(28)


@njit(inline="always")
def _transpose_8x8(bits: int) -> int:
    """Transpose an 8 x 8 bit matrix held in one word (Warren, Hacker's Delight, section 7-3)."""
    swap = (bits ^ (bits >> _BY_7)) & _SWAP_7
    bits = bits ^ swap ^ (swap << _BY_7)
    swap = (bits ^ (bits >> _BY_14)) & _SWAP_14
    bits = bits ^ swap ^ (swap << _BY_14)
    swap = (bits ^ (bits >> _BY_28)) & _SWAP_28
    return bits ^ swap ^ (swap << _BY_28)


@njit(nogil=True, cache=True)
def unshuffle_block(
    planes: NDArray[np.uint8], target: NDArray[np.uint8], out_start: int, count: int, element_size: int
) -> None:
    """Turn bit planes back into elements.

    Parameters
    ----------
    planes : uint8 array of at least ``count * element_size`` bytes.
    target : uint8 array; ``target[out_start:out_start + count * element_size]`` is written.
    count : number of elements, a multiple of 8.
    """
    groups = count // 8
    for byte in range(element_size):
        first = byte * 8 * groups
        used = np.uint8(0)
        for i in range(first, first + 8 * groups):
            used |= planes[i]
        at = out_start + byte
        if used == 0:
            for element in range(count):
                target[at + element * element_size] = 0
            continue
        for group in range(groups):
            bits = np.uint64(0)
            for row in range(8):
                bits |= np.uint64(planes[first + row * groups + group]) << np.uint64(8 * row)
            bits = _transpose_8x8(bits)
            for column in range(8):
                target[at + (8 * group + column) * element_size] = (bits >> np.uint64(8 * column)) & np.uint64(255)


@njit(nogil=True, cache=True)
def shuffle_block(
    source: NDArray[np.uint8], start: int, planes: NDArray[np.uint8], out_start: int, count: int, element_size: int
) -> None:
    """Turn elements into bit planes: the inverse of `unshuffle_block`, same parameters with the roles exchanged."""
    groups = count // 8
    for byte in range(element_size):
        first = out_start + byte * 8 * groups
        at = start + byte
        used = np.uint8(0)
        for element in range(count):
            used |= source[at + element * element_size]
        if used == 0:
            for i in range(first, first + 8 * groups):
                planes[i] = 0
            continue
        for group in range(groups):
            bits = np.uint64(0)
            for column in range(8):
                bits |= np.uint64(source[at + (8 * group + column) * element_size]) << np.uint64(8 * column)
            bits = _transpose_8x8(bits)
            for row in range(8):
                planes[first + row * groups + group] = (bits >> np.uint64(8 * row)) & np.uint64(255)
