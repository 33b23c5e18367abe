"""Noise spectra: white noise gives its variance, colour is kept, no room is told and overcome."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from tumble.recon.frontend.boxes import cut_box, empty_corners, full_plane, inside, masked_power, radial
from tumble.recon.frontend.noise import NoiseBank
from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.geometry import box_mask


@pytest.mark.parametrize("box_px", [64, 75, 96])
def test_white_noise_gives_its_variance_everywhere(box_px):
    rng = np.random.default_rng(1)
    mean = np.mean([masked_power(rng.normal(0, 0.3, (box_px, box_px)).astype(np.float32)) for _ in range(600)], axis=0)
    power = full_plane(mean, box_px)
    assert power.shape == (box_px, box_px)
    y, x = np.mgrid[:box_px, :box_px] - box_px // 2
    outer = np.hypot(y, x) > 2
    assert abs(power[outer].mean() / 0.09 - 1) < 0.01
    assert np.abs(power[outer] / 0.09 - 1).max() < 0.35


@pytest.mark.parametrize("box_px", [8, 9])
def test_full_plane_is_the_centred_transform(box_px):
    box = np.random.default_rng(2).normal(size=(box_px, box_px)).astype(np.float32)
    half = (np.abs(scipy.fft.rfft2(box)) ** 2).astype(np.float32)
    full = np.fft.fftshift(np.abs(np.fft.fft2(box)) ** 2)
    np.testing.assert_allclose(full_plane(half, box_px), full, rtol=1e-3)


def test_convention_is_that_of_the_record():
    box = np.random.default_rng(3).normal(size=(64, 64)).astype(np.float32)
    ring = np.hypot(*(np.mgrid[:64, :64] - 32)) / 64
    ring = (ring >= 43 / 96) & (ring <= 46 / 96)
    mask = box_mask(64)
    expected = np.fft.fftshift(np.abs(np.fft.fft2((box - box[ring].mean()) * mask)) ** 2) / (mask**2).sum()
    np.testing.assert_allclose(full_plane(masked_power(box), 64), expected, rtol=2e-3, atol=1e-4)


def test_empty_corners_keep_away_and_are_reproducible():
    particles = [(100.0, 100.0, 30.0)]
    corners = [c for draw in range(50) for c in empty_corners((300, 280), 96, particles, draw, 2)]
    assert len(corners) == 100
    for x, y in corners:
        assert 0 <= x <= 280 - 96
        assert 0 <= y <= 300 - 96
        assert np.hypot(x + 48 - 100, y + 48 - 100) >= 78
    assert corners == [c for draw in range(50) for c in empty_corners((300, 280), 96, particles, draw, 2)]
    assert len(set(corners)) > 60


def test_no_room_is_told_once_and_overcome():
    rng = np.random.default_rng(4)
    bank = NoiseBank((150, 150), FrontEndOptions())
    bank.register(96)
    y, x = np.mgrid[:150, :150] - 75
    particle = 0.5 * (np.hypot(y, x) < 34) * np.cos(2 * np.pi * 0.15 * x)
    events = []
    for _ in range(120):
        frame = rng.poisson(20 * (1 + particle)).astype(np.uint16)
        events += bank.add_frame(frame, float(frame.mean()), [(75.0, 75.0, 34.0)], None)
    assert len(events) == 1
    assert "no room" in events[0]
    noise = bank.spectrum(96)
    assert noise is not None
    radius = np.hypot(*(np.mgrid[:96, :96] - 48))
    np.testing.assert_allclose(noise.power[(radius > 3) & (radius < 46)] * 20, 1, atol=0.15)


def test_radial_keeps_rings():
    radius = np.hypot(*(np.mgrid[:64, :64] - 32))
    rings = (10 + radius).astype(np.float32)
    np.testing.assert_allclose(radial(rings)[2:-1, 2:-1], rings[2:-1, 2:-1], rtol=0.02)


def test_box_partly_outside_is_padded_with_zeros():
    data = np.full((50, 60), 7, np.uint16)
    box = cut_box(data, (-10, 20), 64, 3.5)
    assert not inside(data.shape, (-10, 20), 64)
    assert box.dtype == np.float32
    assert (box[:30, 10:] == 1).all()
    assert (box[30:] == 0).all()
    assert (box[:, :10] == 0).all()
    assert not cut_box(data, (100, 100), 64, 3.5).any()
    assert inside(data.shape, (10, 0), 50)
    assert not inside(data.shape, (11, 0), 50)
