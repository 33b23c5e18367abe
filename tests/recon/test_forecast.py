"""Forecasts against curves whose future is known, and crystals that stop turning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.forecast import Curve, b_factor_A2, debye_power, forecast, needed_views
from tumble.recon.lattice import fcc_ball
from tumble.recon.metrics.shells import NEEDED_SNR
from tumble.recon.records import Milestone

BOX_A, DIAMETER_A, B_A2 = 30.0, 24.0, 10.0
K = np.arange(40) / BOX_A
FIRST = 11
POWER = debye_power(fcc_ball(3.97, 20.0), K)


def _snr(views: float, strength: float) -> np.ndarray:
    return views * strength * POWER * np.exp(-B_A2 * K**2 / 2)


def _curve(views: float, strength: float, rng: np.random.Generator | None = None) -> Curve:
    snr = _snr(views, strength)
    curve = Curve(snr / (1 + snr), BOX_A, DIAMETER_A, FIRST, POWER)
    if rng is None:
        return curve
    return replace(curve, correlation=curve.correlation + curve.deviation * rng.normal(size=len(K)))


def _true_need(strength: float, target_A: float) -> float:
    shells = np.arange(FIRST, int(np.ceil(BOX_A / target_A)) + 1)
    return float(NEEDED_SNR / _snr(1.0, strength)[shells].min())


def test_debye_is_the_mean_over_directions() -> None:
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(30, 3)) * 4
    directions = rng.normal(size=(20_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for k in (0.1, 0.37, 0.9):
        power = abs(np.exp(2j * np.pi * k * directions @ atoms.T).sum(axis=1)) ** 2
        assert debye_power(atoms, np.array([k]))[0] == pytest.approx(power.mean() / 30, rel=0.05)
    assert debye_power(atoms, np.array([0.0]))[0] == pytest.approx(30)
    np.testing.assert_array_equal(debye_power(np.zeros((0, 3)), K), 1)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.9])
def test_the_need_is_found_from_a_part_of_the_views(share: float) -> None:
    strength = 2e-3
    need = _true_need(strength, 1.0)
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn = needed_views(_curve(share * need, strength, rng), share * need, 1.0, rng)
        low, high = np.quantile(drawn, [0.05, 0.95])
        held.append(low <= need <= high)
    assert np.mean(held) > 0.8
    assert high / low < 6


def test_the_b_factor_is_that_of_the_signal() -> None:
    fit = b_factor_A2(_curve(3000, 2e-3), 3000)
    assert fit == pytest.approx(B_A2, abs=1.5)
    assert b_factor_A2(replace(_curve(1, 0.0), correlation=np.zeros(len(K))), 1.0) is None


def _history(fresh: list[float], *, empty: float = 0.0, step_deg: float = 2.5) -> list[Milestone]:
    """Milestones every 300 frames of 2 ms, the views of each interval as fresh as given."""
    views, out = 400.0, []
    for number, share in enumerate([1.0, *fresh]):
        frames = 400 + 300 * number
        views += 300 * share * (number > 0)
        out.append(Milestone(frames, frames * 2e-3, frames, 1.3, views, empty, step_deg))
    return out


def test_a_steady_crystal_arrives_when_it_must() -> None:
    history = _history([1.0] * 5)
    views = history[-1].effective_views
    strength = 2e-3 * _true_need(2e-3, 1.0) / (2 * views)
    found = forecast(_curve(views, strength), history, 1.0)
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s < views * 2e-3 < found.high_s
    assert found.high_s < 8 * found.low_s


def test_a_crystal_that_sticks_is_waited_for_longer() -> None:
    moving, stuck = _history([1.0] * 5), _history([1.0] * 3 + [0.01] * 4, step_deg=0.05)
    strength = 2e-3 * _true_need(2e-3, 1.0) / (2 * moving[-1].effective_views)
    fast = forecast(_curve(moving[-1].effective_views, strength), moving, 1.0)
    slow = forecast(_curve(stuck[-1].effective_views, strength), stuck, 1.0)
    assert fast.high_s is not None
    assert slow.low_s is not None
    assert slow.low_s > 3 * fast.high_s


def test_a_void_that_does_not_fill_is_waited_for_longer_though_the_resolution_is_there() -> None:
    strength = 20 * 2e-3
    open_void = forecast(_curve(2000, strength), _history([1.0] * 5, empty=0.3), 1.0)
    stuck_void = forecast(_curve(2000, strength), _history([1.0] * 5, empty=0.3, step_deg=0.05), 1.0)
    closed = forecast(_curve(2000, strength), _history([1.0] * 5), 1.0)
    assert closed.median_s == 0
    assert open_void.low_s is not None
    assert open_void.low_s > 0
    assert stuck_void.low_s is None or stuck_void.low_s > 5 * open_void.low_s


def test_nothing_is_foreseen_from_one_map() -> None:
    found = forecast(_curve(400, 2e-3), _history([]), 1.0)
    assert (found.low_s, found.median_s, found.high_s) == (None, None, None)
    assert found.words


def test_the_same_evidence_gives_the_same_forecast() -> None:
    history = _history([1.0] * 3)
    assert forecast(_curve(1300, 2e-3), history, 1.0) == forecast(_curve(1300, 2e-3), history, 1.0)
