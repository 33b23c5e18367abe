"""Forecasts against curves whose future is known, and crystals that stop turning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.forecast import (
    NEXT_FRAMES,
    Curve,
    Likeness,
    _with_void,
    b_factor_A2,
    debye_power,
    forecast,
    needed_views,
)
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.metrics.sampling import FourierSampling
from tumble.recon.metrics.shells import NEEDED_SNR
from tumble.recon.outlook import Sighting
from tumble.recon.records import Forecast, Milestone

BOX_A, DIAMETER_A, B_A2 = 30.0, 24.0, 10.0
K = np.arange(40) / BOX_A
FIRST = 11
POWER = debye_power(Lattice(FCC, 3.97).ball(20.0), K)


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


def test_atoms_tell_a_weak_shell_better_than_the_halves() -> None:
    views, strength = 700.0, 2e-3
    snr, off = _snr(views, strength), {False: [], True: []}
    true = np.log(snr / views)
    weak = np.flatnonzero((snr / (1 + snr) > 0.1) & (snr / (1 + snr) < 0.3) & (np.arange(len(K)) >= FIRST))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        curve = _curve(views, strength, rng)
        alike = np.sqrt(2 * snr / (1 + 2 * snr) * (1 - 0.2))  # a fifth of the directions is empty
        alike += (1 - alike**2) / np.sqrt(curve.independent) * rng.normal(size=len(K))
        for known in (False, True):
            likeness = Likeness(alike, 0.2, views) if known else None
            off[known].append((replace(curve, likeness=likeness).measured(views)[0] - true)[weak])
    assert len(weak) >= 2
    assert np.std(off[True]) < 0.8 * np.std(off[False])
    assert abs(np.mean(off[True])) < 0.05


def test_atoms_that_fit_noise_say_little() -> None:
    curve = replace(_curve(700, 2e-3), correlation=np.full(len(K), 0.01))
    fitted = replace(curve, likeness=Likeness(np.full(len(K), 0.15), 0.0, 700.0))
    alone, beside = curve.measured(700.0), fitted.measured(700.0)
    assert beside[1][FIRST:].min() > 0.3
    assert (beside[1] <= alone[1]).all()


def test_the_b_factor_is_that_of_the_signal() -> None:
    fit = b_factor_A2(_curve(3000, 2e-3), 3000)
    assert fit == pytest.approx(B_A2, abs=1.5)
    assert b_factor_A2(replace(_curve(1, 0.0), correlation=np.zeros(len(K))), 1.0) is None


def _forecast(curve: Curve, motion: str, *, frames: int = 1600, step_deg: float = 3.0) -> Forecast:
    """Forecast of a crystal seen every 400 frames of 2 ms."""
    rng = np.random.default_rng(0)
    views = np.zeros((frames, 3))
    views[0] = [0.0, 0.0, 1.0]
    angle = 0.0
    for number in range(1, frames):
        sigma = np.radians(0.02 if motion == "stuck" and number > frames // 2 else step_deg)
        turn = sigma * rng.normal(size=3)
        angle += 2 * turn[0]
        cone = [np.sin(0.7) * np.cos(angle), np.sin(0.7) * np.sin(angle), np.cos(0.7)]
        views[number] = cone if motion == "spinning" else views[number - 1] + turn
        views[number] /= np.linalg.norm(views[number])
    counts, history, sightings = FourierSampling(DIAMETER_A), [], []
    for end in range(400, frames + 1, 400):
        counts.add(views[end - 400 : end])
        now = counts.sampling
        lately = np.degrees(np.sqrt((np.diff(views[end - 200 : end], axis=0) ** 2).sum(axis=1).mean() / 2))
        history.append(Milestone(end, end * 2e-3, end, 1.3, now.effective_views, now.empty_fraction, lately))
        sightings.append(Sighting(end, counts.counts.copy(), counts.visits.copy(), views[end - 1], float(lately)))
    rng = np.random.default_rng(1)
    needed = needed_views(curve, history[-1].effective_views, 1.0, rng)
    return forecast(needed, history, 1.0, sightings, counts)


def _with_need(share: float, views: float = 1000) -> Curve:
    """A curve of `views` effective views that are `share` of those needed."""
    return _curve(views, 2e-3 * _true_need(2e-3, 1.0) * share / views)


def test_a_steady_crystal_arrives_when_it_must() -> None:
    found = _forecast(_with_need(0.5), "free", step_deg=60.0)  # every view is a fresh one
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s < 1600 * 2e-3 < found.high_s
    assert found.high_s < 4 * found.low_s


def test_a_crystal_that_sticks_is_waited_for_longer() -> None:
    fast, slow = _forecast(_with_need(0.4), "free"), _forecast(_with_need(0.4), "stuck")
    assert fast.high_s is not None
    assert slow.low_s is not None
    assert slow.low_s > 3 * fast.high_s


def test_a_void_that_does_not_fill_is_waited_for_longer_though_the_resolution_is_there() -> None:
    free, spinning = _forecast(_with_need(20.0), "free"), _forecast(_with_need(20.0), "spinning")
    assert free.low_s is not None
    assert free.low_s <= NEXT_FRAMES * 2e-3
    assert spinning.low_s is not None
    assert spinning.low_s > 0
    assert spinning.median_s is None


def test_nothing_is_known_before_the_next_map_unless_the_target_is_reached() -> None:
    near = _forecast(_with_need(0.97), "free", step_deg=60.0)
    assert near.low_s == pytest.approx(NEXT_FRAMES * 2e-3)
    assert near.high_s is not None
    assert near.high_s > near.low_s
    there = _forecast(_with_need(50.0), "free", step_deg=60.0)
    assert (there.low_s, there.high_s) == (0, 0)


def test_nothing_is_foreseen_from_one_map() -> None:
    found = _forecast(_with_need(0.5), "free", frames=400)
    assert (found.low_s, found.median_s, found.high_s) == (None, None, None)
    assert found.words


def test_the_same_evidence_gives_the_same_forecast() -> None:
    assert _forecast(_with_need(0.5), "free") == _forecast(_with_need(0.5), "free")


def test_what_is_needed_is_drawn_less_widely_and_more_of_it_where_a_void_is() -> None:
    drawn = np.exp(np.random.default_rng(0).normal(7.0, 0.12, 400))
    whole, void, wider = (_with_void(drawn, empty, np.random.default_rng(1)) for empty in (0.0, 0.2, 0.6))
    assert np.median(whole) == pytest.approx(np.median(drawn))
    assert np.log(whole).std() == pytest.approx(0.084, rel=0.1)
    assert np.median(void) == pytest.approx(np.median(drawn) * np.exp(0.12), rel=0.02)
    assert np.log(void).std() > 1.3 * np.log(whole).std()
    assert wider == pytest.approx(void)
