"""Volume and surface of a body in a scalar field, by marching tetrahedra, and how near to a sphere it comes."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float64]

# Kuhn's six tetrahedra of the unit cube, as corner numbers (bit 0 = x, bit 1 = y, bit 2 = z): neighbouring cubes share
# their diagonals, so that the surface has no cracks.
_TETRAHEDRA = np.array([[0, 1, 3, 7], [0, 1, 5, 7], [0, 2, 3, 7], [0, 2, 6, 7], [0, 4, 5, 7], [0, 4, 6, 7]])


@njit(cache=True)
def _triangle(a: Floats, b: Floats, c: Floats, outward: Floats) -> tuple[float, float]:
    """Area of a triangle and its share of the enclosed volume (divergence theorem), its normal turned `outward`."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    sign = -1.0 if nx * outward[0] + ny * outward[1] + nz * outward[2] < 0 else 1.0
    middle = (a[0] + b[0] + c[0]) * nx + (a[1] + b[1] + c[1]) * ny + (a[2] + b[2] + c[2]) * nz
    return 0.5 * math.sqrt(nx * nx + ny * ny + nz * nz), sign * middle / 18


@njit(cache=True)
def _march(field: Floats, level: float, tetrahedra: NDArray[np.int64]) -> tuple[float, float]:
    area = volume = 0.0
    corner, value = np.zeros((8, 3)), np.zeros(8)
    edge, outward = np.zeros((4, 3)), np.zeros(3)
    for z in range(field.shape[0] - 1):
        for y in range(field.shape[1] - 1):
            for x in range(field.shape[2] - 1):
                above = 0
                for n in range(8):
                    above += field[z + ((n >> 2) & 1), y + ((n >> 1) & 1), x + (n & 1)] >= level
                if above in (0, 8):
                    continue
                for n in range(8):
                    i, j, k = x + (n & 1), y + ((n >> 1) & 1), z + ((n >> 2) & 1)
                    corner[n, 0], corner[n, 1], corner[n, 2] = i, j, k
                    value[n] = field[k, j, i]
                for t in range(tetrahedra.shape[0]):
                    more = _tetrahedron(corner, value, tetrahedra[t], level, edge, outward)
                    area += more[0]
                    volume += more[1]
    return area, volume


@njit(cache=True)
def _tetrahedron(
    corner: Floats, value: Floats, corners: NDArray[np.int64], level: float, edge: Floats, outward: Floats
) -> tuple[float, float]:
    """What the four of the eight `corners` enclose; `edge` (4, 3) and `outward` (3,) are room to work in."""
    inside = 0
    for n in range(4):
        inside += value[corners[n]] >= level
    if inside in (0, 4):
        return 0.0, 0.0
    for i in range(3):
        outward[i] = 0.0
    count = 0
    for n in range(4):
        a = corners[n]
        share = -1.0 / inside if value[a] >= level else 1.0 / (4 - inside)
        for i in range(3):
            outward[i] += share * corner[a, i]
        if value[a] < level:
            continue
        for m in range(4):
            b = corners[m]
            if value[b] < level:  # the surface crosses this edge
                part = (level - value[a]) / (value[b] - value[a])
                for i in range(3):
                    edge[count, i] = corner[a, i] + part * (corner[b, i] - corner[a, i])
                count += 1
    area, volume = _triangle(edge[0], edge[1], edge[2], outward)
    if count == 4:  # a quadrilateral: corners 0 and 3 do not share an edge
        more = _triangle(edge[1], edge[2], edge[3], outward)
        area, volume = area + more[0], volume + more[1]
    return area, volume


def area_and_volume(field: NDArray[np.floating], level: float) -> tuple[float, float]:
    """Surface (voxel^2) and volume (voxel^3) of where a scalar field is at least `level`; linear between voxels.

    Parameters
    ----------
    field : (n, m, l) ``[z, y, x]``, below `level` on its border.

    Raises
    ------
    ValueError : the body touches the border, or there is none.
    """
    values = np.ascontiguousarray(field, np.float64)
    high = values >= level
    inner = high[1:-1, 1:-1, 1:-1]
    if not inner.any() or high.sum() != inner.sum():
        raise ValueError(f"no body above {level} that keeps off the border: pad the field with zeros")
    area, volume = _march(values, float(level), _TETRAHEDRA)
    return area, volume


def sphericity(body: NDArray[np.floating], blur_px: float = 1.0) -> float:
    """``pi^(1/3) (6 V)^(2/3) / A`` of a body given as ones in zeros, blurred first; 1 for a sphere (Wadell 1935).

    Raises
    ------
    ValueError : there is no body, or it touches the border.
    """
    area, volume = area_and_volume(gaussian_filter(np.asarray(body, np.float64), blur_px), 0.5)
    return math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
