"""Images of particles through their exit wave: the projected phase becomes exp(i phase), the lens acts on the wave.

One slice is a phase object, several are a coarse multislice (J. M. Cowley, A. F. Moodie, Acta Cryst. 10 (1957) 609;
Kirkland 2010, chapters 5 and 6). Saturates where columns are thick, as linear imaging does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from .optics import Optics, detector_transfer, wave_transfer
from .render import add_stamps, frequency_grid, make_stamps
from .scattering import projected_potential_transform

PHASE_RADIUS_A = 3.2  # the projected potential of an atom is cut here
BOX_MARGIN_A = 5.0
SAMPLING_A = 0.19  # the exit wave is computed at least this finely


@njit(cache=True, nogil=True, fastmath=True)
def _transmit(wave, phase, absorption):  # type: ignore[no-untyped-def]
    for i in range(phase.shape[0]):
        for j in range(phase.shape[1]):
            amplitude = 1.0 if absorption == 0.0 else math.exp(-absorption * phase[i, j])
            wave[i, j] *= complex(amplitude * math.cos(phase[i, j]), amplitude * math.sin(phase[i, j]))


@njit(cache=True, nogil=True, fastmath=True)
def _intensity(wave, out):  # type: ignore[no-untyped-def]
    for i in range(wave.shape[0]):
        for j in range(wave.shape[1]):
            out[i, j] = wave[i, j].real * wave[i, j].real + wave[i, j].imag * wave[i, j].imag


class ImageBox:
    """A square box of detector pixels around a particle, computed at a finer sampling.

    Parameters
    ----------
    radius_A : of the particle; a margin is added.
    finest_A : the fine sampling divides the pixel into enough parts not to exceed this.
    """

    def __init__(self, radius_A: float, pixel_size_A: float, finest_A: float, optics: Optics) -> None:
        size = 2 * math.ceil((radius_A + BOX_MARGIN_A) / pixel_size_A)
        while scipy.fft.next_fast_len(size) != size or size % 2:
            size += 1
        self.pixel_size_A, self.size = pixel_size_A, size
        self.oversampling = math.ceil(pixel_size_A / finest_A)
        self.fine, self.sampling_A = size * self.oversampling, pixel_size_A / self.oversampling
        half = size // 2
        self._rows = np.r_[0:half, self.fine - half : self.fine]
        fx = np.fft.rfftfreq(size, pixel_size_A)[None, :]
        fy = np.fft.fftfreq(size, pixel_size_A)[:, None]
        detector = detector_transfer(optics, fx, fy, pixel_size_A) / self.oversampling**2
        detector[half, :] = 0.0
        detector[:, half] = 0.0
        self._detector = detector.astype(np.float32)

    def corner_px(self, centre_A: NDArray[np.float64]) -> tuple[int, int]:
        """(x, y) of the box's pixel [0, 0] in the field, for a particle centred at (x, y, ...) in A."""
        left, top = np.rint(centre_A[:2] / self.pixel_size_A).astype(np.int64) - self.size // 2
        return int(left), int(top)

    def detect(self, intensity: NDArray[np.float32]) -> NDArray[np.float32]:
        """(size, size) image on the detector's pixels of an intensity (fine, fine): pixel integration, MTF, blur."""
        spectrum = scipy.fft.rfft2(intensity)[self._rows, : self.size // 2 + 1]
        return np.asarray(scipy.fft.irfft2(spectrum * self._detector, s=(self.size, self.size)))

    def multiply(self, field: NDArray[np.float32], image: NDArray[np.float32], corner_px: tuple[int, int]) -> None:
        """Multiply the part of `field` (height, width) under the box by `image` (size, size), in place."""
        left, top = corner_px
        height, width = field.shape
        rows = slice(max(0, top), max(0, min(height, top + self.size)))
        columns = slice(max(0, left), max(0, min(width, left + self.size)))
        field[rows, columns] *= image[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


class PhaseRenderer:
    """Images the exit wave of each particle in a box of its own.

    Parameters
    ----------
    elements : the species that occur.
    radius_A : of the largest particle.
    slices : 1 is the phase object; more propagate between slices (multislice with few, thick slices).
    """

    def __init__(
        self, elements: Sequence[str], pixel_size_A: float, optics: Optics, radius_A: float, slices: int = 1
    ) -> None:
        self._numbers = {element: number for number, element in enumerate(elements)}
        self._optics, self._radius_A, self._slices = optics, radius_A, slices
        self._box = ImageBox(radius_A, pixel_size_A, SAMPLING_A, optics)
        sampling = self._box.sampling_A
        _, _, self._k = frequency_grid(self._box.fine, sampling)
        _, _, k = frequency_grid(2 * math.ceil(2.0 * PHASE_RADIUS_A / sampling), sampling)
        self._stamps = np.stack(
            [
                make_stamps(
                    optics.interaction_rad_per_VA * projected_potential_transform(e, k, optics.debye_waller_A2),
                    sampling,
                    PHASE_RADIUS_A,
                )[None]
                for e in elements
            ]
        )
        self._transfers: dict[float, NDArray[np.complex64]] = {}
        thickness = 2.0 * radius_A / slices
        chi = math.pi * optics.wavelength_A * thickness * self._k**2
        inside = self._k < 0.98 * self._k[0].max()  # propagation must not wrap around the corners
        self._propagator = np.asarray(np.exp(-1j * chi) * inside, dtype=np.complex64)

    def species(self, elements: Sequence[str]) -> NDArray[np.int64]:
        """Row numbers of the elements in the tables."""
        return np.array([self._numbers[element] for element in elements], dtype=np.int64)

    def _transfer(self, height_A: float) -> NDArray[np.complex64]:
        """Lens transfer for an exit plane at this height, to the nearest half angstrom (kept: heights recur)."""
        level = round(2.0 * height_A) / 2.0
        if level not in self._transfers:
            if len(self._transfers) > 200:
                self._transfers.clear()
            self._transfers[level] = wave_transfer(self._optics, self._k, level).astype(np.complex64)
        return self._transfers[level]

    def render(self, field: NDArray[np.float32], species: NDArray[np.int64], positions_A: NDArray[np.float64]) -> None:
        """See `Renderer.render`."""
        box = self._box
        centre = 0.5 * (positions_A.min(axis=0) + positions_A.max(axis=0))
        corner = box.corner_px(centre)
        local_px = (positions_A[:, :2] - np.array(corner) * box.pixel_size_A) / box.sampling_A
        edges = np.linspace(-self._radius_A, self._radius_A, self._slices + 1)
        part = np.clip(np.searchsorted(edges, positions_A[:, 2] - centre[2]) - 1, 0, self._slices - 1)
        wave = np.ones((box.fine, box.fine), dtype=np.complex64)
        for number in range(self._slices):
            chosen = part == number
            phase = np.zeros(wave.shape, dtype=np.float32)
            level = np.zeros(int(chosen.sum()), dtype=np.int64)
            add_stamps(phase, self._stamps, species[chosen], level, local_px[chosen, 0], local_px[chosen, 1])
            _transmit(wave, phase, np.float32(self._optics.amplitude_contrast))
            wave = scipy.fft.fft2(wave, overwrite_x=True)
            if number + 1 < self._slices:
                wave *= self._propagator
                wave = scipy.fft.ifft2(wave, overwrite_x=True)
        last_plane = centre[2] + 0.5 * (edges[-1] + edges[-2])  # where the last slice was transmitted
        wave *= self._transfer(float(last_plane))
        wave = scipy.fft.ifft2(wave, overwrite_x=True)
        intensity = np.empty(wave.shape, dtype=np.float32)
        _intensity(wave, intensity)
        box.multiply(field, box.detect(intensity), corner)
