"""Sizes and coordinate lists that follow from a particle's diameter and the pixel size; no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Radii of the soft masks as fractions of the box: tried with 96 px boxes around crystals of 24-27 A at 0.358 A/px.
MASK_RADIUS = 42 / 96
MASK_EDGE = 5 / 96
RING_INNER, RING_OUTER = 43 / 96, 46 / 96
VOLUME_MASK_RADIUS = 40 / 96
VOLUME_MASK_EDGE = 4 / 96


def fast_length(minimum: float) -> int:
    """Smallest even number >= `minimum` without prime factors above 5."""
    length = max(2, math.ceil(minimum))
    length += length % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2


def box_size_px(diameter_A: float, pixel_size_A: float) -> int:
    """Edge of the square box cut around a particle: 1.4 diameters, at least 64 px.

    Raises
    ------
    ValueError : a diameter or pixel size that is not positive.
    """
    if not (diameter_A > 0 and pixel_size_A > 0):
        raise ValueError(f"diameter {diameter_A} A and pixel size {pixel_size_A} A/px must both be positive")
    return max(64, fast_length(1.4 * diameter_A / pixel_size_A))


@dataclass(frozen=True, slots=True, eq=False)
class HalfPlane:
    """Fourier coefficients of a real box that are kept: one of each Friedel pair, 1 <= k <= k_max, sorted by radius.

    Attributes
    ----------
    box_px : edge of the box.
    kx, ky : (n,) int16, cycles per box, ``ky > 0 or (ky == 0 and kx > 0)``.
    radius : (n,) float32, ``hypot(kx, ky)``, ascending.
    """

    box_px: int
    kx: NDArray[np.int16]
    ky: NDArray[np.int16]
    radius: NDArray[np.float32]

    def count(self, radius: float) -> int:
        """How many coefficients have a radius <= `radius` (cycles per box)."""
        return int(np.searchsorted(self.radius, radius + 1e-3))


@lru_cache(maxsize=16)
def half_plane(box_px: int, k_max: int) -> HalfPlane:
    """The half plane of coefficients up to `k_max` cycles per box (``k_max < box_px / 2``)."""
    if not 1 <= k_max < box_px // 2:
        raise ValueError(f"k_max {k_max} outside 1..{box_px // 2 - 1}")
    ky, kx = np.mgrid[-k_max : k_max + 1, -k_max : k_max + 1]
    radius = np.hypot(kx, ky)
    keep = (radius <= k_max) & (radius >= 1) & ((ky > 0) | ((ky == 0) & (kx > 0)))
    kx, ky, radius = kx[keep], ky[keep], radius[keep]
    order = np.lexsort((kx, ky, radius))
    return HalfPlane(box_px, kx[order].astype(np.int16), ky[order].astype(np.int16), radius[order].astype(np.float32))


def raised_cosine(distance: NDArray[np.floating], radius: float, edge: float) -> NDArray[np.float32]:
    """1 inside `radius`, 0 beyond `radius + edge`, half a cosine between."""
    return (0.5 * (1 + np.cos(np.pi * np.clip((distance - radius) / edge, 0, 1)))).astype(np.float32)


@lru_cache(maxsize=16)
def box_mask(box_px: int) -> NDArray[np.float32]:
    """(box_px, box_px) soft disc around pixel ``box_px // 2``."""
    y, x = np.mgrid[:box_px, :box_px] - box_px // 2
    return raised_cosine(np.hypot(y, x), MASK_RADIUS * box_px, MASK_EDGE * box_px)


@lru_cache(maxsize=16)
def box_ring(box_px: int) -> NDArray[np.bool_]:
    """(box_px, box_px) thin ring outside the mask, where the background level of a box is read."""
    y, x = np.mgrid[:box_px, :box_px] - box_px // 2
    radius = np.hypot(y, x) / box_px
    return (radius >= RING_INNER) & (radius <= RING_OUTER)
