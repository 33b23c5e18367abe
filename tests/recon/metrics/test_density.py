"""The density of atoms has the atoms' own transform, wherever they lie between voxels."""

from __future__ import annotations

import numpy as np

from tumble.recon.metrics.density import WIDTH_VOXELS, density_of_atoms


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
