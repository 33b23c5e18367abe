"""Images of particles by full multislice through abTEM: a ground truth that does not share our projection model.

Potential (Lobato and Van Dyck, Acta Cryst. A70 (2014) 636), propagation and lens are abTEM's (J. Madsen, T. Susi, Open
Res. Europe 1 (2021) 24); thermal motion is frozen phonons instead of a Debye-Waller factor. Only the detector is ours.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from .exit_wave import BOX_MARGIN_A, ImageBox
from .optics import Optics

SAMPLING_A = 0.12
SLICE_A = 1.4
PHONONS = 8  # thermal configurations whose intensities are averaged


def _abtem() -> Any:
    try:
        return importlib.import_module("abtem")
    except ImportError as error:
        raise ImportError(
            "multislice simulation needs abTEM, which is not installed: pip install 'tumble-em[multislice]'"
        ) from error


class MultisliceRenderer:
    """Renders particles with abTEM; same interface as the fast renderers, about a thousand times slower.

    Parameters
    ----------
    radius_A : of the largest particle.
    phonons : thermal configurations per image; 0 leaves the atoms at rest.

    Raises
    ------
    ImportError
        If abTEM is not installed.
    """

    def __init__(self, pixel_size_A: float, optics: Optics, radius_A: float, phonons: int = PHONONS) -> None:
        self._abtem = _abtem()
        self._optics, self._radius_A, self._phonons = optics, radius_A, phonons
        self._box = ImageBox(radius_A, pixel_size_A, SAMPLING_A, optics)

    def species(self, elements: Sequence[str]) -> NDArray[np.int64]:
        """Atomic numbers."""
        return np.array([atomic_numbers[element] for element in elements], dtype=np.int64)

    def render(self, field: NDArray[np.float32], species: NDArray[np.int64], positions_A: NDArray[np.float64]) -> None:
        """See `Renderer.render`."""
        centre = 0.5 * (positions_A.min(axis=0) + positions_A.max(axis=0))
        corner = self._box.corner_px(centre)
        depth = 2.0 * (self._radius_A + BOX_MARGIN_A)
        local = positions_A - np.array([*(np.array(corner) * self._box.pixel_size_A), centre[2] - 0.5 * depth])
        spread = math.sqrt(self._optics.debye_waller_A2 / (8.0 * math.pi**2))
        rng = np.random.default_rng(0)  # the same displacements in every frame: a frame depends on its pose only
        total = np.zeros((self._box.fine, self._box.fine))
        for _ in range(max(1, self._phonons)):
            shaken = local + (spread * rng.standard_normal(local.shape) if self._phonons else 0.0)
            total += self._intensity(species, shaken, depth, exit_height_A=centre[2] + 0.5 * depth)
        image = (total / max(1, self._phonons)).astype(np.float32)
        self._box.multiply(field, self._box.detect(image), corner)

    def _intensity(
        self, species: NDArray[np.int64], positions_A: NDArray[np.float64], depth_A: float, exit_height_A: float
    ) -> NDArray[np.float64]:
        """(fine, fine) ``[row, column]`` intensity of atoms in a cell whose lower face is the exit plane."""
        optics, abtem = self._optics, self._abtem
        side = self._box.fine * self._box.sampling_A
        cell = Atoms(numbers=species, positions=positions_A, cell=(side, side, depth_A))
        potential = abtem.Potential(cell, gpts=self._box.fine, slice_thickness=SLICE_A, parametrization="lobato")
        wave = abtem.PlaneWave(energy=1e3 * optics.voltage_kV).multislice(potential, lazy=False)
        cutoff = math.inf if math.isinf(optics.aperture_per_A) else 1e3 * optics.wavelength_A * optics.aperture_per_A
        lens = abtem.CTF(
            energy=1e3 * optics.voltage_kV,
            semiangle_cutoff=cutoff,
            focal_spread=math.sqrt(2.0) * optics.focal_spread_A,  # abTEM's is the 1/e width, not the standard deviation
            aberration_coefficients={
                "C10": -(optics.defocus_A + exit_height_A),
                "C30": 1e4 * optics.spherical_aberration_um,
            },
        )
        image = wave.apply_ctf(lens).intensity()
        return np.asarray(image.array, dtype=np.float64).reshape(self._box.fine, self._box.fine).T
