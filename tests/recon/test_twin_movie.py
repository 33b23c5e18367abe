"""A twinned crystal from its boxes to its atoms: nobody says that it is twinned.

Boxes of one small crystal of two fcc grains that share a (111) plane, Gaussian atoms in white noise, a signal as at 80
electrons per A^2. The particle finds on its first frames that one lattice does not carry the path, waits for twice as
many, and its first map must have both grains: the atoms of either, in their place, and the poses of both in one frame.
It shows that the way through a twin works from end to end on an easy movie, not how often it does on hard ones: that is
in tests/benchmarks/results.
"""

from __future__ import annotations

from types import ModuleType

import pytest

from tumble.recon.device import Device
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions

FIRST = 150  # frames after which it is seen that there are two grains; the map is made of twice as many


@pytest.mark.slow
def test_both_grains_come_out_right(synthetic: ModuleType, scoring: ModuleType, device: Device) -> None:
    crystal = synthetic.twin_crystal(diameter_A=15.0)
    movie = synthetic.movie(
        2 * FIRST, contrast=30.0, pixel_size_A=0.31, diameter_A=14.0, step_deg=3.0, seed=3, atoms_A=crystal
    )
    options = ReconstructionOptions(bootstrap_frames=FIRST)
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, lambda: movie.noise, options, device)
    notes = []
    for observation in movie.observations:
        particle.push(observation)
        while particle.work():
            notes.append(particle.status().note)
    assert any("of a twinned crystal" in note for note in notes)
    result, mapper = particle.result(), particle.mapper
    assert result is not None
    assert mapper is not None
    assert mapper.site.twinned
    assert (particle.status().lattice, particle.status().twinned) == ("fcc", True)
    assert len(result.poses) == 2 * FIRST
    scoring.assert_right(result, crystal, movie.poses)
