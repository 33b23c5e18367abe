"""From sums to maps: the filled map where it is measured and where it is not, Wiener solution, accumulators."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.device import Device, cpu
from tumble.recon.maps import Accumulator, filled_map, rough_map, solve_halves
from tumble.recon.volume import (
    Grid,
    as_kernel_volume,
    complete,
    masked,
    masked_real,
    phase_ramp,
    radius_grid,
    shell_correlation,
    shell_sum,
    shell_voxels,
    symmetrise,
    to_fourier,
    to_real,
)

BOX = 64
GRID = Grid(BOX, 16)
HALF = (GRID.edge, GRID.edge, GRID.half + 1)  # planes x >= 0
CENTRE = np.array([1.5, -2.0, 0.5])


def atoms_map(positions: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    axis = np.arange(BOX) - BOX // 2
    real = np.zeros((BOX,) * 3)
    for position in positions:
        x, y, z = (np.exp(-0.5 * ((axis - c) / sigma) ** 2) for c in position)
        real += z[:, None, None] * y[None, :, None] * x[None, None, :]
    return real.astype(np.float32)


def cubic_atoms() -> np.ndarray:
    """A set of positions (n, 3) px with the full symmetry of the cube, about CENTRE."""
    grid = np.array(np.meshgrid(*[[-7, 0, 7]] * 3, indexing="ij")).reshape(3, -1).T
    return grid + CENTRE


@pytest.fixture(scope="module")
def asymmetric(device: Device) -> np.ndarray:
    """Fourier volume of a cube of atoms with some atoms missing."""
    return to_fourier(atoms_map(cubic_atoms()[:20]), GRID, device)


def test_filled_map_is_the_data_where_they_weigh_much(device: Device, asymmetric: np.ndarray) -> None:
    weight = np.full(HALF, 1e6, np.float32)
    half = (asymmetric * weight, weight)
    filled = filled_map(half, half, GRID, CENTRE, device)
    inside = radius_grid(GRID) <= 14
    expected = masked(asymmetric * (radius_grid(GRID) <= 16.5), GRID, device)
    assert np.abs(filled.joint - expected)[inside].max() < 5e-3 * np.abs(expected).max()


def test_filled_map_is_its_symmetrisation_where_nothing_was_measured(device: Device) -> None:
    # the crystal is cubic about CENTRE and half of Fourier space was never seen: filled, it is whole
    volume = to_fourier(atoms_map(cubic_atoms()), GRID, device)
    axis = np.arange(-GRID.half, GRID.half + 1)
    seen = (np.abs(axis)[:, None, None] <= np.abs(axis)[None, :, None]) & np.ones((1, 1, GRID.half + 1), bool)
    weight = np.where(seen, np.float32(1e4), np.float32(0))
    half = (volume * weight, weight)
    filled = filled_map(half, half, GRID, CENTRE, device).joint
    expected = masked(volume * (radius_grid(GRID) <= 16.5), GRID, device)
    inside = radius_grid(GRID) <= 14
    error = np.linalg.norm((filled - expected)[inside]) / np.linalg.norm(expected[inside])
    holes = np.linalg.norm((expected * ~seen)[inside]) / np.linalg.norm(expected[inside])
    assert seen.mean() < 0.55
    assert holes > 0.4
    assert error < 0.03
    elsewhere = filled_map(half, half, GRID, CENTRE + 3.5, device).joint  # about half a period off: no such help
    assert np.linalg.norm((elsewhere - expected)[inside]) / np.linalg.norm(expected[inside]) > 5 * error


def test_filled_halves_hold_their_own_data(device: Device, asymmetric: np.ndarray) -> None:
    other = to_fourier(atoms_map(cubic_atoms()[7:]), GRID, device)
    weight = np.full(HALF, 1e6, np.float32)
    filled = filled_map(
        (asymmetric * weight, weight),
        (other * weight, weight),
        GRID,
        CENTRE,
        device,
        with_halves=True,
        with_joint=False,
    )
    assert filled.halves is not None
    assert filled.joint.size == 0
    inside = radius_grid(GRID) <= 14
    for half, volume in zip(filled.halves, (asymmetric, other), strict=True):
        expected = masked(volume * (radius_grid(GRID) <= 16.5), GRID, device)
        assert np.abs(half - expected)[inside].max() < 5e-3 * np.abs(expected).max()


def test_filled_map_leaves_its_sums_alone(device: Device, asymmetric: np.ndarray) -> None:
    weight = np.ones(HALF, np.float32)
    half = (asymmetric.copy(), weight.copy())
    filled_map(half, half, GRID, CENTRE, device, with_halves=True)
    np.testing.assert_array_equal(half[0], asymmetric)
    np.testing.assert_array_equal(half[1], weight)


def test_asymmetric_power_is_what_symmetrising_takes_away(device: Device, asymmetric: np.ndarray) -> None:
    weight = np.full(HALF, 1e4, np.float32)
    half = (asymmetric * weight, weight)
    found = filled_map(half, half, GRID, CENTRE, device).asymmetry
    centred = asymmetric * phase_ramp(GRID, CENTRE, device)
    rest = np.abs(centred - symmetrise(centred.real)) ** 2
    expected = shell_sum(rest, GRID, device) / shell_voxels(GRID)
    smooth = np.convolve(np.pad(expected, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    np.testing.assert_allclose(found[2:12], smooth[2:12], rtol=0.1)


# ---------------------------------------------------------------- Wiener solution


def noisy_halves(volume: np.ndarray, power: float, weight: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two halves (numerator, denominator) with independent noise of `power` per coefficient."""
    rng = np.random.default_rng(seed)
    halves = []
    for _ in range(2):
        size = (volume.shape[0],) * 3
        noise = rng.normal(size=size) + 1j * rng.normal(size=size)
        noise = (
            (noise + noise[::-1, ::-1, ::-1].conj())[:, :, volume.shape[0] // 2 :].astype(np.complex64)
            / 2
            * np.float32(np.sqrt(power))
        )
        weights = np.full(volume.shape, weight, np.float32)
        halves.append((((volume + noise) * weights).astype(np.complex64), weights))
    return halves


def test_clean_halves_are_solved_to_the_map_itself(device: Device, asymmetric: np.ndarray) -> None:
    halves = noisy_halves(asymmetric, 0.0, 50.0, 0)
    solved = solve_halves(*halves, GRID, device)
    expected = masked_real(asymmetric * (radius_grid(GRID) <= 16.5), GRID, device, BOX)
    np.testing.assert_allclose(solved.fsc, 1, atol=1e-4)
    for found in (solved.joint, solved.half1, solved.half2):
        assert found.shape == (BOX,) * 3
        assert found.dtype == np.float32
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_noise_is_damped_shell_by_shell(device: Device, asymmetric: np.ndarray) -> None:
    # the better joint map lies closer to the truth than each half, and than the unregularised one
    shells = np.abs(asymmetric[radius_grid(GRID) > 8]) ** 2
    halves = noisy_halves(asymmetric, 3 * float(shells.mean()), 1.0, 1)
    solved = solve_halves(*halves, GRID, device)
    truth = masked_real(asymmetric * (radius_grid(GRID) <= 16.5), GRID, device, BOX)
    plain = (halves[0][0] + halves[1][0]) / 2 * (radius_grid(GRID) <= 16.5)
    plain = masked_real(plain, GRID, device, BOX)

    def error(real: np.ndarray) -> float:
        return float(np.linalg.norm(real - truth) / np.linalg.norm(truth))

    assert error(solved.joint) < error(solved.half1)
    assert error(solved.joint) < error(solved.half2)
    assert error(solved.joint) < 0.9 * error(plain)
    assert solved.fsc[2] > 0.8
    assert solved.fsc[14] < 0.5


def test_halves_that_share_nothing_do_not_correlate(device: Device) -> None:
    nothing = np.zeros(HALF, np.complex64)
    halves = noisy_halves(nothing, 1.0, 1.0, 2)
    assert abs(solve_halves(*halves, GRID, device).fsc[6:]).max() < 0.25


def test_rough_map_is_the_data(device: Device, asymmetric: np.ndarray) -> None:
    weight = np.full(HALF, 5.0, np.float32)
    found = rough_map(asymmetric * weight, weight, GRID, device)
    expected = masked_real(asymmetric, GRID, device)
    np.testing.assert_allclose(found, expected / 1.05, atol=0.01 * np.abs(expected).max())


# ---------------------------------------------------------------- accumulators


def filled_accumulator(grid: Grid, sets: int, device: Device, seed: int) -> Accumulator:
    rng = np.random.default_rng(seed)
    made = Accumulator(grid, sets, device)
    made.numerator[:] = rng.normal(size=made.numerator.shape)
    made.denominator[:] = rng.uniform(size=made.denominator.shape)
    return made


def test_sums_are_friedel_completed_unions(device: Device) -> None:
    grid = Grid(BOX, 4)
    made = filled_accumulator(grid, 3, device, 4)
    numerator, denominator = made.sums(0, 2)
    both = made.numerator[0] + made.numerator[2]
    expected, weights = both[..., 0] + 1j * both[..., 1], made.denominator[0] + made.denominator[2]
    expected[:, :, 0] += expected[::-1, ::-1, 0].conj()
    complete(weights)
    np.testing.assert_allclose(numerator, expected, rtol=1e-6, atol=1e-6)
    assert numerator.dtype == np.complex64
    np.testing.assert_allclose(denominator, weights, rtol=1e-6)
    kept = made.numerator.copy()
    made.sums(1)
    np.testing.assert_array_equal(made.numerator, kept)


def test_sums_of_a_larger_grid_fall_on_the_same_frequencies(device: Device) -> None:
    large, small = filled_accumulator(Grid(BOX, 9), 2, device, 5), Accumulator(Grid(BOX, 4), 4, device)
    small.add_cropped(large, first_set=1)
    margin = large.grid.half - small.grid.half
    inner, upper = slice(margin, -margin), slice(0, small.grid.half + 1)
    np.testing.assert_array_equal(small.numerator[1:3], large.numerator[:, inner, inner, upper])
    np.testing.assert_array_equal(small.denominator[1:3], large.denominator[:, inner, inner, upper])
    assert not small.numerator[[0, 3]].any()
    np.testing.assert_array_equal(radius_grid(large.grid)[inner, inner, : small.grid.half + 1], radius_grid(small.grid))


def test_a_smaller_grid_cannot_be_added(device: Device) -> None:
    with pytest.raises(ValueError, match="k_max 4 is smaller than 9"):
        Accumulator(Grid(BOX, 9), 1, device).add_cropped(Accumulator(Grid(BOX, 4), 1, device))


def test_inserting_many_views_and_solving_gives_the_map_back(device: Device, asymmetric: np.ndarray) -> None:
    # slices of a volume inserted where they were taken, through all the normalisations: the same map, not a scaled one
    from tumble.recon.geometry import half_plane
    from tumble.recon.rotations import random_rotations, to_matrix
    from tumble.recon.volume import PAD, as_kernel_volume

    plane = half_plane(BOX, GRID.k_max)
    rotations = to_matrix(random_rotations(1500, np.random.default_rng(6))).astype(np.float32)
    count = len(plane.kx)
    boxes = device.kernels.slice_volume(as_kernel_volume(asymmetric, device), PAD, rotations, plane.kx, plane.ky, count)
    sums = Accumulator(GRID, 2, device)
    rows = np.arange(1500)
    device.kernels.insert_poses(
        sums.numerator, sums.denominator, rows % 2, PAD, rows, rotations, np.zeros((1500, 2), np.float32),
        np.ones(1500, np.float32), boxes, plane.kx, plane.ky, np.ones(count, np.float32), count, BOX,
    )  # fmt: skip
    solved = solve_halves(sums.sums(0), sums.sums(1), GRID, device)
    # without the origin, which no box carries
    truth = to_real(asymmetric * (radius_grid(GRID) <= 16), GRID, device, BOX)
    found = to_fourier(solved.joint, GRID, device)
    correlation = shell_correlation(found, to_fourier(truth, GRID, device), GRID, device)
    assert correlation[2:15].min() > 0.995
    band = (radius_grid(GRID) > 4) & (radius_grid(GRID) < 14)
    reference = masked(asymmetric, GRID, device)
    scale = np.vdot(reference[band], found[band]).real / np.vdot(reference[band], reference[band]).real
    assert scale == pytest.approx(1, abs=0.05)


def test_maps_do_not_depend_on_how_many_threads_there_are(asymmetric: np.ndarray) -> None:
    halves = noisy_halves(asymmetric, 1.0, 40.0, 3)
    alone = solve_halves(*halves, GRID, cpu(1)), filled_map(*halves, GRID, CENTRE, cpu(1), with_halves=True)
    for threads in (2, 3):
        device = cpu(threads)
        solved, filled = (
            solve_halves(*halves, GRID, device),
            filled_map(*halves, GRID, CENTRE, device, with_halves=True),
        )
        for name in ("joint", "half1", "half2", "fsc"):
            assert np.array_equal(getattr(solved, name), getattr(alone[0], name))
        assert np.array_equal(filled.joint, alone[1].joint)
        assert np.array_equal(filled.asymmetry, alone[1].asymmetry)
        assert all(np.array_equal(*pair) for pair in zip(filled.halves, alone[1].halves, strict=True))
        rough = [rough_map(*halves[0], GRID, d) for d in (device, cpu(1))]
        assert np.array_equal(*rough)
        assert np.array_equal(as_kernel_volume(asymmetric, device), as_kernel_volume(asymmetric, cpu(1)))
