"""Twinned crystals: one continuous path through two grains, sites of both, and the symmetry that a twin has."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tumble.recon.chain import step_per_axis_deg
from tumble.recon.device import Device
from tumble.recon.indexing import Candidates
from tumble.recon.kinds import FCC
from tumble.recon.rotations import (
    CUBIC,
    angle_deg,
    angle_modulo_deg,
    equivalents,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)
from tumble.recon.site import FIRST, Grain, Site
from tumble.recon.symmetry import TWIN
from tumble.recon.twin import TURN, twin_path
from tumble.recon.volume import Grid, as_kernel_volume, symmetrise_by

FRAMES, SIGMA_DEG = 200, 2.5
LATTICE_PX = 11.0


def tumbling(seed: int) -> np.ndarray:
    """(FRAMES, 4) a path of SIGMA_DEG per axis and frame."""
    rng = np.random.default_rng(seed)
    path = [random_rotations(1, rng)[0]]
    for step in rng.normal(size=(FRAMES - 1, 3)) * np.radians(SIGMA_DEG):
        path.append(multiply(from_rotation_vector(step), path[-1]))
    return np.array(path)


def candidates(path: np.ndarray, second: np.ndarray, seed: int) -> Candidates:
    """What indexing finds: an equivalent of the grain that is seen (`second`: the other one), then chance."""
    rng = np.random.default_rng(seed)
    lattice = np.where(second[:, None], multiply(path, TURN), path)
    noise = from_rotation_vector(rng.normal(size=(FRAMES, 3)) * np.radians(0.5))
    right = equivalents(multiply(noise, lattice))[np.arange(FRAMES), rng.integers(0, 48, FRAMES)]
    poses = np.concatenate([right[:, None], random_rotations(FRAMES * 5, rng).reshape(FRAMES, 5, 4)], axis=1)
    score = np.concatenate([np.full((FRAMES, 1), 400.0), rng.uniform(250, 330, (FRAMES, 5))], axis=1)
    return Candidates(poses, rng.normal(size=(FRAMES, 6, 2)), score, np.full((FRAMES, 6), 1 / 6))


def both_lattices(path: np.ndarray, truth: np.ndarray) -> float:
    """Share of frames in which both grains lie as they do in truth, modulo the 48, whichever is called the first.

    Where the beam lies in the shared plane the images of the two grains change places in a half turn about it; which of
    them is the first is then open, as the sign of a tilt is at the zone axes of a single crystal.
    """

    def right(first: np.ndarray) -> np.ndarray:
        same = angle_modulo_deg(path, first) < 5
        return same & (angle_modulo_deg(multiply(path, TURN), multiply(first, TURN)) < 5)

    return float((right(truth) | right(multiply(truth, TURN))).mean())


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_a_path_through_both_grains(share: float) -> None:
    truth = tumbling(1)
    second = np.random.default_rng(2).uniform(size=FRAMES) < share
    found = candidates(truth, second, 3)
    path = twin_path(found, SIGMA_DEG)
    assert path is not None
    assert both_lattices(path.poses, truth) > 0.97
    assert (angle_deg(path.poses[1:], path.poses[:-1]) > 5 * SIGMA_DEG).sum() == 0
    assert step_per_axis_deg(path.poses) == pytest.approx(SIGMA_DEG, rel=0.25)
    np.testing.assert_array_equal(path.shifts, found.shifts[:, 0])
    np.testing.assert_array_equal(path.score, found.score[:, 0])


def test_a_single_crystal_needs_no_second_grain() -> None:
    assert twin_path(candidates(tumbling(4), np.zeros(FRAMES, bool), 5), SIGMA_DEG) is None


def test_the_turn_is_a_twin() -> None:
    # half a turn about <111> is no rotation of the cube but brings every third lattice point onto another
    assert min(angle_deg(TURN, CUBIC)) > 50
    together = FCC.vectors @ to_matrix(TURN).T
    common = [v for v in together if np.abs(FCC.vectors - v).max(axis=1).min() < 1e-9]
    assert len(common) == 13  # the origin, its six neighbours in the shared plane and the six next ones


def test_sites_of_both_grains() -> None:
    rng = np.random.default_rng(6)
    poses = tumbling(7)
    second = rng.uniform(size=FRAMES) < 0.4
    offset, beyond = np.array([1.0, -2.0, 0.5]), np.array([2.0, 1.5, -1.0])
    plane = to_matrix(poses)[:, :2]
    turned = FCC.vectors @ to_matrix(TURN).T
    pick = rng.integers(0, 13, FRAMES)
    body = np.where(
        second[:, None], offset + beyond + turned[pick] * LATTICE_PX, offset + FCC.vectors[pick] * LATTICE_PX
    )
    seen = np.einsum("tij,tj->ti", plane, body) + rng.normal(size=(FRAMES, 2)) * 0.2
    site = Site.find_twinned(poses, seen, second, TURN, LATTICE_PX)
    for g, own in ((0, ~second), (1, second)):
        origin = site.placed(poses[own], seen[own], site.grains[g])
        away = np.linalg.norm(origin - plane[own] @ site.offset_px, axis=1)
        assert np.median(away) < 0.5
    # the same site of the second grain, or one a vector of its lattice away
    error = site.grains[1].offset_px + site.offset_px - offset - beyond
    assert np.abs(turned * LATTICE_PX - error).sum(axis=1).min() < 0.6


def test_the_first_grain_is_placed_like_a_single_crystal() -> None:
    poses = tumbling(8)
    seen = np.random.default_rng(9).normal(size=(FRAMES, 2)) * 4
    single = Site(np.array([0.5, 1.0, -1.0]), LATTICE_PX)
    both = Site(single.offset_px, LATTICE_PX, grains=(FIRST, Grain(TURN, np.ones(3))))
    np.testing.assert_array_equal(both.placed(poses, seen, FIRST), single.nearest(poses, seen))


def test_symmetry_of_a_twin(device: Device) -> None:
    rng = np.random.default_rng(10)
    grid = Grid(64, 5)
    whole = rng.normal(size=(grid.edge,) * 3) + 1j * rng.normal(size=(grid.edge,) * 3)
    whole = (whole + whole[::-1, ::-1, ::-1].conj()).astype(np.complex64)
    found = symmetrise_by(TWIN, whole[:, :, grid.half :], device)
    again = as_kernel_volume(found, device).view(np.complex64)[..., 0]
    for axes in ((1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)):
        np.testing.assert_allclose(again.transpose(axes), again, atol=1e-5)
    expected = np.mean([whole.transpose(axes) for axes in itertools.permutations(range(3))], axis=0)
    np.testing.assert_allclose(again, expected, atol=1e-5)
