"""CUDA launchers of the pixel bodies, twins of those in `pixels_cpu.py`: one thread a pixel, a bin or a bad pixel.

Sums over a frame are taken block by block in a fixed order; counts in 64-bit integers, so that they are exact.
Importing needs no GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float64, int64

from .launching import SIMULATED, array_module, launch
from .pixels import Tables, build

THREADS = 4 if SIMULATED else 256  # a power of two
MOST_BLOCKS = 2 if SIMULATED else 1024

_bodies = build(cuda.jit(device=True))
_corrected, _contrast, _neighbours_mean = _bodies.corrected, _bodies.contrast, _bodies.neighbours_mean
_gathered = _bodies.gathered


def _blocks(items: int) -> int:
    return max(1, min(MOST_BLOCKS, -(-items // THREADS)))


def _total(partial: Any) -> Any:
    """Sums over the blocks, on the host: the first thing that anybody waits for."""
    sums = partial.sum(axis=0)
    return sums if isinstance(sums, np.ndarray) else sums.get()


@cuda.jit
def _levels_all(data, top, partial):
    sums = cuda.shared.array(THREADS, int64)
    counts = cuda.shared.array(THREADS, int64)  # on its own line: the simulator tells arrays apart by their line
    mine, total, at_top = cuda.threadIdx.x, np.int64(0), np.int64(0)
    for row in range(cuda.blockIdx.x, data.shape[0], cuda.gridDim.x):
        for column in range(mine, data.shape[1], cuda.blockDim.x):
            count = data[row, column]
            total += np.int64(count)
            if count == top:
                at_top += np.int64(1)
    sums[mine], counts[mine] = total, at_top
    cuda.syncthreads()
    reach = THREADS // 2
    while reach > 0:
        if mine < reach:
            sums[mine] += sums[mine + reach]
            counts[mine] += counts[mine + reach]
        cuda.syncthreads()
        reach //= 2
    if mine == 0:
        partial[cuda.blockIdx.x, 0] = sums[0]
        partial[cuda.blockIdx.x, 1] = counts[0]


def levels(data: Any, top: int) -> tuple[int, int]:
    """Sum of all counts and how many are `top`; see `pixels_cpu.levels`."""
    blocks = _blocks(THREADS * data.shape[0])
    partial = array_module(data).empty((blocks, 2), np.int64)
    launch(_levels_all, blocks, THREADS, (data, data.dtype.type(top), partial), (partial,))
    total, at_top = _total(partial)
    return int(total), int(at_top)


@cuda.jit
def _correct_all(data, dark, gain, bad, out, partial):
    sums = cuda.shared.array(THREADS, float64)
    mine, total = cuda.threadIdx.x, 0.0
    for row in range(cuda.blockIdx.x, data.shape[0], cuda.gridDim.x):
        for column in range(mine, data.shape[1], cuda.blockDim.x):
            if bad.size and bad[row, column]:
                out[row, column] = 0
            elif dark.size or gain.size:
                level = dark[row, column] if dark.size else np.float32(0)
                factor = gain[row, column] if gain.size else np.float32(1)
                out[row, column] = _corrected(data[row, column], level, factor)
            else:
                out[row, column] = data[row, column]
            total += out[row, column]
    sums[mine] = total
    cuda.syncthreads()
    reach = THREADS // 2
    while reach > 0:
        if mine < reach:
            sums[mine] += sums[mine + reach]
        cuda.syncthreads()
        reach //= 2
    if mine == 0:
        partial[cuda.blockIdx.x, 0] = sums[0]


def correct(data: Any, tables: Tables, out: Any) -> float:
    """Write the corrected frame with zeros at bad pixels, return its sum; see `pixels_cpu.correct`."""
    blocks = _blocks(THREADS * data.shape[0])
    partial = array_module(data).empty((blocks, 1), np.float64)
    arguments = (data, tables.dark, tables.gain, tables.bad, out, partial)
    launch(_correct_all, blocks, THREADS, arguments, (out, partial))
    return float(_total(partial)[0])


@cuda.jit
def _fill_all(out, rows, columns, sources, mean):
    for place in range(cuda.grid(1), rows.shape[0], cuda.gridsize(1)):
        out[rows[place], columns[place]] = _neighbours_mean(out, sources[place], mean)


def fill(out: Any, tables: Tables, mean: float) -> None:
    """Put the mean of the good neighbours into every bad pixel; see `pixels_cpu.fill`. Sources are never bad pixels."""
    arguments = (out, tables.rows, tables.columns, tables.sources, mean)
    launch(_fill_all, _blocks(len(tables.rows)), THREADS, arguments, (out,))


@cuda.jit
def _bin_all(fields, size, scale, squared, out):
    rows, columns = out.shape[1], out.shape[2]
    for i in range(cuda.grid(1), out.shape[0] * rows * columns, cuda.gridsize(1)):
        field, place = fields[i // (rows * columns)], i % (rows * columns)
        row, column = place // columns, place % columns
        total = np.float32(0)
        for across in range(column * size, (column + 1) * size):
            part = np.float32(0)
            for line in range(row * size, (row + 1) * size):
                part = _gathered(part, field[line, across], squared)
            total += part
        out[i // (rows * columns), row, column] = total * scale


def _binned(fields: Any, size: int, squared: bool) -> Any:
    shape = (len(fields), fields.shape[1] // size, fields.shape[2] // size)
    out = array_module(fields).empty(shape, np.float32)
    arguments = (fields, size, np.float32(1.0 / (size * size)), squared, out)
    launch(_bin_all, _blocks(out.size), THREADS, arguments, (out,))
    return out


def bin_mean(fields: Any, size: int) -> Any:
    """Mean over size x size bins; see `pixels_cpu.bin_mean`."""
    return _binned(fields, size, squared=False)


def bin_energy(fields: Any, size: int) -> Any:
    """Mean square over size x size bins; see `pixels_cpu.bin_energy`."""
    return _binned(fields, size, squared=True)


@cuda.jit
def _cut_all(data, corners, scales, dead, out):
    rows, columns = data.shape
    height, width = out.shape[1], out.shape[2]
    for line in range(cuda.blockIdx.x, out.shape[0] * height, cuda.gridDim.x):
        number, row = line // height, line % height
        y = corners[number, 1] + row
        for column in range(cuda.threadIdx.x, width, cuda.blockDim.x):
            x = corners[number, 0] + column
            value = np.float32(0)
            if 0 <= y < rows and 0 <= x < columns and not (dead.size and dead[y, x]):
                value = _contrast(data[y, x], scales[number])
            out[number, row, column] = value


def cut(data: Any, corners: Any, scales: Any, dead: Any, size: tuple[int, int]) -> Any:
    """Contrast of parts of a frame, (m, *size) float32; see `pixels_cpu.cut`."""
    out = array_module(data).empty((len(corners), *size), np.float32)
    launch(_cut_all, _blocks(THREADS * len(corners) * size[0]), THREADS, (data, corners, scales, dead, out), (out,))
    return out
