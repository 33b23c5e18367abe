"""Lattice-band energy and low-resolution maps of a field or a crop, in physical units.

A crystal shows itself by power in the bands of its lattice reflections, whatever its orientation; a single band goes
dark at many orientations, so two are used. Squares of the band-passed image are averaged over bins of about 1.43 A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..device import Device, cpu

BIN_A = 1.432  # 4 px at 0.358 A/px
BANDS_A = ((2.6, 1.8), (1.75, 1.12))  # (111) and (200); (220) to (222) and (400) of the fcc metals
FIRST_RING_PER_A = 0.445  # (111) of Pt, Au, Pd, Ag within a few per cent
EDGE_PER_A = 0.005  # width of the soft band edge
TAIL_PER_A = 9.2 * EDGE_PER_A  # beyond which a band is cut off, at 1e-4 of its height


@dataclass(frozen=True, slots=True)
class Sampling:
    """Everything that follows from the pixel size.

    Attributes
    ----------
    pixel_size_A : A per pixel.
    bin_px : pixels per bin of the energy and low maps, per axis.
    bands : (low, high) of every usable lattice band, 1/A, cut at Nyquist.
    """

    pixel_size_A: float
    bin_px: int
    bands: tuple[tuple[float, float], ...]

    @property
    def bin_A(self) -> float:
        """Width of a bin, A."""
        return self.bin_px * self.pixel_size_A

    @property
    def resolves_lattice(self) -> bool:
        """Whether at least the first lattice ring lies within Nyquist."""
        return bool(self.bands)

    def to_px(self, bins: float) -> float:
        """Pixel coordinate of a bin coordinate (the centre of bin 0 is at ``(bin_px - 1) / 2``)."""
        return bins * self.bin_px + (self.bin_px - 1) / 2

    def to_bins(self, pixels: float) -> float:
        """Bin coordinate of a pixel coordinate."""
        return (pixels - (self.bin_px - 1) / 2) / self.bin_px


def sampling_for(pixel_size_A: float) -> Sampling:
    """Return the sampling for a pixel size in A.

    Raises
    ------
    ValueError
        If the pixel size is not a positive finite number.
    """
    if not (np.isfinite(pixel_size_A) and pixel_size_A > 0):
        raise ValueError(f"pixel size must be positive, not {pixel_size_A} A: set it in the configuration")
    nyquist = 0.5 / pixel_size_A
    bands: list[tuple[float, float]] = []
    for longest, shortest in BANDS_A:
        low, high = 1 / longest, min(1 / shortest, 0.98 * nyquist)
        if high - low >= 0.05 and (bands or high > FIRST_RING_PER_A + 0.01):
            bands.append((low, high))
    return Sampling(pixel_size_A, max(1, round(BIN_A / pixel_size_A)), tuple(bands))


@lru_cache(maxsize=16)
def frequencies(rows: int, columns: int, pixel_size_A: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (ky, kx) in 1/A, float32, shapes (rows, 1) and (1, columns // 2 + 1), for `scipy.fft.rfft2`."""
    ky = np.fft.fftfreq(rows, pixel_size_A).astype(np.float32)[:, None]
    kx = np.fft.rfftfreq(columns, pixel_size_A).astype(np.float32)[None]
    return ky, kx


def band_filters(rows: int, columns: int, sampling: Sampling) -> NDArray[np.float32]:
    """Return soft band-pass filters for `scipy.fft.rfft2`, (bands, rows, columns // 2 + 1) float32."""
    ky, kx = frequencies(rows, columns, sampling.pixel_size_A)
    k = np.hypot(ky, kx).astype(np.float64)
    filters = [
        1 / (1 + np.exp((low - k) / EDGE_PER_A)) / (1 + np.exp(np.clip((k - high) / EDGE_PER_A, -60, 60)))
        for low, high in sampling.bands
    ]
    return np.asarray(filters, np.float32).reshape(len(filters), *k.shape)


