"""Passes over Fourier volumes on the half grid that numpy would take several over: compiled for one CPU thread each.

They let go of the interpreter lock, so that several run at once (`Device.each`), each on the layers from `begin` to
`end` (`volume.in_layers`). On a GPU the array module does them. Volumes are (edge, edge, half + 1), ``[z, y, x]`` with
x >= 0; `shell` holds the shell of every point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_pass = njit(cache=True, nogil=True, error_model="numpy")


@_pass
def whole(half_grid: Any, out: Any, begin: int, end: int) -> None:
    """The whole grid (edge,)*3 from its half, by Friedel's law, into `out`."""
    edge, half = out.shape[0], out.shape[0] // 2
    for z in range(begin, end):
        for y in range(edge):
            here, there = half_grid[z, y], half_grid[edge - 1 - z, edge - 1 - y]
            for x in range(half):
                out[z, y, x] = np.conj(there[half - x])
            for x in range(half + 1):
                out[z, y, half + x] = here[x]


@_pass
def add_turned(volume: Any, matrix: Any, total: Any, begin: int, end: int) -> None:
    """Add ``F(matrix k)``, trilinear, to `total` on the half grid; `volume` on the whole one, zero outside.

    `matrix` (3, 3) float32 acts on (x, y, z).
    """
    edge, half = volume.shape[0], volume.shape[0] // 2
    for iz in range(begin, end):
        for iy in range(edge):
            for ix in range(half + 1):
                kx, ky, kz = np.float32(ix), np.float32(iy - half), np.float32(iz - half)
                x = matrix[0, 0] * kx + matrix[0, 1] * ky + matrix[0, 2] * kz + half
                y = matrix[1, 0] * kx + matrix[1, 1] * ky + matrix[1, 2] * kz + half
                z = matrix[2, 0] * kx + matrix[2, 1] * ky + matrix[2, 2] * kz + half
                x0, y0, z0 = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                if min(x0, y0, z0) < 0 or max(x0, y0, z0) >= edge - 1:
                    continue
                u, v, w = np.float32(x - x0), np.float32(y - y0), np.float32(z - z0)
                a, b, c = np.float32(1) - u, np.float32(1) - v, np.float32(1) - w
                here, above = volume[z0], volume[z0 + 1]
                low = b * (a * here[y0, x0] + u * here[y0, x0 + 1]) + v * (
                    a * here[y0 + 1, x0] + u * here[y0 + 1, x0 + 1]
                )
                high = b * (a * above[y0, x0] + u * above[y0, x0 + 1]) + v * (
                    a * above[y0 + 1, x0] + u * above[y0 + 1, x0 + 1]
                )
                total[iz, iy, ix] += c * low + w * high


@_pass
def shell_sums(values: Any, shell: Any, length: int, begin: int, end: int) -> Any:
    """(length,) float64 sums over the whole grid of a real array."""
    total = np.zeros(length)
    for z in range(begin, end):
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                if shell[z, y, x] < length:
                    total[shell[z, y, x]] += values[z, y, x] * (2.0 if x else 1.0)  # x = 0 has both mates
    return total


@_pass
def shell_products(a: Any, b: Any, shell: Any, length: int, begin: int, end: int) -> Any:
    """(3, length) float64 sums over the whole grid of ``Re(a conj(b))``, ``|a|^2`` and ``|b|^2``."""
    total = np.zeros((3, length))
    for z in range(begin, end):
        for y in range(a.shape[1]):
            for x in range(a.shape[2]):
                s = shell[z, y, x]
                if s < length:
                    u, v, mates = a[z, y, x], b[z, y, x], 2.0 if x else 1.0
                    total[0, s] += mates * (u.real * v.real + u.imag * v.imag)
                    total[1, s] += mates * (u.real * u.real + u.imag * u.imag)
                    total[2, s] += mates * (v.real * v.real + v.imag * v.imag)
    return total


