"""Resolution by direction on maps whose anisotropy is known, and the null that tells finite data from bad data."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.metrics.cones import conical_correlation, isotropic_area_ratios, resolved_body, weakest_cone
from tumble.recon.metrics.reference import phantom_halves, view_sets
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


def test_the_weakest_cone_of_a_crystal_tells_a_void_though_no_cone_is_resolved_throughout() -> None:
    """Halves of a crystal of few reflections with noise: most of even views, nothing in a missing cone, and in between
    where a cone is measured but damped.
    """
    rng = np.random.default_rng(6)
    edge = 64
    atoms = 32 + 6.0 * np.array([p for p in np.ndindex(4, 4, 4) if sum(p) % 2 == 0]) - 9.0
    volume = np.zeros((edge,) * 3)
    z, y, x = np.rint(atoms).astype(int).T
    volume[z, y, x] = 1.0
    signal = np.fft.rfftn(volume)
    power = np.abs(signal) ** 2
    k = np.fft.fftfreq(edge, 1 / edge)
    along_z = np.abs(np.broadcast_to(k[:, None, None], signal.shape)) / np.maximum(shell_numbers(edge), 1)
    found = {}
    for name, kept in (("even", 1.0), ("damped", np.where(along_z > 0.85, 0.6, 1.0)), ("void", along_z < 0.85)):
        halves = [
            np.fft.irfftn(kept * (signal + np.fft.rfftn(0.02 * rng.normal(size=volume.shape))), s=volume.shape,
                          axes=(0, 1, 2)) for _ in range(2)
        ]  # fmt: skip
        found[name] = weakest_cone(halves[0], halves[1], power, (6, 24), axes=100)
    assert found["even"] > 0.6
    assert found["void"] < 0.15
    assert found["void"] + 0.1 < found["damped"] < found["even"] - 0.1


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
