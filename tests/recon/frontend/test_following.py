"""Pieces of following a crystal: filters as matrix products, energies of bands, states that wait, who touches whom."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.recon.frontend.bands import MapMaker, band_filters, sampling_for
from tumble.recon.frontend.history import History
from tumble.recon.frontend.loops import smooth_first, touching
from tumble.recon.frontend.measuring import measured
from tumble.recon.frontend.waves import filtered, paired, waves


@pytest.mark.parametrize("size", [2, 24, 35, 36, 60])
def test_filtering_by_waves_is_filtering_by_fft(size):
    rng = np.random.default_rng(size)
    fields = rng.normal(size=(3, size, size)).astype(np.float32)
    filters = scipy.fft.rfft2(rng.normal(size=(3, size, size)))  # of real kernels, of no symmetry
    expected = scipy.fft.irfft2((scipy.fft.rfft2(fields) * filters).sum(axis=0), s=(size, size))
    found = filtered(fields, paired(filters), waves(size))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize(("pixel_A", "size"), [(0.358, 144), (0.2, 223), (0.6, 80), (1.0, 46)])
def test_energy_is_that_of_the_whole_band(pixel_A, size):
    """Whole transforms of everything, against those that leave the zeros of a band out; a prime size is padded."""
    sampling = sampling_for(pixel_A)
    maker, bin_px = MapMaker(size, size, sampling), sampling.bin_px
    field = np.random.default_rng(1).normal(size=(2, size, size)).astype(np.float32)
    spectrum, bins = scipy.fft.rfft2(maker._padded(field)), size // bin_px
    found = maker.maps(field)
    for band, passing in enumerate(band_filters(*maker.fft_shape, sampling)):
        passed = scipy.fft.irfft2(spectrum * passing, s=maker.fft_shape)[:, : bins * bin_px, : bins * bin_px]
        expected = np.square(passed).reshape(2, bins, bin_px, bins, bin_px).mean(axis=(2, 4))
        np.testing.assert_allclose(found[:, band], expected, atol=2e-4 * expected.mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**16))
def test_states_that_wait_come_out_smoothed_and_in_order(count, lag, seed):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(count, 2, 2))
    means, steps = rng.normal(size=(count, 2)), rng.uniform(0.01, 0.1, count)
    covariances = np.einsum("nij,nkj->nik", roots, roots) + 0.1 * np.eye(2)
    history, taken = History(), 0

    def take(last: int) -> None:
        nonlocal taken
        assert history.oldest == taken
        mean, covariance, flag = history.take()
        kept = slice(taken, last)
        expected = smooth_first(means[kept], covariances[kept], steps[kept])
        np.testing.assert_array_equal(mean, expected[0])
        np.testing.assert_array_equal(covariance, expected[1])
        assert flag == str(taken % 3)
        taken += 1

    for frame in range(count):
        history.add(frame, means[frame], covariances[frame], steps[frame], str(frame % 3))
        if len(history) > lag:
            take(frame + 1)
    while len(history):
        take(count)
    assert history.oldest is None
    with pytest.raises(IndexError):
        history.take()


def test_who_touches_whom():
    """Crops of 20 bins; the second reaches into that of the first, and only the last are closer than a diameter."""
    means = np.array([[50.0, 50.0], [50.0, 64.0], [50.0, 90.0], [56.0, 90.0]])
    reaches, close = touching(means, np.array([8.0, 8.0, 8.0, 8.0]), np.full(4, 10.0))
    expected = np.zeros((4, 4), bool)
    expected[0, 1] = expected[1, 0] = expected[2, 3] = expected[3, 2] = True
    np.testing.assert_array_equal(reaches, expected)
    np.testing.assert_array_equal(close, [False, False, True, True])
    alone = touching(means[:1], np.array([8.0]), np.array([10.0]))
    assert not alone[0].any()
    assert not alone[1].any()


def test_frames_without_noise_end_nothing():
    """A floor of zero: no error, and the place stays where it was expected."""
    size = 24
    filters = paired(np.zeros((3, size, size // 2 + 1)))
    maps = np.zeros((3, size, size), np.float32)
    mean, covariance, evidence, inside, outside = measured(
        maps,
        np.zeros(2),
        filters,
        waves(size),
        np.array([30.0, 40.0]),
        (18, 28),
        np.eye(2),
        (4.0, 8.0),
        np.zeros(20),
        1.0,
    )
    np.testing.assert_allclose(mean, [30.0, 40.0], atol=1e-9)
    assert np.isfinite(covariance).all()
    assert np.isfinite([evidence, *inside, *outside]).all()
