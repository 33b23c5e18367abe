"""The books of one particle's progress: counts that leave, history that stays bounded, metrics by direction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tumble.recon.metrics.density import density_of_atoms
from tumble.recon.metrics.reference import phantom_atoms, phantom_halves, view_sets
from tumble.recon.metrics.shells import resolution_A, shell_correlation
from tumble.recon.progress import NewMap, Progress
from tumble.recon.records import Trust
from tumble.recon.rotations import normalise

K = np.arange(33)


def _new(frame: int, views: np.ndarray, **known: object) -> NewMap:
    fsc = 1 / (1 + np.exp((K - 18.0) / 2))
    values = {
        "frame": frame, "time_s": frame * 1e-3, "views": views, "number": np.arange(len(views)),
        "step_deg": 2.0, "resolution_A": 1.5, "fsc": fsc,
        "first": 6, "atoms_A": np.zeros((0, 3)),
    }  # fmt: skip
    return NewMap(**{**values, **known})


def test_views_that_left_and_views_in_the_buffer_are_all_counted() -> None:
    views = view_sets(900)["uniform"]
    parts, whole = Progress(1.5, 24.0, 30.0), Progress(1.5, 24.0, 30.0)
    whole.advance(_new(900, views))
    parts.leave(views[:300], np.arange(300))
    parts.leave(views[300:500], np.arange(300, 500))
    parts.advance(_new(900, views[500:], number=np.arange(500, 900)))
    assert parts.history[-1].frames_used == 900
    assert parts.history[-1].empty_fraction == whole.history[-1].empty_fraction
    assert parts.history[-1].effective_views == pytest.approx(whole.history[-1].effective_views)
    assert parts.history[-1].efficiency == pytest.approx(whole.history[-1].efficiency, abs=0.03)


def test_rates_are_per_second_since_the_map_before() -> None:
    views = view_sets(400)["uniform"]
    progress = Progress(1.5, 24.0, 30.0)
    progress.advance(_new(100, views[:50]))
    progress.advance(_new(400, views))
    first, second = progress.history
    assert first.novelty_per_s == 0
    assert second.novelty_per_s == pytest.approx((first.empty_fraction - second.empty_fraction) / 0.3)
    assert second.fresh_views_per_s == pytest.approx((second.effective_views - first.effective_views) / 0.3)


def test_memory_is_bounded_however_long_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tumble.recon.progress.MOST_MILESTONES", 8)
    rng = np.random.default_rng(0)
    progress = Progress(1.5, 24.0, 30.0)
    for number in range(12):
        progress.leave(normalise(rng.normal(size=(700, 3))), np.arange(700 * number, 700 * (number + 1)))
        progress.advance(_new(700 * (number + 1), view_sets(20, number)["uniform"]))
    assert len(progress.history) <= 8
    assert len(progress._sample) <= 1000
    frames = [milestone.frames_used for milestone in progress.history]
    assert frames == sorted(frames)
    assert frames[-1] == 12 * 700 + 20


@pytest.mark.parametrize(("name", "isotropic"), [("uniform", True), ("tilt +-60 deg", False)])
def test_metrics_by_direction_tell_a_wedge(name: str, isotropic: bool) -> None:
    views = view_sets(2000)[name]
    halves = phantom_halves(views)
    fsc = shell_correlation(*halves)
    progress = Progress(2.0, 40.0, 64.0)
    new = _new(
        2000, views, halves=halves, fsc=fsc, resolution_A=resolution_A(fsc, 64.0), atoms_A=phantom_atoms(),
    )  # fmt: skip
    progress.advance(new)
    found = progress.history[-1]
    assert found.weakest_cone is not None
    assert found.efficiency is not None
    if isotropic:
        assert found.weakest_cone > 0.7
        assert found.efficiency > 0.95
    else:
        assert found.weakest_cone < 0.3
        assert found.efficiency < 0.7


def test_a_map_is_due_when_the_target_is_probably_reached_and_not_after_enough() -> None:
    progress = Progress(1.2, 24.0, 30.0)
    views = view_sets(900)["uniform"]
    assert not progress.due(500, views[:500])
    fsc = np.where(K < 15, 0.99, np.where(K < 26, 0.12, 0.0))  # a fifth more views bring it over the threshold
    progress.advance(_new(600, views[:600], fsc=fsc))
    assert not progress.due(650, view_sets(4000)["uniform"])  # too soon after the last
    due = [progress.due(10_000, view_sets(count)["uniform"]) for count in (600, 700, 1500, 4000)]
    assert due[0] is False
    assert due[-1] is True
    assert due == sorted(due)
    assert not progress.due(10_000, np.repeat(views[:40], 100, axis=0))  # many views from few sides
    atoms = np.random.default_rng(0).normal(0, 5, (100, 3))
    shown = density_of_atoms(atoms, 64, 30 / 64)
    progress.advance(_new(900, views, fsc=np.ones(33), resolution_A=1.0, atoms_A=atoms, halves=(shown, shown)))
    progress.judge(state="MAPPING", frames_seen=900, trust=Trust(True))
    assert progress.verdict is not None
    assert progress.verdict.word == "ENOUGH"
    assert not progress.due(10_000, views)


def test_a_map_is_due_as_soon_as_the_last_directions_were_measured() -> None:
    progress, views = Progress(1.2, 24.0, 30.0), view_sets(900)["uniform"]
    narrow = view_sets(900)["tilt +-60 deg"]
    progress.advance(_new(400, narrow[:400], fsc=np.ones(33)))
    assert not progress.due(900, narrow)
    assert progress.due(900, np.concatenate([narrow[:400], views[:500]]))


def test_maps_out_of_turn_stay_few_however_long_enough_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tumble.recon.progress.efficiency.orientation_efficiency", lambda _: 0.8)  # slow
    views, made = view_sets(6000)["uniform"], [400]
    progress = Progress(1.2, 24.0, 30.0)
    progress.advance(_new(400, views[:400], fsc=np.ones(33)))
    for frame in range(450, 6001, 50):  # the target is reached, but something holds ENOUGH back
        if progress.due(frame, views[:frame]):
            made.append(frame)
            progress.advance(_new(frame, views[:frame], fsc=np.ones(33)))
    assert len(made) < 28  # one in every hundred frames would be 57
    assert max(later / sooner for sooner, later in itertools.pairwise(made)) < 1.3


def test_what_was_upheld_counts_until_something_speaks_against_it() -> None:
    atoms, views = np.random.default_rng(0).normal(0, 5, (100, 3)), view_sets(900)["uniform"]
    shown = density_of_atoms(atoms, 64, 30 / 64)
    unable = Trust(False, ("no second map has seen enough of the same directions",), agreement=0.99)
    words, said = [], []
    for before in (Trust(None), Trust(True, (), 600), Trust(False, ("two maps disagree",), agreement=0.5, upheld=1.0)):
        progress = Progress(1.2, 24.0, 30.0)
        progress.judge(state="MAPPING", frames_seen=500, trust=Trust(True, (), 500))
        progress.judge(state="MAPPING", frames_seen=600, trust=before)
        said.append(progress.standing(unable))
        progress.advance(_new(900, views, fsc=np.ones(33), resolution_A=1.0, atoms_A=atoms, halves=(shown, shown)))
        words.append(progress.judge(state="MAPPING", frames_seen=900, trust=unable).word)
    assert words == ["ENOUGH", "ENOUGH", "CONTINUE"]
    assert [trust.trusted for trust in said] == [True, True, False]
    for trust, frames in zip(said, (500, 600), strict=False):
        (words_for_it,) = trust.reasons
        assert words_for_it.startswith(f"a second map bore it out after {frames} frames; the newest has not seen")
    assert said[2] == unable
    assert progress.standing(Trust(None)) == Trust(None)


@pytest.mark.parametrize("free", [True, False])
def test_a_void_that_stays_is_a_plateau_only_of_what_does_not_turn_freely(free: bool) -> None:
    rng, progress = np.random.default_rng(4), Progress(1.2, 24.0, 30.0)
    views, words = np.zeros((2277, 3)), []
    if free:  # but slowly
        views[0, 2] = 1.0
        for before, turn in enumerate(rng.normal(0, np.radians(1.0), (2276, 3))):
            views[before + 1] = normalise(views[before] + turn)
    else:  # fast, but about one axis
        angle = np.cumsum(rng.normal(0, np.radians(5.0), 2277))
        views = np.stack([0.64 * np.cos(angle), 0.64 * np.sin(angle), np.full(2277, 0.77)], axis=1)
    for frame in (400, 600, 800, 1000, 1333, 1777, 2277):
        step = np.degrees(np.sqrt((np.diff(views[frame - 250 : frame], axis=0) ** 2).sum(axis=1).mean() / 2))
        progress.advance(_new(frame, views[:frame], fsc=np.ones(33), step_deg=float(step)))
        words.append(progress.judge(state="MAPPING", frames_seen=frame, trust=Trust(None)).word)
    assert progress.history[-2].empty_fraction > 0.2
    assert words[-1] == ("CONTINUE" if free else "PLATEAU")


def test_the_verdict_remembers() -> None:
    progress = Progress(1.0, 24.0, 30.0)
    assert progress.judge(state="COLLECTING", frames_seen=10).word == "SEARCHING"
    progress.advance(_new(500, view_sets(500)["uniform"]))
    verdict = progress.judge(state="MAPPING", frames_seen=500, trust=Trust(None))
    assert (verdict.word, verdict.since_frame) == ("CONTINUE", 500)
    assert progress.judge(state="MAPPING", frames_seen=600, trust=Trust(None)).since_frame == 500
