"""A crystal of five or of twenty grains from its boxes to its atoms: nobody says that it is no lattice.

Boxes of a small crystal cut unevenly from an ideal decahedron or icosahedron, Gaussian atoms in white noise, a signal
as at 80 electrons per A^2. No lattice explains the frames, what is made of many grains does, and the first map has the
poses and the atoms. That is shown here on an easy movie, of the decahedron, which has no inversion centre; hard ones
are in tests/benchmarks/results.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.geometry import half_plane
from tumble.recon.kinds import BCC, CLUSTERS, DECAHEDRON, FCC, HCP, Kind, Lattice, search_ranges
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.recognition import Boxes, recognise_lattice
from tumble.recon.spectra import box_coefficients, noise_weights
from tumble.recon.volume import Grid

CONSTANT_A = 4.05
FRAMES = 170
each = pytest.mark.parametrize("kind", CLUSTERS, ids=repr)


def uneven(kind: Kind, diameter_A: float = 19.0) -> np.ndarray:
    """Atoms (n, 3) A of a crystal whose middle is not its centroid, some of the surface missing."""
    rng = np.random.default_rng(1)
    atoms = Lattice(kind, CONSTANT_A / kind.widening).ball(diameter_A)
    side = atoms @ np.array([0.6, 0.64, 0.48])
    rim = np.linalg.norm(atoms, axis=1) > 0.4 * diameter_A
    outside = (side > 0.34 * diameter_A) | (rim & (rng.random(len(atoms)) < 0.25))
    kept = atoms[~outside]
    return kept - kept.mean(axis=0)


@each
def test_many_grains_are_recognised(synthetic: ModuleType, device: Device, kind: Kind) -> None:
    movie = synthetic.movie(30, contrast=20.0, step_deg=20.0, seed=5, atoms_A=uneven(kind))
    plane = half_plane(movie.noise.power.shape[0], 28)
    boxes = Boxes(
        box_coefficients(np.stack([o.box for o in movie.observations]), plane, device), plane,
        noise_weights(movie.noise, plane), movie.diameter_A, movie.pixel_size_A, Grid(plane.box_px, 23), device,
    )  # fmt: skip
    about = ((FCC, (3.9, 4.2)), (BCC, (3.15, 3.4)))
    found = recognise_lattice(boxes, search_ranges(None) if kind is HCP else about, (1, -1), spacing_deg=6.0)
    assert found.lattice.kind is kind
    assert found.sign == 1
    assert found.lattice.scale_A == pytest.approx(CONSTANT_A, rel=0.015)


@pytest.mark.slow
def test_all_grains_come_out_right(synthetic: ModuleType, scoring: ModuleType, device: Device) -> None:
    crystal = uneven(DECAHEDRON, 15.0)
    movie = synthetic.movie(
        FRAMES, contrast=30.0, pixel_size_A=0.33, diameter_A=15.0, step_deg=3.0, seed=4, atoms_A=crystal
    )
    options = ReconstructionOptions(bootstrap_frames=FRAMES, lattice_constant_A=CONSTANT_A)
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, lambda: movie.noise, options, device)
    for observation in movie.observations:
        particle.push(observation)
        while particle.work():
            pass
    result = particle.result()
    assert result is not None
    assert particle.status().lattice == "decahedral"
    scoring.assert_right(result, crystal, movie.poses)
