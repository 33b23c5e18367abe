"""The microscope: published values, signs, limits."""

import numpy as np
import pytest

from tumble.stream.simulator.optics import (
    Optics,
    contrast_transfer,
    detector_transfer,
    electron_wavelength_A,
    interaction_rad_per_VA,
    wave_transfer,
)
from tumble.stream.simulator.scattering import PENG_1996, gaussians, projected_potential_transform

FREQUENCY = np.linspace(0.0, 1.3, 300)


@pytest.mark.parametrize(("voltage_kV", "wavelength_A"), [(80.0, 0.04176), (200.0, 0.02508), (300.0, 0.01969)])
def test_wavelength_is_the_published_one(voltage_kV: float, wavelength_A: float) -> None:
    assert electron_wavelength_A(voltage_kV) == pytest.approx(wavelength_A, abs=1e-5)


@pytest.mark.parametrize(("voltage_kV", "sigma"), [(100.0, 9.244e-4), (200.0, 7.288e-4), (300.0, 6.526e-4)])
def test_interaction_parameter_is_the_published_one(voltage_kV: float, sigma: float) -> None:
    assert interaction_rad_per_VA(voltage_kV) == pytest.approx(sigma, rel=1e-3)


def test_negative_c3_with_overfocus_shows_bright_atoms() -> None:
    band = (FREQUENCY > 0.3) & (FREQUENCY < 1.0)
    assert np.all(contrast_transfer(Optics(), FREQUENCY)[band] > 0)


def test_positive_c3_at_scherzer_focus_shows_dark_atoms() -> None:
    wavelength = electron_wavelength_A(300.0)
    scherzer = 1.2 * np.sqrt(1.2e7 * wavelength)
    optics = Optics(spherical_aberration_um=1200.0, defocus_A=float(scherzer), amplitude_contrast=0.0)
    band = (FREQUENCY > 0.2) & (FREQUENCY < 0.5)
    assert contrast_transfer(optics, FREQUENCY)[band].mean() < -1.0


def test_contrast_transfer_is_that_of_the_wave() -> None:
    """For exp(i e) with a weak e, |wave|^2 - 1 is 2 e times the imaginary part of the conjugated transfer."""
    optics = Optics(amplitude_contrast=0.0)
    expected = -2.0 * wave_transfer(optics, FREQUENCY, 7.0).imag
    np.testing.assert_allclose(contrast_transfer(optics, FREQUENCY, 7.0), expected, atol=1e-12)


def test_height_acts_as_underfocus() -> None:
    moved = contrast_transfer(Optics(), FREQUENCY, 12.0)
    np.testing.assert_allclose(moved, contrast_transfer(Optics(defocus_A=-42.0), FREQUENCY), atol=1e-12)


def test_aperture_cuts() -> None:
    transfer = contrast_transfer(Optics(aperture_per_A=0.8), FREQUENCY)
    assert np.all(transfer[FREQUENCY > 0.8] == 0)
    assert np.any(transfer[FREQUENCY < 0.8] != 0)


def test_detector_keeps_the_total_and_damps_the_rest() -> None:
    k = np.linspace(0, 1.39, 50)
    transfer = detector_transfer(Optics(), k, np.zeros(50), 0.358)
    assert transfer[0] == 1.0
    assert np.all(np.diff(transfer) < 0)


def test_scattering_factor_of_platinum_is_the_published_one() -> None:
    """Peng 1996: the five Gaussians of Pt add up to 10.81 A at s = 0; a frequency k is s = k / 2."""
    amplitudes, exponents = gaussians("Pt")
    assert amplitudes.sum() == pytest.approx(10.81, abs=0.01)
    at_quarter = projected_potential_transform("Pt", np.array(0.5)) / 47.87801
    assert at_quarter == pytest.approx((amplitudes * np.exp(-exponents * 0.0625)).sum())


def test_heavier_columns_of_the_coinage_metals_scatter_more() -> None:
    k = np.array(1.0)
    values = [float(projected_potential_transform(e, k)) for e in ("C", "O", "Fe", "Cu", "Pd", "Ag", "Pt", "Au")]
    assert values == sorted(values)
    assert len(PENG_1996) == 98


def test_debye_waller_factor_damps_as_a_gaussian() -> None:
    ratio = projected_potential_transform("Au", FREQUENCY, 0.8) / projected_potential_transform("Au", FREQUENCY)
    np.testing.assert_allclose(ratio, np.exp(-0.8 * FREQUENCY**2 / 4), rtol=1e-10)


@pytest.mark.parametrize("wrong", [{"voltage_kV": 0.0}, {"focal_spread_A": -1.0}, {"amplitude_contrast": 2.0}])
def test_impossible_optics_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Optics(**wrong)


def test_unknown_element_is_named() -> None:
    with pytest.raises(ValueError, match="'Xx'"):
        gaussians("Xx")
