"""Uniform strain: volumes of strained crystals, their symmetry, and the strain that images of one tell."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.branches import Path
from tumble.recon.device import Device
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.rotations import angle_deg, from_rotation_vector, multiply, random_rotations
from tumble.recon.strain import DIRECTIONS, Laid, deviation, find_strain, principal_percent
from tumble.recon.symmetry import CUBE, Operations
from tumble.recon.volume import radius_grid, sampled, symmetrise_by, to_fourier

STRAIN = np.array([[0.02, 0.004, 0.0], [0.004, -0.001, -0.003], [0.0, -0.003, -0.015]])
FRAMES, WANDER_DEG = 100, 1.0
LATTICE_FROM = 8  # cycles per box: no reflection is nearer


@pytest.fixture(scope="module")
def atoms(synthetic: ModuleType, ideal: ModuleType) -> np.ndarray:
    """(n, 3) px, a site in the middle."""
    crystal: np.ndarray = ideal.crystal(synthetic.fcc_crystal(), np.zeros(3))
    return crystal


def relative(found: np.ndarray, expected: np.ndarray, ideal: ModuleType) -> float:
    """Rms difference where the reflections are, relative to the values there."""
    far = radius_grid(ideal.GRID) > LATTICE_FROM
    return float(np.linalg.norm((found - expected)[far]) / np.linalg.norm(expected[far]))


def test_deviation_leaves_the_mean_out() -> None:
    assert deviation(0.01 * np.eye(3)) == pytest.approx(0.0, abs=1e-12)
    assert deviation(np.diag([0.02, 0.0, -0.015])) == pytest.approx(0.0183, abs=1e-4)


def test_directions_are_an_orthonormal_basis_of_symmetric_matrices() -> None:
    assert np.allclose(np.einsum("aij,bij->ab", DIRECTIONS, DIRECTIONS), np.eye(6))
    assert np.array_equal(DIRECTIONS, DIRECTIONS.transpose(0, 2, 1))


def test_a_sampled_volume_is_that_of_the_strained_crystal(atoms: np.ndarray, ideal: ModuleType, device: Device) -> None:
    volume, strained = (to_fourier(ideal.render(a), ideal.GRID, device) for a in (atoms, atoms @ (np.eye(3) + STRAIN)))
    moved = sampled(volume, np.eye(3) + STRAIN, device)
    assert relative(volume, strained, ideal) > 0.15
    assert relative(moved, strained, ideal) < 0.06  # trilinear, and its atoms are strained too
    inner = slice(1, -1), slice(1, -1), slice(0, -1)  # what lies outside is zero, and the last layer counts to that
    assert np.allclose(sampled(volume, np.eye(3), device)[inner], volume[inner], atol=1e-4 * np.abs(volume).max())


def test_a_strained_cube_keeps_its_volume_under_its_operations_and_under_no_others(
    ideal: ModuleType, device: Device
) -> None:
    ball = Lattice(FCC, ideal.LATTICE_PX).ball(42.0)
    volume = to_fourier(ideal.render(ball @ (np.eye(3) + STRAIN)), ideal.GRID, device)
    cube = CUBE.operations
    own = Operations(cube.permutations, cube.turns, STRAIN, everywhere=True)
    assert relative(symmetrise_by(own, volume, device), volume, ideal) < 0.1  # trilinear, twice
    assert relative(symmetrise_by(cube, volume, device), volume, ideal) > 0.15


def images(atoms: np.ndarray, ideal: ModuleType, device: Device, seed: int) -> tuple[object, np.ndarray, Path]:
    """Boxes of atoms, their true poses, and a path that is off them by a degree per axis and half a pixel."""
    rng = np.random.default_rng(seed)
    poses, shifts = random_rotations(FRAMES, rng), rng.normal(size=(FRAMES, 2))
    data, _ = ideal.boxes(atoms, poses, shifts, rng, device)
    off = multiply(from_rotation_vector(np.radians(WANDER_DEG) * rng.normal(size=(FRAMES, 3))), poses)
    moved = shifts + 0.5 * rng.normal(size=shifts.shape)
    return data, poses, Path(off, moved, np.zeros(FRAMES), np.ones(FRAMES, bool))


def laid_on(volume: object, data: object, ideal: ModuleType) -> Laid:
    rows = np.arange(FRAMES)
    return Laid(data, rows, (volume,), np.zeros_like(rows), np.zeros(3), ideal.K_MAX, band=False)


def test_images_of_a_strained_crystal_tell_its_strain(atoms: np.ndarray, ideal: ModuleType, device: Device) -> None:
    volume = to_fourier(ideal.render(atoms), ideal.GRID, device)
    data, truth, path = images(atoms @ (np.eye(3) + STRAIN), ideal, device, seed=2)
    on = laid_on(volume, data, ideal)
    found = find_strain(on, path)
    assert np.abs(found - STRAIN).max() < 0.0025
    lean, upright = (np.median(angle_deg(on.refined(path, s).poses, truth)) for s in (np.zeros((3, 3)), found))
    assert upright < 0.7 * lean  # poses on the lattice without the strain lean towards it


def test_principal_strains_are_told_largest_first_and_without_their_mean() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    strain = turn @ np.diag([-0.015, 0.02, 0.0]) @ turn.T
    assert principal_percent(strain) == pytest.approx((11 / 6, -1 / 6, -5 / 3))
    assert principal_percent(None) == ()


def test_images_of_a_crystal_without_strain_tell_none(atoms: np.ndarray, ideal: ModuleType, device: Device) -> None:
    volume = to_fourier(ideal.render(atoms), ideal.GRID, device)
    data, _, path = images(atoms, ideal, device, seed=3)
    assert deviation(find_strain(laid_on(volume, data, ideal), path)) < 0.001


def test_a_place_off_the_middle_is_the_same_place(atoms: np.ndarray, ideal: ModuleType, device: Device) -> None:
    """The lattice centre of a map may lie anywhere: shifts belong to the map's middle before and after."""
    centre = np.array([3.0, -2.0, 1.0])
    volume = to_fourier(ideal.render(atoms), ideal.GRID, device)
    data, truth, path = images(atoms + centre, ideal, device, seed=4)
    rows = np.arange(FRAMES)
    on = Laid(data, rows, (volume,), np.zeros_like(rows), centre, ideal.K_MAX, band=False)
    fresh = on.refined(path, np.zeros((3, 3)))
    assert np.median(angle_deg(fresh.poses, truth)) < 0.3
    assert np.median(np.abs(fresh.shifts - path.shifts)) < 0.6  # by what `images` had moved them
