"""The shadow of a voxel on the pixels, written once. `build(jit, add)` compiles the bodies for a processor.

A voxel is a cube of constant density, a pixel a square that adds up what falls on it. The shadow of a turned cube is
taken for the product of its profiles along u (columns) and v (rows): the separable footprint of Long, Fessler & Balter,
IEEE Trans. Med. Imaging 29, 1839 (2010), for parallel beams. It is exact when the cube turns about a row or a column
of the image, has the right second moments otherwise, and the pixels share the whole voxel between them at any pose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 64  # table entries per pixel
REACH = 1.5  # px; (1 + sqrt 3) / 2 = 1.37 is the longest half width of a profile, pixel included
LENGTH = int(REACH * STEPS) + 2
NARROWEST = 1e-4  # px; an edge of the cube seen end-on, so that the formula below has no zero denominator


def profile_tables(rotations: NDArray[np.float64]) -> NDArray[np.float32]:
    """Share of a voxel that a pixel at distance ``i / STEPS`` px gets, per axis: (m, 2, LENGTH) of (m, 3, 3) rotations.

    The profile of the cube is the convolution of three boxes, the shadows of its edges; its integral up to x is
    ``sum over signs of s (x + (+-a +- b +- c) / 2)_+^3 / (6 a b c)``, s the product of the signs, and a pixel gets the
    difference of two of these.
    """
    edges = np.maximum(np.abs(rotations[:, :2]), NARROWEST)[..., None]  # (m, 2, 3, 1)
    distance = np.arange(LENGTH) / STEPS
    share = np.zeros((*edges.shape[:2], LENGTH))
    for signs in itertools.product((1, -1), repeat=3):
        offset = 0.5 * (edges * np.array(signs)[:, None]).sum(axis=2)
        for end in (0.5, -0.5):
            share += np.sign(end) * np.prod(signs) * np.maximum(distance + end + offset, 0) ** 3
    share /= 6 * edges.prod(axis=2)
    share[..., distance >= REACH] = 0
    return np.maximum(share, 0).astype(np.float32)


def build(jit: Callable[[Any], Any], add: Any) -> SimpleNamespace:
    """Compile the bodies with `jit`; `add` is a compiled ``(array, index, value)`` for ``array[index] += value``.

    `image` is (h, w) float32, `table` (2, LENGTH) float32 as above, (u, v) the place of the voxel in pixels.
    """

    @jit
    def share(table: Any, axis: Any, distance: Any) -> Any:
        """Share of a pixel at that distance along u (axis 0) or v (1), linear between the entries of the table."""
        place = abs(distance) * np.float32(STEPS)
        below = int(place)
        if below >= LENGTH - 1:
            return np.float32(0)
        return table[axis, below] + np.float32(place - below) * (table[axis, below + 1] - table[axis, below])

    @jit
    def spread(image: Any, table: Any, u: Any, v: Any, value: Any) -> None:
        """Add the shadow of a voxel of that value to an image."""
        column, row = int(math.floor(u + np.float32(0.5))), int(math.floor(v + np.float32(0.5)))
        for y in range(max(row - 1, 0), min(row + 2, image.shape[0])):
            along_v = value * share(table, 1, v - y)
            if along_v != 0:
                for x in range(max(column - 1, 0), min(column + 2, image.shape[1])):
                    add(image, (y, x), along_v * share(table, 0, u - x))

    @jit
    def collect(image: Any, table: Any, u: Any, v: Any) -> Any:
        """Adjoint of `spread`: sum over the pixels of their value times their share of the voxel."""
        column, row = int(math.floor(u + np.float32(0.5))), int(math.floor(v + np.float32(0.5)))
        total = np.float32(0)
        for y in range(max(row - 1, 0), min(row + 2, image.shape[0])):
            along_v = share(table, 1, v - y)
            if along_v != 0:
                part = np.float32(0)
                for x in range(max(column - 1, 0), min(column + 2, image.shape[1])):
                    part += image[y, x] * share(table, 0, u - x)
                total += along_v * part
        return total

    return SimpleNamespace(share=share, spread=spread, collect=collect)
