"""Crystals that keep to an axis are told from those that turn freely, and go on about it."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.metrics.sampling import FourierSampling
from tumble.recon.outlook import Sighting, wander
from tumble.recon.turning import FLAT_VIEWS, directions_about, drift_deg, find_axis, free_directions

MEMORY = 0.95  # of the wobble, from one frame to the next
UP = np.array([0.0, 0.0, 1.0])


def _band(frames: int, seed: int, tilt_deg: float = 3.0, height: float = 0.0) -> np.ndarray:
    """Directions (frames, 3) of one that turns about x by 5 degrees a frame at random, with a slow wobble."""
    rng = np.random.default_rng(seed)
    angle, off = np.cumsum(rng.normal(0, np.radians(5), frames)), np.zeros(frames)
    for frame in range(1, frames):
        off[frame] = MEMORY * off[frame - 1] + rng.normal(0, np.sqrt(1 - MEMORY**2) * np.radians(tilt_deg))
    x = np.clip(height + off, -1, 1)
    across = np.sqrt(1 - x**2)
    return np.stack([x, across * np.cos(angle), across * np.sin(angle)], axis=1)


def _free(frames: int, seed: int, step_deg: float = 2.5) -> np.ndarray:
    turns = np.random.default_rng(seed).normal(0, np.radians(step_deg), (1, frames, 3))
    return np.asarray(free_directions(UP, turns)[0])


def _axis(views: np.ndarray):
    number = np.arange(len(views))
    return find_axis(views, number, drift_deg(views, number) or 0.0, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(4))
def test_the_axis_of_a_band_is_found_with_its_step_and_width_though_poses_are_wrong(seed: int) -> None:
    views, rng = _band(900, seed), np.random.default_rng(seed)
    wrong = rng.normal(size=(9, 3))
    views[rng.integers(0, 900, 9)] = wrong / np.linalg.norm(wrong, axis=1)[:, None]
    axis = _axis(views)
    assert axis is not None
    assert abs(axis.frame[2, 0]) > np.cos(np.radians(8))
    assert axis.frame @ axis.frame.T == pytest.approx(np.eye(3), abs=1e-9)
    assert axis.height == pytest.approx(0.0, abs=0.1)
    assert axis.spread == pytest.approx(np.radians(3), rel=0.4)
    assert axis.step == pytest.approx(np.radians(5), rel=0.3)


def test_how_long_a_wobble_lasts_is_measured() -> None:
    axis = _axis(_band(20_000, 0))
    assert axis is not None
    assert axis.memory == pytest.approx(MEMORY, abs=0.01)


def test_hardly_any_free_crystal_keeps_to_an_axis() -> None:
    assert sum(_axis(_free(800, seed)) is not None for seed in range(20)) <= 2
    assert sum(_axis(_free(800, seed, 0.5)) is not None for seed in range(10)) <= 1


def test_few_views_a_narrow_cone_and_one_that_lies_still_have_no_axis() -> None:
    assert _axis(_band(FLAT_VIEWS - 1, 0)) is None
    assert _axis(_band(900, 0, 1.0, height=0.77)) is None
    assert _axis(np.tile(UP, (600, 1))) is None


def test_exact_circles_and_gaps_in_the_frames_are_no_trouble() -> None:
    views = _band(900, 1, tilt_deg=0.0)
    kept = np.random.default_rng(1).random(900) < 0.8
    axis = find_axis(views[kept], np.flatnonzero(kept), 3.0, np.random.default_rng(0))
    assert axis is not None
    assert axis.step == pytest.approx(np.radians(5), rel=0.3)


def test_what_goes_on_about_an_axis_stays_in_its_band_and_turns_as_fast() -> None:
    views = _band(900, 2)
    axis = _axis(views)
    assert axis is not None
    ahead = directions_about(axis, views[-1], 40, 1500, 1, np.random.default_rng(0))
    assert ahead.shape == (40, 1500, 3)
    assert np.linalg.norm(ahead, axis=2) == pytest.approx(1.0)
    assert np.abs(ahead[:, 0] @ views[-1]).min() > np.cos(np.radians(25))
    assert (ahead @ axis.frame[2])[:, 100:].std() == pytest.approx(axis.spread, rel=0.1)
    assert _axis(ahead[0]).step == pytest.approx(axis.step, rel=0.3)
    coarse = directions_about(axis, views[-1], 40, 300, 5, np.random.default_rng(0))
    assert (coarse @ axis.frame[2])[:, 20:].std() == pytest.approx(axis.spread, rel=0.1)


def test_a_band_comes_by_the_same_views_more_often_than_a_free_walk() -> None:
    views, counts = _band(600, 3), FourierSampling(24.0)
    counts.add(views)
    about, number = _axis(views), np.arange(600)
    step = drift_deg(views, number) or 0.0
    free, held = (
        wander(
            Sighting(600, counts.counts, counts.visits, views[-1], step, axis), counts, 1200, np.random.default_rng(0)
        )
        for axis in (None, about)
    )
    assert np.median(held.effective[:, -1]) < np.median(free.effective[:, -1])
    later = FourierSampling(24.0)
    later.add(_band(1800, 3))
    happened = later.sampling.effective_views
    assert np.quantile(held.effective[:, -1], 0.02) < happened < np.quantile(held.effective[:, -1], 0.98)
