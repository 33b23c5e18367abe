"""Verdicts: each word from the evidence that calls for it, never ENOUGH without trust, no flicker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumble.recon.records import Forecast, Milestone, Trust, Verdict
from tumble.recon.verdict import Evidence, in_words, session_verdict, update

GOOD = Trust(True)


def _at(frames: int, resolution_A: float | None = 1.2, views: float | None = None, empty: float = 0.0) -> Milestone:
    worth = frames if views is None else views
    return Milestone(frames, frames * 2.5e-3, frames, resolution_A, worth, empty, weakest_cone=0.9)


def _evidence(*history: Milestone, **known: object) -> Evidence:
    newest = history[-1].frames_used if history else 100
    state = "MAPPING" if history else "COLLECTING"
    forecast = Forecast(1.0, 1.0, 2.0, 4.0) if history else None
    return replace(Evidence(state, newest, 1.0, history=history, forecast=forecast, reached=0.0), **known)


def _play(*evidence: Evidence) -> list[Verdict]:
    said: list[Verdict] = []
    for one in evidence:
        said.append(update(said[-1] if said else None, one))
    return said


def test_without_a_map_it_searches_and_says_what_for() -> None:
    verdict = update(None, _evidence(note="120 of 400 frames for the first map"))
    assert verdict.word == "SEARCHING"
    assert verdict.reasons == ("120 of 400 frames for the first map",)


def test_the_first_map_in_the_making_is_no_silence() -> None:
    assert update(None, _evidence(state="INDEXING")).reasons == ("the first map is being made",)


def test_a_particle_that_cannot_be_mapped_is_not_waited_for() -> None:
    verdict = update(None, _evidence(state="FAILED", note="no fcc lattice stands out of the noise"))
    assert verdict.word == "PLATEAU"
    assert "no fcc lattice" in verdict.reasons[0]


def test_a_lost_track() -> None:
    assert update(None, _evidence(_at(800), tracked=False)).word == "LOST"


def test_enough_needs_trust_coverage_and_resolution() -> None:
    done = {"trust": GOOD, "reached": 0.9}
    good = _at(1000, 0.97)
    assert update(None, _evidence(good, **done)).word == "ENOUGH"
    assert update(None, _evidence(good, **{**done, "trust": None})).word == "CONTINUE"
    assert update(None, _evidence(good, **{**done, "trust": Trust(None)})).word == "CONTINUE"
    assert update(None, _evidence(good, **{**done, "trust": Trust(False, ("two maps disagree",))})).word == "CONTINUE"
    assert update(None, _evidence(replace(good, empty_fraction=0.2), **done)).word == "CONTINUE"
    assert update(None, _evidence(replace(good, resolution_A=1.3), **done)).word == "CONTINUE"
    assert update(None, _evidence(replace(good, resolution_A=None), **done)).word == "CONTINUE"
    assert update(None, _evidence(good, **{**done, "reached": 0.3})).word == "CONTINUE"


def test_a_map_resolved_from_one_side_is_not_enough() -> None:
    done = {"trust": GOOD, "reached": 0.9}
    wedge = replace(_at(1000, 0.97), weakest_cone=0.2)
    held_back = update(None, _evidence(wedge, **done))
    assert held_back.word == "CONTINUE"
    assert "more sides" in " | ".join(held_back.reasons)
    assert update(None, _evidence(replace(wedge, weakest_cone=None), **done)).word == "CONTINUE"
    words = [v.word for v in _play(*[_evidence(replace(wedge, weakest_cone=a), **done) for a in (0.65, 0.45, 0.35)])]
    assert words == ["ENOUGH", "ENOUGH", "CONTINUE"]


def test_the_reasons_say_what_is_missing() -> None:
    distrust = Trust(False, ("two maps disagree",))
    reasons = " | ".join(update(None, _evidence(_at(900, 1.31, empty=0.2), trust=distrust)).reasons)
    assert "1.31 A of 1.00 A" in reasons
    assert "20 % of the map's directions" in reasons
    assert "two maps disagree" in reasons
    assert "target in 1.0 s to 4.0 s" in reasons
    from_one_side = " | ".join(update(None, _evidence(_at(900, 0.95, empty=0.2), trust=GOOD)).reasons)
    assert "target from all sides in 1.0 s to 4.0 s" in from_one_side
    over = " | ".join(update(None, _evidence(_at(900, 0.95, empty=0.2), trust=GOOD, state="DONE")).reasons)
    assert over == "20 % of the map's directions not measured yet"


def test_enough_does_not_flicker_but_ends_when_trust_does() -> None:
    done = {"trust": GOOD, "reached": 0.9}
    slipped = {"trust": GOOD, "reached": 0.5}
    said = _play(
        _evidence(_at(1000, 0.98), **done),
        _evidence(_at(1200, 1.07), **slipped),
        _evidence(_at(1400, 0.97), **{**done, "trust": Trust(False)}),
    )
    assert [verdict.word for verdict in said] == ["ENOUGH", "ENOUGH", "CONTINUE"]
    assert said[1].since_frame == 1000
    assert said[2].since_frame == 1400


def test_a_crystal_that_sticks_is_starved_after_two_maps() -> None:
    moving = [_at(400), _at(600), _at(800), _at(1000)]
    stuck = [_at(n, 1.19, views=1000 + (n - 1000) / 100) for n in (1333, 1777, 2277, 2777)]
    history = moving + stuck
    said = _play(*[_evidence(*history[: n + 1]) for n in range(len(history))])
    words = [verdict.word for verdict in said]
    assert words[:5] == ["CONTINUE"] * 5
    assert words[-1] == "STARVED"
    assert "fresh views" in said[-1].reasons[0]
    first = words.index("STARVED")
    assert said[first - 1].proposed == "STARVED"


def test_what_gets_on_is_not_starved_and_what_does_not_is() -> None:
    frames = (400, 600, 800, 1000, 1333, 1777)
    few = [replace(_at(n, 1.2, views=200 + n / 100), drift_deg=0.5) for n in frames]
    assert {said.word for said in _play(*[_evidence(*few[: n + 1]) for n in range(len(few))])} == {"CONTINUE"}
    fresh = [replace(_at(n, 1.2), drift_deg=0.1) for n in frames]  # wrong poses make it look so
    assert _play(*[_evidence(*fresh[: n + 1]) for n in range(len(fresh))])[-1].word == "STARVED"


def test_a_void_that_does_not_fill_is_a_plateau_of_coverage() -> None:
    history = [_at(n, 1.2, views=0.7 * n, empty=0.3) for n in (400, 600, 800, 1066, 1421, 1894)]
    held = [replace(moment, held_fraction=0.3) for moment in history]
    said = _play(*[_evidence(*held[: n + 1]) for n in range(len(history))])
    assert said[-1].word == "PLATEAU"
    assert "30 % of the map's directions stay unmeasured" in said[-1].reasons[0]
    slow = _play(*[_evidence(*history[: n + 1]) for n in range(len(history))])
    assert {verdict.word for verdict in slow} == {"CONTINUE"}  # one that turns slowly may fill nothing for long


@pytest.mark.parametrize(
    ("known", "words"),
    [({"unsure_share": 0.4}, "motion"), ({"b_factor_A2": 40.0}, "defocus"), ({"b_factor_A2": 8.0}, "dose")],
)
def test_a_target_out_of_reach_is_a_plateau_with_its_cause(known: dict[str, float], words: str) -> None:
    far = Forecast(1.0, 400.0, 900.0, None)
    history = [_at(n) for n in (400, 600, 800, 1066, 1421)]
    said = _play(*[_evidence(*history[: n + 1], forecast=far, **known) for n in range(len(history))])
    assert said[-1].word == "PLATEAU"
    assert words in said[-1].reasons[0]


def test_a_change_is_said_at_once() -> None:
    one = _evidence(_at(1000))
    alarm = _evidence(_at(1200), changing="the newest frames fit 30 % worse")
    again = _evidence(_at(1400), changing="the newest frames fit 40 % worse")
    said = _play(one, alarm, again, _evidence(_at(1600)))
    assert [v.word for v in said] == ["CONTINUE", "CHANGING", "CHANGING", "CONTINUE"]
    assert said[2].reasons == ("the newest frames fit 40 % worse",)
    done = _evidence(_at(1000, 0.97), trust=GOOD, reached=0.9)
    assert [v.word for v in _play(done, alarm)] == ["ENOUGH", "CHANGING"]


milestones = st.builds(
    _at,
    st.integers(300, 5000),
    st.one_of(st.none(), st.floats(0.7, 3)),
    st.floats(1, 5000),
    st.floats(0, 1),
)
UNABLE = Trust(False, ("no second map has seen enough of the same directions",), agreement=0.99)
trusts = st.one_of(st.none(), st.builds(Trust, st.sampled_from([None, True, False])), st.just(UNABLE))
evidences = st.builds(
    lambda history, trust, reached, tracked, state, changing: replace(
        _evidence(*sorted(history, key=lambda m: m.frames_used)),
        trust=trust, reached=reached, tracked=tracked, state=state, changing=changing,
    ),
    st.lists(milestones, max_size=5),
    trusts,
    st.one_of(st.none(), st.floats(0, 1)),
    st.booleans(),
    st.sampled_from(["COLLECTING", "MAPPING", "DONE", "FAILED"]),
    st.sampled_from(["", "the newest frames fit worse"]),
)  # fmt: skip


@given(st.lists(evidences, min_size=1, max_size=6))
def test_enough_is_never_said_without_trust_in_a_covered_map(stream: list[Evidence]) -> None:
    for one, verdict in zip(stream, _play(*stream), strict=True):
        if verdict.word == "ENOUGH":
            assert one.trust is not None
            assert one.trust.trusted is True
            assert one.tracked
            assert one.history[-1].empty_fraction < 0.1
            assert one.history[-1].resolution_A is not None
            assert one.history[-1].resolution_A <= 1.1 * one.target_A
            assert not one.changing


@given(st.lists(evidences, min_size=1, max_size=6))
def test_there_is_always_a_reason(stream: list[Evidence]) -> None:
    for verdict in _play(*stream):
        assert verdict.word in ("SEARCHING", "CONTINUE", "ENOUGH", "PLATEAU", "STARVED", "LOST", "CHANGING")
        assert all(verdict.reasons)
        assert verdict.reasons


def test_one_shell_that_crosses_far_out_is_not_all_of_them() -> None:
    verdict = update(None, _evidence(_at(1000, 0.97), trust=GOOD, reached=0.3))
    assert (verdict.word, verdict.reasons) == (
        "CONTINUE", ("halves cross at 0.97 A, but not every shell up to the target is sure yet",),
    )  # fmt: skip


def test_the_session_in_words() -> None:
    assert not session_verdict({})
    two = session_verdict({"P001": Verdict("ENOUGH"), "P002": Verdict("CONTINUE")})
    assert two == "1 of 2 particles have enough; go on for P002"
    assert session_verdict({"P001": Verdict("ENOUGH")}) == "1 of 1 particle has enough; stop here"
    assert session_verdict({"P001": Verdict("CONTINUE")}, final=True) == "0 of 1 particle has enough"
    stuck = session_verdict({"P001": Verdict("ENOUGH"), "P002": Verdict("STARVED"), "P003": Verdict("PLATEAU")})
    assert "P002 shows nothing new" in stuck
    assert stuck.endswith("move on: more of this movie will not help")
    crowd = session_verdict({f"P{n:03}": Verdict("LOST") for n in range(1, 10)})
    assert crowd.startswith("0 of 9 particles have enough; 9 particles are lost; move on")


def test_a_crystal_that_slows_down_is_starved_before_it_stands_still() -> None:
    assert _goes_on(0.12, 0.2, 0.2) == "STARVED"  # fresh views a frame; before it were 0.6
    assert _goes_on(0.3, 0.2, 0.2) == "PLATEAU"  # it turns, but never elsewhere
    assert _goes_on(0.0, 0.1, 0.08) == "CONTINUE"  # a void that fills is no rest


def test_a_crystal_that_sticks_is_starved_by_what_it_showed_lately_alone() -> None:
    turning = [_at(n, 1.2, views=0.7 * n, empty=void) for n, void in ((400, 0.3), (600, 0.25), (1000, 0.19))]
    stuck = [_at(n, 1.2, views=700 + 0.1 * (n - 1000), empty=0.19) for n in (1100, 1500, 2000)]
    history = [*turning, *stuck]
    words = [verdict.word for verdict in _play(*[_evidence(*history[: n + 1]) for n in range(len(history))])]
    assert words == ["CONTINUE"] * 5 + ["STARVED"]


def _goes_on(rate: float, *empty: float) -> str:
    """What is said of a crystal after two more maps."""
    later = [_at(1000 + 500 * n, 1.2, views=600 + 500 * n * rate, empty=void) for n, void in enumerate(empty, 1)]
    later = [replace(moment, held_fraction=moment.empty_fraction * (empty[-1] == 0.2)) for moment in later]
    history = [_at(1000, 1.2, views=600, empty=0.2), *later]
    return _play(*[_evidence(*history[: n + 1]) for n in range(len(history))])[-1].word


def test_a_forecast_in_words() -> None:
    assert in_words(Forecast(1.0, 60.0, 80.0, 400.0)) == "target in 60 s to 7 min"
    assert in_words(Forecast(1.0, 0.0, 8.0, 400.0)) == "target within 7 min"
    assert in_words(Forecast(1.0, 3.0, 8.0, None)) == "target in 3.0 s or later, perhaps never"
    assert "directions" in in_words(Forecast(1.0, 3.0, None, None, "the target is out of reach"), sides=True)
    assert "not known" in in_words(Forecast(1.0, None, None, None, "the rate of fresh views is not known yet"))
