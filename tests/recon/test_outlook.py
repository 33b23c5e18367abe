"""Futures of crystals: walks are walks, what is held stays held."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.metrics.reference import view_sets
from tumble.recon.metrics.sampling import FourierSampling
from tumble.recon.outlook import PATHS, Sighting, freedom, held_void, outlook, wander
from tumble.recon.turning import LEAST_PAIRS, drift_deg, find_axis

RADIUS = 24.0


def _seen(views: np.ndarray, step_deg: float) -> tuple[Sighting, FourierSampling]:
    counts = FourierSampling(RADIUS)
    counts.add(views)
    return Sighting(len(views), counts.counts.copy(), counts.visits.copy(), views[-1], step_deg), counts


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_how_fast_a_crystal_gets_on_is_seen_through_errors_of_its_poses() -> None:
    rng, frames = np.random.default_rng(2), 1500
    step_deg, off_deg = 0.5, 0.5
    views = np.zeros((frames, 3))
    views[0] = [0.0, 0.0, 1.0]
    for frame in range(1, frames):
        turn = np.radians(step_deg) * rng.normal(size=3)
        views[frame] = _unit((views[frame - 1] + np.cross(turn, views[frame - 1]))[None])[0]
    seen = _unit(views + np.radians(off_deg) * rng.normal(size=views.shape))
    number = np.arange(frames)
    assert drift_deg(seen, number) == pytest.approx(step_deg, rel=0.25)
    stuck = _unit(np.tile([0.0, 0.0, 1.0], (frames, 1)) + np.radians(off_deg) * rng.normal(size=views.shape))
    still = drift_deg(stuck, number)
    assert still is not None
    assert still < 0.2
    wrong = seen.copy()
    wrong[rng.integers(0, frames, 15)] = _unit(rng.normal(size=(15, 3)))
    assert drift_deg(wrong, number) == pytest.approx(step_deg, rel=0.3)
    kept = rng.random(frames) < 0.9  # frames that were not used leave gaps
    assert drift_deg(seen[kept], number[kept]) == pytest.approx(step_deg, rel=0.3)
    assert drift_deg(seen[:LEAST_PAIRS], number[:LEAST_PAIRS]) is None
    assert drift_deg(seen[:0], number[:0]) is None


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


def _views(kind: str, seed: int, frames: int = 1900) -> np.ndarray:
    """Directions (frames, 3) of a crystal that rocks about an axis, spins about one, or turns freely and slowly."""
    rng = np.random.default_rng(seed)
    if kind == "free":
        views = np.tile([0.0, 0.0, 1.0], (frames, 1))
        for number, turn in enumerate(rng.normal(0, np.radians(0.5), (frames - 1, 3)), 1):
            views[number] = views[number - 1] + turn
            views[number] /= np.linalg.norm(views[number])
        return views
    angle = np.cumsum(rng.normal(0.08, 0.08, frames))
    if kind == "spin":
        return np.stack([0.64 * np.cos(angle), 0.64 * np.sin(angle), np.full(frames, 0.77)], axis=1)
    angle = np.radians(60) * np.sin(angle)
    return np.stack([np.sin(angle), np.zeros(frames), np.cos(angle)], axis=1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["wedge", "spin", "free"])
def test_a_void_that_one_wrong_pose_in_a_hundred_fills_is_still_one(kind: str, seed: int) -> None:
    views = _views(kind, seed)
    rng = np.random.default_rng(seed)
    for wrong in rng.choice(len(views), len(views) // 100, replace=False):
        views[wrong] = rng.normal(size=3)
        views[wrong] /= np.linalg.norm(views[wrong])
    counts, sightings, begin = FourierSampling(14.7), [], 0
    for end in (950, 1400, len(views)):
        counts.add(views[begin:end], np.arange(begin, end))
        step = {"wedge": 2.2, "spin": 2.7, "free": 0.5}[kind]  # as three-dimensional rotations would show it
        sightings.append(Sighting(end, counts.counts.copy(), counts.visits.copy(), views[end - 2], step))
        begin = end
    held = held_void(sightings[1::-1], sightings[-1], counts, np.random.default_rng(0))
    if kind == "free":
        assert held == 0
    else:
        assert held > 1.2 * (counts.counts == 0).mean()  # what was filled by wrong poses is counted again
        assert held == pytest.approx({"wedge": 0.27, "spin": 0.31}[kind], abs=0.05)


def test_a_crystal_that_turns_slowly_is_not_said_to_be_held() -> None:
    views = _views("free", 3)
    (before, _), (now, sampling) = _seen(views[:950], 0.5), _seen(views, 0.5)
    assert freedom(before, now, sampling, np.random.default_rng(0)) == 1.0


def test_one_that_stays_on_one_side_may_still_come_round_about_its_axis() -> None:
    angle = np.radians(25) * np.sin(np.linspace(0, 3 * np.pi, 1200))
    off = np.radians(1) * np.random.default_rng(0).normal(size=1200)
    views = _unit(np.stack([np.sin(angle), off, np.cos(angle)], axis=1))
    number = np.arange(len(views))
    step = drift_deg(views, number) or 0.0
    (before, _), (now, sampling) = _seen(views[:800], step), _seen(views, step)
    axis = find_axis(views, number, step, np.random.default_rng(0))
    assert axis is not None
    about = replace(now, axis=axis)
    assert held_void([before], now, sampling, np.random.default_rng(0)) > 0.3  # no free one would have stayed there
    assert held_void([before], about, sampling, np.random.default_rng(0)) == 0
    fast = replace(now, axis=replace(axis, step=10 * axis.step))  # and one that turns fast would have come by now
    assert held_void([before], fast, sampling, np.random.default_rng(0)) > 0.3
