"""3D Fourier volumes: accumulators, symmetry, the filled map, Wiener solve, shell correlations.

A volume lives on a centred cubic grid ``[z, y, x]`` of odd edge ``2 half + 1`` with `PAD` steps per cycle per box, so
that trilinear interpolation is accurate. Its real-space twin covers `PAD` boxes; only the central box is kept, under a
soft spherical mask. Trilinear insertion and slicing attenuate the real map by sinc^2 of the position; it is divided
out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device, resident
from .geometry import VOLUME_MASK_EDGE, VOLUME_MASK_RADIUS, fast_length, raised_cosine

PAD = 2


@dataclass(frozen=True, slots=True)
class Grid:
    """Geometry of a Fourier volume: `box_px` pixels of the images, coefficients up to `k_max` cycles per box."""

    box_px: int
    k_max: int

    @property
    def half(self) -> int:
        return PAD * self.k_max + 3

    @property
    def edge(self) -> int:
        return 2 * self.half + 1

    @property
    def samples(self) -> int:
        """Real-space samples across one box that carry this grid (even, fast for the FFT)."""
        return min(self.box_px, fast_length((self.edge + 1) / PAD))


@lru_cache(maxsize=8)
def radius_grid(grid: Grid) -> NDArray[np.float32]:
    """Distance of every grid point from the origin in cycles per box, ``[z, y, x]``."""
    axis = np.arange(-grid.half, grid.half + 1, dtype=np.float32) / PAD
    return np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)


@lru_cache(maxsize=8)
def _shell_index(grid: Grid) -> NDArray[np.intp]:
    return np.rint(radius_grid(grid)).astype(np.intp)


@lru_cache(maxsize=8)
def _shell_below(grid: Grid) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    radius = radius_grid(grid)
    below = np.floor(radius).astype(np.int16)
    return below, radius - below


@lru_cache(maxsize=8)
def volume_mask(samples: int) -> NDArray[np.float32]:
    """(samples,)*3 soft ball around voxel ``samples // 2``."""
    axis = np.arange(samples) - samples // 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    return raised_cosine(distance, VOLUME_MASK_RADIUS * samples, VOLUME_MASK_EDGE * samples)


