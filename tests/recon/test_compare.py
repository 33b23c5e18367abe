"""Two maps of one crystal agree in exactly one gauge; maps of different crystals, or of a regular one, do not tell."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.compare import (
    GAUGES,
    compare_atoms,
    compare_poses,
    lattice_rms_A,
    packing,
    shape_overlap,
    vacuum_share,
)
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.rotations import C2Z, from_rotation_vector, multiply, random_rotations

CONSTANT_A = 3.95
NEIGHBOUR_A = CONSTANT_A / np.sqrt(2)


@pytest.fixture(scope="module")
def crystal(synthetic: ModuleType) -> np.ndarray:
    return synthetic.fcc_crystal(CONSTANT_A, 21.0)


def seen(crystal: np.ndarray, gauge: int, rng: np.random.Generator, lost: int = 0) -> np.ndarray:
    """The atoms of a map in this gauge: each 0.05 A off, some lost, about their centroid."""
    atoms = (crystal + 0.05 * rng.normal(size=crystal.shape)) @ GAUGES[gauge].T
    atoms = np.delete(atoms, rng.choice(len(atoms), lost, replace=False), axis=0)
    return atoms - atoms.mean(axis=0)


def test_gauges_are_different_operations() -> None:
    assert len(GAUGES) == 48 + 4 * 48
    flat = GAUGES.reshape(len(GAUGES), 9)
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=2) + np.eye(len(flat)) * 9
    assert apart.min() > 0.1
    assert np.allclose(np.einsum("gij,gkj->gik", GAUGES, GAUGES), np.eye(3))


@pytest.mark.parametrize("gauge", [0, 17, 30, 100, 239])
def test_the_gauge_is_found(crystal: np.ndarray, gauge: int) -> None:
    rng = np.random.default_rng(gauge)
    found = compare_atoms(seen(crystal, 0, rng, lost=4), seen(crystal, gauge, rng, lost=3))
    assert found.f1 > 0.97
    assert found.gap > 0.03
    assert np.allclose(found.turn, GAUGES[gauge].T, atol=0.03)
    assert 0.03 < found.rms_A < 0.2
    assert found.ranked[0] == found.gauge


def test_another_crystal_does_not_agree(crystal: np.ndarray, synthetic: ModuleType) -> None:
    other = synthetic.fcc_crystal(CONSTANT_A, 19.0, site=(0.3, 0.1, 0.2))
    assert compare_atoms(crystal, other).f1 < 0.93


def test_a_regular_crystal_leaves_the_gauge_open() -> None:
    ball = Lattice(FCC, CONSTANT_A).ball(18.0)
    found = compare_atoms(ball, seen(ball, 3, np.random.default_rng(0)))
    assert found.f1 > 0.99
    assert found.gap < 0.001


def test_too_few_atoms() -> None:
    found = compare_atoms(np.zeros((0, 3)), np.zeros((9, 3)))
    assert (found.f1, found.gauge, found.ranked) == (0.0, -1, ())


@pytest.mark.parametrize("inverted", [False, True])
def test_poses_in_two_body_frames(inverted: bool) -> None:
    rng = np.random.default_rng(5)
    truth, frame = random_rotations(300, rng), random_rotations(1, rng)[0]
    second = multiply(C2Z, truth) if inverted else truth
    first = multiply(multiply(truth, frame), from_rotation_vector(rng.normal(0, np.radians(1), (300, 3))))
    first[:60] = random_rotations(60, rng)
    found = compare_poses(first, second)
    assert found.share == pytest.approx(0.8, abs=0.01)
    assert found.inverted is inverted
    assert abs(found.frame @ frame) > np.cos(np.radians(0.5))


def test_shape_lattice_and_vacuum(crystal: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    assert shape_overlap(crystal, crystal) == 1.0
    assert shape_overlap(crystal, crystal[crystal[:, 0] < 0]) < 0.7
    shaken = crystal + 0.1 * rng.normal(size=crystal.shape)
    assert lattice_rms_A(shaken, NEIGHBOUR_A) == pytest.approx(0.1, rel=0.15)
    assert lattice_rms_A(crystal[:9], NEIGHBOUR_A) is None
    astray = np.concatenate([crystal, [[30.0, 0, 0]]])
    assert vacuum_share(astray, NEIGHBOUR_A) == pytest.approx(1 / len(astray), abs=0.03)
    assert vacuum_share(crystal[:0], NEIGHBOUR_A) == 0.0


def test_packing_of_a_crystal_and_of_one_full_of_holes(crystal: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    assert packing(seen(crystal, 17, rng), NEIGHBOUR_A) == pytest.approx(1.0, abs=0.05)
    assert packing(seen(crystal, 0, rng, lost=len(crystal) // 4), NEIGHBOUR_A) < 0.85  # sites at random
    assert packing(crystal[:40], NEIGHBOUR_A) is None
