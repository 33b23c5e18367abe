"""Graphene, its notch, motion of the field, and energy maps that are even up to the border."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.frontend.background import PowerSpectrum, measure_background, notch_filter
from tumble.recon.frontend.bands import MapMaker, sampling_for
from tumble.recon.frontend.motion import FieldMotion
from tumble.recon.kernels import pixels_cpu

PIXEL_A = 0.358


def fringes(shape, angle_deg, shift_A=(0.0, 0.0), stretch=0.0):
    """Graphene of amplitude 1; `shift_A` is (x, y), `stretch` widens it from left to right as a fraction."""
    y = np.arange(shape[0])[:, None] * PIXEL_A - shift_A[1]
    x = np.arange(shape[1])[None] * PIXEL_A * (1 - stretch) - shift_A[0]
    angles = np.deg2rad(angle_deg + np.array([0, 60, 120]))
    return sum(np.cos(2 * np.pi * 0.4695 * (x * np.cos(a) + y * np.sin(a))) for a in angles)


def field(rng, shape, **graphene):
    return (0.03 * fringes(shape, 17.0, **graphene) + rng.normal(0, 0.3, shape)).astype(np.float32)


def test_graphene_is_found_with_its_direction_and_not_where_there_is_none():
    rng = np.random.default_rng(1)
    with_film, without = PowerSpectrum(250, 270, PIXEL_A), PowerSpectrum(250, 270, PIXEL_A)
    for _ in range(12):
        with_film.add(field(rng, (250, 270)))
        without.add(rng.normal(0, 0.3, (250, 270)).astype(np.float32))
    sheets = with_film.graphene()
    assert abs(sheets[0].angle_deg - 17.0) < 0.5
    assert abs(sheets[0].frequency_per_A - 0.4695) < 0.002
    assert without.graphene() == []


def test_two_sheets_are_told_apart():
    rng = np.random.default_rng(2)
    power = PowerSpectrum(260, 260, PIXEL_A)
    for _ in range(12):
        power.add(field(rng, (260, 260)) + np.float32(0.02) * fringes((260, 260), 44.0).astype(np.float32))
    assert sorted(round(sheet.angle_deg) for sheet in power.graphene()) == [17, 44]


def test_notch_takes_the_film_out_of_the_energy():
    shape = (256, 256)
    rng = np.random.default_rng(3)
    power = PowerSpectrum(*shape, PIXEL_A)
    for _ in range(8):
        power.add(field(rng, shape))
    maker = MapMaker(*shape, sampling_for(PIXEL_A))
    film = (0.03 * fringes(shape, 17.0)).astype(np.float32)
    before = maker.maps(film[None])[0, 0, 8:-8, 8:-8].mean()
    maker.set_notch(notch_filter(*maker.fft_shape, power.graphene(), PIXEL_A))
    assert maker.maps(film[None])[0, 0, 8:-8, 8:-8].mean() < 0.1 * before


def test_drift_is_measured_to_a_fraction_of_an_angstrom():
    rng = np.random.default_rng(4)
    shape = (220, 240)
    power = PowerSpectrum(*shape, PIXEL_A)
    for _ in range(8):
        power.add(field(rng, shape))
    motion = FieldMotion(*shape, PIXEL_A, power.graphene())
    path = np.cumsum(rng.normal(0.05, 0.1, (60, 2)), axis=0)
    path -= path[0]
    seen = np.array([motion.add(field(rng, shape, shift_A=tuple(place))).drift_A for place in path])
    assert np.sqrt(np.mean((seen - seen[0] - path) ** 2)) < 0.1
    assert not motion.motion().deforms
    assert motion.motion().at(0.1, 0.9) == motion.motion().drift_A


def test_a_film_that_stretches_is_seen_to_deform():
    rng = np.random.default_rng(5)
    shape = (230, 300)
    power = PowerSpectrum(*shape, PIXEL_A)
    for _ in range(8):
        power.add(field(rng, shape))
    motion = FieldMotion(*shape, PIXEL_A, power.graphene())
    for step in range(75):
        motion.add(field(rng, shape, stretch=0.02 * step / 75))
    now = motion.motion()
    assert now.deforms
    right, left = now.at(0.5, 0.99)[0], now.at(0.5, 0.0)[0]
    # The third block stands at 5/6 of the stretch, against the first at 1/6; patches at 1/6 and 5/6 of the width.
    expected = 300 * PIXEL_A * 0.02 * (2 / 3) * (2 / 3)
    assert abs((right - left) / expected - 1) < 0.35


def test_motion_without_a_sheet_is_refused():
    with pytest.raises(ValueError, match="graphene"):
        FieldMotion(100, 100, PIXEL_A, [])


@pytest.mark.parametrize("shape", [(160, 160), (151, 167), (149, 131)])
def test_energy_of_white_noise_is_even_up_to_the_border(shape):
    rng = np.random.default_rng(6)
    maker = MapMaker(*shape, sampling_for(PIXEL_A))
    mean = np.mean([maker.maps(rng.normal(0, 0.3, (1, *shape)).astype(np.float32))[0] for _ in range(150)], axis=0)
    assert mean.shape == (3, shape[0] // 4, shape[1] // 4)
    for energy in mean[:2]:
        inner = energy[4:-4, 4:-4].mean()
        for border in (energy[0], energy[-1], energy[:, 0], energy[:, -1]):
            assert abs(border.mean() / inner - 1) < 0.06


def test_a_fringe_of_a_band_has_its_mean_square_as_energy():
    maker = MapMaker(200, 200, sampling_for(PIXEL_A))
    x = np.arange(200) * PIXEL_A
    contrast = np.broadcast_to(0.2 * np.cos(2 * np.pi * 33 / (200 * PIXEL_A) * x), (200, 200)).astype(np.float32)
    maps = maker.maps(np.ascontiguousarray(contrast[None]))[0]
    np.testing.assert_allclose(maps[0].mean(), 0.02, rtol=0.02)
    assert maps[1].mean() < 1e-4


def test_bins_are_means():
    data = np.random.default_rng(7).normal(size=(13, 10)).astype(np.float32)
    expected = data[:12, :9].reshape(4, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(pixels_cpu.bin_mean(data[None], 3)[0], expected, rtol=1e-5, atol=1e-6)
    expected = (data**2)[:12, :9].reshape(4, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(pixels_cpu.bin_energy(data[None], 3)[0], expected, rtol=1e-5, atol=1e-6)


def test_background_leaves_particles_out():
    rng = np.random.default_rng(8)
    maps = rng.normal(1.0, 0.1, (20, 3, 40, 40)).astype(np.float32)
    maps[:, :, 18:23, 18:23] += 5
    measured = measure_background(maps, [(20.0, 20.0, 3.0)], 10.0)
    np.testing.assert_allclose(measured.floors, 1.0, atol=0.01)
    np.testing.assert_allclose(measured.shapes, 100, rtol=0.1)
    assert abs(np.median(measured.low_power) / 0.01 - 1) < 0.1


@pytest.mark.parametrize("pixel_A", [0.0, -1.0, float("nan")])
def test_impossible_pixel_size_is_refused(pixel_A):
    with pytest.raises(ValueError, match="pixel size"):
        sampling_for(pixel_A)


def test_bands_are_cut_at_nyquist():
    assert len(sampling_for(0.2).bands) == 2
    assert sampling_for(0.6).bands[1][1] < 0.5 / 0.6
    assert len(sampling_for(0.9).bands) == 1
    assert not sampling_for(1.2).resolves_lattice
