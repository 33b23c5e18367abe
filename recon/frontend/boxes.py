"""Cut boxes out of frames: particle boxes for the reconstruction and empty boxes for the noise spectrum.

Frames lie on the device of the front end, boxes on the host.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..device import Device, cpu
from ..geometry import box_mask, box_ring
from ..records import NoiseSpectrum

ROOM_BOXES = 16  # fewer empty boxes than this are no spectrum
TRIES = 24
LEAST_FREE = 0.12  # share of a box that must be free of particles when nothing better is to be had


def contrasts(
    device: Device,
    data: Any,
    corners: list[tuple[int, int]],
    size: tuple[int, int],
    means: list[float],
    dead: Any | None = None,
) -> Any:
    """Parts of a frame on whole pixels, (m, *size) float32 on the device: counts / mean - 1, zero outside the frame.

    Parameters
    ----------
    data : (rows, columns) counts, on the device.
    corners : m times (x, y) of the first pixel; may lie outside the frame.
    means : m times the counts that stand for contrast 0.
    dead : (rows, columns) bool on the device, pixels to be set to contrast 0, or None.
    """
    scales = np.array([1 / mean for mean in means], np.float32)
    places, scales = device.up(np.array(corners, np.int64).reshape(-1, 2), scales)
    hidden = device.xp.zeros((0, 0), np.bool_) if dead is None else dead
    return device.kernels.pixels.cut(data, places, scales, hidden, size)


def inside(shape: tuple[int, int], corner: tuple[int, int], box_px: int) -> bool:
    """Whether a box lies within a frame of `shape` (rows, columns); `corner` is (x, y)."""
    x, y = corner
    return x >= 0 and y >= 0 and x + box_px <= shape[1] and y + box_px <= shape[0]


def cut_boxes(
    device: Device,
    data: Any,
    corners: list[tuple[int, int]],
    box_px: int,
    means: list[float],
    dead: Any | None = None,
) -> NDArray[np.float32]:
    """Boxes of contrast, (m, box_px, box_px) float32 on the host; arguments as in `contrasts`."""
    if not corners:
        return np.zeros((0, box_px, box_px), np.float32)
    return np.asarray(device.to_host(contrasts(device, data, corners, (box_px, box_px), means, dead)))


def cut_box(data: NDArray[Any], corner: tuple[int, int], box_px: int, mean: float) -> NDArray[np.float32]:
    """One box of a frame on the host."""
    return cut_boxes(cpu(1), data, [corner], box_px, [mean])[0]


def masked_power(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power of one soft-masked box per Fourier coefficient over the sum of the squared mask.

    Parameters
    ----------
    box : (n, n) float32 contrast.

    Returns
    -------
    (n, n // 2 + 1) float32, not centred, rows as in `scipy.fft.rfft2`.
    """
    mask, ring, norm = _mask_ring_norm(len(box))
    spectrum = scipy.fft.rfft2((box - box.ravel()[ring].mean()) * mask)
    return np.asarray((spectrum.real**2 + spectrum.imag**2) / norm, np.float32)


@lru_cache(maxsize=16)
def _mask_ring_norm(box_px: int) -> tuple[NDArray[np.float32], NDArray[np.int64], np.float32]:
    """Mask of a box, the flat places of its background ring, and the sum of the squared mask."""
    mask = box_mask(box_px)
    return mask, np.flatnonzero(box_ring(box_px)), np.square(mask).sum()


def full_plane(half: NDArray[np.float32], box_px: int) -> NDArray[np.float32]:
    """Centred (n, n) power from the (n, n // 2 + 1) half that `scipy.fft.rfft2` gives (Friedel symmetry)."""
    full = np.empty((box_px, box_px), half.dtype)
    columns = half.shape[1]
    full[:, :columns] = half
    mirrored = half[(-np.arange(box_px)) % box_px]
    full[:, columns:] = mirrored[:, 1 : box_px - columns + 1][:, ::-1]
    return np.asarray(np.fft.fftshift(full))


def radial(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centred (n, n) power with every coefficient replaced by the mean of its ring."""
    half = len(power) // 2
    axis = np.arange(len(power)) - half
    radius = np.hypot(axis[:, None], axis[None])
    ring = np.rint(radius).astype(int).ravel()
    means = np.bincount(ring, power.ravel()) / np.maximum(np.bincount(ring), 1)
    return np.asarray(np.interp(radius, np.arange(len(means)), means), np.float32)


class NoiseMean:
    """Running mean power of empty boxes of one size; forgets exponentially after `memory` boxes."""

    def __init__(self, box_px: int, memory: int) -> None:
        self.box_px = box_px
        self.memory = memory
        self.tried = 0
        self.boxes = 0
        self._mean = np.zeros((box_px, box_px // 2 + 1))

    def add(self, box: NDArray[np.float32]) -> None:
        """Add one empty box, (box_px, box_px) float32 contrast."""
        self._add(masked_power(box))

    def add_part(self, box: NDArray[np.float32], free: NDArray[np.float32]) -> bool:
        """Add what is free of particles in a box; False when it is too little.

        Parameters
        ----------
        box : (box_px, box_px) float32 contrast.
        free : (box_px, box_px) float32, 1 where there is no particle, soft edges.
        """
        mask = box_mask(self.box_px) * free
        norm = float(np.square(mask).sum())
        if norm < LEAST_FREE * float(np.square(box_mask(self.box_px)).sum()):
            return False
        spectrum = scipy.fft.rfft2((box - (box * mask).sum() / mask.sum()) * mask)
        self._add(np.asarray((spectrum.real**2 + spectrum.imag**2) / norm, np.float32))
        return True

    def _add(self, power: NDArray[np.float32]) -> None:
        self.boxes += 1
        self._mean += (power - self._mean) / min(self.boxes, self.memory)

    def spectrum(self) -> NoiseSpectrum | None:
        """Return the mean so far, or None while there are too few boxes."""
        if self.boxes < ROOM_BOXES:
            return None
        return NoiseSpectrum(full_plane(self._mean.astype(np.float32), self.box_px), self.boxes)


def empty_corners(
    shape: tuple[int, int],
    box_px: int,
    particles: list[tuple[float, float, float]],
    draw: int,
    count: int,
) -> list[tuple[int, int]]:
    """Up to `count` corners (x, y) of boxes that no particle reaches.

    Places follow a two-dimensional Weyl sequence, so they cover the field evenly and depend on `draw` only (M. Roberts,
    "The unreasonable effectiveness of quasirandom sequences", 2018).

    Parameters
    ----------
    shape : (rows, columns) of the frame.
    particles : (x, y, radius) of every particle, px.
    draw : running number of the frame.
    """
    room_y, room_x = shape[0] - box_px, shape[1] - box_px
    if room_y < 0 or room_x < 0:
        return []
    corners: list[tuple[int, int]] = []
    half = box_px / 2
    for attempt in range(TRIES):
        number = draw * TRIES + attempt
        x = int((0.5 + number * 0.7548776662466927) % 1 * (room_x + 1))
        y = int((0.5 + number * 0.5698402909980532) % 1 * (room_y + 1))
        # The mask is round and ends at (42 + 5) / 96 of the box, so the distance of the centres decides.
        if all(math.hypot(x + half - px, y + half - py) >= half + radius for px, py, radius in particles):
            corners.append((x, y))
            if len(corners) == count:
                break
    return corners
