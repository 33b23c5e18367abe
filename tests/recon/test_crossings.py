"""Wrong turns at zone axes: a path that went on as its own mirror image comes back, one that did not stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.branches import Path, States, lattice_position
from tumble.recon.crossings import crossings, turned
from tumble.recon.device import Device
from tumble.recon.indexing import Candidates
from tumble.recon.pursuit import Scene
from tumble.recon.rotations import (
    angle_deg,
    conjugate,
    equivalents,
    from_matrix,
    from_rotation_vector,
    multiply,
    to_matrix,
)
from tumble.recon.site import Site

FRAMES, PASSING, STEP_DEG, K_MAX, LATTICE_PX = 120, 50, 2.5, 18, 9.4
CENTRE = np.array([0.8, -1.3, 0.5])
OFFSET = np.array([1.5, 0.4, -0.9])  # from the middle of the particle to the site
ALONG_110 = np.array([[0, 0, 1], [1, -1, 0], [1, 1, 0]]) / np.array([[1], [np.sqrt(2)], [np.sqrt(2)]])


def passing(poses: np.ndarray, off_deg: float) -> np.ndarray:
    """The same turns of a crystal that in frame `PASSING` is seen so far from [110]."""
    beside = multiply(from_rotation_vector(np.radians([off_deg, 0, 0])), from_matrix(ALONG_110))
    return multiply(poses, multiply(conjugate(poses[PASSING]), beside))


@pytest.fixture(scope="module")
def told(synthetic, ideal, device: Device) -> tuple[Path, Scene]:
    rng = np.random.default_rng(8)
    atoms = ideal.crystal(synthetic.fcc_crystal(), CENTRE)
    poses = passing(synthetic.tumbling(FRAMES, STEP_DEG, rng), 1.0)
    middle = rng.normal(0, 0.5, (FRAMES, 2))
    shifts = middle + to_matrix(poses)[:, :2] @ OFFSET
    data, volume = ideal.boxes(atoms, poses, shifts, rng, device)
    seen, flat = lattice_position(poses, shifts, CENTRE)[:, None], np.ones((FRAMES, 1))
    scene = Scene(
        data, np.arange(FRAMES), {0: volume}, np.zeros(FRAMES, np.int64), Candidates(poses[:, None], seen, flat, flat),
        CENTRE, Site(OFFSET, LATTICE_PX), np.zeros((FRAMES, 2)), K_MAX, STEP_DEG,
    )  # fmt: skip
    return Path(poses, shifts, np.full(FRAMES, 50.0), np.ones(FRAMES, np.bool_)), scene


def mirrored(path: Path, rows: slice) -> Path:
    """`path` with `rows` as the mirror image that is nearest in frame `PASSING`, about the lattice centre."""
    branches = equivalents(path.poses)
    branch = int(angle_deg(branches[PASSING, 1:], path.poses[PASSING]).argmin()) + 1
    poses, shifts = path.poses.copy(), path.shifts.copy()
    poses[rows] = branches[rows, branch]
    shifts[rows] += (to_matrix(path.poses[rows]) - to_matrix(poses[rows]))[:, :2] @ CENTRE
    return replace(path, poses=poses, shifts=shifts)


def again(path: Path, scene: Scene, ideal, lead: float = 0.0) -> Path:
    own = equivalents(path.poses)
    score = np.full(own.shape[:2], 50.0 - lead)
    score[:, 0] = 50.0
    states = States(own, np.zeros((*own.shape[:2], 2)), score)
    return turned(path, path, states, scene, ideal.evidence(scene.data, path, CENTRE))


def test_a_path_crosses_its_mirror_image_where_it_passes_a_zone_axis(told):
    path, _ = told
    found = dict(crossings(equivalents(path.poses), STEP_DEG))
    near = min(found, key=lambda row: abs(row - PASSING))
    assert abs(near - PASSING) <= 5
    view = np.abs(to_matrix(path.poses[near])[2])
    assert np.sort(view) @ [0, 0.5**0.5, 0.5**0.5] > np.cos(np.radians(6))
    along_124 = np.linalg.qr(np.array([[1.0, 2, 4], [1, 0, 0], [0, 1, 0]]).T)[0].T[
        [1, 2, 0]
    ]  # far from every twofold axis
    along_124[0] *= np.linalg.det(along_124)
    assert crossings(equivalents(from_matrix(along_124)[None]), STEP_DEG) == []


@pytest.mark.parametrize("rows", [slice(PASSING, None), slice(0, PASSING)])
def test_a_path_that_went_on_as_its_mirror_image_comes_back(told, ideal, rows):
    path, scene = told
    wrong = mirrored(path, rows)
    assert angle_deg(wrong.poses[1:], wrong.poses[:-1]).max() < 4 * np.sqrt(3) * STEP_DEG  # it does not jump
    found = again(wrong, scene, ideal)
    apart = min(  # either all is right, or all is the mirror image
        (angle_deg(found.poses, whole.poses) > 3).sum() for whole in (path, mirrored(path, slice(None)))
    )
    assert apart <= 6  # at the axis itself the two are one
    assert found.used.mean() > 0.95


def test_a_right_path_is_left_alone(told, ideal):
    path, scene = told
    found = again(path, scene, ideal)
    np.testing.assert_array_equal(found.poses, path.poses)
    np.testing.assert_array_equal(found.shifts, path.shifts)


def test_a_lead_that_leaves_no_doubt_is_not_looked_into(told, ideal):
    path, scene = told
    wrong = mirrored(path, slice(PASSING, None))
    np.testing.assert_array_equal(again(wrong, scene, ideal, lead=5.0).poses, wrong.poses)
