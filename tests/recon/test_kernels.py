"""The kernels on the processor, against analytic transforms, direct sums and finite differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.geometry import HalfPlane, half_plane
from tumble.recon.rotations import (
    C2Z,
    angle_deg,
    from_matrix,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)
from tumble.recon.volume import PAD, Grid, as_kernel_volume, attenuation, to_fourier

BOX, K_MAX = 64, 18
SIGMA = 1.5  # of the atoms, px


@dataclass
class Body:
    """A small asymmetric set of Gaussian atoms (n, 3) px with heights, and its kernel volume."""

    atoms: np.ndarray
    heights: np.ndarray
    grid: Grid
    volume: np.ndarray
    plane: HalfPlane

    def transform(self, pose: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Analytic coefficients (n,) complex of the image."""
        k = np.stack([self.plane.kx, self.plane.ky]).astype(float) / BOX
        seen = self.atoms @ to_matrix(pose)[:2].T + shift
        shape = (2 * np.pi) ** 1.5 * SIGMA**3 * np.exp(-2 * np.pi**2 * SIGMA**2 * (k**2).sum(axis=0))
        return shape * (np.exp(-2j * np.pi * seen @ k) * self.heights[:, None]).sum(axis=0)


@pytest.fixture(scope="module")
def body(device: Device) -> Body:
    rng = np.random.default_rng(0)
    atoms, heights = rng.uniform(-12, 12, (9, 3)), rng.uniform(0.5, 1.5, 9)
    axis = np.arange(BOX) - BOX // 2
    real = np.zeros((BOX,) * 3)
    for (x, y, z), height in zip(atoms, heights, strict=True):
        line = [np.exp(-0.5 * ((axis - c) / SIGMA) ** 2) for c in (z, y, x)]
        real += height * line[0][:, None, None] * line[1][None, :, None] * line[2][None, None, :]
    grid = Grid(BOX, K_MAX)
    volume = as_kernel_volume(to_fourier(real.astype(np.float32), grid, device), device)
    return Body(atoms, heights, grid, volume, half_plane(BOX, K_MAX))


def packed(values: np.ndarray) -> np.ndarray:
    """Complex (..., n) to (..., n, 2) float32."""
    return np.ascontiguousarray(np.stack([values.real, values.imag], axis=-1), np.float32)


def unpacked(values: np.ndarray) -> np.ndarray:
    return values[..., 0].astype(float) + 1j * values[..., 1].astype(float)


def matrices(poses: np.ndarray) -> np.ndarray:
    return to_matrix(poses).astype(np.float32)


def slices(device: Device, body: Body, poses: np.ndarray) -> np.ndarray:
    plane = body.plane
    return unpacked(device.kernels.slice_volume(body.volume, PAD, matrices(poses), plane.kx, plane.ky, len(plane.kx)))


def test_projection_slice_theorem(device: Device, body: Body) -> None:
    poses = random_rotations(6, np.random.default_rng(1))
    found = slices(device, body, poses)
    for pose, got in zip(poses, found, strict=True):
        expected = body.transform(pose, np.zeros(2))
        # trilinear interpolation on the doubly oversampled grid is good to two per cent for atoms up to 20 px out
        assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()
        assert np.linalg.norm(got - expected) < 0.02 * np.linalg.norm(expected)


def test_the_half_turn_is_the_conjugate(device: Device, body: Body) -> None:
    poses = random_rotations(3, np.random.default_rng(2))
    straight = slices(device, body, poses)
    np.testing.assert_allclose(slices(device, body, multiply(C2Z, poses)), straight.conj(), atol=1e-3)


