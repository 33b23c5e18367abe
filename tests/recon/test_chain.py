"""Chains of poses against the enumeration of all paths, the closed form of the 48-fold angle, unwrapping."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tumble.recon.chain import (
    _dot_cubic,
    _dot_listed,
    decode,
    distinct_modulo,
    path_modulo,
    posterior_modulo,
    step_per_axis_deg,
    tempered,
    transition_weights,
)
from tumble.recon.rotations import (
    angle_deg,
    angle_modulo_deg,
    equivalents,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)
from tumble.recon.symmetry import CUBE

FRAMES, STATES = 5, 4


def walk(frames: int, step_deg: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = random_rotations(frames, rng)
    for t in range(1, frames):
        poses[t] = multiply(from_rotation_vector(rng.normal(0, np.radians(step_deg), 3)), poses[t - 1])
    return poses


def near(poses: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """The poses turned by `degrees` about random axes."""
    axes = to_matrix(random_rotations(poses[..., 0].size, rng))[:, 0].reshape(*poses.shape[:-1], 3)
    return multiply(from_rotation_vector(np.radians(degrees) * axes), poses)


def small_chain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidates (5, 4, 4) around a path and elsewhere, in changing order, and scores (5, 4)."""
    rng = np.random.default_rng(seed)
    path = walk(FRAMES, 3.0, seed)
    poses = np.stack([path, near(path, 6.0, rng), near(path, 12.0, rng), random_rotations(FRAMES, rng)], axis=1)
    order = rng.permuted(np.tile(np.arange(STATES), (FRAMES, 1)), axis=1)
    return np.take_along_axis(poses, order[..., None], axis=1), rng.normal(0, 12, (FRAMES, STATES))


