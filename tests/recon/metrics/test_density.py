"""The density of atoms has the atoms' own transform, wherever they lie between voxels."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.metrics.density import WIDTH_VOXELS, agreement_with_atoms, density_of_atoms, weakest_shell
from tumble.recon.metrics.shells import shell_correlation, shell_numbers


def test_its_transform_is_that_of_the_atoms_times_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    edge, voxel_A = 40, 0.45
    atoms = rng.uniform(-6, 6, (30, 3))
    found = np.fft.rfftn(density_of_atoms(atoms, edge, voxel_A))
    k, kx = np.fft.fftfreq(edge, voxel_A), np.arange(edge // 2 + 1) / (edge * voxel_A)
    z, y, x = np.meshgrid(k, k, kx, indexing="ij")
    phase = x[..., None] * atoms[:, 0] + y[..., None] * atoms[:, 1] + z[..., None] * atoms[:, 2]
    phase += ((x + y + z) * voxel_A * (edge // 2))[..., None]
    radius = np.sqrt(x * x + y * y + z * z) * voxel_A  # 0.5 is the Nyquist frequency
    gauss = (2 * np.pi) ** 1.5 * WIDTH_VOXELS**3 * np.exp(-2 * (np.pi * WIDTH_VOXELS * radius) ** 2)
    expected = np.exp(-2j * np.pi * phase).sum(axis=-1)
    inside = radius < 0.4
    assert np.abs(found / gauss - expected)[inside].max() < 0.05 * np.abs(expected[inside]).max()
    assert (
        np.sqrt((np.abs(found / gauss - expected)[inside] ** 2).mean() / (np.abs(expected[inside]) ** 2).mean()) < 0.02
    )


def test_without_atoms_there_is_nothing_and_batches_change_nothing() -> None:
    assert not density_of_atoms(np.zeros((0, 3)), 16, 0.5).any()
    atoms = np.random.default_rng(1).uniform(-3, 3, (1100, 3))
    parts = sum(density_of_atoms(atoms[n : n + 1], 16, 0.5) for n in range(1100))
    np.testing.assert_allclose(density_of_atoms(atoms, 16, 0.5), parts, atol=1e-9)


@pytest.mark.parametrize(("turned", "low", "high"), [(False, 0.4, 1.0), (True, -1.0, -0.4)])
def test_a_lens_that_turns_the_contrast_over_shows_in_the_atoms_that_a_map_has(
    synthetic: ModuleType, turned: bool, low: float, high: float
) -> None:
    """Halves agree as well with one band of frequencies, that of (220), upside down as without."""
    edge, voxel_A, noise = 64, 0.45, np.random.default_rng(2)
    atoms = synthetic.fcc_crystal(3.95, 19.0)
    spectrum = np.fft.rfftn(density_of_atoms(atoms, edge, voxel_A))
    k = shell_numbers(edge) / (edge * voxel_A)
    spectrum[np.abs(k - np.sqrt(8) / 3.95) < 0.08] *= -1 if turned else 1
    true = np.fft.irfftn(spectrum, (edge,) * 3, axes=(0, 1, 2))
    halves = [true + 0.3 * true.std() * noise.normal(size=true.shape) for _ in range(2)]
    agreement = agreement_with_atoms(halves[0] + halves[1], atoms, voxel_A)
    first = round(0.4 * edge * voxel_A)
    found = weakest_shell(agreement, shell_correlation(*halves), first)
    assert found is not None
    assert low < found < high


def test_where_halves_share_nothing_there_is_no_weakest_shell() -> None:
    assert weakest_shell(np.array([0.0, -0.9, 0.8]), (1.0, 0.1, 0.2), 1) is None
    assert weakest_shell(np.array([0.0, -0.9, 0.8]), (1.0, 0.1, 0.7), 1) == 0.8
    assert weakest_shell(np.zeros(0), (1.0, 0.1), 1) is None