def test_insertion_is_the_adjoint_of_slicing(device: Device) -> None:
    # Re <slice(V), F> = Re <V, insert(F)> with weights and shifts; half of the grid holds a real map
    rng = np.random.default_rng(3)
    grid, plane = Grid(BOX, 12), half_plane(BOX, 12)
    count, edge = len(plane.kx), grid.edge
    whole = rng.normal(size=(edge, edge, edge)) + 1j * rng.normal(size=(edge, edge, edge))
    volume = packed(whole + whole[::-1, ::-1, ::-1].conj())
    poses, shifts = random_rotations(4, rng), rng.uniform(-3, 3, (4, 2))
    boxes = rng.normal(size=(4, count, 2)).astype(np.float32)
    weight, shares = rng.uniform(0.5, 2, count).astype(np.float32), np.array([1, 0.3, 2, -0.5], np.float32)
    numerator = np.zeros((1, edge, edge, grid.half + 1, 2), np.float32)
    denominator = np.zeros((1, edge, edge, grid.half + 1), np.float32)
    device.kernels.insert_poses(
        numerator, denominator, np.zeros(4, np.int64), PAD, np.arange(4), matrices(poses), shifts.astype(np.float32),
        shares, boxes, plane.kx, plane.ky, weight, count, BOX,
    )  # fmt: skip
    sliced = unpacked(device.kernels.slice_volume(volume, PAD, matrices(poses), plane.kx, plane.ky, count))
    k = np.stack([plane.kx, plane.ky]).astype(float)
    back = np.exp(2j * np.pi / BOX * shifts @ k)
    moved = unpacked(boxes) * back * weight * shares[:, None]
    image_side = (sliced.conj() * moved).sum()
    volume_side = (unpacked(volume[:, :, grid.half :]).conj() * unpacked(numerator[0])).sum()
    assert abs(image_side.real - volume_side.real) < 1e-4 * np.linalg.norm(sliced) * np.linalg.norm(moved)
    assert denominator.sum(dtype=float) == pytest.approx(float(weight.sum() * shares.sum()), rel=1e-5)


def test_insertion_keeps_the_sets_apart_and_reads_the_rows_it_is_told(device: Device) -> None:
    rng = np.random.default_rng(4)
    grid, plane = Grid(BOX, 8), half_plane(BOX, 8)
    count = len(plane.kx)
    boxes = rng.normal(size=(5, count, 2)).astype(np.float32)
    poses, shifts, ones = random_rotations(3, rng), np.zeros((3, 2), np.float32), np.ones(3, np.float32)
    weight, rows = np.ones(count, np.float32), np.array([4, 0, 2])

    def insert(target: list[int], pick: list[int], sets: int) -> np.ndarray:
        shape = (sets, grid.edge, grid.edge, grid.half + 1)
        numerator = np.zeros((*shape, 2), np.float32)
        device.kernels.insert_poses(
            numerator, np.zeros(shape, np.float32), np.array(target), PAD, rows[pick],
            matrices(poses[pick]), shifts[pick], ones[pick], boxes, plane.kx, plane.ky, weight, count, BOX,
        )  # fmt: skip
        return numerator

    both = insert([1, 0, 1], [0, 1, 2], 2)
    np.testing.assert_array_equal(both[0], insert([0], [1], 1)[0])
    np.testing.assert_array_equal(both[1], insert([0, 0], [0, 2], 1)[0])


def test_a_negative_share_takes_a_frame_out_again(device: Device) -> None:
    rng = np.random.default_rng(5)
    grid, plane = Grid(BOX, 12), half_plane(BOX, 12)
    count = len(plane.kx)
    boxes = rng.normal(size=(40, count, 2)).astype(np.float32)
    poses, shifts = random_rotations(40, rng), rng.uniform(-2, 2, (40, 2)).astype(np.float32)
    weight = rng.uniform(0.5, 2, count).astype(np.float32)

    def insert(into: tuple[np.ndarray, np.ndarray], frames: np.ndarray, share: float) -> None:
        device.kernels.insert_poses(
            *into, np.zeros(len(frames), np.int64), PAD, frames, matrices(poses[frames]), shifts[frames],
            np.full(len(frames), share, np.float32), boxes, plane.kx, plane.ky, weight, count, BOX,
        )  # fmt: skip

    def empty() -> tuple[np.ndarray, np.ndarray]:
        shape = (1, grid.edge, grid.edge, grid.half + 1)
        return np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)

    whole, rest, alone = empty(), empty(), empty()
    insert(whole, np.arange(40), 1.0)
    insert(whole, np.array([7, 23]), -1.0)
    insert(rest, np.setdiff1d(np.arange(40), [7, 23]), 1.0)
    for with_and_without, never in zip(whole, rest, strict=True):
        np.testing.assert_allclose(with_and_without, never, atol=2e-6 * np.abs(never).max())
    insert(alone, np.array([7]), 1.0)
    insert(alone, np.array([7]), -1.0)
    assert np.abs(alone[0]).max() < 1e-5
    assert np.abs(alone[1]).max() < 1e-5