@_pass
def centred_even(
    first: Any, weight1: Any, second: Any, weight2: Any, z: Any, y: Any, x: Any, even: Any, weight: Any,
    begin: int, end: int,
) -> None:  # fmt: skip
    """The real part of ``(first + second) ramp`` into `even`, ``weight1 + weight2`` into `weight`.

    The ramp is the product of the lines `z` and `y` (edge,) and `x` (half + 1,), complex64, here and below.
    """
    for i in range(begin, end):
        for j in range(even.shape[1]):
            along = z[i] * y[j]
            for k in range(even.shape[2]):
                ramp = along * x[k]
                real = first[i, j, k].real + second[i, j, k].real
                imaginary = first[i, j, k].imag + second[i, j, k].imag
                even[i, j, k] = real * ramp.real - imaginary * ramp.imag
                weight[i, j, k] = weight1[i, j, k] + weight2[i, j, k]


@_pass
def asymmetry_sums(
    first: Any, weight1: Any, second: Any, weight2: Any, z: Any, y: Any, x: Any, symmetric: Any, shell: Any,
    length: int, begin: int, end: int,
) -> Any:  # fmt: skip
    """(3, length) float64 sums over the whole grid, see `maps.asymmetric_power`, where both weights are positive.

    Of ``w1 w2``, of ``Re(rest1 conj(rest2))`` with ``rest = a ramp - w symmetric``, and of ``w1 w2 |symmetric|^2``.
    """
    total = np.zeros((3, length))
    for i in range(begin, end):
        for j in range(first.shape[1]):
            along = z[i] * y[j]
            for k in range(first.shape[2]):
                s, pairs = shell[i, j, k], weight1[i, j, k] * weight2[i, j, k]
                if s < length and pairs > 0:
                    ramp, even, mates = along * x[k], symmetric[i, j, k], 2.0 if k else 1.0
                    one = first[i, j, k] * ramp - weight1[i, j, k] * even
                    two = second[i, j, k] * ramp - weight2[i, j, k] * even
                    total[0, s] += mates * pairs
                    total[1, s] += mates * (one.real * two.real + one.imag * two.imag)
                    total[2, s] += mates * pairs * (even.real * even.real + even.imag * even.imag)
    return total


@_pass
def fill(
    numerator: Any, denominator: Any, symmetric: Any, z: Any, y: Any, x: Any, prior: Any, inside: Any, filled: Any,
    begin: int, end: int,
) -> None:  # fmt: skip
    """``inside (numerator + prior symmetric conj(ramp)) / (denominator + prior)`` into `filled`."""
    for i in range(begin, end):
        for j in range(filled.shape[1]):
            along = np.conj(z[i] * y[j])
            for k in range(filled.shape[2]):
                known = inside[i, j, k] / (denominator[i, j, k] + prior[i, j, k])
                missing = prior[i, j, k] * symmetric[i, j, k] * (along * np.conj(x[k]))
                filled[i, j, k] = (numerator[i, j, k] + missing) * known


@_pass
def damp(numerator: Any, denominator: Any, level: Any, inside: Any, damped: Any, begin: int, end: int) -> None:
    """``inside numerator / (denominator + level)`` into `damped`."""
    for i in range(begin, end):
        for j in range(damped.shape[1]):
            for k in range(damped.shape[2]):
                share = inside[i, j, k] / (denominator[i, j, k] + level[i, j, k])
                damped[i, j, k] = numerator[i, j, k] * share


@_pass
def damp_evenly(numerator: Any, denominator: Any, level: Any, damped: Any, begin: int, end: int) -> None:
    """``numerator / (denominator + level)`` into `damped`, `level` a number."""
    for i in range(begin, end):
        for j in range(damped.shape[1]):
            for k in range(damped.shape[2]):
                damped[i, j, k] = numerator[i, j, k] * (np.float32(1) / (denominator[i, j, k] + level))


@_pass
def look_up(place: Any, profile: Any, values: Any, begin: int, end: int) -> None:
    """``profile[place]`` into `values`."""
    for i in range(begin, end):
        for j in range(values.shape[1]):
            for k in range(values.shape[2]):
                values[i, j, k] = profile[place[i, j, k]]


@_pass
def add(a: Any, b: Any, total: Any, begin: int, end: int) -> None:
    """``a + b`` into `total`."""
    for i in range(begin, end):
        for j in range(total.shape[1]):
            for k in range(total.shape[2]):
                total[i, j, k] = a[i, j, k] + b[i, j, k]
