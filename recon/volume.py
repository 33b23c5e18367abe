"""3D Fourier volumes: symmetry, transforms to real maps and back, shell sums and correlations.

The Fourier volume of a real map lives on the half x >= 0 of a centred cubic grid, ``[z, y, x]`` of shape (edge, edge,
half + 1) with edge = 2 half + 1; the other half follows from Friedel's law. `PAD` steps of the grid are one cycle per
box, so that trilinear interpolation is accurate. Its real-space twin covers `PAD` boxes; only the central box is kept,
under a soft spherical mask. Trilinear insertion and slicing attenuate the real map by sinc^2 of the position; it is
divided out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device, resident
from .geometry import VOLUME_MASK_EDGE, VOLUME_MASK_RADIUS, fast_length, raised_cosine
from .kernels import passes
from .symmetry import Operations

PAD = 2
LAYERS = 8  # pieces of a volume that threads share; sums are made of as many parts, however many threads there are
FINE = 16  # steps per shell at which a profile is spread over the grid


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
    """Distance of every point of the half grid from the origin in cycles per box, (edge, edge, half + 1)."""
    axis = np.arange(-grid.half, grid.half + 1, dtype=np.float32) / PAD
    return np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, grid.half :] ** 2)


@lru_cache(maxsize=8)
def within(grid: Grid) -> NDArray[np.float32]:
    """1 up to half a shell beyond `k_max`, 0 outside; on the half grid."""
    return (radius_grid(grid) <= grid.k_max + 0.5).astype(np.float32)


@lru_cache(maxsize=8)
def _shell_index(grid: Grid) -> NDArray[np.int16]:
    return np.rint(radius_grid(grid)).astype(np.int16)


def shell_index(grid: Grid, device: Device) -> Any:
    """Shell, in cycles per box, of every point of the half grid, int16."""
    return resident(device, _shell_index, grid)


@lru_cache(maxsize=8)
def _fine_shell_index(grid: Grid) -> NDArray[np.int16]:
    return np.rint(radius_grid(grid) * FINE).astype(np.int16)


@lru_cache(maxsize=8)
def shell_voxels(grid: Grid) -> NDArray[np.float64]:
    """Points of the whole grid per shell 0..k_max."""
    shell = _shell_index(grid)
    twice = 2 * np.bincount(shell.ravel(), minlength=grid.k_max + 1)
    return np.asarray((twice - np.bincount(shell[..., 0].ravel(), minlength=len(twice)))[: grid.k_max + 1], np.float64)


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


def in_layers(device: Device, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``work(*arguments, begin, end)``, one of `passes`, on all layers of the first of `arguments`, piece by piece."""
    edge = arguments[0].shape[0]
    pieces = list(itertools.pairwise(edge * i // LAYERS for i in range(LAYERS + 1)))
    return device.each(lambda _, piece: work(*arguments, *piece), pieces)


def added(a: Any, b: Any, device: Device) -> Any:
    """``a + b`` of volumes of one type."""
    if device.xp is not np:
        return a + b
    total = np.empty_like(a)
    in_layers(device, passes.add, a, b, total)
    return total


def complete(array: Any) -> None:
    """Give every point at x = 0 of sums over the half grid what its mate has gathered, ``F(k) + conj(F(-k))``, in
    place; the points at x > 0 have no mate on the grid.
    """
    plane = array[:, :, 0]
    array[:, :, 0] = plane + plane[::-1, ::-1].conj()


def symmetrise(array: Any) -> Any:
    """Mean over the 48 operations of O_h about the grid centre, of a real array on the half grid: exact permutations.

    For the transform of a real map give its real part: O_h contains the inversion, which takes k to -k.
    """
    half = array.shape[0] // 2
    # with the inversion, mirroring z and y mirrors x as well: an octant holds everything
    octant = array[half:] + array[half::-1]
    octant = octant[:, half:] + octant[:, half::-1]
    total = octant.copy()
    for axes in list(itertools.permutations(range(3)))[1:]:
        total += octant.transpose(axes)
    total /= 24
    # the octant and its mirror images, with slices only: these cost no index arrays on a GPU
    out = array.copy()
    upper, lower, mirrored = slice(half, None), slice(None, half), slice(None, half, -1)
    out[upper, upper] = total
    out[upper, lower] = out[upper, mirrored]
    out[lower] = out[mirrored]
    return out


def symmetrise_by(operations: Operations, array: Any, device: Device) -> Any:
    """Mean over operations of a volume or of weights on the half grid; exact for those that permute the axes, by
    trilinear interpolation for the others. That of a strained crystal is taken where it would be without its strain.
    """
    half, strain = array.shape[0] // 2, operations.strain
    if strain is not None:
        array = sampled(array, np.linalg.inv(np.eye(3) + strain), device)
    whole = _whole(array, device)
    total = device.xp.zeros_like(whole)
    for operation in operations.permutations[:, ::-1, ::-1]:  # arrays are [z, y, x]
        axes = np.abs(operation).argmax(axis=1)
        mirrored = tuple(slice(None, None, int(operation[row, axis])) for row, axis in enumerate(axes))
        total += whole.transpose(axes)[mirrored]
    total /= np.float32(len(operations.permutations))
    mean = total[:, :, half:].copy()
    for turn in operations.turns:
        _add_turned(total, turn, mean, device)
    if len(operations.turns):
        mean /= np.float32(1 + len(operations.turns))
    return mean if strain is None else sampled(mean, np.eye(3) + strain, device)


def sampled(volume: Any, matrix: NDArray[np.floating[Any]], device: Device) -> Any:
    """``F(matrix k)`` on the half grid, trilinear; of a crystal about the origin that is ``1 + strain`` as large, its
    transform has ``F((1 + strain) k)`` where that of the unstrained one has ``F(k)``.
    """
    out = device.xp.zeros_like(volume)
    _add_turned(_whole(volume, device), matrix.astype(np.float32), out, device)
    return out


def _add_turned(whole: Any, matrix: NDArray[np.float32], total: Any, device: Device) -> None:
    """Add ``F(matrix k)`` to `total` on the half grid."""
    if device.xp is np:
        in_layers(device, passes.add_turned, whole, matrix, total)
    else:
        total += _rotated(whole, matrix, device)


def _rotated(whole: Any, turn: NDArray[np.float32], device: Device) -> Any:
    """``F(turn k)`` on the half grid from the whole one, as `passes.add_turned`, in array arithmetic."""
    xp, half = device.xp, whole.shape[0] // 2
    axis = xp.arange(-half, half + 1, dtype=np.float32)
    z, y, x = xp.meshgrid(axis, axis, axis[half:], indexing="ij")
    place = [row[0] * x + row[1] * y + row[2] * z + half for row in turn.tolist()][::-1]
    low = [xp.floor(p).astype(np.int32) for p in place]
    inside = xp.ones(x.shape, bool)
    for first in low:
        inside &= (first >= 0) & (first < whole.shape[0] - 1)
    low = [xp.where(inside, first, 0) for first in low]
    share = [p - first for p, first in zip(place, low, strict=True)]
    out = xp.zeros(x.shape, whole.dtype)
    for corner in itertools.product((0, 1), repeat=3):
        weight = inside.astype(np.float32)
        for part, step in zip(share, corner, strict=True):
            weight *= part if step else 1 - part
        out += weight * whole[tuple(first + step for first, step in zip(low, corner, strict=True))]
    return out


def phase_ramp(grid: Grid, shift_px: NDArray[np.float64], device: Device) -> Any:
    """``exp(2 pi i k.t)``: multiplying a volume by it moves the content from t to the origin; t = (x, y, z) pixels."""
    z, y, x = (device.asarray(line) for line in phase_lines(grid, shift_px))
    return (z[:, None] * y[None, :])[:, :, None] * x[None, None, :]


def phase_lines(grid: Grid, shift_px: NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """The factors of `phase_ramp` along z and y (edge,) and x (half + 1,), complex64 on the host."""
    axis = np.arange(-grid.half, grid.half + 1) / PAD
    x, y, z = (np.exp(2j * np.pi / grid.box_px * axis * t).astype(np.complex64) for t in shift_px)
    return z, y, x[grid.half :]


def _kept(grid: Grid, full: int) -> int:
    """Grid steps from the origin that a transform of `full` samples can hold."""
    return min(grid.half, full // 2 - 1)


def _wrapped(array: Any, axis: int, full: int, device: Device) -> Any:
    """A centred axis laid out for the FFT of `full` samples: the middle first, what lies before it at the end."""
    length = array.shape[axis]
    middle = length // 2
    shape = (*array.shape[:axis], full, *array.shape[axis + 1 :])
    out = device.xp.zeros(shape, array.dtype)
    before = (slice(None),) * axis
    out[(*before, slice(0, length - middle))] = array[(*before, slice(middle, None))]
    out[(*before, slice(full - middle, None))] = array[(*before, slice(0, middle))]
    return out


def _turned(array: Any, axis: int, before: int, after: int, to: int, full: int, device: Device) -> Any:
    """`_unwrapped` along one axis and `_wrapped` along another, `to`, in one pass: half of the copying of both."""
    middle, shape = array.shape[to] // 2, list(array.shape)
    shape[axis], shape[to] = before + after, full
    out = device.xp.zeros(shape, array.dtype)
    rows = (slice(array.shape[axis] - before, None), slice(0, before)), (slice(0, after), slice(before, None))
    ends = (slice(middle, None), slice(0, array.shape[to] - middle)), (slice(0, middle), slice(full - middle, None))
    source, target = [slice(None)] * array.ndim, [slice(None)] * array.ndim
    for source[axis], target[axis] in rows:
        for source[to], target[to] in ends:
            out[tuple(target)] = array[tuple(source)]
    return out


def _unwrap(array: Any, axis: int, before: int, after: int, out: Any) -> None:
    """Of an axis in the order of the FFT: `before` entries before the origin, then `after` from the origin on."""
    lead = (slice(None),) * axis
    out[(*lead, slice(0, before))] = array[(*lead, slice(array.shape[axis] - before, None))]
    out[(*lead, slice(before, None))] = array[(*lead, slice(0, after))]


def to_real(volume: Any, grid: Grid, device: Device, samples: int | None = None) -> Any:
    """Real map of the central box, (samples,)*3, gridding attenuation of the insertion divided out, not masked.

    One axis after the other, each cut to the central box before the next: half of the work of a whole transform.
    """
    samples = samples or grid.samples
    full, centre = PAD * samples, grid.half
    kept = _kept(grid, full)
    inner = slice(centre - kept, centre + kept + 1)
    before, after = samples // 2, samples - samples // 2
    planes = device.xp.empty((samples, samples, kept + 1), volume.dtype)
    real = device.xp.empty((samples,) * 3, volume.real.dtype)
    fading = resident(device, attenuation, samples)

    def along(device: Device, part: slice) -> None:
        lines = device.ifft(_wrapped(volume[inner, inner, part], 0, full, device), 0)
        lines = device.ifft(_turned(lines, 0, before, after, 1, full, device), 1)
        _unwrap(lines, 1, before, after, planes[..., part])

    def across(device: Device, part: slice) -> None:
        _unwrap(device.irfft(planes[part], full, 2), 2, before, after, real[part])
        real[part] /= fading[part]

    device.each(along, device.shares(kept + 1))
    device.each(across, device.shares(samples))
    return real


def to_fourier(real: Any, grid: Grid, device: Device) -> Any:
    """Fourier volume, ready for slicing, of a real map (samples,)*3.

    Inverse of `to_real` but for the attenuation: here that of slicing is made up for, there that of inserting.
    """
    samples = real.shape[0]
    full, middle = PAD * samples, samples // 2
    kept = _kept(grid, full)
    inner = slice(grid.half - kept, grid.half + kept + 1)
    fading = resident(device, attenuation, samples)
    planes = device.xp.zeros((samples, full, kept + 1), np.complex64)
    out = (device.xp.empty if kept == grid.half else device.xp.zeros)((*(grid.edge,) * 2, grid.half + 1), np.complex64)

    def across(device: Device, part: slice) -> None:
        lines = device.rfft(_wrapped(real[part] / fading[part], 2, full, device), 2)[..., : kept + 1]
        planes[part, : samples - middle], planes[part, full - middle :] = lines[:, middle:], lines[:, :middle]

    def along(device: Device, part: slice) -> None:
        lines = device.fft(planes[..., part], 1)
        lines = device.fft(_turned(lines, 1, kept, kept + 1, 0, full, device), 0)
        _unwrap(lines, 0, kept, kept + 1, out[inner, inner, part])

    device.each(across, device.shares(samples))
    device.each(along, device.shares(kept + 1))
    return out


def _whole(array: Any, device: Device) -> Any:
    """The whole grid (edge,)*3 from its half, by Friedel's law."""
    half = array.shape[0] // 2
    whole = device.xp.empty((array.shape[0],) * 3, array.dtype)
    if device.xp is np:
        in_layers(device, passes.whole, array, whole)
        return whole
    mate = array[::-1, ::-1, :0:-1]
    whole[:, :, half:] = array
    whole[:, :, :half] = mate.conj() if array.dtype.kind == "c" else mate
    return whole


def as_kernel_volume(volume: Any, device: Device) -> Any:
    """Half grid to the whole (edge, edge, edge, 2) float32 grid of the kernels."""
    whole = _whole(volume, device)
    return whole.view(np.float32).reshape(*whole.shape, 2)


def masked_real(volume: Any, grid: Grid, device: Device, samples: int | None = None) -> Any:
    """Real map under the soft ball."""
    real = to_real(volume, grid, device, samples)
    real *= resident(device, volume_mask, real.shape[0])
    return real


def masked(volume: Any, grid: Grid, device: Device) -> Any:
    """The Fourier volume confined to the soft ball in real space."""
    return to_fourier(masked_real(volume, grid, device), grid, device)


def shell_sum(values: Any, grid: Grid, device: Device) -> NDArray[np.float64]:
    """Sum over the whole grid of a real array, given on the half grid, per shell (cycles per box, 0..k_max)."""
    xp, length = device.xp, grid.k_max + 1
    shell = shell_index(grid, device)
    if xp is np:
        return np.asarray(sum(in_layers(device, passes.shell_sums, values, shell, length)))
    total = 2 * xp.bincount(shell.ravel(), values.ravel(), length)[:length]
    total -= xp.bincount(shell[..., 0].ravel(), values[..., 0].ravel(), length)[:length]  # x = 0 has both mates
    return np.asarray(device.to_host(total), np.float64)


def shell_correlation(a: Any, b: Any, grid: Grid, device: Device) -> NDArray[np.float64]:
    """Fourier shell correlation of two volumes of real maps per shell 0..k_max (Harauz & van Heel 1986)."""
    if device.xp is np:
        cross, *power = sum(in_layers(device, passes.shell_products, a, b, shell_index(grid, device), grid.k_max + 1))
    else:
        cross = shell_sum(a.real * b.real + a.imag * b.imag, grid, device)
        power = [shell_sum(power_of(volume), grid, device) for volume in (a, b)]
    return np.asarray(cross / np.sqrt(np.maximum(power[0] * power[1], 1e-30)))


def power_of(volume: Any) -> Any:
    """``|F|^2``, float32."""
    return volume.real**2 + volume.imag**2


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
    """A per-shell profile spread over the half grid, linear between shells, float32."""
    last = int(np.sqrt(3) * grid.half / PAD * FINE) + 2
    fine = np.interp(np.arange(last + 1) / FINE, np.arange(len(profile)), np.asarray(profile, np.float64))
    index = resident(device, _fine_shell_index, grid)
    if device.xp is np:
        values = np.empty(index.shape, np.float32)
        in_layers(device, passes.look_up, index, fine.astype(np.float32), values)
        return values
    return device.asarray(fine.astype(np.float32))[index]