# ---------------------------------------------------------------- scores


def log_likelihood(
    model: np.ndarray, box: np.ndarray, weight: np.ndarray, plane: HalfPlane, shift: np.ndarray
) -> float:
    """sum_j w_j (2 Re(conj(F_j) M_j exp(-i k.s)) - |M_j|^2), the definition at the head of bodies.py."""
    ramp = np.exp(-2j * np.pi / BOX * (plane.kx * shift[0] + plane.ky * shift[1]))
    return float((weight * (2 * (box.conj() * model * ramp).real - abs(model) ** 2)).sum())


@pytest.fixture(scope="module")
def scene(body: Body) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Poses (4, 4), shifts (4, 2), noisy boxes (4, n) complex, weight (n,)."""
    rng = np.random.default_rng(6)
    poses, shifts = random_rotations(4, rng), rng.uniform(-2, 2, (4, 2))
    clean = np.array([body.transform(q, s) for q, s in zip(poses, shifts, strict=True)])
    level = 0.1 * np.sqrt((abs(clean) ** 2).mean())
    noise = rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)
    weight = (rng.uniform(0.5, 1.5, clean.shape[1]) / level**2).astype(np.float32)
    return poses, shifts, clean + level * noise, weight


def score(device: Device, body: Body, frames: list[int], poses: np.ndarray, starts: np.ndarray, boxes, weight):
    plane = body.plane
    return device.kernels.score_pairs(
        body.volume, PAD, np.array(frames), matrices(poses), starts.astype(np.float32), packed(boxes), plane.kx,
        plane.ky, weight, len(plane.kx), BOX,
    )  # fmt: skip


def test_score_is_the_direct_sum_at_the_shift_it_returns(device: Device, body: Body, scene) -> None:
    poses, shifts, boxes, weight = scene
    rng = np.random.default_rng(7)
    tried = random_rotations(8, rng).reshape(2, 4, 4)
    tried[0, 0], tried[1, 0] = poses[3], multiply(C2Z, poses[1])
    starts = np.repeat(np.stack([shifts[[3, 1]]] * 4, axis=1)[:, :, None], 2, axis=2)
    value, at = score(device, body, [3, 1], tried, starts, boxes, weight)
    for t, frame in enumerate((3, 1)):
        for k in range(4):
            model = slices(device, body, tried[t, k][None])[0]
            for h, m in enumerate((model, model.conj())):
                energy = (weight * abs(m) ** 2).sum()
                direct = log_likelihood(m, boxes[frame], weight, body.plane, at[t, k, h])
                # the kernel returns the parabola's value at its own last step
                assert value[t, k, h] == pytest.approx(direct, abs=0.02 * energy)
    # both right poses win, one of them through its half turn
    assert np.unravel_index(value[0].argmax(), (4, 2)) == (0, 0)
    assert np.unravel_index(value[1].argmax(), (4, 2)) == (0, 1)


def test_score_of_the_half_turn_is_the_score_of_the_turned_pose(device: Device, body: Body, scene) -> None:
    poses, shifts, boxes, weight = scene
    tried = random_rotations(6, np.random.default_rng(8))[None]
    tried[0, :2] = poses[0], multiply(C2Z, poses[0])
    starts = np.broadcast_to(shifts[0], (1, 6, 2, 2)).copy()
    straight, at = score(device, body, [0], tried, starts, boxes, weight)
    turned, turned_at = score(device, body, [0], multiply(C2Z, tried), starts, boxes, weight)
    np.testing.assert_allclose(turned[..., ::-1], straight, rtol=2e-4, atol=1e-3 * np.abs(straight).max())
    np.testing.assert_allclose(turned_at[0, 0, ::-1], at[0, 0], atol=2e-3)
    np.testing.assert_allclose(turned_at[0, 1, ::-1], at[0, 1], atol=2e-3)


def test_score_finds_the_shift_from_nearby(device: Device, body: Body, scene) -> None:
    poses, shifts, boxes, weight = scene
    away = shifts + np.array([0.5, -0.4])
    starts = np.repeat(away[:, None, None], 2, axis=2)
    _, at = score(device, body, [0, 1, 2, 3], poses[:, None], starts, boxes, weight)
    np.testing.assert_allclose(at[:, 0, 0], shifts, atol=0.03)


def test_score_does_not_jump_far_from_its_start(device: Device, body: Body, scene) -> None:
    _, shifts, boxes, weight = scene
    tried = random_rotations(100, np.random.default_rng(9))[None]
    starts = np.broadcast_to(shifts[0], (1, 100, 2, 2))
    _, at = score(device, body, [0], tried, starts, boxes, weight)
    assert np.linalg.norm(at - shifts[0], axis=-1).max() <= 1.4 + 1e-4  # two steps of 0.7 px


# ---------------------------------------------------------------- refinement


def normal_equations(body: Body, pose: np.ndarray, shift: np.ndarray, box: np.ndarray, weight: np.ndarray):
    """Log-likelihood, gradient (5,) and normal matrix (5, 5), in the units of the likelihood."""
    from tumble.recon.kernels import cpu

    plane = body.plane
    limit, normal = K_MAX, np.zeros(20)
    value = cpu._bodies.normal_equations(
        body.volume.reshape(-1), body.grid.half, np.float32(PAD), to_matrix(pose).astype(np.float32),
        packed(box).reshape(-1), plane.kx, plane.ky, weight, len(plane.kx), limit, np.float32(2 * np.pi / BOX),
        np.float32(shift[0]), np.float32(shift[1]), np.empty(8 * limit + 4, np.float32), normal,
    )  # fmt: skip
    matrix = np.zeros((5, 5))
    matrix[np.triu_indices(5)] = normal[5:]
    return value, 2 * normal[:5], 2 * (matrix + np.triu(matrix, 1).T)


def smooth_model(body: Body, parameters: np.ndarray, pose: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Analytic image for a pose turned by three lab angles and shifted by two pixels more."""
    return body.transform(multiply(from_rotation_vector(parameters[:3]), pose), shift + parameters[3:])


