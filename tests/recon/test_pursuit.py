"""Following a path over its edge: wrong stretches come back, right ones stay, in whatever direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.branches import Path, lattice_position
from tumble.recon.device import Device
from tumble.recon.indexing import Candidates
from tumble.recon.pursuit import MOST_EDGES, Scene, doubtful, edges, pursue
from tumble.recon.rotations import angle_deg, equivalents, to_matrix
from tumble.recon.site import Site

FRAMES, STEP_DEG, K_MAX, LATTICE_PX = 60, 2.5, 18, 9.4
CENTRE = np.array([0.8, -1.3, 0.5])
OFFSET = np.array([1.5, 0.4, -0.9])  # from the middle of the particle to the site


@pytest.fixture(scope="module")
def told(synthetic, ideal, device: Device) -> tuple[Path, Scene]:
    """The true path of a crystal that drifts in the field, and what its frames are followed in."""
    rng = np.random.default_rng(5)
    atoms = ideal.crystal(synthetic.fcc_crystal(), CENTRE)
    poses = synthetic.tumbling(FRAMES, STEP_DEG, rng)
    middle = np.cumsum(rng.normal(0, 0.4, (FRAMES, 2)), axis=0)
    origin = middle - rng.normal(0, 1.0, (FRAMES, 2))  # the track errs
    shifts = middle - origin + to_matrix(poses)[:, :2] @ OFFSET
    data, volume = ideal.boxes(atoms, poses, shifts, rng, device)
    other = equivalents(poses)[np.arange(FRAMES), rng.integers(0, 48, FRAMES)][:, None]  # lattice poses, modulo 48
    seen = lattice_position(poses, shifts, CENTRE)[:, None]
    flat = np.ones((FRAMES, 1))
    path = Path(poses, shifts, np.zeros(FRAMES), np.ones(FRAMES, np.bool_))
    fold = np.arange(FRAMES) // 20 % 2
    scene = Scene(
        data, np.arange(FRAMES), {0: volume, 1: volume}, fold, Candidates(other, seen, flat, flat), CENTRE,
        Site(OFFSET, LATTICE_PX), origin, K_MAX, STEP_DEG,
    )  # fmt: skip
    return path, scene


@pytest.fixture(scope="module")
def follow(told, ideal) -> Callable[[Path], Path]:
    """`pursue` with what the frames of the path say together."""
    scene = told[1]
    return lambda path: pursue(path, scene, ideal.evidence(scene.data, path, CENTRE))


def astray(path: Path, rows: slice, branch: int = 7) -> Path:
    """`path` with `rows` on another branch, a lattice vector off where the truth is seen."""
    poses, shifts = path.poses.copy(), path.shifts.copy()
    poses[rows] = equivalents(path.poses[rows])[:, branch]
    shifts[rows] += to_matrix(poses[rows])[:, :2] @ np.array([LATTICE_PX / 2, LATTICE_PX / 2, 0.0])
    return replace(path, poses=poses, shifts=shifts)


def assert_right(found: Path, path: Path) -> None:
    assert angle_deg(found.poses, path.poses).max() < 2.0
    assert np.hypot(*(found.shifts - path.shifts).T).max() < 0.7
    assert found.used.mean() > 0.95


def test_a_right_path_is_left_alone(told, follow):
    path, _ = told
    assert doubtful(path, STEP_DEG) == []
    assert follow(path) is path


@pytest.mark.parametrize("rows", [slice(0, 25), slice(20, 50), slice(35, None), slice(30, 31)])
def test_a_stretch_on_a_wrong_branch_comes_back(told, follow, rows: slice):
    path, _ = told
    wrong = astray(path, rows)
    before = wrong.poses.copy()
    assert_right(follow(wrong), path)
    assert (wrong.poses == before).all()


def test_a_stretch_that_nobody_was_sure_of_comes_back(told, follow):
    path, _ = told
    wrong = astray(path, slice(22, 27), branch=0)  # only the place is wrong: nothing jumps
    used = path.used.copy()
    used[22:27] = False
    assert doubtful(replace(wrong, used=used), STEP_DEG) == [22]
    assert_right(follow(replace(wrong, used=used)), path)


def test_a_right_stretch_is_not_drawn_over_by_wrong_ones_around_it(told, follow):
    path, _ = told
    wrong = astray(astray(path, slice(0, 20)), slice(40, None), branch=11)
    assert_right(follow(follow(wrong)), path)


def test_there_are_not_more_edges_than_can_be_followed(told):
    path, _ = told
    everywhere = astray(path, slice(1, None, 2))
    rows = doubtful(everywhere, STEP_DEG)
    assert len(rows) == MOST_EDGES
    assert len(edges(everywhere, rows)) <= 4 * MOST_EDGES
    nothing = replace(everywhere, used=np.zeros(FRAMES, np.bool_))
    assert edges(nothing, rows) == []


def test_it_is_begun_from_the_nearest_and_from_the_farthest_sure_frame(told):
    path, _ = told
    begun = edges(path, [50], 30)
    assert [start for start, _, _ in begun] == [40, 49, 59, 50]
    assert [edge for _, edge, _ in begun] == [50, 50, 49, 49]
    assert [(ahead[0], ahead[-1]) for _, _, ahead in begun] == [(41, FRAMES - 1), (50, FRAMES - 1), (58, 20), (49, 20)]
