"""Rotations: conventions, the cubic group and the 48 poses of one lattice image, grids on SO(3)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tumble.recon.rotations import (
    C2Z,
    CUBIC,
    angle_deg,
    angle_modulo_deg,
    conjugate,
    equivalents,
    from_matrix,
    from_rotation_vector,
    fundamental_zone_grid,
    midpoints,
    multiply,
    nearest_equivalent,
    normalise,
    random_rotations,
    super_fibonacci,
    to_matrix,
)

seeded = settings(derandomize=True, deadline=None, max_examples=60)  # the same examples in every run

component = st.floats(-1, 1, allow_nan=False, width=64)
quaternions = (
    st.tuples(component, component, component, component)
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(lambda q: normalise(np.array(q)))
)


def same(a, b) -> bool:
    """The same rotations, whatever the sign of the quaternion."""
    return bool(np.allclose(np.abs((np.asarray(a) * np.asarray(b)).sum(axis=-1)), 1, atol=1e-12))


# ---------------------------------------------------------------- conventions


def test_quarter_turn_about_the_beam_takes_column_to_row() -> None:
    # r_lab = R(q) r_body; right-handed, x = column, y = row: +90 degrees about z takes x to y
    q = np.array([np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)])
    np.testing.assert_allclose(to_matrix(q) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(to_matrix(q) @ [0, 1, 0], [-1, 0, 0], atol=1e-15)


@pytest.mark.parametrize(("axis", "start", "end"), [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_right_handed_about_every_axis(axis: int, start: int, end: int) -> None:
    vector = np.eye(3)[axis] * np.pi / 2
    np.testing.assert_allclose(to_matrix(from_rotation_vector(vector)) @ np.eye(3)[start], np.eye(3)[end], atol=1e-15)


def test_product_rotates_by_the_right_factor_first() -> None:
    rng = np.random.default_rng(0)
    a, b = random_rotations(2, rng)
    point = rng.normal(size=3)
    np.testing.assert_allclose(
        to_matrix(multiply(a, b)) @ point, to_matrix(a) @ (to_matrix(b) @ point), rtol=0, atol=1e-14
    )


def test_half_turn_about_the_beam_keeps_z() -> None:
    np.testing.assert_allclose(to_matrix(C2Z), np.diag([-1.0, -1.0, 1.0]))


@seeded
@given(quaternions)
def test_matrices_agree_with_scipy(q) -> None:
    np.testing.assert_allclose(to_matrix(q), Rotation.from_quat(np.roll(q, -1)).as_matrix(), atol=1e-12)


@seeded
@given(quaternions)
def test_matrix_round_trip(q) -> None:
    matrix = to_matrix(q)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert same(from_matrix(matrix), q)


def test_matrix_round_trip_at_half_turns() -> None:
    # the trace is -1 there, where the naive formula divides by zero
    axes = normalise(np.random.default_rng(1).normal(size=(50, 3)))
    q = np.concatenate([np.zeros((50, 1)), axes], axis=1)
    q = np.concatenate([q, np.eye(4)])
    assert same(from_matrix(to_matrix(q)), q)
    assert from_matrix(to_matrix(q.reshape(6, 9, 4))).shape == (6, 9, 4)


@seeded
@given(quaternions, quaternions, quaternions)
def test_products(a, b, c) -> None:
    assert same(multiply(multiply(a, b), c), multiply(a, multiply(b, c)))
    assert same(multiply(a, conjugate(a)), [1, 0, 0, 0])
    assert angle_deg(a, -a) == pytest.approx(0, abs=1e-5)
    assert angle_deg(multiply(c, a), multiply(c, b)) == pytest.approx(float(angle_deg(a, b)), abs=1e-4)
    assert angle_deg(multiply(a, c), multiply(b, c)) == pytest.approx(float(angle_deg(a, b)), abs=1e-4)


@seeded
@given(st.floats(0, 180), quaternions)
def test_angle_of_a_rotation_vector(degrees: float, q) -> None:
    axis = to_matrix(q)[0]
    turned = multiply(from_rotation_vector(np.radians(degrees) * axis), q)
    assert angle_deg(turned, q) == pytest.approx(degrees, abs=1e-5)


def test_small_rotation_vectors_have_no_division_by_zero() -> None:
    np.testing.assert_array_equal(from_rotation_vector(np.zeros((2, 3))), [[1, 0, 0, 0]] * 2)
    np.testing.assert_allclose(from_rotation_vector([1e-9, 0, 0])[1], 5e-10)


# ---------------------------------------------------------------- symmetry


def test_cubic_group() -> None:
    matrices = np.rint(to_matrix(CUBIC)).astype(int)
    np.testing.assert_allclose(to_matrix(CUBIC), matrices, atol=1e-12)
    np.testing.assert_array_equal(matrices[0], np.eye(3))
    members = {m.tobytes() for m in matrices}
    assert len(members) == 24
    assert {(a @ b).tobytes() for a, b in itertools.product(matrices, repeat=2)} == members
    assert all(np.linalg.det(m) > 0 and np.abs(m).sum() == 3 for m in matrices)


def test_equivalents_in_the_order_that_is_promised() -> None:
    q = random_rotations(3, np.random.default_rng(2))
    many = equivalents(q)
    assert many.shape == (3, 48, 4)
    np.testing.assert_allclose(many[:, 0], q)
    for h, c in ((0, 7), (1, 0), (1, 19)):
        want = multiply(q, CUBIC[c])
        np.testing.assert_allclose(many[:, 24 * h + c], multiply(C2Z, want) if h else want)


def test_equivalents_of_an_equivalent_are_the_same_set() -> None:
    q = random_rotations(1, np.random.default_rng(3))[0]
    first = equivalents(q)
    for member in (5, 24, 40):
        nearest = angle_deg(equivalents(first[member])[:, None], first[None]).min(axis=1)
        np.testing.assert_allclose(nearest, 0, atol=1e-5)
    apart = angle_deg(first[:, None], first[None])[np.triu_indices(48, 1)]
    assert apart.min() > 1  # 48 different poses


def test_equivalents_give_one_lattice_image(synthetic) -> None:
    # a centrosymmetric, cubic set of atoms looks the same in all 48 poses: the reason why they are 48
    from tumble.recon.kinds import FCC, Lattice

    atoms = Lattice(FCC, 4.0).ball(13.0)
    q = random_rotations(1, np.random.default_rng(4))[0]
    images = [synthetic.project(atoms, pose, np.zeros(2), 40, 1.0) for pose in equivalents(q)]
    assert np.abs(np.array(images) - images[0]).max() < 1e-12 * np.abs(images[0]).max()


def test_angle_modulo_against_brute_force() -> None:
    rng = np.random.default_rng(5)
    a, b = random_rotations(100, rng), random_rotations(100, rng)
    want = []
    for p, q in zip(a, b, strict=True):
        angles = []
        for c in CUBIC:
            for turned in (multiply(q, c), multiply(C2Z, multiply(q, c))):
                trace = np.trace(to_matrix(p).T @ to_matrix(turned))
                angles.append(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))
        want.append(min(angles))
    np.testing.assert_allclose(angle_modulo_deg(a, b), want, atol=1e-4)
    np.testing.assert_allclose(angle_modulo_deg(a, b), angle_modulo_deg(b, a), atol=1e-6)


@seeded
@given(quaternions, quaternions, st.integers(0, 47))
def test_angle_modulo_does_not_see_the_branch(a, b, branch: int) -> None:
    other = equivalents(b)[branch]
    assert angle_modulo_deg(a, other) == pytest.approx(float(angle_modulo_deg(a, b)), abs=1e-4)
    near = nearest_equivalent(a, other)
    assert angle_deg(a, near) == pytest.approx(float(angle_modulo_deg(a, b)), abs=1e-4)
    assert angle_modulo_deg(near, b) < 1e-4


# ---------------------------------------------------------------- grids


def test_super_fibonacci_is_uniform() -> None:
    # the density of rotation angles on SO(3) is (1 - cos w) / pi, and second moments of the components are 1 / 4
    q = super_fibonacci(20_000)
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(q.T @ q / len(q), np.eye(4) / 4, atol=2e-3)
    angle = np.sort(np.radians(angle_deg(q, [1, 0, 0, 0])))
    expected = (angle - np.sin(angle)) / np.pi
    assert np.abs(expected - (np.arange(len(q)) + 0.5) / len(q)).max() < 5e-3


def test_super_fibonacci_in_pieces_is_the_same_set() -> None:
    np.testing.assert_array_equal(
        np.concatenate([super_fibonacci(100, 0, 37), super_fibonacci(100, 37)]), super_fibonacci(100)
    )


def test_fundamental_zone_holds_one_48th() -> None:
    spacing = 5.0
    grid = fundamental_zone_grid(spacing)
    full = 8 * np.pi**2 / np.radians(spacing) ** 3
    assert len(grid) == pytest.approx(full / 48, rel=0.02)


def test_fundamental_zone_has_no_gap_and_no_crowd() -> None:
    spacing = 6.0
    grid = fundamental_zone_grid(spacing)
    probes = random_rotations(300, np.random.default_rng(6))
    gap = np.array([angle_modulo_deg(p, grid).min() for p in probes])
    assert gap.max() < 0.95 * spacing  # covering radius of the set of Alexa (2022), about 0.85 spacings
    assert 0.4 * spacing < gap.mean() < 0.65 * spacing
    apart = np.array([np.sort(angle_modulo_deg(q, grid))[1] for q in grid[::20]])
    assert apart.min() > 0.3 * spacing


@pytest.mark.parametrize("spacing", [0.0, -3.0])
def test_fundamental_zone_needs_a_spacing(spacing: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        fundamental_zone_grid(spacing)


# ---------------------------------------------------------------- paths


@seeded
@given(quaternions, quaternions, st.floats(0.1, 170))
def test_midpoint_lies_half_way(q, axis, degrees: float) -> None:
    half = from_rotation_vector(np.radians(degrees / 2) * to_matrix(axis)[0])
    middle = multiply(half, q)
    end = -multiply(half, middle)  # the sign of a quaternion must not matter
    path = midpoints(np.array([q, axis, end]))
    assert same(path[1], middle)
    np.testing.assert_array_equal(path[[0, 2]], [q, end])


def test_paths_too_short_for_a_midpoint_stay() -> None:
    q = random_rotations(2, np.random.default_rng(7))
    np.testing.assert_array_equal(midpoints(q), q)
    np.testing.assert_array_equal(midpoints(q[:1]), q[:1])


def test_random_rotations_are_uniform() -> None:
    q = random_rotations(20_000, np.random.default_rng(8))
    np.testing.assert_allclose(to_matrix(q).mean(axis=0), 0, atol=0.02)
