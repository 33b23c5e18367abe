"""Images of particles: atoms to expected intensity, either linear (fast) or through the exit wave (phase object).

``linear``: every atom is a precomputed stamp, the image of that atom alone at its own height; the stamps add up.
``phase``: the projected phase becomes an exit wave exp(i phase), in one or several slices, and the lens acts on the
wave; it saturates where columns are thick, as multislice does (Kirkland 2010, chapters 5 and 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from .optics import Optics, detector_transfer, wave_transfer
from .scattering import projected_potential_transform

SUBPIXELS = 8  # stamps per pixel and axis: positions are rounded by at most 1/16 pixel
HEIGHT_STEP_A = 4.0  # linear stamps are tabulated at these heights
STAMP_RADIUS_A = 4.5
PHASE_RADIUS_A = 3.2
BOX_MARGIN_A = 5.0
LINEAR_SCALE = 0.9
ATOM_SAMPLING_A = 0.08
SAMPLING_A = 0.19  # the exit wave is computed at least this finely


@njit(cache=True, nogil=True, fastmath=True)
def _add_stamps(image, stamps, species, level, x_px, y_px):  # type: ignore[no-untyped-def]
    subpixels = stamps.shape[2]
    width = stamps.shape[4]
    half = width // 2
    for atom in range(x_px.size):
        column = int(math.floor(x_px[atom] * subpixels + 0.5))
        row = int(math.floor(y_px[atom] * subpixels + 0.5))
        left = column // subpixels - half
        top = row // subpixels - half
        stamp = stamps[species[atom], level[atom], row % subpixels, column % subpixels]
        first_row, last_row = max(0, -top), min(width, image.shape[0] - top)
        first_column, last_column = max(0, -left), min(width, image.shape[1] - left)
        for i in range(first_row, last_row):
            target = image[top + i]
            for j in range(first_column, last_column):
                target[left + j] += stamp[i, j]


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


def _stamps(transform: NDArray[np.float64], sampling_A: float, radius_A: float) -> NDArray[np.float32]:
    """(SUBPIXELS, SUBPIXELS, width, width) stamps ``[sub-row, sub-column, row, column]`` of a real, even transform.

    `transform` is (n, n) on the frequencies of ``numpy.fft.fftfreq(n, sampling_A)``.
    """
    size = transform.shape[0]
    half = min(math.ceil(radius_A / sampling_A), size // 2 - 1)
    cycles = np.fft.fftfreq(size)
    shift = np.exp(-2j * np.pi * np.outer(np.arange(SUBPIXELS) / SUBPIXELS, cycles))
    offsets = np.arange(-half, half + 1)
    back = np.exp(2j * np.pi * np.outer(offsets, cycles))  # evaluates only the pixels that are kept
    factors = (shift[:, None, :] * back[None]).reshape(-1, size)
    image = (factors @ transform @ factors.T).real / (size * sampling_A) ** 2
    width = 2 * half + 1
    image = image.reshape(SUBPIXELS, width, SUBPIXELS, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(image, dtype=np.float32)


def _frequencies(size: int, sampling_A: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    axis = np.fft.fftfreq(size, sampling_A).astype(np.float64)
    fx, fy = axis[None, :], axis[:, None]
    return fx, fy, np.hypot(fx, fy)


def _atom_stamps(
    element: str, pixel_size_A: float, optics: Optics, height_A: float, scale: float
) -> NDArray[np.float32]:
    """Stamps of the image of one atom: its own exit wave through lens and detector, minus the incident intensity."""
    oversampling = math.ceil(pixel_size_A / ATOM_SAMPLING_A)
    size = 2 * math.ceil(4.0 * STAMP_RADIUS_A / pixel_size_A / 2)
    sampling = pixel_size_A / oversampling
    _, _, k = _frequencies(size * oversampling, sampling)
    potential = projected_potential_transform(element, k, optics.debye_waller_A2)
    phase = optics.interaction_rad_per_VA * np.fft.ifft2(potential).real / sampling**2
    wave = np.fft.ifft2(
        np.fft.fft2(np.exp((1j - optics.amplitude_contrast) * phase)) * wave_transfer(optics, k, height_A)
    )
    contrast = np.fft.fft2(np.abs(wave) ** 2 - 1.0) * sampling**2
    kept = np.r_[0 : size // 2, -(size // 2) : 0]
    fx, fy, _ = _frequencies(size, pixel_size_A)
    transform = scale * contrast[np.ix_(kept, kept)].real * detector_transfer(optics, fx, fy, pixel_size_A)
    return _stamps(transform, pixel_size_A, STAMP_RADIUS_A)


class LinearRenderer:
    """Adds up images of single atoms: fast; exact for one atom, without the interference between atoms.

    Parameters
    ----------
    elements : the species that occur.
    height_A : largest distance of any atom from the mid-plane; beyond it the outermost stamps are used.
    scale : factor on the contrast; below 1 stands for the saturation of thick columns. The default is what a least
        squares fit to multislice frames of 2 nm Pt particles gave, nearly the same at all frequencies.
    """

    def __init__(
        self, elements: Sequence[str], pixel_size_A: float, optics: Optics, height_A: float, scale: float = LINEAR_SCALE
    ) -> None:
        self._species = {element: number for number, element in enumerate(elements)}
        self._pixel_size_A = pixel_size_A
        self._top_level = math.ceil(height_A / HEIGHT_STEP_A)
        heights = HEIGHT_STEP_A * np.arange(-self._top_level, self._top_level + 1)
        self._stamps = np.stack(
            [
                np.stack([_atom_stamps(element, pixel_size_A, optics, float(height), scale) for height in heights])
                for element in elements
            ]
        )

    def species(self, elements: Sequence[str]) -> NDArray[np.int64]:
        """Row numbers of the elements in the tables."""
        return np.array([self._species[element] for element in elements], dtype=np.int64)

    def render(self, field: NDArray[np.float32], species: NDArray[np.int64], positions_A: NDArray[np.float64]) -> None:
        """Multiply `field` (height, width) by the intensity of one particle.

        Parameters
        ----------
        field : (height, width) float32 ``[row, column]``, intensity relative to the incident one; changed in place.
        species : (n,) from `species`.
        positions_A : (n, 3) lab positions x y z in A, (0, 0) is the centre of pixel (0, 0), z = 0 the mid-plane.
        """
        contrast = np.zeros_like(field)
        level = np.clip(np.rint(positions_A[:, 2] / HEIGHT_STEP_A), -self._top_level, self._top_level)
        _add_stamps(
            contrast,
            self._stamps,
            species,
            level.astype(np.int64) + self._top_level,
            positions_A[:, 0] / self._pixel_size_A,
            positions_A[:, 1] / self._pixel_size_A,
        )
        contrast += 1.0
        np.maximum(contrast, 0.0, out=contrast)
        field *= contrast


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
        self._species = {element: number for number, element in enumerate(elements)}
        self._pixel_size_A, self._optics, self._radius_A, self._slices = pixel_size_A, optics, radius_A, slices
        self._oversampling = math.ceil(pixel_size_A / SAMPLING_A)
        box = 2 * math.ceil((radius_A + BOX_MARGIN_A) / pixel_size_A)
        while scipy.fft.next_fast_len(box) != box or box % 2:
            box += 1
        self._box = box
        fine, self._sampling_A = box * self._oversampling, pixel_size_A / self._oversampling
        _, _, self._k = _frequencies(fine, self._sampling_A)
        _, _, k = _frequencies(2 * math.ceil(4.0 * PHASE_RADIUS_A / self._sampling_A / 2), self._sampling_A)
        self._stamps = np.stack(
            [
                _stamps(
                    optics.interaction_rad_per_VA * projected_potential_transform(e, k, optics.debye_waller_A2),
                    self._sampling_A,
                    PHASE_RADIUS_A,
                )[None]
                for e in elements
            ]
        )
        half = box // 2
        self._rows = np.r_[0:half, fine - half : fine]
        fx = np.fft.rfftfreq(box, pixel_size_A)[None, :]
        fy = np.fft.fftfreq(box, pixel_size_A)[:, None]
        detector = detector_transfer(optics, fx, fy, pixel_size_A) / self._oversampling**2
        detector[half, :] = 0.0
        detector[:, half] = 0.0
        self._detector = detector.astype(np.float32)
        self._transfers: dict[float, NDArray[np.complex64]] = {}

    def species(self, elements: Sequence[str]) -> NDArray[np.int64]:
        """Row numbers of the elements in the tables."""
        return np.array([self._species[element] for element in elements], dtype=np.int64)

    def _transfer(self, height_A: float) -> NDArray[np.complex64]:
        """Lens transfer for an exit plane at this height, to the nearest half angstrom (kept: heights recur)."""
        level = round(2.0 * height_A) / 2.0
        if level not in self._transfers:
            if len(self._transfers) > 200:
                self._transfers.clear()
            self._transfers[level] = wave_transfer(self._optics, self._k, level).astype(np.complex64)
        return self._transfers[level]

    def render(self, field: NDArray[np.float32], species: NDArray[np.int64], positions_A: NDArray[np.float64]) -> None:
        """Multiply `field` by the intensity of one particle; same arguments as `LinearRenderer.render`."""
        centre = 0.5 * (positions_A.min(axis=0) + positions_A.max(axis=0))
        corner = np.rint(centre[:2] / self._pixel_size_A).astype(np.int64) - self._box // 2
        local_px = (positions_A[:, :2] - corner * self._pixel_size_A) / self._sampling_A
        fine = self._box * self._oversampling
        wave = np.ones((fine, fine), dtype=np.complex64)
        edges = np.linspace(-self._radius_A, self._radius_A, self._slices + 1)
        number = np.clip(np.searchsorted(edges, positions_A[:, 2] - centre[2]) - 1, 0, self._slices - 1)
        thickness = edges[1] - edges[0]
        for part in range(self._slices):
            phase = np.zeros((fine, fine), dtype=np.float32)
            chosen = number == part
            level = np.zeros(int(chosen.sum()), dtype=np.int64)
            _add_stamps(phase, self._stamps, species[chosen], level, local_px[chosen, 0], local_px[chosen, 1])
            _transmit(wave, phase, np.float32(self._optics.amplitude_contrast))
            wave = scipy.fft.fft2(wave, overwrite_x=True)
            if part + 1 < self._slices:
                wave *= self._propagator(thickness)
                wave = scipy.fft.ifft2(wave, overwrite_x=True)
        exit_height = centre[2] + edges[-1] - 0.5 * thickness  # where the last slice was transmitted
        wave *= self._transfer(float(exit_height))
        wave = scipy.fft.ifft2(wave, overwrite_x=True)
        intensity = np.empty((fine, fine), dtype=np.float32)
        _intensity(wave, intensity)
        spectrum = scipy.fft.rfft2(intensity, overwrite_x=True)[self._rows, : self._box // 2 + 1]
        image = scipy.fft.irfft2(spectrum * self._detector, s=(self._box, self._box))
        self._multiply(field, image, int(corner[0]), int(corner[1]))

    def _propagator(self, distance_A: float) -> NDArray[np.complex64]:
        chi = math.pi * self._optics.wavelength_A * distance_A * self._k**2
        limit = self._k < self._k.max() * math.sqrt(0.5) * 0.98
        return np.asarray(np.exp(-1j * chi) * limit, dtype=np.complex64)

    @staticmethod
    def _multiply(field: NDArray[np.float32], image: NDArray[np.float32], left: int, top: int) -> None:
        height, width = field.shape
        rows = slice(max(0, top), max(0, min(height, top + image.shape[0])))
        columns = slice(max(0, left), max(0, min(width, left + image.shape[1])))
        field[rows, columns] *= image[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
