"""Branches of a lattice pose on a map of known atoms: scores, places, trust; and the buffer that remembers frames."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon import branches
from tumble.recon.branches import Path, Shortlist, find_centre, half_of, lattice_position, shortlist, trusted
from tumble.recon.buffer import KEPT, FrameBuffer
from tumble.recon.device import Device
from tumble.recon.indexing import Candidates
from tumble.recon.maps import Accumulator
from tumble.recon.rotations import (
    angle_deg,
    equivalents,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)
from tumble.recon.site import Site
from tumble.recon.volume import Grid
from tumble.recon.whitened import Whitened

CENTRE = np.array([0.8, -1.3, 0.5])  # of the lattice in the map, px
BOX, K_MAX, LATTICE_PX = 64, 18, 9.4
GRID = Grid(BOX, K_MAX)


@pytest.fixture(scope="module")
def atoms(ideal, synthetic) -> np.ndarray:
    """An asymmetric fcc crystal, px, with a lattice site at CENTRE."""
    return ideal.crystal(synthetic.fcc_crystal(), CENTRE)


@pytest.fixture(scope="module")
def scene(atoms: np.ndarray, ideal, device: Device):
    """Whitened boxes at unit noise, their poses and shifts, and the kernel volume of the truth."""
    rng = np.random.default_rng(0)
    poses, shifts = random_rotations(30, rng), rng.normal(0, 0.7, (30, 2))
    data, volume = ideal.boxes(atoms, poses, shifts, rng, device)
    return data, poses, shifts, volume


def test_halves_are_alternate_blocks_of_time() -> None:
    halves = half_of(np.arange(200))
    assert (halves == np.repeat(np.arange(8) % 2, 25)).all()


def test_lattice_position_is_the_projected_centre() -> None:
    poses, shifts = random_rotations(5, np.random.default_rng(1)), np.random.default_rng(2).normal(size=(5, 2))
    for q, s, found in zip(poses, shifts, lattice_position(poses, shifts, CENTRE), strict=True):
        np.testing.assert_allclose(found, (to_matrix(q) @ CENTRE)[:2] + s)


@pytest.mark.parametrize("at", [CENTRE, np.array([-2.4, 0.0, 1.6])])
def test_lattice_centre_is_found_between_voxels(at: np.ndarray, ideal, device: Device) -> None:
    lattice = np.array(np.meshgrid(*[[-9.4, 0, 9.4]] * 3)).reshape(3, -1).T
    rough, template = ideal.render(lattice[:20] + at), ideal.render(lattice)
    found = find_centre(rough, template, GRID, 4, 16, device)
    np.testing.assert_allclose(found, at, atol=0.25)  # the missing atoms pull a little


def test_right_branch_scores_best_of_48(scene) -> None:
    data, poses, shifts, volume = scene
    every = np.arange(30)
    # each frame comes in a random branch, seen where its lattice centre is
    wrong = equivalents(poses)[every, np.random.default_rng(3).integers(0, 48, 30)]
    seen = lattice_position(poses, shifts, CENTRE)
    candidates = Shortlist(wrong[:, None], seen[:, None], np.ones((30, 1), bool))
    states = branches.score_branches(data, volume, every, candidates, CENTRE, K_MAX, Site(-CENTRE * 0, LATTICE_PX))
    best = states.score.argmax(axis=1)
    assert angle_deg(states.poses[every, best], poses).max() < 1e-3
    np.testing.assert_allclose(states.shifts[every, best], shifts, atol=0.1)
    ordered = np.sort(states.score, axis=1)
    assert (ordered[:, -1] - ordered[:, -2]).min() > 20


def test_candidates_not_worth_it_lose_and_cost_nothing(scene) -> None:
    data, poses, shifts, volume = scene
    two = np.stack([poses[:4], random_rotations(4, np.random.default_rng(4))], axis=1)
    seen = np.repeat(lattice_position(poses[:4], shifts[:4], CENTRE)[:, None], 2, axis=1)
    worth = np.array([[True, False], [True, True], [True, False], [True, True]])
    states = branches.score_branches(
        data, volume, np.arange(4), Shortlist(two, seen, worth), CENTRE, K_MAX, Site(np.zeros(3), LATTICE_PX)
    )
    assert (states.score[[0, 2], 48:] <= branches.NOT_SCORED).all()
    assert np.isfinite(states.score[[1, 3]]).all()
    assert (states.score[[1, 3], 48:] > branches.NOT_SCORED).all()


def test_shortlist_keeps_what_differs_and_is_probable() -> None:
    base = random_rotations(2, np.random.default_rng(5))
    other = random_rotations(2, np.random.default_rng(6))
    third = random_rotations(2, np.random.default_rng(7))
    poses = np.stack([base, equivalents(base)[:, 5], other, third], axis=1)
    seen = np.arange(16.0).reshape(2, 4, 2)
    probability = np.array([[0.9, 0.0, 0.1, 0.0], [0.0, 0.5, 0.4, 0.1]])
    made = shortlist(poses, seen, probability, 3)
    np.testing.assert_array_equal(made.poses, poses[:, [0, 2, 3]])
    np.testing.assert_array_equal(made.seen, seen[:, [0, 2, 3]])
    np.testing.assert_array_equal(made.worth, [[True, True, False], [True, True, True]])


def test_poses_off_the_path_are_not_trusted(synthetic) -> None:
    path = synthetic.tumbling(40, 1.0, np.random.default_rng(8))
    mass = np.full(40, 0.99)
    assert trusted(path, mass, 1.0).all()
    path[20] = multiply(from_rotation_vector([0.3, 0, 0]), path[20])
    mass[5] = 0.8
    found = trusted(path, mass, 1.0)
    assert not found[[5, 20]].any()
    assert found.sum() >= 36  # its neighbours' midpoints are off by half of it
    anchored = trusted(path[20:], mass[20:], 1.0, anchor=path[19])
    assert not anchored[0]


# ---------------------------------------------------------------- whitened boxes


def test_refined_likelihood_includes_the_tracker(scene) -> None:
    data, poses, shifts, volume = scene
    rows = np.arange(6)
    start = multiply(from_rotation_vector([0.02, 0.01, -0.02]), poses[:6])
    found, moved, likelihood = data.refine(volume, rows, start, shifts[:6] + 0.3, K_MAX)
    assert angle_deg(found, poses[:6]).max() < 0.6
    np.testing.assert_allclose(moved, shifts[:6], atol=0.1)
    tight = Whitened(data.coefficients, data.plane, data.weight, data.band_weight, 0.1, data.device)
    _, same, less = tight.refine(volume, rows, start, shifts[:6] + 0.3, K_MAX)
    expected = 0.5 * (same**2).sum(axis=1) * (1 / 0.1**2 - 1 / 1.5**2)
    np.testing.assert_allclose(likelihood - less, expected, rtol=1e-4, atol=0.05)


def test_refining_many_candidates_is_refining_each(scene) -> None:
    data, poses, shifts, volume = scene
    many = np.stack([poses[:3], poses[3:6]], axis=1)
    both = data.refine(volume, np.arange(3), many, np.repeat(shifts[:3, None], 2, axis=1), K_MAX, band=True)
    one = data.refine(volume, np.arange(3), poses[3:6], shifts[:3], K_MAX, band=True)
    for a, b in zip(both, one, strict=True):
        np.testing.assert_array_equal(a[:, 1], b)


def test_inserting_nothing_is_allowed(scene, device: Device) -> None:
    data = scene[0]
    sums = Accumulator(GRID, 1, device)
    none = np.zeros(0, np.int64)
    data.insert(sums, none, none, np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0))
    assert not sums.denominator.any()


# ---------------------------------------------------------------- buffer


def filled(device: Device, count: int, capacity: int = 10) -> FrameBuffer:
    buffer = FrameBuffer(capacity, 4, device)
    number = np.arange(100, 100 + count)
    coefficients = np.repeat(number[:, None, None], 4, axis=1).repeat(2, axis=2).astype(np.float32)
    rows = buffer.append(coefficients, number, number * 0.1, np.stack([number, -number], axis=1).astype(float))
    poses = random_rotations(count, np.random.default_rng(9))
    buffer.accept(rows, Path(poses, np.ones((count, 2)), number * 1.0, number % 2 == 0))
    return buffer


def test_buffer_drops_the_oldest_and_keeps_all_columns_together(device: Device) -> None:
    buffer = filled(device, 8)
    before = {name: getattr(buffer, name)[:8].copy() for name in ("poses", "score", "used", "time_s", "origin_px")}
    buffer.drop(3)
    assert buffer.length == 5
    np.testing.assert_array_equal(buffer.number[:5], np.arange(103, 108))
    np.testing.assert_array_equal(buffer.coefficients[:5, 0, 0], np.arange(103, 108))
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(buffer, name)[:5], values[3:])
    rows = buffer.append(np.zeros((2, 4, 2), np.float32), np.array([1, 2]), np.zeros(2), np.zeros((2, 2)))
    np.testing.assert_array_equal(rows, [5, 6])
    np.testing.assert_array_equal(buffer.rows, np.arange(7))


def test_buffer_hands_out_what_it_took(device: Device) -> None:
    buffer = filled(device, 6)
    path = buffer.path(np.array([1, 4]))
    np.testing.assert_array_equal(path.score, [101, 104])
    np.testing.assert_array_equal(path.used, [False, True])
    assert len(buffer.path().poses) == 6
    rng = np.random.default_rng(10)
    found = Candidates(
        rng.normal(size=(2, KEPT + 2, 4)), rng.normal(size=(2, KEPT + 2, 2)), rng.normal(size=(2, KEPT + 2)),
        rng.uniform(size=(2, KEPT + 2)),
    )  # fmt: skip
    buffer.remember(np.array([2, 3]), found)
    np.testing.assert_array_equal(buffer.candidates[2:4], found.poses[:, :KEPT])
    np.testing.assert_array_equal(buffer.candidate_px[2:4], found.shifts[:, :KEPT])


def test_a_short_visit_to_another_branch_is_not_used() -> None:
    turn = from_rotation_vector(np.array([0.0, 0.0, np.radians(2.0)]))
    path = [np.array([1.0, 0.0, 0.0, 0.0])]
    for _ in range(99):
        path.append(multiply(turn, path[-1]))
    poses = np.array(path)
    away = slice(40, 52)
    poses[away] = equivalents(poses[away])[:, 5]
    found = branches.excursions(poses, 2.0)
    assert found[away].all()
    assert found.sum() == 12
    long_visit = np.array(path)
    long_visit[30:70] = equivalents(long_visit[30:70])[:, 5]
    assert not branches.excursions(long_visit, 2.0).any()


def test_frames_that_the_map_explains_badly_are_not_used() -> None:
    rng = np.random.default_rng(11)
    score = np.repeat([400.0, 1200.0], 150) * rng.uniform(0.6, 1.4, 300)  # the likelihood follows the orientation
    score[[40, 41, 220]] = [60.0, -30.0, 250.0]
    np.testing.assert_array_equal(np.flatnonzero(~branches.explained(score)), [40, 41, 220])


def test_where_nothing_is_explained_nothing_is_singled_out() -> None:
    assert branches.explained(np.random.default_rng(12).normal(-20, 5, 100)).all()
