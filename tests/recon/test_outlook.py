"""Futures of crystals: walks are walks, what is held stays held."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.metrics.reference import view_sets
from tumble.recon.metrics.sampling import FourierSampling
from tumble.recon.outlook import PATHS, Sighting, freedom, outlook, wander

RADIUS = 24.0


def _seen(views: np.ndarray, step_deg: float) -> tuple[Sighting, FourierSampling]:
    counts = FourierSampling(RADIUS)
    counts.add(views)
    return Sighting(len(views), counts.counts.copy(), views[-1], step_deg), counts


def test_independent_views_are_all_fresh() -> None:
    now, sampling = _seen(view_sets(500)["uniform"], 90.0)
    future = wander(now, sampling, 1000, np.random.default_rng(0))
    assert future.effective.shape == (PATHS, len(future.frames))
    assert future.frames[-1] == 1000
    assert future.effective[:, -1].mean() == pytest.approx(1500, rel=0.1)
    assert (np.diff(future.empty, axis=1) <= 0).all()


def test_a_crystal_that_lies_still_shows_nothing_new() -> None:
    now, sampling = _seen(view_sets(500)["uniform"], 0.0)
    assert wander(now, sampling, 1000, np.random.default_rng(0)).effective[:, -1].max() < now.frames


def test_long_futures_are_walked_in_larger_steps_to_the_same_place() -> None:
    now, sampling = _seen(view_sets(300)["uniform"], 30.0)
    short, long = (wander(now, sampling, frames, np.random.default_rng(0)) for frames in (1400, 7000))
    there = np.interp(1400, long.frames, long.effective.mean(axis=0))
    assert there == pytest.approx(short.effective[:, -1].mean(), rel=0.12)


def test_a_spinning_crystal_is_found_to_be_held_and_a_free_one_is_not() -> None:
    rng = np.random.default_rng(0)
    turn = np.cumsum(rng.normal(0, 0.12, 1600))
    spin = np.stack([np.sin(0.7) * np.cos(turn), np.sin(0.7) * np.sin(turn), np.full(1600, np.cos(0.7))], axis=1)
    before, _ = _seen(spin[:800], 4.0)
    now, sampling = _seen(spin, 4.0)
    assert freedom(before, now, sampling, rng) < 0.2
    held = outlook(before, now, sampling, 6000, rng)
    assert np.median(held.empty[:, -1]) == pytest.approx((now.counts == 0).mean())
    free = view_sets(1600)["uniform"]
    before, _ = _seen(free[:800], 70.0)
    now, sampling = _seen(free, 70.0)
    assert freedom(before, now, sampling, rng) > 0.2
