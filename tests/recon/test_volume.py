"""Fourier volumes: transforms there and back, exact symmetry, shell correlations and the resolution read from them."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.volume import (
    Grid,
    as_kernel_volume,
    attenuation,
    complete,
    masked,
    masked_real,
    phase_ramp,
    radius_grid,
    resolution_A,
    shell_correlation,
    shell_sum,
    shell_values,
    shell_voxels,
    symmetrise,
    to_fourier,
    to_real,
    volume_mask,
)

BOX = 64
GRID = Grid(BOX, 20)
HALF = (GRID.edge, GRID.edge, GRID.half + 1)  # planes x >= 0


def gaussian(samples: int, at: tuple[float, float, float], sigma: float = 2.0) -> np.ndarray:
    """(samples,)*3 ``[z, y, x]`` Gaussian centred at (x, y, z) voxels from the middle."""
    axis = np.arange(samples) - samples // 2
    x, y, z = (np.exp(-0.5 * ((axis - c) / sigma) ** 2) for c in at)
    return (z[:, None, None] * y[None, :, None] * x[None, None, :]).astype(np.float32)


def blobs(seed: int = 0, count: int = 8) -> np.ndarray:
    """An asymmetric map that is smooth and lies well inside the ball."""
    rng = np.random.default_rng(seed)
    return np.sum([gaussian(BOX, tuple(rng.uniform(-12, 12, 3))) * rng.uniform(0.5, 2) for _ in range(count)], axis=0)


def centroid(volume: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y, z) in voxels from the middle."""
    axis = np.arange(volume.shape[0]) - volume.shape[0] // 2
    return np.array([(volume.sum(axis=other) * axis).sum() / volume.sum() for other in ((0, 1), (0, 2), (1, 2))])


def oh_operations():
    """The 48 signed permutations as functions of a centred cubic array."""
    import itertools

    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            yield lambda a, axes=axes, flips=flips: a.transpose(axes)[tuple(slice(None, None, f) for f in flips)]


# ---------------------------------------------------------------- transforms


def test_there_and_back(device: Device) -> None:
    real = blobs()
    # one puts in what slicing will attenuate, the other takes out what inserting has attenuated
    back = to_real(to_fourier(real, GRID, device), GRID, device, BOX) * attenuation(BOX) ** 2
    inside = volume_mask(BOX) > 0
    assert np.abs(back - real)[inside].max() < 2e-3 * real.max()


