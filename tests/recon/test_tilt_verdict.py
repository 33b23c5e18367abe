"""What a tilt series leaves open, which tilt comes next, and that ENOUGH is never said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumble.recon.records import Trust
from tumble.recon.tilt_verdict import TiltEvidence, judge_tilts, tilt_geometry, tilt_trust

SURE = Trust(None)


def evidence(angles, **known):
    facts = {
        "state": "MAPPING", "note": "", "frames_seen": len(angles), "over": False, "target_A": 1.0, "trust": SURE,
        "geometry": tilt_geometry(angles), "resolution_A": 0.9, "worst_A": 0.9, "diameter_A": 20.0,
    }  # fmt: skip
    return TiltEvidence(**(facts | known))


def test_the_wedge_and_its_elongation():
    sixty = tilt_geometry(np.arange(-60, 61, 3))
    assert (sixty.wedge_deg, sixty.step_deg, sixty.low_deg, sixty.high_deg) == (60, 3, -60, 60)
    assert sixty.elongation == pytest.approx(1.55, abs=0.01)  # Radermacher 1988
    closed = tilt_geometry(np.arange(-90, 90, 3))
    assert (closed.wedge_deg, closed.elongation, closed.next_deg) == (0, 1, None)
    assert tilt_geometry([5.0]).wedge_deg == 180


def test_the_next_tilt_goes_outwards_unless_there_is_a_gap():
    assert tilt_geometry(np.arange(-60, -29, 3)).next_deg == -27
    assert tilt_geometry(np.arange(-60, 55, 3)).next_deg == 57
    gap = tilt_geometry([-6, -4, -2, 4, 6, 8])
    assert (gap.next_deg, gap.gap) == (1, True)


@given(st.lists(st.floats(-80, 80), min_size=1, max_size=60), st.booleans())
def test_never_enough_while_the_wedge_is_open(angles, over):
    said = judge_tilts(None, evidence(angles, over=over))
    assert said.word in ("CONTINUE", "PLATEAU")
    assert not over or said.word == "PLATEAU"
    assert over or "next tilt" in said.reasons[0]
    assert any("wedge" in reason for reason in said.reasons)


def test_a_closed_series_that_has_reached_its_target_is_finished_but_not_proven():
    closed = np.arange(-90, 90, 2.0)
    said = judge_tilts(None, evidence(closed, trust=Trust(None, ("nothing has borne out axis and angles",))))
    assert said.word == "PLATEAU"
    assert said.reasons == (
        "the wedge is closed, 1.00 A reached in all main directions",
        "nothing has borne out axis and angles",
    )
    assert judge_tilts(None, evidence(closed, worst_A=None)).reasons[0].startswith("0.90 A of 1.00 A")
    doubted = judge_tilts(None, evidence(closed, trust=Trust(False, ("check the axis",))))
    assert "check the axis" in doubted.reasons
    assert judge_tilts(None, evidence(np.delete(closed, slice(40, 50)))).word == "CONTINUE"


def test_words_of_a_series_that_goes_on():
    angles = np.arange(-60, 41, 3)
    said = judge_tilts(None, evidence(angles, resolution_A=2.0, worst_A=3.0, diameter_A=40.0))
    assert said.reasons == (
        "next tilt +42.0 deg, outwards",
        "a wedge of 81 deg is open: the map is 1.92 times longer along the beam",
        "2.00 A of 1.00 A; steps of 3.0 deg carry 2.1 A across 40 A",
    )
    later = judge_tilts(said, evidence(angles, frames_seen=99))
    assert (later.word, later.since_frame) == ("CONTINUE", len(angles))
    assert judge_tilts(None, evidence(angles, geometry=None, note="2 of 4 tilts")).word == "SEARCHING"
    assert judge_tilts(None, evidence(angles, state="FAILED", note="no tilt")).reasons == ("cannot be mapped: no tilt",)


def test_left_out_tilts_speak_for_a_map_or_against_it():
    falling = np.linspace(1, 0, 33)
    words = "left-out tilts agree with the map by 0.62; nothing has borne out axis and angles"
    assert tilt_trust(falling, 16, 40) == Trust(None, (words,), frames=40)
    assert tilt_trust(falling**8, 16, 40).trusted is False
    assert tilt_trust(falling, 2, 40).trusted is None
