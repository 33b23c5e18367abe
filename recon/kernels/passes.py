"""Passes over Fourier volumes on the half grid that numpy would take several over: compiled for one CPU thread each.

They let go of the interpreter lock, so that several run at once (`Device.each`). On a GPU the array module does them.
Volumes are (edge, edge, half + 1), ``[z, y, x]`` with x >= 0; `shell` holds the shell of every point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_pass = njit(cache=True, nogil=True, error_model="numpy")


@_pass
def friedel(array: Any, mated: Any) -> None:
    """``F(k) + conj(F(-k))`` into `mated`, on the half grid; `array` is complex64 on the whole grid."""
    edge, half = array.shape[0], array.shape[0] // 2
    for z in range(edge):
        for y in range(edge):
            here, there = array[z, y], array[edge - 1 - z, edge - 1 - y]
            for x in range(half + 1):
                mated[z, y, x] = here[half + x] + np.conj(there[half - x])


@_pass
def whole(half_grid: Any, out: Any) -> None:
    """The whole grid (edge,)*3 from its half, by Friedel's law, into `out`."""
    edge, half = out.shape[0], out.shape[0] // 2
    for z in range(edge):
        for y in range(edge):
            here, there = half_grid[z, y], half_grid[edge - 1 - z, edge - 1 - y]
            for x in range(half):
                out[z, y, x] = np.conj(there[half - x])
            for x in range(half + 1):
                out[z, y, half + x] = here[x]


@_pass
def shell_sums(values: Any, shell: Any, length: int) -> Any:
    """(length,) float64 sums over the whole grid of a real array."""
    total = np.zeros(length)
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                if shell[z, y, x] < length:
                    total[shell[z, y, x]] += values[z, y, x] * (2.0 if x else 1.0)  # x = 0 has both mates
    return total


@_pass
def shell_products(a: Any, b: Any, shell: Any, length: int) -> Any:
    """(3, length) float64 sums over the whole grid of ``Re(a conj(b))``, ``|a|^2`` and ``|b|^2``."""
    total = np.zeros((3, length))
    for z in range(a.shape[0]):
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
def asymmetry_sums(
    first: Any, weight1: Any, second: Any, weight2: Any, ramp: Any, symmetric: Any, shell: Any, length: int
) -> Any:
    """(3, length) float64 sums over the whole grid, see `maps.asymmetric_power`, where both weights are positive.

    Of ``w1 w2``, of ``Re(rest1 conj(rest2))`` with ``rest = a ramp - w symmetric``, and of ``w1 w2 |symmetric|^2``.
    """
    total = np.zeros((3, length))
    for z in range(first.shape[0]):
        for y in range(first.shape[1]):
            for x in range(first.shape[2]):
                s, pairs = shell[z, y, x], weight1[z, y, x] * weight2[z, y, x]
                if s < length and pairs > 0:
                    even, mates = symmetric[z, y, x], 2.0 if x else 1.0
                    one = first[z, y, x] * ramp[z, y, x] - weight1[z, y, x] * even
                    two = second[z, y, x] * ramp[z, y, x] - weight2[z, y, x] * even
                    total[0, s] += mates * pairs
                    total[1, s] += mates * (one.real * two.real + one.imag * two.imag)
                    total[2, s] += mates * pairs * (even.real * even.real + even.imag * even.imag)
    return total


@_pass
def fill(numerator: Any, denominator: Any, symmetric: Any, ramp: Any, prior: Any, inside: Any, filled: Any) -> None:
    """``inside (numerator + prior symmetric conj(ramp)) / (denominator + prior)`` into `filled`."""
    for z in range(filled.shape[0]):
        for y in range(filled.shape[1]):
            for x in range(filled.shape[2]):
                known = inside[z, y, x] / (denominator[z, y, x] + prior[z, y, x])
                missing = prior[z, y, x] * symmetric[z, y, x] * np.conj(ramp[z, y, x])
                filled[z, y, x] = (numerator[z, y, x] + missing) * known
