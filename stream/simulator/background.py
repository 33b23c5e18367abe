"""What is in the field besides particles: graphene windows, moving liquid, an imperfect gain correction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from .optics import Optics, contrast_transfer, detector_transfer
from .scattering import projected_potential_transform

GRAPHENE_A = 2.461  # lattice constant; first spots at 2.13 A
GRAPHENE_B_A2 = 0.6  # thermal motion of carbon
GRAPHENE_LIMIT_PER_A = 1.3  # the weak spots beyond are left out
WATER_PER_A3 = 0.0334  # molecules per cubic angstrom


@njit(cache=True, nogil=True)
def _add_waves(out, weights, waves):  # type: ignore[no-untyped-def]
    # a plain matrix product; not BLAS, whose rounding depends on the number of threads
    for row in range(weights.shape[0]):
        for wave in range(weights.shape[1]):
            weight = weights[row, wave]
            for column in range(waves.shape[1]):
                out[row, column] += weight * waves[wave, column]


@dataclass(frozen=True, slots=True)
class GrapheneSheet:
    """One sheet: in-plane angle, height along the beam, drift relative to the stage, lattice origin at frame 0."""

    angle_deg: float
    height_A: float
    drift_A_per_frame: tuple[float, float] = (0.0, 0.0)
    origin_A: tuple[float, float] = (0.0, 0.0)


class Graphene:
    """Linear images of drifting graphene sheets as a sum of plane waves (exact for a weak object).

    Parameters
    ----------
    sheets : any number of sheets; none gives no contrast.
    shape : (height, width) of the field in pixels.
    """

    def __init__(
        self, sheets: tuple[GrapheneSheet, ...], shape: tuple[int, int], pixel_size_A: float, optics: Optics
    ) -> None:
        waves = [_sheet_waves(sheet, pixel_size_A, optics) for sheet in sheets]
        self._frequency = np.concatenate([wave for wave, _ in waves]) if waves else np.zeros((0, 2))
        self._amplitude = np.concatenate([amplitude for _, amplitude in waves]) if waves else np.zeros(0)
        self._sheet = np.repeat(np.arange(len(sheets)), [len(amplitude) for _, amplitude in waves])
        self._origin = np.array([sheet.origin_A for sheet in sheets]).reshape(-1, 2)
        self._drift = np.array([sheet.drift_A_per_frame for sheet in sheets]).reshape(-1, 2)
        along_x = 2 * math.pi * np.outer(self._frequency[:, 0], np.arange(shape[1]) * pixel_size_A)
        along_y = 2 * math.pi * np.outer(self._frequency[:, 1], np.arange(shape[0]) * pixel_size_A)
        self._along_x = np.concatenate([np.cos(along_x), np.sin(along_x)]).astype(np.float32)  # (2 waves, width)
        self._along_y = along_y

    def offsets_A(self, index: int, stage_A: NDArray[np.float64]) -> NDArray[np.float64]:
        """(sheets, 2) positions x, y in A of every sheet's lattice origin in frame `index`."""
        offsets: NDArray[np.float64] = self._origin + self._drift * index + stage_A
        return offsets

    def contrast(self, index: int, stage_A: NDArray[np.float64]) -> NDArray[np.float32]:
        """(height, width) float32 contrast in frame `index`, the stage displaced by `stage_A` (x, y in A)."""
        origin = self.offsets_A(index, stage_A)[self._sheet]
        phase = self._along_y.T - 2 * math.pi * (self._frequency * origin).sum(axis=1)
        weights = np.concatenate([np.cos(phase), -np.sin(phase)], axis=1) * np.tile(self._amplitude, 2)
        contrast = np.zeros((weights.shape[0], self._along_x.shape[1]), dtype=np.float32)
        _add_waves(contrast, weights.astype(np.float32), self._along_x)
        return contrast


def _sheet_waves(
    sheet: GrapheneSheet, pixel_size_A: float, optics: Optics
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half of the reciprocal lattice: frequencies (n, 2) x, y in 1/A and amplitudes (n,) of the cosine waves."""
    angle = math.radians(sheet.angle_deg)
    length = 2.0 / (math.sqrt(3.0) * GRAPHENE_A)
    basis = length * np.array(
        [[math.cos(angle), math.sin(angle)], [math.cos(angle + math.pi / 3), math.sin(angle + math.pi / 3)]]
    )
    order = np.array([(h, k) for h in range(-4, 5) for k in range(-4, 5) if h > 0 or (h == 0 and k > 0)])
    frequency = order @ basis
    modulus = np.linalg.norm(frequency, axis=1)
    keep = modulus < min(GRAPHENE_LIMIT_PER_A, 0.5 / pixel_size_A)
    frequency, modulus, order = frequency[keep], modulus[keep], order[keep]
    # two atoms per cell, the hexagon's centre at the origin (60 degrees between the basis vectors)
    structure = 2.0 * np.cos(2.0 * math.pi * (order[:, 0] - order[:, 1]) / 3.0)
    area = 0.5 * math.sqrt(3.0) * GRAPHENE_A**2
    potential = projected_potential_transform("C", modulus, GRAPHENE_B_A2) * structure / area
    transfer = contrast_transfer(optics, modulus, sheet.height_A) * optics.interaction_rad_per_VA
    detector = detector_transfer(optics, frequency[:, 0], frequency[:, 1], pixel_size_A)
    return frequency, 2.0 * potential * transfer * detector


class Liquid:
    """Speckle of a liquid that has moved on by the next frame: the linear image of randomly placed oxygen atoms.

    A few large periodic fields are made once; a frame takes two windows at random places: frames are independent.

    Parameters
    ----------
    thickness_A : water whose atoms stand still during an exposure (an effective value; most of a real layer blurs out).
    """

    def __init__(
        self, thickness_A: float, shape: tuple[int, int], pixel_size_A: float, optics: Optics, rng: np.random.Generator
    ) -> None:
        size = scipy.fft.next_fast_len(max(256, 2 * max(shape)), real=True)
        fx, fy = np.fft.rfftfreq(size, pixel_size_A)[None, :], np.fft.fftfreq(size, pixel_size_A)[:, None]
        k = np.hypot(fx, fy)
        transfer = projected_potential_transform("O", k, optics.debye_waller_A2) * contrast_transfer(optics, k)
        transfer *= optics.interaction_rad_per_VA * detector_transfer(optics, fx, fy, pixel_size_A)
        transfer[0, 0] = 0.0
        spread = math.sqrt(max(thickness_A, 0.0) * WATER_PER_A3) / pixel_size_A  # of the white noise of atom numbers
        white = rng.standard_normal((3, size, size))
        fields = scipy.fft.irfft2(scipy.fft.rfft2(white) * (spread * transfer), s=(size, size))
        self._fields = (fields / math.sqrt(2.0)).astype(np.float32)
        self._shape, self._room, self._still = shape, size - max(shape), thickness_A <= 0

    def add(self, field: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Add one frame's speckle contrast to `field` (height, width) float32, in place."""
        if self._still:
            return
        height, width = self._shape
        for number in rng.permutation(len(self._fields))[:2]:
            top, left = rng.integers(0, self._room, size=2)
            flip_y, flip_x = rng.choice((-1, 1), size=2)
            field += self._fields[number, top : top + height, left : left + width][::flip_y, ::flip_x]


def gain_residual(shape: tuple[int, int], spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(height, width) float32 factors around 1: what is left of the gain pattern, the same in every frame."""
    return np.asarray(np.maximum(1.0 + spread * rng.standard_normal(shape), 0.0), dtype=np.float32)
