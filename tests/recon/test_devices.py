"""Everything that computes on arrays of a device keeps them there: a whole particle on a stand-in for a GPU."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tumble.recon.device import Device, resident
from tumble.recon.geometry import half_plane
from tumble.recon.kinds import DECAHEDRON, FCC, Kind
from tumble.recon.lattice import search_grid
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.recognition import Boxes, constants
from tumble.recon.spectra import box_coefficients, noise_weights
from tumble.recon.volume import Grid


@pytest.fixture(scope="module")
def bright(synthetic: ModuleType) -> Any:
    """So bright that a few frames are enough."""
    return synthetic.movie(195, contrast=20.0, diameter_A=14.0, pixel_size_A=0.31, seed=1)


def test_the_stand_in_is_strict(strict: ModuleType) -> None:
    xp = strict.xp
    there, here = xp.asarray(np.ones(3)), np.ones(3)
    for mixed in (
        lambda: there + here,
        lambda: here * there,
        lambda: there[np.array([0])],
        lambda: there.__setitem__(slice(None), here),
        lambda: np.asarray(there),
        lambda: np.sum(there),
        lambda: xp.maximum(there, here),
    ):
        with pytest.raises(TypeError):
            mixed()
    assert isinstance(2 * there.mean() + np.float32(1), strict.StrictArray)


def test_a_particle_reconstructed_on_a_device(strict: ModuleType, bright: Any) -> None:
    options = ReconstructionOptions(
        lattice_constant_A=3.95, bootstrap_frames=150, buffer_frames=160, batch_frames=30, lag_frames=30
    )
    particle = ParticleReconstruction(
        1, bright.pixel_size_A, bright.diameter_A, lambda: bright.noise, options, strict.device()
    )  # fmt: skip
    batches = watched(particle, strict)
    for observation in bright.observations:
        particle.push(observation)
    particle.finish()
    assert len(batches) >= 1
    box_px, poses = particle.box_px, particle.mapper.search_size[0]
    for moved in batches:
        # in: the boxes, and hundreds of poses to look at; out: scores of the exhaustive search, and hundreds of poses
        assert moved.up_bytes < 30 * (4 * box_px**2 + 6000)
        assert moved.down_bytes < 30 * (5 * poses + 4000)
        assert moved.ups < 12
        assert moved.downs < 12
        assert 20 < moved.operations + moved.transforms + moved.kernels < 70  # launches: see gpu_model.py
    status = particle.status()
    assert (status.state, status.frames_seen) == ("DONE", len(bright.observations))
    assert status.frames_used > 0.9 * len(bright.observations)
    assert len(particle.drain_poses()) > 0  # frames left the buffer: the permanent sums were used
    assert status.atoms == pytest.approx(len(bright.atoms_A), rel=0.15)


def watched(particle: ParticleReconstruction, strict: ModuleType) -> list[Any]:
    """What every batch of `particle` moves that makes no map and decides nothing anew; filled as it works."""
    mapper, batches = particle.mapper, []
    advance = mapper.advance

    def watch(observations: list[Any]) -> None:
        before = strict.transfers.now(), mapper.published, mapper._next_decision
        advance(observations)
        if (mapper.published, mapper._next_decision) == before[1:]:
            batches.append(strict.transfers.since(before[0]))

    mapper.advance = watch
    return batches


@pytest.mark.parametrize("kind", [FCC, DECAHEDRON])
def test_lattice_constant_is_the_same_on_a_device(strict: ModuleType, bright: Any, device: Device, kind: Kind) -> None:
    box_px = bright.noise.power.shape[0]
    plane = half_plane(box_px, 24)
    weight, boxes = noise_weights(bright.noise, plane), np.stack([o.box for o in bright.observations[::30]])
    there, here = (
        constants(
            Boxes(
                box_coefficients(boxes, plane, d),
                plane,
                weight,
                bright.diameter_A,
                bright.pixel_size_A,
                Grid(box_px, 22),
                d,
            ),
            search_grid(6.0 if kind is FCC else 9.0, kind.symmetry),
            (3.9, 4.0),
            kind=kind,
        )[0]
        for d in (strict.device(), device)
    )
    for name in ("sharpness", "sign", "scores"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-3)
    assert there.lattice.constant_A == pytest.approx(here.lattice.constant_A, rel=1e-3)


def test_tables_go_to_the_device_once(strict: ModuleType) -> None:
    there, made = strict.device(), []

    def table(size: int) -> tuple[np.ndarray, np.ndarray]:
        made.append(size)
        return np.arange(size), np.ones(size)

    first, second = resident(there, table, 5), resident(there, table, 5)
    assert first is second
    assert made == [5]
    assert all(isinstance(part, strict.StrictArray) for part in first)
