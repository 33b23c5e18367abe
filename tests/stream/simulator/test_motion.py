"""Motion: rotations compose as the conventions say, diffusion has the size asked for, walks stay where they must."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tumble.stream.simulator import motion


def scipy_rotation(quaternions_wxyz: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.asarray(quaternions_wxyz)[..., [1, 2, 3, 0]])


def test_products_and_matrices_agree_with_scipy() -> None:
    rng = np.random.default_rng(3)
    left, right = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in rng.standard_normal((2, 20, 4)))
    product = motion.quaternion_product(left, right)
    expected = (scipy_rotation(left) * scipy_rotation(right)).as_matrix()
    for number in range(20):
        np.testing.assert_allclose(motion.rotation_matrix(product[number]), expected[number], atol=1e-12)


def test_rotation_vectors_agree_with_scipy() -> None:
    vectors = np.array([[0.0, 0.0, 0.0], [0.1, -0.2, 0.3], [0.0, 0.0, np.pi / 2]])
    got = scipy_rotation(motion.rotation_vector_quaternion(vectors)).as_matrix()
    np.testing.assert_allclose(got, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("degrees", [0.5, 2.0, 8.0])
def test_rotational_diffusion_has_the_size_asked_for_on_every_lab_axis(degrees: float) -> None:
    path = scipy_rotation(motion.tumbling(20000, degrees, np.random.default_rng(1)))
    steps = np.degrees((path[1:] * path[:-1].inv()).as_rotvec())  # q(t+1) = dq q(t): increments in the lab frame
    np.testing.assert_allclose(steps.std(axis=0), degrees, rtol=0.03)
    assert np.abs(np.corrcoef(steps.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(steps[1:, 0], steps[:-1, 0])[0, 1]) < 0.03


def test_long_paths_stay_unit_quaternions() -> None:
    path = motion.tumbling(50000, 3.0, np.random.default_rng(2))
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1.0, atol=1e-12)


def test_halfway_between_two_orientations() -> None:
    first = motion.rotation_vector_quaternion(np.array([0.0, 0.0, 0.2]))
    second = motion.rotation_vector_quaternion(np.array([0.0, 0.0, 0.6]))
    middle = scipy_rotation(motion.between(first, -second, 0.5))
    np.testing.assert_allclose(middle.as_rotvec(), [0.0, 0.0, 0.4], atol=1e-12)


def test_walk_takes_the_steps_asked_for_and_stays_in_its_disc() -> None:
    path = motion.bounded_walk(20000, 0.6, 15.0, np.random.default_rng(5))
    assert np.hypot(*path.T).max() <= 15.0
    inside = np.hypot(*path[:-1].T) < 12.0
    np.testing.assert_allclose(np.diff(path, axis=0)[inside].std(axis=0), 0.6, rtol=0.03)


def test_height_settles_around_zero_with_its_spread_and_memory() -> None:
    path = motion.settling(40000, 5.0, 40.0, np.random.default_rng(6))
    assert path.std() == pytest.approx(5.0, rel=0.1)
    assert np.corrcoef(path[:-40], path[40:])[0, 1] == pytest.approx(np.exp(-1.0), abs=0.08)


def test_smooth_wave_keeps_to_its_amplitude() -> None:
    wave = motion.smooth_wave(5000, 0.03, 400.0, np.random.default_rng(7))
    assert np.abs(wave).max() <= 0.03
    assert np.abs(np.diff(wave)).max() < 0.002