class MapMaker:
    """Makes energy and low maps of fields of one size; keeps the filters.

    Parameters
    ----------
    rows, columns : size of the fields, px.
    sampling : see `Sampling`.
    device : where the fields lie; the processor when there is none.
    """

    def __init__(self, rows: int, columns: int, sampling: Sampling, device: Device | None = None) -> None:
        self.sampling = sampling
        self.device = device = device or cpu(1)
        self.shape = (rows, columns)
        # Prime sizes are slow to transform and are padded, with shuffled pixels from the middle of the field, so that
        # the floor stays even up to the border: zeros lower it there, the periodic continuation correlates with it,
        # both by more than 10 %, which passes for structure.
        self.fft_shape = (scipy.fft.next_fast_len(rows, real=True), scipy.fft.next_fast_len(columns, real=True))
        rng = np.random.default_rng(0)
        self._fill = (
            device.asarray(rng.permutation((self.fft_shape[0] - rows) * columns)),
            device.asarray(rng.permutation((self.fft_shape[1] - columns) * self.fft_shape[0])),
        )
        self._reach = [
            min(self.fft_shape[1] // 2, int((high + TAIL_PER_A) * self.fft_shape[1] * sampling.pixel_size_A)) + 1
            for _, high in sampling.bands
        ]  # columns of the spectrum that a band reaches
        self._filters: list[Any] = []
        self.set_notch(None)

    def set_notch(self, notch: NDArray[np.float32] | None) -> None:
        """Multiply all bands by `notch`, (fft rows, fft columns // 2 + 1) float32; None takes it away."""
        filters = band_filters(*self.fft_shape, self.sampling) * (np.float32(1) if notch is None else notch)
        self._filters = [
            self.device.asarray(np.asarray(each[:, :reach], np.complex64, order="C"))
            for each, reach in zip(filters, self._reach, strict=True)
        ]

    def maps(self, contrast: Any) -> Any:
        """Return the maps of fields.

        Parameters
        ----------
        contrast : (m, rows, columns) float32 on the device, counts / mean - 1.

        Returns
        -------
        (m, bands + 1, bin rows, bin columns) float32: energy of every band, then the low map (binned contrast).
        """
        device, pixels = self.device, self.device.kernels.pixels
        rows, columns = self.shape
        size = self.sampling.bin_px
        reached = device.rfft(self._padded(contrast), -1)[..., : max(self._reach, default=1)]
        spectrum = device.fft(reached, -2)
        out = device.xp.empty((len(contrast), len(self._filters) + 1, rows // size, columns // size), np.float32)
        for band, passing in enumerate(self._filters):
            # a transform along one axis after the other: most columns of a band are zeros
            passed = device.ifft(spectrum[..., : passing.shape[1]] * passing, -2)
            passed = device.irfft(passed, self.fft_shape[1], -1)
            out[:, band] = pixels.bin_energy(passed[:, :rows, :columns], size)
        out[:, -1] = pixels.bin_mean(contrast, size)
        return out

    def _padded(self, contrast: Any) -> Any:
        """Fields filled up to `fft_shape`; the fields themselves where that is their own shape."""
        if self.fft_shape == self.shape:
            return contrast
        count, (rows, columns), (all_rows, all_columns) = len(contrast), self.shape, self.fft_shape
        padded = self.device.xp.empty((count, *self.fft_shape), np.float32)
        padded[:, :rows, :columns] = contrast
        top, left = (2 * rows - all_rows) // 2, (2 * columns - all_columns) // 2
        strip = contrast[:, top : top + all_rows - rows]
        padded[:, rows:, :columns] = strip.reshape(count, -1)[:, self._fill[0]].reshape(strip.shape)
        strip = padded[:, :, left : left + all_columns - columns]
        padded[:, :, columns:] = strip.reshape(count, -1)[:, self._fill[1]].reshape(strip.shape)
        return padded
