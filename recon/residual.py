"""What frames show beyond a map at places of it: in every frame, where the map is too weak and where it is too strong.

The map is taken off each frame; what is left is matched with an atom and read at the projected places. A slice and one
small Fourier transform of each frame are a fraction of a millisecond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from .branches import Path
from .buffer import FrameBuffer
from .device import Device
from .output import Published
from .rotations import to_matrix
from .volume import PAD
from .whitened import Whitened

Floats = NDArray[np.float64]
MODEL_STRIDE = 4  # frames of which one tells what a typical atom's place shows
SHAPE_ENDS = 0.15  # 1/A, below it there is shape and no atoms
FINER = 2  # sampling of the residual images, so that linear interpolation does
TOGETHER = 2  # images in one transform: they stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """What frames show beyond a map.

    Attributes
    ----------
    values : (t, places), in the units of the whitened images. typical : what a typical atom's place shows, which is not
        its own atom alone but all that are seen through it.
    """

    values: Floats
    typical: float


def residual(
    data: Whitened,
    rows: NDArray[np.int64],
    path: Path,
    volume: Any,
    atoms_px: Floats,
    vacant_px: Floats,
    k_range: tuple[float, float],
) -> Residual:
    """What frames show beyond a map at its atoms, and then at vacant places beside them.

    Parameters
    ----------
    rows : (t,) frames in `data`. path : their poses. volume : kernel volume of the map.
    atoms_px, vacant_px : (n, 3) and (m, 3) x, y, z in pixels from the map's origin.
    k_range : radii used, cycles per box; below it there is shape, not atoms.
    """
    device, plane = data.device, data.plane
    first, last = plane.count(k_range[0]), plane.count(k_range[1])
    kx, ky = plane.kx[first:last], plane.ky[first:last]
    turns = to_matrix(path.poses)
    slices = device.kernels.slice_volume(
        volume, PAD, device.asarray(turns.astype(np.float32)), device.asarray(kx), device.asarray(ky), last - first
    )
    model = np.asarray(device.to_host(slices), np.float32).view(np.complex64)[..., 0]
    seen = np.asarray(device.to_host(data.coefficients[device.asarray(rows)]), np.float32)[:, first:last]
    shell = np.rint(plane.radius[first:last]).astype(int)
    power = np.bincount(shell, (np.abs(model) ** 2).mean(axis=0)) / np.maximum(np.bincount(shell), 1)
    matched = data.weight[first:last] * np.sqrt(power)[shell]
    places = np.concatenate([atoms_px, vacant_px]) @ turns[:, :2].swapaxes(1, 2)  # (t, places, 2)

    def shown_in(_: Device, part: slice) -> Floats:
        moved = np.ascontiguousarray(seen[part]).view(np.complex64)[..., 0]
        moved = moved * _ramps(path.shifts[part], kx, ky, plane.box_px)
        return _sampled((moved - model[part]) * matched, kx, ky, plane.box_px, places[part])

    def own_in(_: Device, part: slice) -> Floats:
        return _sampled(model[part] * matched, kx, ky, plane.box_px, places[part, : len(atoms_px)])

    shares = device.shares(len(rows))
    few = [slice(part.start + -part.start % MODEL_STRIDE, part.stop, MODEL_STRIDE) for part in shares]
    values, own = device.each(shown_in, shares), np.concatenate(device.each(own_in, few))
    return Residual(np.concatenate(values), float(np.median(own.mean(axis=0))))


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Frames, and the map that they are held against.

    Attributes
    ----------
    rows : (t,) frames of `buffer`, in the order of time; their boxes are in `data`. volume : kernel volume of the map
        that was `published`. k_max : cycles per box.
    """

    data: Whitened
    buffer: FrameBuffer
    rows: NDArray[np.int64]
    volume: Any
    published: Published
    pixel_size_A: float
    k_max: float

    @property
    def atoms_A(self) -> Floats:
        """(n, 3) atoms of the map, A from the middle of its box."""
        return placed_atoms(self.published)

    def beyond(self, rows: NDArray[np.int64], atoms_A: Floats, vacant_A: Floats) -> Residual:
        """What some of the frames show beyond the map at atoms (n, 3) and then at vacant places (m, 3)."""
        low = SHAPE_ENDS * self.data.plane.box_px * self.pixel_size_A
        places = atoms_A / self.pixel_size_A, vacant_A / self.pixel_size_A
        return residual(self.data, rows, self.buffer.path(rows), self.volume, *places, (low, self.k_max))


def placed_atoms(published: Published) -> Floats:
    """Atoms (n, 3) of a map, A from the middle of its box."""
    return np.array([atom.position_A for atom in published.atoms]).reshape(-1, 3) + published.centre_A


def _ramps(shifts: Floats, kx: NDArray[np.int16], ky: NDArray[np.int16], box_px: int) -> NDArray[np.complex64]:
    """``exp(2 pi i k.s / box)`` of shifts (t, 2), (t, n) complex64: a product of two short tables for each."""
    reach = int(max(np.abs(kx).max(), np.abs(ky).max()))
    turns = np.exp(2j * np.pi / box_px * shifts[..., None] * np.arange(-reach, reach + 1)).astype(np.complex64)
    return np.asarray(turns[:, 0, reach + kx] * turns[:, 1, reach + ky])


def _sampled(
    coefficients: NDArray[np.complexfloating], kx: NDArray[np.int16], ky: NDArray[np.int16], box_px: int, places: Floats
) -> Floats:
    """Real images of coefficients (t, n), read at places (t, m, 2) x, y in pixels from the middle: (t, m)."""
    size = FINER * box_px
    flip = kx < 0  # the half with kx >= 0, by Friedel's law
    row, column = np.where(flip, -ky, ky) % size, np.abs(kx)
    half = np.where(flip, coefficients.conj(), coefficients)
    places, out = np.ascontiguousarray(places), np.empty(places.shape[:2])
    for first in range(0, len(half), TOGETHER):
        part = slice(first, min(first + TOGETHER, len(half)))
        spectra = np.zeros((part.stop - first, size, int(column.max()) + 1), np.complex64)  # beyond, there is nothing
        spectra[:, row, column] = half[part]
        read_images(
            scipy.fft.irfft(scipy.fft.ifft(spectra, axis=1, overwrite_x=True), size, axis=2), places[part], out[part]
        )
    return out


@njit(cache=True, nogil=True)
def read_images(images, places, out):  # type: ignore[no-untyped-def]
    """Images (t, size, size) that go on periodically, read between their pixels by linear interpolation."""
    size = images.shape[1]
    for t in range(places.shape[0]):
        for m in range(places.shape[1]):
            x, y = FINER * places[t, m, 0], FINER * places[t, m, 1]
            left, top = math.floor(x), math.floor(y)
            u, v = x - left, y - top
            i, j = int(top) % size, int(left) % size
            k, n = (i + 1) % size, (j + 1) % size
            upper = (1 - u) * images[t, i, j] + u * images[t, i, n]
            out[t, m] = (1 - v) * upper + v * ((1 - u) * images[t, k, j] + u * images[t, k, n])
