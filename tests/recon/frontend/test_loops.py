"""Compiled loops against plain formulas."""

from __future__ import annotations

import numpy as np

from tumble.recon.frontend.loops import grid_posterior, inner_and_outer_means, radial_means, smooth_first, soft_disc


def test_posterior_of_a_gaussian_score_is_the_product_of_gaussians():
    rows, columns = np.mgrid[:32, :32]
    score = (-0.5 * ((rows - 17.0) ** 2 + (columns - 14.0) ** 2) / 2.0).astype(np.float32)
    prior = np.array([[1.0, 0.3], [0.3, 2.0]])
    dr, dc, vr, cov, vc, at_mean = grid_posterior(score, 16.0, 15.0, prior, 6.0, 0.25)
    posterior = np.linalg.inv(np.linalg.inv(prior) + np.eye(2) / 2.0)
    mean = posterior @ (np.array([1.0, -1.0]) / 2.0)
    np.testing.assert_allclose([dr, dc], mean, atol=0.02)
    # Linear interpolation between elements widens the peak a little.
    np.testing.assert_allclose([[vr, cov], [cov, vc]], posterior, rtol=0.1, atol=0.02)
    assert at_mean < 0


def test_posterior_at_the_border_stays_finite():
    score = np.zeros((10, 12), np.float32)
    out = grid_posterior(score, 0.0, 11.0, np.eye(2), 6.0, 0.25)
    assert np.isfinite(out).all()


def full_smoother(means, covariances, steps):
    """Rauch-Tung-Striebel over everything, plain NumPy."""
    mean, covariance = means[-1], covariances[-1]
    for i in range(len(means) - 2, -1, -1):
        predicted = covariances[i] + np.eye(2) * steps[i + 1]
        gain = covariances[i] @ np.linalg.inv(predicted)
        mean = means[i] + gain @ (mean - means[i])
        covariance = covariances[i] + gain @ (covariance - predicted) @ gain.T
    return mean, covariance


def test_smoother_is_that_of_rauch_tung_and_striebel():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(8, 2, 2))
    covariances = np.einsum("nij,nkj->nik", roots, roots) + 0.1 * np.eye(2)
    means, steps = rng.normal(size=(8, 2)), rng.uniform(0.01, 0.1, 8)
    mean, covariance = smooth_first(means, covariances, steps)
    expected = full_smoother(means, covariances, steps)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-10)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-10)
    alone, _ = smooth_first(means[:1], covariances[:1], steps[:1])
    np.testing.assert_array_equal(alone, means[0])


def test_ring_means_of_a_radial_field_follow_it():
    rows, columns = np.mgrid[:40, :40]
    field = np.hypot(rows - 19.3, columns - 20.1).astype(np.float32)
    means = radial_means(field, 19.3, 20.1, 0.75, 20)
    np.testing.assert_allclose(means[2:-1], 0.75 * np.arange(2, 19), atol=0.15)


def test_inner_and_outer_means():
    maps = np.zeros((2, 30, 30), np.float32)
    disc = np.hypot(*(np.mgrid[:30, :30] - 15)) < 6
    maps[0][disc], maps[1][~disc] = 3, 5
    inside, outside = inner_and_outer_means(maps, 15.0, 15.0, 5.0, 8.0)
    assert inside.tolist() == [3, 0]
    assert outside.tolist() == [0, 5]
    inside, outside = inner_and_outer_means(maps, 15.0, 15.0, 5.0, 100.0)
    assert outside.tolist() == [0, 0]


def test_soft_disc_is_half_at_its_radius():
    disc = soft_disc((41, 41), 20, 20, 10, 0.5)
    assert disc[20, 20] > 0.99
    assert abs(disc[20, 30] - 0.5) < 1e-6
    assert disc[0, 0] < 1e-6
