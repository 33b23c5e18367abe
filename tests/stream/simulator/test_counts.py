"""Counts: exactly Poisson, independent from pixel to pixel and frame to frame, reproducible."""

import numpy as np
import pytest
from scipy.stats import chi2, poisson

from tumble.stream.simulator.counts import frame_seed, poisson_counts


@pytest.mark.parametrize("mean", [0.03, 0.25, 1.0, 10.25, 31.9, 32.0, 77.7, 300.0])
def test_distribution_is_poisson(mean: float) -> None:
    counts = poisson_counts(np.full((700, 700), mean, dtype=np.float32), frame_seed(5, 1)).ravel()
    observed = np.bincount(counts)
    expected = poisson.pmf(np.arange(len(observed)), np.float32(mean)) * counts.size
    cells = expected > 20
    statistic = ((observed - expected)[cells] ** 2 / expected[cells]).sum()
    assert statistic < chi2.ppf(1 - 1e-4, cells.sum())


def test_pixels_and_frames_are_independent() -> None:
    mean = np.full((500, 500), 10.0, dtype=np.float32)
    first, second = (poisson_counts(mean, frame_seed(9, index)).astype(float) for index in (0, 1))
    for left, right in ((first, second), (first[:, 1:], first[:, :-1]), (first[1:], first[:-1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.01


def test_same_seed_same_counts_whatever_the_rest_of_the_frame() -> None:
    mean = np.full((30, 40), 5.0, dtype=np.float32)
    brighter = mean.copy()
    brighter[:10] = 50.0
    whole, again, other = (poisson_counts(m, frame_seed(2, 7)) for m in (mean, mean, brighter))
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_array_equal(whole[10:], other[10:])


def test_nothing_gives_nothing_and_too_much_saturates() -> None:
    counts = poisson_counts(np.array([[0.0, -3.0, 70000.0]], dtype=np.float32), frame_seed(1, 1))
    assert counts.tolist() == [[0, 0, 65535]]
