"""Counts of measured directions: what a view measures, constant cost, and what uneven views leave out."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.metrics.reference import view_sets
from tumble.recon.metrics.sampling import (
    FourierSampling,
    effective_views,
    expected_empty,
    plane_counts,
    shared_views,
    stray_visits,
    tilt_elongation,
    views_for,
)
from tumble.recon.rotations import normalise


def test_a_view_measures_the_directions_across_it_once() -> None:
    counts = FourierSampling(20.0, points=3000)
    fresh = counts.add([[0.0, 0.0, 1.0]])
    seen = counts.points[counts.counts > 0]
    assert fresh == pytest.approx(1.0)
    assert abs(seen[:, 2]).max() < 1 / 40
    assert counts.sampling.empty_fraction == pytest.approx(1 - 1 / 40, abs=2e-3)
    assert counts.add([[0.0, 0.0, -1.0]]) == pytest.approx(0.0)  # from behind it is the same plane
    assert counts.counts.max() == 2


def test_one_by_one_is_the_same_as_at_once() -> None:
    views = view_sets(200, 3)["uniform"]
    together, single = FourierSampling(25.0), FourierSampling(25.0)
    together.add(views)
    for view in views:
        single.add(view)
    np.testing.assert_array_equal(together.counts, single.counts)
    assert together.sampling.scf == pytest.approx(single.sampling.scf)
    direct = (abs(together.points @ views.T) < 0.5 / 25).sum(axis=1)
    np.testing.assert_array_equal(together.counts, direct)
    seen = direct[direct > 0]
    assert together.sampling.scf == pytest.approx(1 / (seen.mean() * (1 / seen).mean()))


def test_a_copy_goes_its_own_way() -> None:
    first = FourierSampling(25.0)
    first.add(view_sets(50)["uniform"])
    before = first.sampling
    first.copy().add(view_sets(50, 1)["uniform"])
    assert first.sampling == before


def test_more_of_the_same_plane_is_worth_little() -> None:
    counts = FourierSampling(25.0)
    counts.add(view_sets(1000)["uniform"])
    even = counts.sampling
    counts.add(np.tile([[0.0, 0.0, 1.0]], (1000, 1)))
    stuck = counts.sampling
    assert even.effective_views == pytest.approx(1000, rel=0.1)
    assert stuck.views == 2000
    assert stuck.effective_views < 1.05 * even.effective_views
    assert stuck.scf < 0.6 * even.scf


def test_effective_views_are_what_the_noise_of_a_map_says() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.7, 12.0, 20_000)).astype(float)
    signal, noise = rng.normal(size=counts.size), rng.normal(size=counts.size)
    divided = counts + 0.05 * counts.mean()
    kept, blurred = counts * signal / divided, np.sqrt(counts) * noise / divided
    worth = effective_views(counts, 12.0)
    assert worth == pytest.approx(2 * 12.0 * (kept**2).sum() / (blurred**2).sum(), rel=0.05)
    assert effective_views(np.full(500, 10.0), 12.0) == pytest.approx(240.0)


def test_halves_seen_from_other_sides_share_fewer_views() -> None:
    rng = np.random.default_rng(1)
    likely = rng.gamma(4.0, 3.0, 200_000)
    first, second = (rng.poisson(likely * rng.gamma(2.0, 0.5, likely.size)).astype(float) for _ in range(2))
    signal, strength = rng.normal(size=likely.size), 0.2  # of a coefficient, in noise of 1 a view
    maps = []
    for counts in (first, second):
        noise = np.sqrt(counts) * rng.normal(size=counts.size)
        maps.append((counts * strength * signal + noise) / (counts + 0.05 * counts.mean()))
    correlation = (maps[0] * maps[1]).mean() / np.sqrt((maps[0] ** 2).mean() * (maps[1] ** 2).mean())
    # even views count each coefficient views / (2 radius) times, half of them in each half
    alike = strength**2 * shared_views(first, second, 12.0) / (4 * 12.0)
    assert correlation / (1 - correlation) == pytest.approx(alike, rel=0.1)
    assert shared_views(first, second, 12.0) < 0.9 * effective_views(first + second, 12.0)
    assert shared_views(first, first, 12.0) == pytest.approx(float(effective_views(2 * first, 12.0)))


def test_a_void_does_not_raise_the_effective_views() -> None:
    counts = FourierSampling(25.0)
    counts.add(view_sets(2000)["tilt +-60 deg"])
    assert counts.sampling.effective_views <= 2000
    assert counts.sampling.empty_fraction > 0.3


def test_random_tumbling_leaves_the_share_that_is_expected() -> None:
    shares = []
    for seed in range(20):
        counts = FourierSampling(50.0)
        counts.add(view_sets(100, seed)["uniform"])
        shares.append(counts.sampling.empty_fraction)
    assert np.mean(shares) == pytest.approx(expected_empty(100, 50.0, 1.0), abs=0.02)
    assert expected_empty(views_for(0.99, 30.0, 1.5), 30.0, 1.5) == pytest.approx(0.01)


def test_planes_through_the_origin() -> None:
    points = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.4], [0.0, 0.0, 0.6]])
    np.testing.assert_array_equal(plane_counts(points, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), [2, 1, 2, 1])


def test_tilting_all_around_elongates_nothing() -> None:
    assert tilt_elongation(90) == pytest.approx(1.0)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_shell_must_have_a_size(radius: float) -> None:
    with pytest.raises(ValueError, match="radius"):
        FourierSampling(radius)


def test_random_views_never_cover_everything() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        views_for(1.0, 30.0, 1.0)


def test_frames_in_a_row_are_one_visit_and_a_cut_between_them_is_none() -> None:
    view = np.array([[0.0, 0.0, 1.0]])
    once, cut = FourierSampling(20.0), FourierSampling(20.0)
    once.add(np.repeat(view, 25, axis=0), np.arange(25))
    for frame in range(25):
        cut.add(view, np.array([frame]))
    assert once.visits.max() == 3  # of ten frames each
    assert (once.visits == cut.visits).all()
    assert ((once.visits > 0) == (once.counts > 0)).all()
    assert (once.copy().visits == once.visits).all()


def test_visits_that_strays_explain_follow_the_share_of_wrong_poses() -> None:
    assert stray_visits(100, 15.0) == 0
    rng = np.random.default_rng(0)
    for views in (1000, 5000):
        strays = FourierSampling(15.0)
        strays.add(normalise(rng.normal(size=(views // 100, 3))), 100 * np.arange(views // 100))
        explained = (strays.visits <= stray_visits(views, 15.0)).mean()
        assert 0.93 < explained < 1.0
        assert (strays.visits < stray_visits(views, 15.0)).mean() < 0.95
