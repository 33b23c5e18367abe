"""CPU launchers of the pixel bodies; every one has a twin of the same name and arguments in `pixels_cuda.py`.

They run in one thread, that of the front end, and let go of the interpreter lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .pixels import Tables, build

_bodies = build(njit(cache=True, nogil=True, forceinline=True))
_corrected, _contrast, _neighbours_mean = _bodies.corrected, _bodies.contrast, _bodies.neighbours_mean
_gathered = _bodies.gathered
_kernel = njit(cache=True, nogil=True)

Floats = NDArray[np.float32]


@_kernel
def _levels(data, top):
    """Row by row in 64 bits of partial sums that stay in vector registers."""
    total, at_top = np.int64(0), np.int64(0)
    for row in range(data.shape[0]):
        part, count = np.int64(0), np.int64(0)
        for column in range(data.shape[1]):
            part += np.int64(data[row, column])
            count += np.int64(data[row, column] == top)
        total += part
        at_top += count
    return total, at_top


def levels(data: NDArray[Any], top: int) -> tuple[int, int]:
    """Sum of all counts, and how many of them are `top`, of a frame (rows, columns) of an integer type."""
    total, at_top = _levels(data, data.dtype.type(top))
    return int(total), int(at_top)


@_kernel
def _correct(data, dark, gain, starts, bad_columns, out):
    rows, columns = data.shape
    none, one = np.float32(0), np.float32(1)
    sums = np.zeros(columns)  # of each column: neighbours do not wait for each other
    for row in range(rows):
        counts, line = data[row], out[row]
        if dark.size and gain.size:
            for column in range(columns):
                line[column] = _corrected(counts[column], dark[row, column], gain[row, column])
        elif gain.size:
            for column in range(columns):
                line[column] = _corrected(counts[column], none, gain[row, column])
        elif dark.size:
            for column in range(columns):
                line[column] = _corrected(counts[column], dark[row, column], one)
        else:
            for column in range(columns):
                line[column] = counts[column]
        for place in range(starts[row], starts[row + 1]):
            line[bad_columns[place]] = 0
        for column in range(columns):
            sums[column] += line[column]
    total = 0.0
    for column in range(columns):
        total += sums[column]
    return total


def correct(data: NDArray[Any], tables: Tables, out: NDArray[Any]) -> float:
    """Write the corrected frame with zeros at bad pixels; return its sum, taken while a row is in the cache.

    `data` (rows, columns) counts; `out` the same float32, or with neither dark nor gain of the type of `data`.
    """
    return float(_correct(data, tables.dark, tables.gain, tables.starts, tables.columns, out))


@_kernel
def _fill(out, starts, bad_columns, sources, mean):
    for row in range(out.shape[0]):
        for place in range(starts[row], starts[row + 1]):
            out[row, bad_columns[place]] = _neighbours_mean(out, sources[place], mean)


def fill(out: NDArray[Any], tables: Tables, mean: float) -> None:
    """Put the mean of the good neighbours into every bad pixel, `mean` where it has none (a gap between modules)."""
    _fill(out, tables.starts, tables.columns, tables.sources, mean)


@_kernel
def _bin_all(fields, size, squared, out):
    """Down the columns first, neighbours in one vector; then across the few columns of a bin."""
    scale = np.float32(1.0 / (size * size))
    columns = np.empty(size * out.shape[2], np.float32)
    for number in range(out.shape[0]):
        for bin_row in range(out.shape[1]):
            columns[:] = 0
            for row in range(bin_row * size, (bin_row + 1) * size):
                line = fields[number, row, : len(columns)]
                for column in range(len(columns)):
                    columns[column] = _gathered(columns[column], line[column], squared)
            target = out[number, bin_row]
            for bin_column in range(len(target)):
                total = np.float32(0)
                for column in range(bin_column * size, (bin_column + 1) * size):
                    total += columns[column]
                target[bin_column] = total * scale


def _binned(fields: Floats, size: int, squared: bool) -> Floats:
    out = np.empty((len(fields), fields.shape[1] // size, fields.shape[2] // size), np.float32)
    _bin_all(fields, size, squared, out)
    return out


def bin_mean(fields: Floats, size: int) -> Floats:
    """Mean over size x size bins: (m, rows, columns) float32 to (m, rows // size, columns // size); no rests."""
    return _binned(fields, size, squared=False)


def bin_energy(fields: Floats, size: int) -> Floats:
    """Mean square over size x size bins; shapes as in `bin_mean`."""
    return _binned(fields, size, squared=True)


@_kernel
def _cut(data, corners, scales, dead, out):
    rows, columns = data.shape
    for number in range(out.shape[0]):
        x, y, scale, box = corners[number, 0], corners[number, 1], scales[number], out[number]
        first, last = max(0, -x), max(0, -x, min(box.shape[1], columns - x))
        for row in range(max(0, -y), min(box.shape[0], rows - y)):
            # slices, whose places count from 0: the compiler then makes vectors of the loops
            line, target = data[y + row, x + first : x + last], box[row, first:last]
            for column in range(len(target)):
                target[column] = _contrast(line[column], scale)
            if dead.size:
                hidden = dead[y + row, x + first : x + last]
                for column in range(len(target)):
                    target[column] = np.float32(0) if hidden[column] else target[column]


def cut(
    data: NDArray[Any], corners: NDArray[np.int64], scales: Floats, dead: NDArray[np.bool_], size: tuple[int, int]
) -> Floats:
    """Contrast of parts of a frame, (m, *size) float32: ``counts * scale - 1``, 0 outside the frame and where `dead`.

    Parameters
    ----------
    data : (rows, columns) counts. corners : (m, 2) int64 x, y of the first pixels, may lie outside.
    scales : (m,) float32, 1 / counts that stand for contrast 0. dead : (rows, columns) bool, or empty.
    """
    out = np.zeros((len(corners), *size), np.float32)
    _cut(data, corners, scales, dead, out)
    return out
