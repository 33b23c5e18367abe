"""CPU launchers of the footprint. One thread takes a sum, in a fixed order: their number leaves every bit as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .footprint import build


@njit(cache=True, inline="always")
def _add(array: Any, index: Any, value: Any) -> None:
    array[index] += value


# as in recon.kernels.cpu: forced into their callers, so that a cached kernel computes the same bits
_bodies = build(njit(cache=True, error_model="numpy", forceinline=True), _add)
_share, _spread, _collect = _bodies.share, _bodies.spread, _bodies.collect


@njit(parallel=True, cache=True)
def forward(volume: Any, axes: Any, origins: Any, tables: Any, images: Any) -> None:
    """Add the projections of a volume to images, one thread an image.

    Parameters
    ----------
    volume : (nz, ny, nx) float32. images : (m, h, w) float32, changed.
    axes : (m, 2, 3) float32, steps in u and v per step in x, y, z. origins : (m, 2) float32, (u, v) of voxel (0, 0, 0).
    tables : (m, 2, LENGTH) float32, see `footprint.profile_tables`.
    """
    depth, height, width = volume.shape
    for i in prange(images.shape[0]):
        image, table = images[i], tables[i]
        for z in range(depth):
            for y in range(height):
                u = origins[i, 0] + axes[i, 0, 2] * z + axes[i, 0, 1] * y
                v = origins[i, 1] + axes[i, 1, 2] * z + axes[i, 1, 1] * y
                for x in range(width):
                    value = volume[z, y, x]
                    if value != 0:
                        at_u, at_v = np.float32(u + axes[i, 0, 0] * x), np.float32(v + axes[i, 1, 0] * x)
                        _spread(image, table, at_u, at_v, value)


@njit(parallel=True, cache=True)
def adjoint(volume: Any, axes: Any, origins: Any, tables: Any, images: Any) -> None:
    """Adjoint of `forward`: add the images, spread back along the beam, to `volume`; one thread a layer z."""
    depth, height, width = volume.shape
    for z in prange(depth):
        for i in range(images.shape[0]):
            image, table = images[i], tables[i]
            for y in range(height):
                u = origins[i, 0] + axes[i, 0, 2] * z + axes[i, 0, 1] * y
                v = origins[i, 1] + axes[i, 1, 2] * z + axes[i, 1, 1] * y
                for x in range(width):
                    at_u, at_v = np.float32(u + axes[i, 0, 0] * x), np.float32(v + axes[i, 1, 0] * x)
                    volume[z, y, x] += _collect(image, table, at_u, at_v)


@njit(parallel=True, cache=True)
def forward_slices(volume: Any, axes: Any, origins: Any, tables: Any, lines: Any) -> None:
    """`forward` for poses that turn about the y axis, whole rows of slices at a time.

    Parameters
    ----------
    volume : (nz, nx, ny) float32, slices last. lines : (m, w, ny) float32, changed: projections of the slices.
    axes, origins, tables : as in `forward`; only the entries of u count.
    """
    depth, width, slices = volume.shape
    for i in prange(lines.shape[0]):
        table = tables[i]
        for z in range(depth):
            for x in range(width):
                u = np.float32(origins[i, 0] + axes[i, 0, 2] * z + axes[i, 0, 0] * x)
                column = int(np.floor(u + np.float32(0.5)))
                for k in range(max(column - 1, 0), min(column + 2, lines.shape[1])):
                    share = _share(table, 0, u - k)
                    for y in range(slices):
                        lines[i, k, y] += share * volume[z, x, y]


@njit(parallel=True, cache=True)
def adjoint_slices(volume: Any, axes: Any, origins: Any, tables: Any, lines: Any) -> None:
    """Adjoint of `forward_slices`: add the lines, spread back, to `volume`; one thread a layer z."""
    depth, width, slices = volume.shape
    for z in prange(depth):
        for i in range(lines.shape[0]):
            table = tables[i]
            for x in range(width):
                u = np.float32(origins[i, 0] + axes[i, 0, 2] * z + axes[i, 0, 0] * x)
                column = int(np.floor(u + np.float32(0.5)))
                for k in range(max(column - 1, 0), min(column + 2, lines.shape[1])):
                    share = _share(table, 0, u - k)
                    for y in range(slices):
                        volume[z, x, y] += share * lines[i, k, y]