def test_the_fourier_volume_is_the_transform(device: Device) -> None:
    # at points of the grid with k = cycles per box: F(k) = sum f(r) exp(-2 pi i k r / box), here of a Gaussian
    at, sigma = (3.0, -5.0, 2.0), 2.0
    volume = to_fourier(gaussian(BOX, at, sigma), GRID, device)
    k = np.arange(-GRID.half, GRID.half + 1) / 2 / BOX
    edge = attenuation(BOX)[tuple(int(c) + BOX // 2 for c in at[::-1])]  # put in for the kernels
    z, y, x = (
        np.sqrt(2 * np.pi) * sigma * np.exp(-2 * np.pi**2 * sigma**2 * k**2 - 2j * np.pi * k * c)
        for c in (at[2], at[1], at[0])
    )
    expected = z[:, None, None] * y[None, :, None] * x[None, None, GRID.half :] / edge
    assert np.abs(volume - expected).max() < 0.02 * np.abs(expected).max()


def mated(whole: np.ndarray) -> np.ndarray:
    """Half grid of ``F(k) + conj(F(-k))``, of an array on the whole grid."""
    return (whole + whole[::-1, ::-1, ::-1].conj())[:, :, whole.shape[2] // 2 :]


def test_sums_of_half_the_space_are_completed_where_both_mates_lie() -> None:
    rng = np.random.default_rng(12)
    whole = (rng.normal(size=(7, 7, 7)) + 1j * rng.normal(size=(7, 7, 7))).astype(np.complex64)
    half = whole[:, :, 3:].copy()
    half[:, :, 1:] += whole[::-1, ::-1, 2::-1].conj()  # inserted at x > 0 in the first place
    complete(half)
    np.testing.assert_allclose(half, mated(whole), rtol=1e-6)
    weights = np.abs(whole[:, :, 3:])
    expected = weights[:, :, 0] + weights[::-1, ::-1, 0]
    complete(weights)
    np.testing.assert_array_equal(weights[:, :, 0], expected)


def test_the_whole_grid_has_friedel_symmetry(device: Device) -> None:
    volume = to_fourier(blobs(), GRID, device)
    whole = as_kernel_volume(volume, device).view(np.complex64)[..., 0]
    np.testing.assert_array_equal(whole[:, :, GRID.half :], volume)
    np.testing.assert_allclose(whole[::-1, ::-1, ::-1].conj(), whole, atol=1e-5 * np.abs(volume).max())
    np.testing.assert_allclose(mated(whole), 2 * volume, atol=2e-5 * np.abs(volume).max())


def test_the_transform_of_a_whole_volume(device: Device) -> None:
    # axis by axis, each cut to the box before the next: the same as one transform of everything
    volume = to_fourier(np.random.default_rng(8).normal(size=(BOX,) * 3).astype(np.float32), GRID, device)
    whole = as_kernel_volume(volume, device).view(np.complex64)[..., 0]
    full, middle = 2 * BOX, BOX
    spectrum = np.zeros((full,) * 3, np.complex64)
    inner = slice(middle - GRID.half, middle + GRID.half + 1)
    spectrum[inner, inner, inner] = whole
    real = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(spectrum)).real)
    box = slice(middle - BOX // 2, middle + BOX // 2)
    expected = real[box, box, box] / attenuation(BOX)
    np.testing.assert_allclose(to_real(volume, GRID, device, BOX), expected, atol=1e-5 * np.abs(expected).max())


def test_fewer_samples_are_the_same_map(device: Device) -> None:
    grid = Grid(96, 20)
    assert grid.samples < 96
    assert grid.samples % 2 == 0
    fine = sum(gaussian(96, at, 4.0) for at in ((0.0, 0.0, 0.0), (12.0, -6.0, 9.0)))
    volume = to_fourier(fine.astype(np.float32), grid, device)
    coarse = to_real(volume, grid, device)
    assert coarse.shape == (grid.samples,) * 3
    again = to_fourier(coarse * attenuation(grid.samples) ** 2, grid, device)
    # a sum over fewer samples is smaller by the number of samples
    scale = np.vdot(again, volume).real / np.vdot(again, again).real
    inside = radius_grid(grid) <= 18
    assert np.abs(scale * again - volume)[inside].max() < 0.02 * np.abs(volume).max()


def test_masking_confines_and_repeats_itself(device: Device) -> None:
    rng = np.random.default_rng(1)
    noise = to_fourier(rng.normal(size=(BOX,) * 3).astype(np.float32), GRID, device)
    real = masked_real(noise, GRID, device, BOX)
    volume = masked(noise, GRID, device)
    assert np.abs(real[volume_mask(BOX) == 0]).max() == 0
    assert np.abs(real).max() > 0
    again = to_real(volume, GRID, device, BOX)
    flat = volume_mask(BOX) == 1
    outside = volume_mask(BOX) == 0
    assert again[outside].std() < 0.25 * again[flat].std()


@pytest.mark.parametrize("at", [(4.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 4.0), (2.5, -3.25, 1.75)])
def test_phase_ramp_brings_t_to_the_origin(device: Device, at: tuple[float, float, float]) -> None:
    volume = to_fourier(gaussian(BOX, at), GRID, device)
    moved = to_real(volume * phase_ramp(GRID, np.array(at), device), GRID, device, BOX)
    np.testing.assert_allclose(centroid(np.where(moved > 0.05, moved, 0)), 0, atol=0.05)
    back = to_real(volume * phase_ramp(GRID, np.zeros(3), device), GRID, device, BOX)
    np.testing.assert_allclose(centroid(np.where(back > 0.05, back, 0)), at, atol=0.05)


# ---------------------------------------------------------------- symmetry


def centrosymmetric(seed: int, edge: int = 15) -> np.ndarray:
    """A real array on the whole grid that inversion leaves as it is, like the real part of a transform."""
    array = np.random.default_rng(seed).normal(size=(edge,) * 3).astype(np.float32)
    return array + array[::-1, ::-1, ::-1]


def test_symmetrising_is_the_mean_over_the_48_operations() -> None:
    array = centrosymmetric(2)
    expected = np.mean([operation(array) for operation in oh_operations()], axis=0)[:, :, 7:]
    found = symmetrise(array[:, :, 7:])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == array.dtype


def test_symmetrising_twice_changes_nothing() -> None:
    found = symmetrise(centrosymmetric(3)[:, :, 7:])
    np.testing.assert_allclose(symmetrise(found), found, atol=1e-6)


def test_symmetrising_leaves_its_input_alone() -> None:
    array = centrosymmetric(4, 7)[:, :, 3:]
    kept = array.copy()
    symmetrise(array)
    np.testing.assert_array_equal(array, kept)


# ---------------------------------------------------------------- shells


def test_shell_sums(device: Device) -> None:
    axis = np.arange(-GRID.half, GRID.half + 1) / 2
    radius = np.rint(np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2))
    expected = [(radius == s).sum() for s in range(GRID.k_max + 1)]
    np.testing.assert_array_equal(shell_sum(np.ones(HALF, np.float32), GRID, device), expected)
    np.testing.assert_array_equal(shell_voxels(GRID), expected)


def test_shell_values_are_linear_between_shells(device: Device) -> None:
    profile = np.arange(GRID.k_max + 1) ** 2.0
    spread = shell_values(profile, GRID, device)
    middle = GRID.half
    assert spread[middle, middle, 2 * 7] == pytest.approx(49)
    assert spread[middle, middle + 2 * 7 + 1, 0] == pytest.approx(0.5 * (49 + 64))
    assert spread[0, 0, -1] == pytest.approx(profile[-1])  # beyond the last shell: the edge


def test_shell_correlation_of_identical_and_opposite_maps(device: Device) -> None:
    volume = to_fourier(blobs(), GRID, device)
    correlation = shell_correlation(volume, 3 * volume, GRID, device)
    np.testing.assert_allclose(correlation[:16], 1, atol=1e-5)
    np.testing.assert_allclose(shell_correlation(volume, -volume, GRID, device)[:16], -1, atol=1e-5)


def test_shell_correlation_of_noise_is_zero_within_its_spread(device: Device) -> None:
    rng = np.random.default_rng(5)
    size = (GRID.edge,) * 3

    def noise() -> np.ndarray:
        return mated((rng.normal(size=size) + 1j * rng.normal(size=size)).astype(np.complex64))

    # n independent complex values of a Friedel half: variance of the correlation 1 / (2 n) = 1 / voxels of the shell
    voxels = shell_voxels(GRID)
    z = np.array([shell_correlation(noise(), noise(), GRID, device) * np.sqrt(voxels) for _ in range(6)])[:, 2:]
    assert abs(z.mean()) < 0.35
    assert z.std() == pytest.approx(1, abs=0.15)
    assert abs(z).max() < 4.5


def test_shell_correlation_of_a_known_mixture(device: Device) -> None:
    # two maps with a common part of power 1 and independent parts of power 1 correlate with 1 / 2
    rng = np.random.default_rng(6)
    size = (GRID.edge,) * 3
    common, a, b = (mated((rng.normal(size=size) + 1j * rng.normal(size=size)).astype(np.complex64)) for _ in range(3))
    correlation = shell_correlation(common + a, common + b, GRID, device)
    np.testing.assert_allclose(correlation[8:], 0.5, atol=0.05)


def test_resolution_is_interpolated() -> None:
    correlation = np.ones(41)
    correlation[20:] = [0.343, 0.043, *np.zeros(19)]
    # 0.143 lies two thirds of the way from shell 20 to shell 21
    assert resolution_A(correlation, 34.0) == pytest.approx(34.0 / (20 + 2 / 3))
    assert resolution_A(correlation, 34.0, threshold=0.5) == pytest.approx(34.0 / (19 + 0.5 / 0.657))


def test_resolution_at_the_ends() -> None:
    assert resolution_A(np.ones(41), 34.0) == pytest.approx(34.0 / 40)  # never below: the last shell
    assert resolution_A(np.zeros(41), 34.0) is None
    low = np.ones(41)
    low[3] = 0.0  # below `first`: the transfer function passes almost nothing there
    assert resolution_A(low, 34.0) == pytest.approx(34.0 / 40)
    assert resolution_A(low, 34.0, first=2) == pytest.approx(34.0 / (2 + 0.857))