def test_likelihood_gradient_and_normal_matrix_against_finite_differences(body: Body, scene) -> None:
    poses, shifts, boxes, weight = scene
    plane = body.plane
    pose = multiply(from_rotation_vector([0.03, -0.02, 0.05]), poses[0])
    shift = shifts[0] + np.array([0.2, -0.3])
    value, gradient, matrix = normal_equations(body, pose, shift, boxes[0], weight)

    def likelihood(parameters: np.ndarray) -> float:
        return log_likelihood(smooth_model(body, parameters, pose, shift), boxes[0], weight, plane, np.zeros(2))

    assert value == pytest.approx(likelihood(np.zeros(5)), rel=0.01)
    h = np.array([1e-4] * 3 + [1e-3] * 2)
    steps = np.diag(h)
    slope = np.array([(likelihood(s) - likelihood(-s)) / (2 * s.sum()) for s in steps])
    jacobian = np.array(
        [(smooth_model(body, s, pose, shift) - smooth_model(body, -s, pose, shift)) / (2 * s.sum()) for s in steps]
    )
    expected = 2 * ((jacobian.conj() * weight) @ jacobian.T).real
    scale = np.sqrt(np.diag(expected))
    # the gradient of a trilinear interpolation is piecewise constant: right to a few per cent
    np.testing.assert_allclose(matrix / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.04)
    np.testing.assert_allclose(gradient / np.linalg.norm(slope), slope / np.linalg.norm(slope), atol=0.04)
    np.testing.assert_array_equal(np.sign(gradient), np.sign(slope))


def refine(device: Device, body: Body, poses: np.ndarray, shifts: np.ndarray, boxes, weight, rounds: int = 12):
    plane = body.plane
    found, at, value = device.kernels.refine_poses(
        body.volume, PAD, np.arange(len(poses)), matrices(poses), shifts.astype(np.float32), packed(boxes), plane.kx,
        plane.ky, weight, len(plane.kx), BOX, rounds,
    )  # fmt: skip
    return from_matrix(found), at, value


