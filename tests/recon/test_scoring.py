"""The scorer itself, on answers that are known."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.rotations import (
    C2Z,
    CUBIC,
    conjugate,
    equivalents,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)


@pytest.fixture
def truth() -> np.ndarray:
    return random_rotations(200, np.random.default_rng(0))


@pytest.mark.parametrize("inverted", [False, True])
def test_any_body_frame_and_either_hand_is_right(scoring: ModuleType, truth: np.ndarray, inverted: bool) -> None:
    frame = random_rotations(1, np.random.default_rng(1))[0]
    found = multiply(multiply(C2Z, truth) if inverted else truth, frame)
    score = scoring.score_poses(found * np.random.default_rng(2).choice([-1, 1], (200, 1)), truth)
    assert score.right == 1
    assert score.inverted == inverted
    assert score.error_deg.max() < 1e-4


def test_errors_are_reported_as_they_are(scoring: ModuleType, truth: np.ndarray) -> None:
    axes = to_matrix(random_rotations(200, np.random.default_rng(3)))[:, 0]
    found = multiply(from_rotation_vector(np.radians(3.0) * axes), truth)
    score = scoring.score_poses(found, truth)
    assert score.right == 1
    assert np.median(score.error_deg) == pytest.approx(3.0, abs=0.3)


def test_a_lattice_equivalent_is_not_right(scoring: ModuleType, truth: np.ndarray) -> None:
    # 60 % in one branch, 40 % in another one: never forgiven frame by frame
    found = truth.copy()
    found[120:] = multiply(truth[120:], CUBIC[7])
    assert scoring.score_poses(found, truth).right == pytest.approx(0.6)
    rng = np.random.default_rng(4)
    anyhow = equivalents(truth)[np.arange(200), rng.integers(0, 48, 200)]
    assert scoring.score_poses(anyhow, truth).right < 0.12


def test_a_change_of_hand_on_the_way_is_not_right(scoring: ModuleType, truth: np.ndarray) -> None:
    found = truth.copy()
    found[:80] = multiply(C2Z, truth[:80])
    assert scoring.score_poses(found, truth).right == pytest.approx(0.6)


@pytest.mark.parametrize("inverted", [False, True])
def test_atoms_in_the_frame_of_the_poses(scoring: ModuleType, truth: np.ndarray, inverted: bool) -> None:
    rng = np.random.default_rng(5)
    atoms = rng.uniform(-9, 9, (60, 3))
    frame = random_rotations(1, rng)[0]
    found_poses = multiply(multiply(C2Z, truth) if inverted else truth, frame)
    pose = scoring.score_poses(found_poses, truth)
    # the same image: R_found r_found = R_true r_true, up to the inversion along the beam
    seen = to_matrix(found_poses[0]).T @ (np.diag([1, 1, -1 if inverted else 1]) @ to_matrix(truth[0]) @ atoms.T)
    found = seen.T + np.array([0.4, -0.2, 0.1])  # origin not yet at the same place
    score = scoring.score_atoms(found, atoms, pose)
    assert (score.recall, score.precision) == (1, 1)
    assert score.rmsd_A < 1e-6
    wrong_hand = scoring.PoseScore(pose.error_deg, pose.frame, not pose.inverted)
    assert scoring.score_atoms(found, atoms, wrong_hand).recall < 0.5


def test_missing_and_extra_atoms_are_counted(scoring: ModuleType, synthetic: ModuleType, truth: np.ndarray) -> None:
    rng = np.random.default_rng(6)
    atoms = synthetic.fcc_crystal()
    pose = scoring.score_poses(truth, truth)
    found = atoms[8:] + rng.normal(0, 0.05, (len(atoms) - 8, 3))
    found = np.concatenate([found, [[12.0, 0, 0], [0, 12.0, 0], [0, 0, 13.0]]])
    score = scoring.score_atoms(found, atoms, pose)
    assert score.recall == pytest.approx(1 - 8 / len(atoms))
    assert score.precision == pytest.approx(1 - 3 / len(found))
    assert score.rmsd_A == pytest.approx(0.05 * np.sqrt(3), rel=0.15)
    assert scoring.score_atoms(np.zeros((0, 3)), atoms, pose).recall == 0


def test_the_synthetic_crystal_has_no_symmetry(synthetic: ModuleType) -> None:
    from scipy.spatial import cKDTree

    atoms = synthetic.fcc_crystal()
    assert 130 < len(atoms) < 220
    for turn in to_matrix(CUBIC[1:]):
        for sign in (1, -1):
            assert (cKDTree(atoms).query(sign * atoms @ turn.T)[0] < 0.6).mean() < 0.95
    assert (cKDTree(atoms).query(-atoms)[0] < 0.6).mean() < 0.95


def test_the_synthetic_motion_has_the_step_it_says(synthetic: ModuleType) -> None:
    poses = synthetic.tumbling(2000, 2.5, np.random.default_rng(7))
    steps = multiply(poses[1:], conjugate(poses[:-1]))
    vectors = 2 * np.degrees(steps[:, 1:] * np.sign(steps[:, :1]))
    np.testing.assert_allclose(vectors.std(axis=0), 2.5, rtol=0.06)
