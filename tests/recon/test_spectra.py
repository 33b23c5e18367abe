"""Boxes to coefficients: phases and signs of known images, unit variance of white noise, weights."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.geometry import box_mask, box_ring, half_plane
from tumble.recon.records import NoiseSpectrum
from tumble.recon.spectra import box_coefficients, excess_profile, noise_from_boxes, noise_weights

BOX = 64


def complex_of(coefficients) -> np.ndarray:
    return coefficients[..., 0] + 1j * coefficients[..., 1]


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (0, 3), (-5, 2)])
def test_a_bright_pixel_has_the_phase_of_its_place(device: Device, x: int, y: int) -> None:
    # F(k) = exp(-2 pi i (kx x + ky y) / box): x is the column, y the row, pixel n // 2 the origin
    plane = half_plane(BOX, 20)
    box = np.zeros((1, BOX, BOX), np.float32)
    box[0, BOX // 2 + y, BOX // 2 + x] = 1
    found = complex_of(box_coefficients(box, plane, device))[0] * np.sqrt((box_mask(BOX) ** 2).sum())
    expected = np.exp(-2j * np.pi * (plane.kx.astype(float) * x + plane.ky.astype(float) * y) / BOX)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_gaussian_between_pixels_has_its_analytic_transform(device: Device) -> None:
    plane, sigma, at = half_plane(BOX, 20), 1.6, (2.3, -4.7)
    line = np.arange(BOX) - BOX // 2
    box = np.exp(-0.5 * ((line[None] - at[0]) ** 2 + (line[:, None] - at[1]) ** 2) / sigma**2)
    found = complex_of(box_coefficients(box[None].astype(np.float32), plane, device))[0]
    kx, ky = plane.kx / BOX, plane.ky / BOX
    shape = 2 * np.pi * sigma**2 * np.exp(-2 * np.pi**2 * sigma**2 * (kx**2 + ky**2))
    expected = shape * np.exp(-2j * np.pi * (kx * at[0] + ky * at[1]))
    np.testing.assert_allclose(found * np.sqrt((box_mask(BOX) ** 2).sum()), expected, atol=2e-3)


def test_a_level_does_not_matter(device: Device) -> None:
    rng = np.random.default_rng(0)
    plane = half_plane(BOX, 20)
    box = rng.normal(size=(2, BOX, BOX)).astype(np.float32)
    raised = box + np.float32(100)
    np.testing.assert_allclose(box_coefficients(raised, plane, device), box_coefficients(box, plane, device), atol=2e-3)


def test_white_noise_has_unit_variance_and_no_phase(device: Device) -> None:
    rng = np.random.default_rng(1)
    plane = half_plane(BOX, 28)
    boxes = 3 * rng.normal(size=(400, BOX, BOX)).astype(np.float32)
    found = complex_of(box_coefficients(boxes, plane, device))[:, plane.count(3) :]
    power = (abs(found) ** 2).mean()
    assert power == pytest.approx(9, rel=0.01)
    assert abs((found**2).mean()) < 0.05 * power
    assert found.real.var() == pytest.approx(found.imag.var(), rel=0.02)


def test_noise_spectrum_has_the_units_of_the_coefficients(device: Device) -> None:
    # coloured noise: whitening with the measured spectrum gives unit power in every shell
    rng = np.random.default_rng(2)
    k = np.hypot(np.fft.fftfreq(BOX)[:, None], np.fft.rfftfreq(BOX)[None])
    colour = 1 + 4 * np.exp(-(((k - 0.2) / 0.05) ** 2))
    boxes = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(900, BOX, BOX))) * colour, s=(BOX, BOX)).astype(np.float32)
    plane = half_plane(BOX, 28)
    noise = noise_from_boxes(boxes[:600])
    assert noise.boxes == 600
    centre = BOX // 2
    np.testing.assert_allclose(noise.power[1:, 1:], noise.power[:0:-1, :0:-1], rtol=2e-3)  # Friedel, zero in the middle
    assert noise.power[centre, centre + 13] > 4 * noise.power[centre, centre + 26]
    found = box_coefficients(boxes[600:], plane, device)
    power = (found**2).sum(axis=2).mean(axis=0)
    whitened = power * noise.power[plane.ky + centre, plane.kx + centre] ** -1
    shell = np.rint(plane.radius).astype(int)
    means = (np.bincount(shell, whitened) / np.maximum(np.bincount(shell), 1))[3:]
    np.testing.assert_allclose(means, 1, atol=0.05)


def test_weights_never_trust_a_hole_and_always_flee_a_spot() -> None:
    plane = half_plane(BOX, 20)
    power = np.full((BOX, BOX), 4.0, np.float32)
    power[BOX // 2, BOX // 2 + 10] = 100.0  # a graphene spot
    power[BOX // 2 + 10, BOX // 2] = 0.01  # chance
    weight = noise_weights(NoiseSpectrum(power, 100), plane)
    spot = (plane.kx == 10) & (plane.ky == 0)
    hole = (plane.kx == 0) & (plane.ky == 10)
    assert weight[spot] == pytest.approx(0.01)
    assert weight[hole] == pytest.approx(0.25)
    np.testing.assert_allclose(weight[~spot], 0.25)


def test_weights_stay_finite_for_a_dead_spectrum() -> None:
    weight = noise_weights(NoiseSpectrum(np.zeros((BOX, BOX), np.float32), 100), half_plane(BOX, 20))
    assert np.isfinite(weight).all()


def test_weights_of_another_box_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(32, 32\) for boxes of 64 px"):
        noise_weights(NoiseSpectrum(np.ones((32, 32), np.float32), 100), half_plane(BOX, 20))


def test_excess_power_is_what_was_added(device: Device) -> None:
    rng = np.random.default_rng(3)
    plane = half_plane(BOX, 20)
    line = np.arange(BOX) - BOX // 2
    fringes = 0.7 * np.cos(2 * np.pi * 9 * line / BOX)[None, :] * np.ones((BOX, 1))
    boxes = (rng.normal(size=(300, BOX, BOX)) + fringes).astype(np.float32)
    coefficients = box_coefficients(boxes, plane, device)
    excess = excess_profile(coefficients, plane, np.ones(len(plane.kx), np.float32))
    clean = box_coefficients(fringes[None].astype(np.float32), plane, device)
    shell = np.rint(plane.radius).astype(int)
    expected = np.bincount(shell, (clean[0].astype(float) ** 2).sum(axis=1)) / np.maximum(np.bincount(shell), 1)
    np.testing.assert_allclose(excess[2:], expected[2:], atol=0.1)
    assert excess.argmax() == 9


def test_the_level_is_read_outside_the_mask() -> None:
    assert box_mask(BOX)[box_ring(BOX)].max() < 0.95