@lru_cache(maxsize=8)
def attenuation(samples: int) -> NDArray[np.float32]:
    """Real-space factor of trilinear interpolation on the oversampled grid, (samples,)*3."""
    axis = (np.arange(samples) - samples // 2) / (PAD * samples)
    line = np.sinc(axis) ** 2
    return (line[:, None, None] * line[None, :, None] * line[None, None, :]).astype(np.float32)


def friedel(array: Any) -> Any:
    """Add the Friedel mate: ``F(k) + conj(F(-k))`` (weights: the sum)."""
    return array + array[::-1, ::-1, ::-1].conj()


def symmetrise(array: Any) -> Any:
    """Mean over the 48 operations of O_h about the grid centre: exact permutations, done on one octant of the grid."""
    half, whole = array.shape[0] // 2, array
    for axis in range(3):
        front = tuple(slice(half, None) if a == axis else slice(None) for a in range(3))
        back = tuple(slice(half, None, -1) if a == axis else slice(None) for a in range(3))
        array = 0.5 * (array[front] + array[back])
    total = array.copy()
    for axes in list(itertools.permutations(range(3)))[1:]:
        total += array.transpose(axes)
    # the octant and its mirror images, with slices only: these cost no index arrays on a GPU
    out = whole.copy()
    upper, lower, mirrored = slice(half, None), slice(None, half), slice(None, half, -1)
    out[upper, upper, upper] = total / 6
    out[upper, upper, lower] = out[upper, upper, mirrored]
    out[upper, lower] = out[upper, mirrored]
    out[lower] = out[mirrored]
    return out


def phase_ramp(grid: Grid, shift_px: NDArray[np.float64], device: Device) -> Any:
    """``exp(2 pi i k.t)``: multiplying a volume by it moves the content from t to the origin; t = (x, y, z) pixels."""
    axis = np.arange(-grid.half, grid.half + 1) / PAD
    line = [np.exp(2j * np.pi / grid.box_px * axis * t).astype(np.complex64) for t in shift_px]
    x, y, z = (device.asarray(part) for part in line)
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def _blocks(grid: Grid, full: int) -> tuple[int, list[tuple[tuple[slice, ...], tuple[slice, ...]]]]:
    """Where the half space x >= 0 of a centred grid lies in a spectrum of `full` samples: (half edge, pairs of
    blocks).
    """
    half = min(grid.half, full // 2 - 1)
    pairs = (
        (slice(grid.half, grid.half + half + 1), slice(0, half + 1)),
        (slice(grid.half - half, grid.half), slice(full - half, full)),
    )
    line = pairs[0]
    return half, [((z[0], y[0], line[0]), (z[1], y[1], line[1])) for z in pairs for y in pairs]


def to_real(volume: Any, grid: Grid, device: Device, samples: int | None = None) -> Any:
    """Real map of the central box, (samples,)*3, gridding attenuation of the insertion divided out, not masked."""
    xp = device.xp
    samples = samples or grid.samples
    full = PAD * samples
    spectrum = xp.zeros((full, full, full // 2 + 1), np.complex64)
    for centred, wrapped in _blocks(grid, full)[1]:
        spectrum[wrapped] = volume[centred]
    real = xp.fft.fftshift(device.irfftn(spectrum, (full, full, full)))
    low = full // 2 - samples // 2
    centre = slice(low, low + samples)
    return real[centre, centre, centre] / resident(device, attenuation, samples)


def to_fourier(real: Any, grid: Grid, device: Device) -> Any:
    """Fourier volume, ready for slicing, of a real map (samples,)*3.

    Inverse of `to_real` but for the attenuation: here that of slicing is made up for, there that of inserting.
    """
    xp = device.xp
    samples = real.shape[0]
    full = PAD * samples
    padded = xp.zeros((full, full, full), np.float32)
    low = full // 2 - samples // 2
    centre = slice(low, low + samples)
    padded[centre, centre, centre] = real / resident(device, attenuation, samples)
    spectrum = device.rfftn(xp.fft.ifftshift(padded))
    half, blocks = _blocks(grid, full)
    out = xp.zeros((grid.edge,) * 3, np.complex64)
    for centred, wrapped in blocks:
        out[centred] = spectrum[wrapped]
    middle = slice(grid.half - half, grid.half + half + 1)
    positive = out[middle, middle, grid.half : grid.half + half + 1]
    out[middle, middle, grid.half - half : grid.half] = positive[::-1, ::-1, :0:-1].conj()
    return out


def as_kernel_volume(volume: Any, device: Device) -> Any:
    """Complex volume to the (edge, edge, edge, 2) float32 layout of the kernels."""
    packed = device.xp.ascontiguousarray(volume, dtype=np.complex64)
    return packed.view(np.float32).reshape(*volume.shape, 2)


def masked(volume: Any, grid: Grid, device: Device, samples: int | None = None) -> tuple[Any, Any]:
    """Confine a volume to the soft ball: returns (Fourier volume, real map)."""
    real = to_real(volume, grid, device, samples)
    real = real * resident(device, volume_mask, real.shape[0])
    return to_fourier(real, grid, device), real


def shell_sum(values: Any, grid: Grid, device: Device) -> NDArray[np.float64]:
    """Sum of a real array over spherical shells (index = cycles per box, 0..k_max).

    `values` is a whole grid or its planes z >= 0; real maps hold nothing new in the others.
    """
    shell = resident(device, _shell_index, grid)[-values.shape[0] :].ravel()
    total = device.xp.bincount(shell, values.ravel(), grid.k_max + 1)[: grid.k_max + 1]
    return np.asarray(device.to_host(total), np.float64)


def shell_correlation(a: Any, b: Any, grid: Grid, device: Device) -> NDArray[np.float64]:
    """Fourier shell correlation of two volumes of real maps per shell 0..k_max (Harauz & van Heel 1986)."""
    a, b = a[grid.half :], b[grid.half :]
    cross = shell_sum((a * b.conj()).real, grid, device)
    power = shell_sum(abs(a) ** 2, grid, device) * shell_sum(abs(b) ** 2, grid, device)
    return cross / np.sqrt(np.maximum(power, 1e-30))


def resolution_A(
    correlation: NDArray[np.float64], box_A: float, threshold: float = 0.143, first: int = 8
) -> float | None:
    """Where the correlation first drops below `threshold`, interpolated, in A; None when it starts below.

    Shells below `first` are skipped: the transfer function passes almost nothing there.
    """
    for k in range(first, len(correlation)):
        if correlation[k] < threshold:
            if k == first:
                return None
            above = correlation[k - 1]
            return box_A / (k - 1 + (above - threshold) / max(above - correlation[k], 1e-9))
    return box_A / (len(correlation) - 1)


def shell_values(profile: NDArray[np.float64], grid: Grid, device: Device) -> Any:
    """A per-shell profile spread over the grid, linear between shells, float32."""
    padded = device.asarray(np.pad(np.asarray(profile, np.float32), (0, 2 * grid.half), mode="edge"))
    below, share = resident(device, _shell_below, grid)
    return padded[below] * (1 - share) + padded[below + 1] * share
