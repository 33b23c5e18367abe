"""Shell correlation of maps that are known, its correction for a mask, and where a curve crosses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tumble.recon.metrics.shells import (
    crossing,
    masked_correlation,
    resolution_A,
    shell_correlation,
    shell_numbers,
    signal_to_noise,
    with_random_phases,
)


def _ball(edge: int, radius: float, soft: float = 2.0) -> np.ndarray:
    line = np.arange(edge) - edge // 2
    distance = np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2)
    return np.clip((radius - distance) / soft + 0.5, 0, 1)


def test_scale_does_not_matter_and_sign_does() -> None:
    first = np.random.default_rng(0).normal(size=(24, 24, 24))
    np.testing.assert_allclose(shell_correlation(first, 3 * first), 1)
    np.testing.assert_allclose(shell_correlation(first, -first), -1)


@pytest.mark.parametrize("edge", [24, 25])
def test_is_the_correlation_of_the_whole_transform(edge: int) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, edge, edge, edge))
    f, g = np.fft.fftn(first), np.fft.fftn(second)
    k = np.fft.fftfreq(edge, 1 / edge)
    shell = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2)).astype(int)
    for number in (1, 5, edge // 2):
        here = shell == number
        want = (f[here] * g[here].conj()).sum().real / np.sqrt((abs(f[here]) ** 2).sum() * (abs(g[here]) ** 2).sum())
        assert shell_correlation(first, second)[number] == pytest.approx(want)


def test_known_signal_to_noise() -> None:
    rng = np.random.default_rng(2)
    signal, one, two = rng.normal(size=(3, 48, 48, 48))
    correlation = shell_correlation(2 * signal + one, 2 * signal + two)[8:24]
    assert correlation.mean() == pytest.approx(4 / 5, abs=0.01)
    assert signal_to_noise(correlation).mean() == pytest.approx(4, abs=0.3)


def test_crossing_is_interpolated() -> None:
    curve = np.array([1, 0.9, 0.5, 0.243, 0.043, 0.6])
    assert crossing(curve) == pytest.approx(3.5)
    assert resolution_A(curve, 35.0) == pytest.approx(10.0)
    assert crossing(curve, first=4) is None
    assert crossing(np.ones(9)) == 8


def test_random_phases_keep_amplitudes_and_low_shells() -> None:
    volume = np.random.default_rng(3).normal(size=(24, 24, 24))
    changed = with_random_phases(volume, 6, np.random.default_rng(4))
    before, after = np.fft.rfftn(volume), np.fft.rfftn(changed)
    inner = shell_numbers(24) < 6
    np.testing.assert_allclose(after[inner], before[inner], atol=1e-8)
    outer = shell_numbers(24)[:, :, 1:-1] >= 6  # planes that are their own mates keep what symmetry leaves them
    np.testing.assert_allclose(abs(after[:, :, 1:-1][outer]), abs(before[:, :, 1:-1][outer]), rtol=1e-6)
    assert abs(shell_correlation(volume, changed)[7:12]).max() < 0.3


def test_a_tight_mask_correlates_noise_and_the_correction_sees_it() -> None:
    # both halves share a smooth body; beyond its band they are noise, which a tight common mask makes correlate
    rng = np.random.default_rng(5)
    body = gaussian_filter(rng.normal(size=(48, 48, 48)), 3) * 40
    first, second = (body + rng.normal(size=(48, 48, 48)) for _ in range(2))
    mask = _ball(48, 5, 1.0) * (gaussian_filter(rng.normal(size=(48, 48, 48)), 1.0) > 0)
    plain = shell_correlation(first * mask, second * mask)
    corrected, noise = masked_correlation(first, second, mask, np.random.default_rng(6))
    assert plain[10:20].mean() > 0.2
    assert noise[10:20].mean() > 0.1
    assert abs(corrected[10:20].mean()) < 0.5 * plain[10:20].mean()


def test_a_wide_mask_correlates_nothing() -> None:
    rng = np.random.default_rng(7)
    body = gaussian_filter(rng.normal(size=(48, 48, 48)), 1.5) * 40
    first, second = (body + rng.normal(size=(48, 48, 48)) for _ in range(2))
    mask = _ball(48, 22)
    corrected, noise = masked_correlation(first, second, mask, np.random.default_rng(8))
    assert abs(noise[16:24]).max() < 0.15
    np.testing.assert_allclose(corrected[16:24], shell_correlation(first * mask, second * mask)[16:24], atol=0.1)


def test_cubes_only() -> None:
    with pytest.raises(ValueError, match="cubes"):
        shell_correlation(np.zeros((8, 8, 8)), np.zeros((8, 8, 9)))
