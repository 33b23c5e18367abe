"""Elements from intensities: known mixtures, a map that is dimmer on one side, and a core in a shell."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.elements import assign_elements, integrated_intensities


def core_shell(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A simple cubic ball (n, 3) in A, and whether an atom is of the heavier shell."""
    line = np.arange(-6, 7) * 2.7
    atoms = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    radius = np.linalg.norm(atoms, axis=1)
    atoms = atoms[radius < 16.3]
    return atoms, np.linalg.norm(atoms, axis=1) + rng.normal(0, 1.0, len(atoms)) > 11.0


def test_a_clear_mixture_is_sorted_and_sure() -> None:
    rng = np.random.default_rng(1)
    atoms, heavy = core_shell(rng)
    found = assign_elements(np.where(heavy, 78.0, 46.0) + rng.normal(0, 4.0, len(atoms)), atoms)
    assert (found.index == heavy).mean() > 0.995
    assert found.means == pytest.approx([46, 78], rel=0.02)
    assert found.shares[1] == pytest.approx(heavy.mean(), abs=0.01)
    assert found.confidence.mean() > 0.99


def test_confidence_is_the_share_that_is_right() -> None:
    rng = np.random.default_rng(2)
    atoms, heavy = core_shell(rng)
    found = assign_elements(np.where(heavy, 78.0, 46.0) + rng.normal(0, 13.0, len(atoms)), atoms)
    right = found.index == heavy
    assert 0.8 < right.mean() < 0.95
    assert found.confidence.mean() == pytest.approx(right.mean(), abs=0.05)
    assert found.confidence[~right].mean() < found.confidence[right].mean() - 0.1


def test_a_dim_side_is_corrected() -> None:
    rng = np.random.default_rng(3)
    atoms, heavy = core_shell(rng)
    brightness = 1 + 0.3 * atoms[:, 2] / 16.0
    values = np.where(heavy, 78.0, 46.0) * brightness + rng.normal(0, 3.0, len(atoms))
    found = assign_elements(values, atoms)
    plain = values > 62.0
    assert (plain == heavy).mean() < 0.95
    assert (found.index == heavy).mean() > 0.985
    assert np.corrcoef(found.brightness, brightness)[0, 1] > 0.95


def test_three_elements() -> None:
    rng = np.random.default_rng(4)
    atoms, _ = core_shell(rng)
    kind = rng.integers(0, 3, len(atoms))
    found = assign_elements(np.array([20.0, 45.0, 78.0])[kind] + rng.normal(0, 3.0, len(atoms)), atoms, 3)
    assert (found.index == kind).mean() > 0.99


def test_the_integral_of_a_gaussian_atom() -> None:
    z, y, x = (np.indices((40, 40, 40)) - 20) * 0.4
    volume = np.exp(-0.5 * ((x - 1.0) ** 2 + y**2 + (z + 2.0) ** 2) / 0.6**2).astype(np.float32)
    whole, half = (
        integrated_intensities(volume, np.array([[1.0, 0.0, -2.0], [7.0, 7.0, 7.0]]), 0.4, r) for r in (3.0, 0.923)
    )
    assert whole[0] == pytest.approx((2 * np.pi) ** 1.5 * 0.6**3, rel=0.02)
    assert half[0] == pytest.approx(0.5 * whole[0], rel=0.08)  # the median radius of a 3D Gaussian is 1.538 sigma
    assert whole[1] < 1e-3 * whole[0]


def test_too_few_atoms_are_refused() -> None:
    with pytest.raises(ValueError, match="12 atoms for 2 elements"):
        assign_elements(np.ones(12), np.zeros((12, 3)))
