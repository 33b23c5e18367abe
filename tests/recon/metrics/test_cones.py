"""Resolution by direction on maps whose anisotropy is known, and the null that tells finite data from bad data."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.kinds import FCC, Lattice
from tumble.recon.metrics.cones import (
    WIDE_DEG,
    conical_correlation,
    isotropic_area_ratios,
    resolved_body,
    weakest_cone,
)
from tumble.recon.metrics.density import density_of_atoms
from tumble.recon.metrics.reference import phantom_halves, view_sets
from tumble.recon.metrics.sampling import plane_counts
from tumble.recon.metrics.shells import shell_correlation, shell_numbers
from tumble.recon.metrics.surface import sphericity


def _halves(name: str) -> tuple[np.ndarray, np.ndarray]:
    return phantom_halves(view_sets(2000)[name])


def test_identical_maps_correlate_in_all_directions() -> None:
    volume = np.random.default_rng(0).normal(size=(32, 32, 32))
    cones = conical_correlation(volume, volume, axes=40)
    np.testing.assert_allclose(cones.correlation[cones.samples > 0], 1)
    assert cones.area_ratio > 0.95  # cones hold more or fewer shells of enough coefficients


def test_all_cones_together_are_the_shell() -> None:
    rng = np.random.default_rng(1)
    signal, one, two = rng.normal(size=(3, 32, 32, 32))
    wide = conical_correlation(signal + one, signal + two, axes=3, half_angle_deg=91.0)
    whole = shell_correlation(signal + one, signal + two)
    np.testing.assert_allclose(wide.correlation[:, 1:], np.tile(whole[1:], (3, 1)))


def test_noise_in_one_direction_lowers_the_cones_there() -> None:
    rng = np.random.default_rng(2)
    edge = 48
    k = np.fft.fftfreq(edge, 1 / edge)
    z = np.broadcast_to(k[:, None, None], (edge, edge, edge // 2 + 1))
    along_z = abs(z) > 0.8 * np.maximum(shell_numbers(edge), 1)
    signal, one, two = (np.fft.rfftn(v) for v in rng.normal(size=(3, edge, edge, edge)))
    first, second = (
        np.fft.irfftn(signal + np.where(along_z, 5, 0.2) * n, s=(edge,) * 3, axes=(0, 1, 2)) for n in (one, two)
    )
    cones = conical_correlation(first, second, axes=100)
    outer = cones.correlation[:, 15:].mean(axis=1)
    assert outer[cones.axes[:, 2] > 0.95].mean() < 0.2
    assert outer[cones.axes[:, 2] < 0.3].mean() > 0.9
    assert cones.area_ratio < 0.2


def test_the_null_has_the_ratio_of_even_views_and_not_of_uneven_ones() -> None:
    ratios = {}
    for name in ("uniform", "side band", "tilt +-60 deg"):
        first, second = _halves(name)
        null = isotropic_area_ratios(shell_correlation(first, second), 64, np.random.default_rng(0), draws=3)
        ratios[name] = conical_correlation(first, second).area_ratio / np.median(null)
    assert ratios["uniform"] > 0.8
    assert 0.3 < ratios["side band"] < 0.8
    assert ratios["tilt +-60 deg"] < 0.1


def test_the_null_knows_that_a_crystal_has_few_spots() -> None:
    # power in a few spots of each shell: cones without a spot are empty however even the views
    rng = np.random.default_rng(3)
    power = rng.random((32, 32, 17)) < 0.02
    curve = np.full(15, 0.7)
    smooth = isotropic_area_ratios(curve, 32, np.random.default_rng(4), draws=3)
    spots = isotropic_area_ratios(curve, 32, np.random.default_rng(4), draws=3, power=power)
    assert spots.mean() < 0.8 * smooth.mean()


EDGE, VOXEL_A = 56, 0.5
SHELLS = (10, 23)  # from below the first reflection to 1.2 A


def _single() -> np.ndarray:
    return Lattice(FCC, 3.97).ball(19.0)


def _twin() -> np.ndarray:
    """Two unequal grains that share a (111) plane."""
    ball, normal = Lattice(FCC, 3.97).ball(19.0), np.ones(3) / np.sqrt(3)
    height = ball @ normal
    far = Lattice(FCC, 3.97).ball(24.0)
    mirrored = far - 2 * np.outer(far @ normal, normal)
    low = (mirrored @ normal < -0.1) & (np.linalg.norm(mirrored, axis=1) < 9.5)
    atoms = np.concatenate([ball[height > -0.1], mirrored[low]]) + 3.0 * normal
    return atoms[np.linalg.norm(atoms, axis=1) < 9.5]


def _spinning(count: int, rng: np.random.Generator) -> np.ndarray:
    """About an axis 40 degrees off the beam."""
    turn, tilt = rng.uniform(0, 2 * np.pi, count), np.radians(40)
    return np.stack([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.full(count, np.cos(tilt))], axis=1)


def _sticking(count: int, rng: np.random.Generator) -> np.ndarray:
    """A few directions near each other, then one for ever."""
    first = np.cumsum(rng.normal(0, 0.05, (100, 3)), axis=0) + np.array([1.0, 0.2, 0.1])
    views = np.concatenate([first, np.repeat(first[-1:], count - 100, axis=0)])
    return views / np.linalg.norm(views, axis=1, keepdims=True)


def _crystal(atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of ``rfftn`` of blurred atoms, and which of them lie within the resolution."""
    whole = np.fft.fftfreq(EDGE, VOXEL_A)
    k = (whole, whole, np.arange(EDGE // 2 + 1) / (EDGE * VOXEL_A))
    from_corner = atoms[:, ::-1] + EDGE // 2 * VOXEL_A
    z, y, x = (np.exp(-2j * np.pi * np.outer(k[axis], from_corner[:, axis])) for axis in range(3))
    signal = ((z[:, None] * y[None]).reshape(-1, len(atoms)) @ x.T).reshape(EDGE, EDGE, -1)
    squared = k[0][:, None, None] ** 2 + k[1][:, None] ** 2 + k[2] ** 2
    return signal * np.exp(-2.0 * squared), np.sqrt(squared) <= SHELLS[1] / (EDGE * VOXEL_A)


def _weakest(atoms: np.ndarray, views: np.ndarray, noise: float = 1.0) -> float:
    """Of a map of these atoms from these views: nothing where none has measured, noise where few have."""
    rng = np.random.default_rng(5)
    signal, inside = _crystal(atoms)
    whole = np.fft.fftfreq(EDGE, 1 / EDGE)
    points = np.stack(np.meshgrid(whole, whole, np.arange(EDGE // 2 + 1.0), indexing="ij")[::-1], axis=-1)[inside]
    seen = plane_counts(points, views)
    errors = noise * np.sqrt(len(atoms) * seen / 2) * rng.normal(size=(2, len(seen)))
    solved = np.zeros(signal.shape, np.complex128)
    solved[inside] = (seen * signal[inside] + errors[0] + 1j * errors[1]) / (seen + 0.2 * seen.mean())
    volume = np.fft.irfftn(solved, s=(EDGE,) * 3, axes=(0, 1, 2))
    traced = atoms + rng.normal(0, 0.05, atoms.shape)
    return weakest_cone(volume, density_of_atoms(traced, EDGE, VOXEL_A), SHELLS, axes=100)


@pytest.mark.parametrize("atoms", [_single(), _twin()], ids=["single", "twin"])
def test_the_weakest_cone_tells_from_where_a_crystal_was_seen_twinned_or_not(atoms: np.ndarray) -> None:
    rng, sets = np.random.default_rng(1), view_sets(1500)
    assert _weakest(atoms, sets["uniform"]) > 0.85
    assert _weakest(atoms, sets["side band"]) > 0.6
    for views in (sets["tilt +-60 deg"], sets["cone 45 deg"], _spinning(1500, rng), _sticking(1500, rng)):
        assert _weakest(atoms, views) < 0.2
    assert 0.2 < _weakest(atoms, sets["tilt +-70 deg"]) < 0.45
    # noise alone does not hold an evenly seen crystal back
    assert _weakest(atoms, sets["uniform"], noise=4.0) > 0.6


def test_a_round_hole_leaves_the_root_of_what_was_measured_of_the_cone() -> None:
    atoms = _single()
    z, y, x = np.meshgrid(*[np.fft.fftfreq(EDGE, VOXEL_A)] * 2, np.arange(EDGE // 2 + 1) / (EDGE * VOXEL_A),
                          indexing="ij")  # fmt: skip
    model = density_of_atoms(atoms, EDGE, VOXEL_A)
    steep = abs(z) / np.maximum(np.sqrt(x * x + y * y + z * z), 1e-9)
    hole = np.fft.irfftn(np.where(steep > np.cos(np.radians(26)), 0, np.fft.rfftn(model)), s=model.shape,
                         axes=(0, 1, 2))  # fmt: skip
    expected = np.sqrt(1 - (1 - np.cos(np.radians(26))) / (1 - np.cos(np.radians(WIDE_DEG))))
    assert weakest_cone(hole, model, SHELLS, axes=400) == pytest.approx(expected, abs=0.15)
    assert weakest_cone(model, model, SHELLS, axes=100) == pytest.approx(1.0)


def test_atoms_that_the_map_does_not_show_are_no_agreement() -> None:
    rng = np.random.default_rng(2)
    noise, model = rng.normal(size=(EDGE,) * 3), density_of_atoms(_single(), EDGE, VOXEL_A)
    assert weakest_cone(noise, model, SHELLS, axes=100) < 0.3
    assert weakest_cone(model, np.zeros_like(model), SHELLS, axes=20) == 0.0
    with pytest.raises(ValueError, match="one size"):
        weakest_cone(model, np.zeros((8, 8, 8)), SHELLS)


def test_few_samples_lower_the_null() -> None:
    curve = np.full(20, 0.6)
    many = isotropic_area_ratios(curve, 48, np.random.default_rng(5), draws=3)
    few = isotropic_area_ratios(curve, 48, np.random.default_rng(5), draws=3, samples_at_edge=0.5)
    assert few.mean() < many.mean()


def test_the_resolved_body_is_flat_where_views_are_missing() -> None:
    even = resolved_body(conical_correlation(*_halves("uniform")))
    flat = resolved_body(conical_correlation(*_halves("cone 45 deg")))
    assert sphericity(even) > 0.9
    assert sphericity(flat) < sphericity(even) - 0.05
    middle = flat.shape[0] // 2
    assert flat[middle + 12, middle, middle] == 0  # no view measures along the cone's axis
    assert flat[middle, middle, middle + 12] == 1


def test_cubes_only() -> None:
    with pytest.raises(ValueError, match="cubes"):
        conical_correlation(np.zeros((8, 8, 8)), np.zeros((8, 9, 8)))
