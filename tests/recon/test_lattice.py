"""The fcc template, the lattice constant it measures, and indexing against the direct likelihood."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.chain import transition_weights
from tumble.recon.device import Device
from tumble.recon.geometry import box_mask, half_plane
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.lattice import (
    ATOM_SIGMA_A,
    LatticeIndexer,
    band,
    grid_posterior,
    lattice_volume,
    match_contrast,
    pose_grid,
    shift_grid,
    top_poses,
)
from tumble.recon.recognition import Boxes, constants
from tumble.recon.rotations import (
    angle_modulo_deg,
    equivalents,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)
from tumble.recon.spectra import box_coefficients, excess_profile, noise_weights
from tumble.recon.volume import PAD, Grid, as_kernel_volume, symmetrise

PIXEL_A, BOX, LATTICE_A = 0.42, 64, 3.95
BOX_A = PIXEL_A * BOX


# ---------------------------------------------------------------- template


def test_ball_has_the_shells_of_fcc() -> None:
    atoms = Lattice(FCC, 4.0).ball(2 * 4.0 * np.sqrt(1.5) + 1e-6)
    distance = np.round(np.linalg.norm(atoms, axis=1) / 4.0, 6)
    shells = dict(zip(*np.unique(distance, return_counts=True), strict=True))
    # neighbours at 0, 1/sqrt2, 1, sqrt(3/2)
    np.testing.assert_allclose(list(shells), [0, np.sqrt(0.5), 1, np.sqrt(1.5)], atol=1e-6)
    assert list(shells.values()) == [1, 12, 6, 24]


def test_ball_is_dense_and_symmetric() -> None:
    atoms = Lattice(FCC, LATTICE_A).ball(30.0)
    assert len(atoms) == pytest.approx(4 * np.pi / 3 * 15**3 / (LATTICE_A**3 / 4), rel=0.05)
    keys = {tuple(a) for a in np.rint(2 * atoms / LATTICE_A).astype(int)}
    assert len(keys) == len(atoms)
    for turn in to_matrix(equivalents(np.array([1.0, 0, 0, 0]))[:24]):
        assert {tuple(a) for a in np.rint(2 * atoms @ turn.T / LATTICE_A).astype(int)} == keys
    assert {tuple(-a for a in key) for key in keys} == keys


CONTRAST = 12.0  # of the movie, in standard deviations of the noise
# of the template, in the units of the movie's coefficients; a little softer, as in `indexing.index_lattice`
SCALE = np.float32(0.6 * CONTRAST / np.sqrt((box_mask(BOX).astype(float) ** 2).sum()))


@pytest.fixture(scope="module")
def template(device: Device) -> tuple[Grid, np.ndarray]:
    grid = Grid(BOX, 23)
    return grid, SCALE * lattice_volume(Lattice(FCC, LATTICE_A), 15.0, grid, PIXEL_A, device)


def test_volume_is_real_and_cubic(template) -> None:
    _, volume = template
    assert volume.dtype == np.complex64
    assert np.abs(volume.imag).max() == 0
    np.testing.assert_allclose(symmetrise(volume.real), volume.real, atol=1e-4 * np.abs(volume).max())


def test_volume_is_the_direct_sum(template) -> None:
    grid, volume = template
    atoms = Lattice(FCC, LATTICE_A).ball(15.0)
    weight = 1 / (np.sinc(atoms / PIXEL_A / (PAD * BOX)) ** 2).prod(axis=1)  # what slicing will attenuate
    rng = np.random.default_rng(0)
    for index in rng.integers(-grid.half, grid.half + 1, (40, 3)):  # (x, y, z)
        k = index / PAD / BOX_A
        shape = np.exp(-2 * np.pi**2 * ATOM_SIGMA_A**2 * (k @ k))
        expected = SCALE * (weight * np.exp(-2j * np.pi * atoms @ k)).sum() * shape
        index = index if index[0] >= 0 else -index  # the transform is real and even
        found = volume[index[2] + grid.half, index[1] + grid.half, index[0]]
        assert abs(found - expected) < 1e-4 * SCALE * len(atoms)


def test_slices_of_the_template_peak_at_the_reflections(template, device: Device) -> None:
    # seen along [001]: (200) at 2/a on both axes, nothing at the forbidden (100) and (110)
    _, volume = template
    kx = np.array([2 / LATTICE_A * BOX_A, 0, 1 / LATTICE_A * BOX_A, 1 / LATTICE_A * BOX_A])
    ky = np.array([0, 2 / LATTICE_A * BOX_A, 0, 1 / LATTICE_A * BOX_A])
    found = device.kernels.slice_volume(
        as_kernel_volume(volume, device), PAD, np.eye(3, dtype=np.float32)[None], kx, ky, 4
    )
    strength = np.abs(found[0, :, 0])
    assert strength[:2].min() > 5 * strength[2:].max()  # a small ball has wide spots


def test_band_follows_the_lattice() -> None:
    low, high = band(3.97, 34.4, 40)
    assert low < np.sqrt(3) / 3.97 * 34.4 < np.sqrt(11) / 3.97 * 34.4 < high  # (111) and (311) inside
    assert band(4.2, 34.4, 40)[0] == pytest.approx(low * 3.97 / 4.2)
    assert band(3.97, 34.4, 25)[1] == 25


def test_shift_grid() -> None:
    shifts = shift_grid(2.5, 1.25)
    assert shifts.shape == (25, 2)
    np.testing.assert_array_equal(shifts[0], 0)
    assert {tuple(s) for s in shifts} == {(x * 1.25, y * 1.25) for x in range(-2, 3) for y in range(-2, 3)}


def test_contrast_follows_the_measured_power(template, device: Device) -> None:
    # a template scaled by an amplitude and a B-factor is recognised from its own power
    grid, volume = template
    plane = half_plane(BOX, grid.k_max)
    band_k = band(LATTICE_A, BOX_A, grid.k_max)
    from tumble.recon.volume import radius_grid

    radius = radius_grid(grid) / BOX_A
    true = volume * (3.0 * np.exp(-1.4 * radius**2)).astype(np.float32)
    poses = random_rotations(150, np.random.default_rng(1))
    slices = device.kernels.slice_volume(
        as_kernel_volume(true, device), PAD, to_matrix(poses).astype(np.float32), plane.kx, plane.ky, len(plane.kx)
    )
    shell = np.rint(plane.radius).astype(int)
    excess = np.bincount(shell, (slices**2).sum(axis=2).mean(axis=0)) / np.maximum(np.bincount(shell), 1)
    found = match_contrast(volume, excess, plane, grid, PIXEL_A, band_k, poses, device)
    inside = (radius * BOX_A > band_k[0]) & (radius * BOX_A < band_k[1])
    assert np.abs(found - true)[inside].max() < 0.02 * np.abs(true[inside]).max()


# ---------------------------------------------------------------- pose grid and chain on it


@pytest.fixture(scope="module")
def coarse():
    return pose_grid(8.0, 4.0)


def test_pose_grid_knows_all_neighbours(coarse) -> None:
    angle = angle_modulo_deg(coarse.poses[:, None], coarse.poses[None])
    for i in range(0, len(coarse.poses), 7):
        listed = coarse.neighbour[coarse.start[i] : coarse.start[i + 1]]
        inside = np.flatnonzero(angle[i] < 3.2 * 4.0 - 1e-6)
        assert set(inside) == set(listed)
        weight = coarse.weight[coarse.start[i] : coarse.start[i + 1]]
        np.testing.assert_allclose(weight, np.exp(-0.5 * (angle[i, listed] / 4.0) ** 2), rtol=1e-3)
    assert len(transition_weights(coarse.poses, coarse.start, coarse.neighbour, 4.0)) == coarse.start[-1]


def test_posterior_on_the_grid_is_the_dense_forward_backward(coarse) -> None:
    rng = np.random.default_rng(2)
    count, frames = len(coarse.poses), 6
    score = rng.normal(0, 8, (frames, count)).astype(np.float32)
    matrix = np.zeros((count, count))
    for i in range(count):
        row = slice(coarse.start[i], coarse.start[i + 1])
        np.add.at(matrix[i], coarse.neighbour[row], coarse.weight[row])
    matrix = matrix / (coarse.weight.sum() / count) + 1e-7
    seen = np.exp(0.3 * (score.astype(float) - score.max(axis=1, keepdims=True)))
    alpha, beta = [seen[0]], [np.ones(count)]
    for t in range(1, frames):
        alpha.append(matrix.T @ alpha[-1] * seen[t])
        alpha[-1] /= alpha[-1].sum()
    for t in range(frames - 1, 0, -1):
        beta.insert(0, matrix @ (seen[t] * beta[0]))
        beta[0] /= beta[0].max()
    expected = np.array(alpha) * np.array(beta)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(grid_posterior(score, coarse), expected, atol=2e-5, rtol=0.1)  # crumbs are not spread


# ---------------------------------------------------------------- indexing


@pytest.fixture(scope="module")
def data(synthetic, device: Device):
    """A small movie: coefficients, weights, truth."""
    movie = synthetic.movie(24, contrast=CONTRAST, seed=5)
    plane = half_plane(BOX, 23)
    boxes = np.stack([o.box for o in movie.observations])
    assert boxes.shape[1:] == (BOX, BOX)
    return movie, plane, box_coefficients(boxes, plane, device), noise_weights(movie.noise, plane)


@pytest.fixture(scope="module")
def indexer(template, data, coarse, device: Device) -> LatticeIndexer:
    grid, volume = template
    _, plane, _, weight = data
    return LatticeIndexer(
        volume, coarse, plane, weight, band(LATTICE_A, BOX_A, grid.k_max), shift_grid(2.5, 1.25), 1.5, device
    )


def test_index_score_is_the_direct_likelihood(indexer: LatticeIndexer, template, data, device: Device) -> None:
    # 2 Re sum w conj(F) M exp(-i k.s) - sum w |M|^2 - s^2 / (2 sd^2), the maximum over the grid of shifts
    _, volume = template
    _, plane, coefficients, weight = data
    score, which = indexer.score(coefficients[:3])
    columns = np.asarray(indexer.columns)
    kx, ky, w = plane.kx[columns], plane.ky[columns], weight[columns]
    picked = np.arange(0, len(indexer.grid.poses), 50)
    model = device.kernels.slice_volume(
        as_kernel_volume(volume, device), PAD, indexer.grid.matrices[picked], kx, ky, len(kx)
    )[..., 0].astype(float)
    box = coefficients[:3, columns, 0] + 1j * coefficients[:3, columns, 1]
    ramp = np.exp(-2j * np.pi / BOX * (indexer.shifts @ np.stack([kx, ky]).astype(float)))
    cross = np.einsum("tn,gn,sn->tgs", box.conj() * w, model, ramp).real
    value = 2 * cross - (model**2 @ w)[:, None] - 0.5 * (indexer.shifts.astype(float) ** 2).sum(axis=1) / 1.5**2
    np.testing.assert_allclose(score[:, picked], value.max(axis=2), rtol=1e-3, atol=1e-2)
    at_best = np.take_along_axis(value, which[:, picked, None].astype(int), axis=2)[..., 0]
    np.testing.assert_allclose(at_best, value.max(axis=2), rtol=1e-3, atol=1e-2)


def test_search_keeps_only_informative_coefficients(indexer: LatticeIndexer, data) -> None:
    _, plane, _, _ = data
    low, high = band(LATTICE_A, BOX_A, 23)
    radius = plane.radius[np.asarray(indexer.columns)]
    assert radius.min() >= low - 1e-3
    assert radius.max() <= high + 1e-3
    for reflection in (3, 4, 8):  # (111), (200), (220)
        ring = np.sqrt(reflection) / LATTICE_A * BOX_A
        assert (abs(radius - ring) < 0.6).any()


def test_indexing_finds_the_pose_and_the_place(indexer: LatticeIndexer, data) -> None:
    movie, _, coefficients, _ = data
    score, which = indexer.score(coefficients)
    posterior = grid_posterior(score, indexer.grid)
    poses, shifts = top_poses(posterior, which, indexer, 6)
    error = angle_modulo_deg(poses, movie.poses[:, None])
    assert (error[:, 0] < 8).mean() > 0.7  # the grid has 8 degrees
    assert (error.min(axis=1) < 8).mean() > 0.95
    assert shifts.shape == (24, 6, 2)
    assert (np.diff(np.take_along_axis(posterior, np.argsort(-posterior, axis=1)[:, :6], axis=1), axis=1) <= 0).all()
    assert np.allclose(poses[:, 0], indexer.grid.poses[posterior.argmax(axis=1)])


@pytest.fixture(scope="module")
def fine_grid():
    return pose_grid(4.2, 3.0)


@pytest.mark.parametrize("true_A", [3.615, 3.95, 4.078])
def test_lattice_constant_within_half_a_per_cent(synthetic, device: Device, fine_grid, true_A: float) -> None:
    movie = synthetic.movie(24, contrast=15.0, lattice_constant_A=true_A, seed=6)
    plane = half_plane(BOX, 23)
    coefficients = box_coefficients(np.stack([o.box for o in movie.observations]), plane, device)
    weight, grid = noise_weights(movie.noise, plane), Grid(BOX, 23)
    boxes = Boxes(coefficients, plane, weight, movie.diameter_A, PIXEL_A, grid, device)
    found, *_ = constants(boxes, fine_grid, (true_A * 0.93, true_A * 1.06))
    assert found.lattice.constant_A == pytest.approx(true_A, rel=5e-3)
    assert found.sharpness > 5


def test_noise_has_no_lattice_constant(synthetic, device: Device, fine_grid) -> None:
    movie = synthetic.movie(24, contrast=0.0, seed=7)
    plane = half_plane(BOX, 23)
    coefficients = box_coefficients(np.stack([o.box for o in movie.observations]), plane, device)
    weight, grid = noise_weights(movie.noise, plane), Grid(BOX, 23)
    boxes = Boxes(coefficients, plane, weight, movie.diameter_A, PIXEL_A, grid, device)
    found, *_ = constants(boxes, fine_grid, (3.7, 4.2))
    assert found.sharpness < 3


def test_excess_of_the_movie_shows_the_lattice_rings(data) -> None:
    _, plane, coefficients, weight = data
    excess = excess_profile(coefficients, plane, weight)
    ring = np.sqrt(3) / LATTICE_A * BOX_A
    gap = np.sqrt(5.8) / LATTICE_A * BOX_A  # between (200) and (220)
    assert excess[round(ring)] > 2 * excess[round(gap)]


def test_a_turned_template_pose_is_found_again(indexer: LatticeIndexer, template, device: Device) -> None:
    # noise-free image of the template itself, off the grid: the best grid pose is the nearest one or next to it
    _, volume = template
    truth = multiply(from_rotation_vector([0.01, -0.02, 0.015]), indexer.grid.poses[::60])
    plane = indexer.plane
    boxes = device.kernels.slice_volume(
        as_kernel_volume(volume, device), PAD, to_matrix(truth).astype(np.float32), plane.kx, plane.ky, len(plane.kx)
    )
    score, which = indexer.score(boxes)
    assert angle_modulo_deg(indexer.grid.poses[score.argmax(axis=1)], truth).max() < 8
    assert (which[np.arange(len(truth)), score.argmax(axis=1)] == 0).all()
