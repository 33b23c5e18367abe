"""The bit transposition of the bitshuffle filter (Masui et al. 2015, Astronomy and Computing 12, 181), compiled.

A block of ``count`` elements (a multiple of 8) becomes one plane per bit of the element, lowest bit of the lowest byte
first; byte ``g`` of a plane holds that bit of elements ``8 g`` to ``8 g + 7``, lowest first. Counts from a detector are
small numbers, so most planes are zero; both directions use that. Inner loops run over neighbouring words without
branches, which is what the compiler needs to turn them into vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SWAP_7 = np.uint64(0x00AA00AA00AA00AA)
_SWAP_14 = np.uint64(0x0000CCCC0000CCCC)
_SWAP_28 = np.uint64(0x00000000F0F0F0F0)
_BY_7, _BY_14, _BY_28 = np.uint64(7), np.uint64(14), np.uint64(28)
_BYTE = np.uint64(8)


@njit(inline="always")
def _transpose_8x8(bits: np.uint64) -> np.uint64:
    """Transpose an 8 x 8 bit matrix held in one word (Warren, Hacker's Delight, section 7-3)."""
    swap = (bits ^ (bits >> _BY_7)) & _SWAP_7
    bits = bits ^ swap ^ (swap << _BY_7)
    swap = (bits ^ (bits >> _BY_14)) & _SWAP_14
    bits = bits ^ swap ^ (swap << _BY_14)
    swap = (bits ^ (bits >> _BY_28)) & _SWAP_28
    return bits ^ swap ^ (swap << _BY_28)


@njit(nogil=True, cache=True)
def _is_zero(values: NDArray[np.uint8]) -> bool:
    used = np.uint8(0)
    for i in range(values.size):
        used |= values[i]
    return used == 0


@njit(nogil=True, cache=True)
def _planes_to_words(planes: NDArray[np.uint8], words: NDArray[np.uint64]) -> None:
    """Eight planes, one after the other, to ``words``: one byte per element, eight elements per word."""
    groups = words.size
    row_0, row_1 = planes[:groups], planes[groups : 2 * groups]
    row_2, row_3 = planes[2 * groups : 3 * groups], planes[3 * groups : 4 * groups]
    row_4, row_5 = planes[4 * groups : 5 * groups], planes[5 * groups : 6 * groups]
    row_6, row_7 = planes[6 * groups : 7 * groups], planes[7 * groups : 8 * groups]
    for group in range(groups):
        bits = np.uint64(row_7[group])
        bits = (bits << _BYTE) | np.uint64(row_6[group])
        bits = (bits << _BYTE) | np.uint64(row_5[group])
        bits = (bits << _BYTE) | np.uint64(row_4[group])
        bits = (bits << _BYTE) | np.uint64(row_3[group])
        bits = (bits << _BYTE) | np.uint64(row_2[group])
        bits = (bits << _BYTE) | np.uint64(row_1[group])
        bits = (bits << _BYTE) | np.uint64(row_0[group])
        words[group] = _transpose_8x8(bits)


@njit(nogil=True, cache=True)
def _words_to_planes(words: NDArray[np.uint64], planes: NDArray[np.uint8]) -> None:
    """The inverse of `_planes_to_words`."""
    groups = words.size
    for group in range(groups):
        words[group] = _transpose_8x8(words[group])
    for row in range(8):
        plane = planes[row * groups : (row + 1) * groups]
        shift = np.uint64(8 * row)
        for group in range(groups):
            plane[group] = np.uint8((words[group] >> shift) & np.uint64(255))


@njit(nogil=True, cache=True)
def unshuffle_block(planes: NDArray[np.uint8], elements: NDArray[np.uint8], element_size: int) -> None:
    """Turn bit planes back into elements.

    Parameters
    ----------
    planes : uint8 array, contiguous, of at least the size of `elements`.
    elements : uint8 array, contiguous, written; its size is a multiple of ``8 * element_size``.
    """
    count = elements.size // element_size
    words = np.empty((element_size, count // 8), np.uint64)
    columns = words.view(np.uint8)
    for byte in range(element_size):
        part = planes[byte * count : (byte + 1) * count]
        if _is_zero(part):
            words[byte, :] = 0
        else:
            _planes_to_words(part, words[byte])
    if element_size == 1:
        elements[:] = columns[0]
    elif element_size == 2:
        low, high = columns[0], columns[1]
        for i in range(count):
            elements[2 * i] = low[i]
            elements[2 * i + 1] = high[i]
    elif element_size == 4:
        byte_0, byte_1, byte_2, byte_3 = columns[0], columns[1], columns[2], columns[3]
        for i in range(count):
            elements[4 * i] = byte_0[i]
            elements[4 * i + 1] = byte_1[i]
            elements[4 * i + 2] = byte_2[i]
            elements[4 * i + 3] = byte_3[i]
    else:
        for byte in range(element_size):
            elements[byte::element_size] = columns[byte]


@njit(nogil=True, cache=True)
def shuffle_block(elements: NDArray[np.uint8], planes: NDArray[np.uint8], element_size: int) -> None:
    """Turn elements into bit planes: the inverse of `unshuffle_block`, same parameters with the roles exchanged."""
    count = elements.size // element_size
    words = np.empty(count // 8, np.uint64)
    column = words.view(np.uint8)
    for byte in range(element_size):
        part = planes[byte * count : (byte + 1) * count]
        if element_size == 1:
            column[:] = elements
        elif element_size == 2:
            for i in range(count):
                column[i] = elements[2 * i + byte]
        else:
            column[:] = elements[byte::element_size]
        if _is_zero(column):
            part[:] = 0
        else:
            _words_to_planes(words, part)
