"""Boxes to Fourier coefficients of unit noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device, resident
from .geometry import HalfPlane, box_mask, box_ring
from .records import NoiseSpectrum


@lru_cache(maxsize=16)
def _places(plane: HalfPlane) -> tuple[NDArray[Any], ...]:
    """Row and column of every coefficient in a half spectrum (kx >= 0), and the signs of its two parts."""
    kx, ky = plane.kx.astype(np.int64), plane.ky.astype(np.int64)
    flip = kx < 0
    # the origin is pixel n // 2: (-1)^(kx + ky) for even boxes; negative kx through Friedel's law
    sign = np.where((kx + ky) % 2 == 0, 1.0, -1.0).astype(np.float32)
    mirrored = np.where(flip, -1.0, 1.0).astype(np.float32)
    return np.where(flip, -ky, ky) % plane.box_px, np.abs(kx), sign, mirrored


@lru_cache(maxsize=16)
def _ring_places(box_px: int) -> NDArray[np.intp]:
    """Flat places of the ring of a box; a mask would make a GPU wait for their number."""
    return np.flatnonzero(box_ring(box_px))


@lru_cache(maxsize=16)
def _window(box_px: int) -> NDArray[np.float32]:
    """Soft disc that keeps white noise of unit variance at unit variance per coefficient."""
    mask = box_mask(box_px)
    return np.asarray(mask / np.sqrt((mask**2).sum()))


def box_coefficients(
    boxes: NDArray[np.float32], plane: HalfPlane, device: Device, signs: NDArray[np.float32] | None = None
) -> Any:
    """Masked, centred Fourier coefficients of boxes, unit variance for white noise of unit variance.

    Parameters
    ----------
    boxes : (t, box_px, box_px) float32 ``[frame, row=y, column=x]``, contrast.
    signs : (n,) that the coefficients are multiplied by, see `lens.Lens`; None: as they are.

    Returns
    -------
    (t, n, 2) float32 on the device, real and imaginary parts in the order of `plane`.
    """
    xp, n = device.xp, plane.box_px
    data = device.asarray(boxes, np.float32)
    level = data.reshape(len(data), -1)[:, resident(device, _ring_places, n)].mean(axis=1)
    data = (data - level[:, None, None]) * resident(device, _window, n)
    spectrum = device.fft2(data)  # kx >= 0
    row, column, sign, mirrored = resident(device, _places, plane)
    picked = spectrum[:, row, column] * sign
    out = xp.empty((*picked.shape, 2), np.float32)
    out[..., 0] = picked.real
    out[..., 1] = picked.imag * mirrored
    if signs is not None:
        out *= device.asarray(signs)[:, None]
    return out


def noise_weights(noise: NoiseSpectrum, plane: HalfPlane) -> NDArray[np.float32]:
    """Inverse noise power of each coefficient, (n,) float32.

    Spots of the support film stand far above their ring, holes below it are chance: the power is never taken below the
    median of its ring.

    Raises
    ------
    ValueError : a spectrum of another box size.
    """
    n = plane.box_px
    if noise.power.shape != (n, n):
        raise ValueError(f"noise spectrum of {noise.power.shape} for boxes of {n} px")
    power = noise.power[plane.ky.astype(int) + n // 2, plane.kx.astype(int) + n // 2].astype(np.float64)
    shell = np.rint(plane.radius).astype(int)
    median = np.array([np.median(power[shell == s]) if (shell == s).any() else 1.0 for s in range(shell.max() + 1)])
    return (1 / np.maximum(np.maximum(power, median[shell]), 1e-12)).astype(np.float32)


def noise_from_boxes(boxes: NDArray[np.float32]) -> NoiseSpectrum:
    """Mean power of particle-free boxes (t, box_px, box_px), in the convention of `NoiseSpectrum`."""
    n = boxes.shape[1]
    mask = box_mask(n)
    level = boxes[:, box_ring(n)].mean(axis=1)
    spectrum = np.fft.fft2((boxes - level[:, None, None]) * mask)
    power = (np.abs(spectrum) ** 2).mean(axis=0) / (mask.astype(np.float64) ** 2).sum()
    return NoiseSpectrum(np.fft.fftshift(power).astype(np.float32), len(boxes))


def excess_profile(
    coefficients: NDArray[np.float32], plane: HalfPlane, weight: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean power above the noise per shell (index = cycles per box) of (t, n, 2) coefficients."""
    count = coefficients.shape[1]
    power = (coefficients.astype(np.float64) ** 2).sum(axis=2).mean(axis=0) - 1 / weight[:count]
    shell = np.rint(plane.radius[:count]).astype(int)
    return np.asarray(np.bincount(shell, power) / np.maximum(np.bincount(shell), 1))