def enumerate_paths(emission: np.ndarray, transition: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Best path and marginals (t, k) by brute force; transition (t - 1, k, k) in logs."""
    best, best_value = (), -np.inf
    frames, states = emission.shape
    marginal = np.zeros((frames, states))
    for path in itertools.product(range(states), repeat=frames):
        value = sum(emission[t, s] for t, s in enumerate(path))
        value += sum(transition[t, path[t], path[t + 1]] for t in range(frames - 1))
        if value > best_value:
            best, best_value = path, value
        for t, s in enumerate(path):
            marginal[t, s] += np.exp(value)
    return best, marginal / marginal.sum(axis=1, keepdims=True)


def transitions(poses: np.ndarray, sigma: float, floor: float, angle) -> np.ndarray:
    return np.array(
        [np.maximum(-0.5 * (angle(a[:, None], b[None]) / sigma) ** 2, floor) for a, b in itertools.pairwise(poses)]
    )


# ---------------------------------------------------------------- the angle modulo 48


def test_closed_form_against_all_48() -> None:
    rng = np.random.default_rng(0)
    a, b = random_rotations(400, rng), random_rotations(400, rng)
    b[:100] = near(a[:100], 1.0, rng)
    b[100:200] = near(equivalents(a[100:200])[np.arange(100), rng.integers(0, 48, 100)], 20.0, rng)
    for p, q in zip(a, b, strict=True):
        direct = np.abs(equivalents(q) @ p).max()
        assert _dot_cubic(p, q) == pytest.approx(direct, abs=1e-12)
        assert _dot_listed(p, q, CUBE.turns, CUBE.flips) == pytest.approx(direct, abs=1e-12)
        assert _dot_cubic(-p, q) == pytest.approx(direct, abs=1e-12)


def test_transition_weights_are_gaussian_in_the_angle() -> None:
    poses = random_rotations(6, np.random.default_rng(1))
    poses[3:] = near(poses[:3], 4.0, np.random.default_rng(2))
    start, column = np.array([0, 2, 3, 3, 4, 5, 6]), np.array([3, 0, 4, 0, 1, 2], np.int32)
    row = np.repeat(np.arange(6), np.diff(start))
    expected = np.exp(-0.5 * (angle_modulo_deg(poses[row], poses[column]) / 3.0) ** 2)
    np.testing.assert_allclose(transition_weights(poses, start, column, 3.0), expected, rtol=1e-4)


# ---------------------------------------------------------------- paths and probabilities


@pytest.mark.parametrize("seed", range(6))
def test_viterbi_modulo_is_the_best_of_all_paths(seed: int) -> None:
    poses, score = small_chain(seed)
    emission = tempered(score, 0.3)
    best, _ = enumerate_paths(emission, transitions(poses, 3.0, -25.0, angle_modulo_deg))
    path, chosen = path_modulo(poses, score, 3.0)
    assert tuple(chosen) == best
    np.testing.assert_allclose(angle_modulo_deg(path, poses[np.arange(FRAMES), chosen]), 0, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_forward_backward_modulo_is_the_marginal_of_all_paths(seed: int) -> None:
    poses, score = small_chain(seed)
    _, marginal = enumerate_paths(tempered(score, 0.3, 200.0), transitions(poses, 3.0, np.log(1e-7), angle_modulo_deg))
    found = posterior_modulo(poses, score, 3.0)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, marginal, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("anchored", [False, True])
def test_decoding_keeps_equivalents_apart(seed: int, anchored: bool) -> None:
    # 48 would be the same for a modulo chain: with plain angles a jump between branches costs
    poses, score = small_chain(seed)
    rng = np.random.default_rng(seed + 100)
    poses[:, 2] = equivalents(poses[:, 1])[:, 30]
    anchor = near(poses[0, 1][None], 5.0, rng)[0] if anchored else None
    emission, softer = tempered(score, 0.3), tempered(score, 0.15)
    if anchor is not None:
        pull = np.maximum(-0.5 * (angle_deg(poses[0], anchor) / 4.0) ** 2, -60.0)
        emission[0] += pull
        softer[0] += pull
    steps = transitions(poses, 4.0, -60.0, angle_deg)
    best, _ = enumerate_paths(emission, steps)
    _, marginal = enumerate_paths(softer, steps)
    chosen, mass = decode(poses, score, 4.0, anchor=anchor)
    assert tuple(chosen) == best
    around = angle_deg(poses, poses[np.arange(FRAMES), chosen][:, None]) < 8
    np.testing.assert_allclose(mass, (marginal * around).sum(axis=1), atol=2e-3)


def test_mass_gathers_neighbouring_candidates_but_not_other_branches() -> None:
    path = walk(20, 1.0, 3)
    rng = np.random.default_rng(4)
    branch = equivalents(path)[:, 7]
    _, unsure = decode(np.stack([path, branch], axis=1), np.zeros((20, 2)), 2.0)
    np.testing.assert_allclose(unsure, 0.5, atol=0.01)
    poses = np.stack([path, near(path, 2.0, rng), branch], axis=1)
    chosen, sure = decode(poses, np.array([[0.0, 0.0, -200.0]] * 20), 2.0)
    assert sure.min() > 0.999
    assert set(chosen) <= {0, 1}


def test_probabilities_survive_hopeless_frames() -> None:
    # far beyond the range of exp: tempered and clipped, never NaN
    rng = np.random.default_rng(5)
    poses = random_rotations(30 * 6, rng).reshape(30, 6, 4)
    score = rng.normal(0, 1e5, (30, 6))
    for mass in (posterior_modulo(poses, score, 0.2), decode(poses, score, 0.2)[1]):
        assert np.isfinite(mass).all()
        assert (mass >= 0).all()
        assert mass.max() <= 1 + 1e-9


def test_one_frame_is_a_chain_too() -> None:
    poses, score = small_chain(7)
    path, chosen = path_modulo(poses[:1], score[:1], 3.0)
    assert chosen[0] == score[0].argmax()
    assert path.shape == (1, 4)
    chosen, mass = decode(poses[:1], score[:1], 3.0)
    assert chosen[0] == score[0].argmax()
    assert 0 < mass[0] <= 1


def test_tempered_scores() -> None:
    score = np.array([[5.0, 3.0, -1000.0]], np.float32)
    np.testing.assert_allclose(tempered(score, 0.3), [[0, -0.6, -39.0]], rtol=1e-6)


# ---------------------------------------------------------------- unwrapping


@pytest.mark.parametrize("anchored", [False, True])
def test_a_known_path_is_unwrapped_into_one_branch(anchored: bool) -> None:
    truth = walk(300, 2.5, 8)
    rng = np.random.default_rng(9)
    # every frame's right candidate sits in a branch of its own; three wrong ones beside it
    scattered = equivalents(truth)[np.arange(300), rng.integers(0, 48, 300)]
    poses = np.stack([scattered, *random_rotations(900, rng).reshape(3, 300, 4)], axis=1)
    score = np.zeros((300, 4))
    score[:, 0] = 20.0
    path, chosen = path_modulo(poses, score, 2.5, anchor=truth[0] if anchored else None)
    assert (chosen == 0).all()
    branch = angle_deg(equivalents(truth), path[:, None]).argmin(axis=1)
    assert (angle_deg(equivalents(truth), path[:, None]).min(axis=1) < 1e-4).all()
    assert (branch == branch[0]).all()
    if anchored:
        assert branch[0] == 0
    assert step_per_axis_deg(path) == pytest.approx(2.5, rel=0.1)


def test_continuity_outvotes_a_frame_that_scores_elsewhere() -> None:
    truth = walk(50, 2.0, 10)
    rng = np.random.default_rng(11)
    poses = np.stack([truth, random_rotations(50, rng)], axis=1)
    score = np.zeros((50, 2))
    score[:, 0] = 30.0
    score[25] = [0.0, 30.0]
    _, chosen = path_modulo(poses, score, 2.0)
    assert (chosen == 0).all()


def test_step_of_a_walk() -> None:
    assert step_per_axis_deg(walk(4000, 1.7, 12)) == pytest.approx(1.7, rel=0.03)


def test_distinct_candidates() -> None:
    rng = np.random.default_rng(13)
    base = random_rotations(3, rng)
    poses = np.stack(
        [
            base,
            near(base, 1.0, rng),  # the same pose
            equivalents(base)[:, 33],  # the same pose modulo 48
            near(base, 12.0, rng),
            random_rotations(3, rng),
        ],
        axis=1,
    )
    np.testing.assert_array_equal(distinct_modulo(poses, 3), [[0, 3, 4]] * 3)
    np.testing.assert_array_equal(distinct_modulo(poses[:, :3], 3), [[0, 0, 0]] * 3)  # padded with the first