def test_refinement_recovers_a_perturbed_pose_and_shift(device: Device, body: Body, scene) -> None:
    poses, shifts, boxes, weight = scene
    rng = np.random.default_rng(10)
    axes = to_matrix(random_rotations(4, rng))[:, 0]
    start = multiply(from_rotation_vector(np.radians(4) * axes), poses)
    found, at, value = refine(device, body, start, shifts + rng.choice([-0.8, 0.8], (4, 2)), boxes, weight)
    assert angle_deg(found, poses).max() < 0.3
    np.testing.assert_allclose(at, shifts, atol=0.03)
    for t in range(4):
        direct, true = (
            log_likelihood(slices(device, body, pose[None])[0], boxes[t], weight, body.plane, shift)
            for pose, shift in ((found[t], at[t]), (poses[t], shifts[t]))
        )
        assert value[t] == pytest.approx(direct, rel=1e-4)
        assert value[t] >= true


def test_refinement_never_makes_it_worse_and_changes_no_input(device: Device, body: Body, scene) -> None:
    _, shifts, boxes, weight = scene
    poses = random_rotations(4, np.random.default_rng(11))
    kept = poses.copy(), shifts.copy()
    before = refine(device, body, poses, shifts, boxes, weight, rounds=0)
    after = refine(device, body, poses, shifts, boxes, weight)
    np.testing.assert_array_equal(before[1], shifts.astype(np.float32))
    assert (after[2] >= before[2]).all()
    np.testing.assert_array_equal(poses, kept[0])
    np.testing.assert_array_equal(shifts, kept[1])


def test_refinement_survives_an_empty_volume(device: Device, body: Body, scene) -> None:
    # singular normal matrix: nothing to improve, nothing to raise, no NaN
    poses, shifts, boxes, weight = scene
    nothing = Body(body.atoms, body.heights, body.grid, np.zeros_like(body.volume), body.plane)
    found, at, value = refine(device, nothing, poses, shifts, boxes, weight)
    np.testing.assert_array_equal(value, 0)
    assert angle_deg(found, poses).max() < 0.1
    np.testing.assert_allclose(at, shifts, atol=1e-6)


def test_the_attenuation_that_is_divided_out_is_that_of_the_kernels(device: Device) -> None:
    # an atom at the rim of the box loses nothing: what trilinear slicing attenuates, to_fourier has put in before
    grid, plane = Grid(BOX, K_MAX), half_plane(BOX, K_MAX)
    real = np.zeros((BOX,) * 3, np.float32)
    axis = np.arange(BOX) - BOX // 2
    line = np.exp(-0.5 * ((axis - 24) / SIGMA) ** 2)
    middle = np.exp(-0.5 * (axis / SIGMA) ** 2)
    real += middle[:, None, None] * middle[None, :, None] * line[None, None, :]
    assert attenuation(BOX)[BOX // 2, BOX // 2, BOX // 2 + 24] < 0.9
    volume = as_kernel_volume(to_fourier(real, grid, device), device)
    spin = from_rotation_vector(np.stack([np.zeros(20), np.zeros(20), np.linspace(0, 1.5, 20)], axis=1))
    found = unpacked(device.kernels.slice_volume(volume, PAD, matrices(spin), plane.kx, plane.ky, plane.count(6)))
    first = abs(found[:, : plane.count(6)]).mean(axis=0)
    k = plane.radius[: plane.count(6)] / BOX
    expected = (2 * np.pi) ** 1.5 * SIGMA**3 * np.exp(-2 * np.pi**2 * SIGMA**2 * k**2)
    np.testing.assert_allclose(first, expected, rtol=0.1)
    assert first.mean() == pytest.approx(expected.mean(), rel=0.03)


def test_interpolation_by_rows_is_that_of_the_body() -> None:
    """The processor reads four vectors instead of sixteen numbers (`kernels/rows.py`)."""
    from numba import njit

    from tumble.recon.kernels import cpu, rows

    by_rows, body = rows.interpolate, cpu._bodies.interpolate

    @njit
    def both(volume, x, y, z):  # type: ignore[no-untyped-def]
        return by_rows(volume, 3, x, y, z), body(volume, 3, x, y, z)

    rng = np.random.default_rng(3)
    volume = rng.normal(size=(7, 7, 7, 2)).astype(np.float32)
    for place in np.concatenate([rng.uniform(0, 6, (200, 3)), np.full((1, 3), 5.0)]).astype(np.float32):
        ours, theirs = both(volume.reshape(-1), *place)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)
