"""CUDA launchers of the footprint, twins of `forward` and `adjoint` in `cpu.py`: one thread a voxel.

Images are added to atomically, so that their last bits differ from run to run. Plain numpy arrays are copied to the
device and back, which serves tests and the simulator of numba-cuda. Importing needs no GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from ..kernels.launching import SIMULATED, launch
from .footprint import build

THREADS = 4 if SIMULATED else 128


@cuda.jit(device=True, inline="always")
def _add(array: Any, index: Any, value: Any) -> None:
    cuda.atomic.add(array, index, value)


_bodies = build(cuda.jit(device=True), _add)
_spread, _collect = _bodies.spread, _bodies.collect


@cuda.jit
def _forward(volume: Any, axes: Any, origins: Any, tables: Any, images: Any) -> None:
    depth, height, width = volume.shape
    for index in range(cuda.grid(1), depth * height * width, cuda.gridsize(1)):
        z, rest = index // (height * width), index % (height * width)
        y, x = rest // width, rest % width
        value = volume[z, y, x]
        if value != 0:
            for i in range(images.shape[0]):
                u = origins[i, 0] + axes[i, 0, 2] * z + axes[i, 0, 1] * y + axes[i, 0, 0] * x
                v = origins[i, 1] + axes[i, 1, 2] * z + axes[i, 1, 1] * y + axes[i, 1, 0] * x
                _spread(images[i], tables[i], np.float32(u), np.float32(v), value)


@cuda.jit
def _adjoint(volume: Any, axes: Any, origins: Any, tables: Any, images: Any) -> None:
    depth, height, width = volume.shape
    for index in range(cuda.grid(1), depth * height * width, cuda.gridsize(1)):
        z, rest = index // (height * width), index % (height * width)
        y, x = rest // width, rest % width
        total = np.float32(0)
        for i in range(images.shape[0]):
            u = origins[i, 0] + axes[i, 0, 2] * z + axes[i, 0, 1] * y + axes[i, 0, 0] * x
            v = origins[i, 1] + axes[i, 1, 2] * z + axes[i, 1, 1] * y + axes[i, 1, 0] * x
            total += _collect(images[i], tables[i], np.float32(u), np.float32(v))
        volume[z, y, x] += total


def _blocks(volume: Any) -> int:
    return 2 if SIMULATED else max(1, min(65535, -(-volume.size // THREADS)))


def forward(volume: Any, axes: Any, origins: Any, tables: Any, images: Any) -> None:
    """Add the projections of a volume to images; see `cpu.forward`."""
    launch(_forward, _blocks(volume), THREADS, (volume, axes, origins, tables, images), (images,))


def adjoint(volume: Any, axes: Any, origins: Any, tables: Any, images: Any) -> None:
    """Add the images, spread back along the beam, to a volume; see `cpu.adjoint`."""
    launch(_adjoint, _blocks(volume), THREADS, (volume, axes, origins, tables, images), (volume,))
