"""What the dashboard says of verdicts, trust and forecasts, and that it never says it by colour alone."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
from rich.style import Style

from tumble.daemon.snapshot import Snapshot
from tumble.dashboard.app import Viewer
from tumble.dashboard.block import flow, wrap
from tumble.dashboard.facts import essentials, facts
from tumble.dashboard.layout import PLANES, ViewState, screen
from tumble.dashboard.look import Look
from tumble.dashboard.panels import log_panel, overview, stream_lines
from tumble.dashboard.plain import PlainLines, particle_line
from tumble.dashboard.words import mebibytes, span

FULL, ASCII = Look(), Look(unicode=False, colours=0)


def text(block: object) -> str:
    return "\n".join(block.plain())  # type: ignore[attr-defined]


def test_a_doubted_map_is_marked_in_every_size_without_colour(fakes: ModuleType) -> None:
    for width, height in ((80, 24), (120, 36), (160, 48)):
        shown = text(screen(fakes.snapshot(12.0, 2), width, height, ASCII, ViewState("P002")))
        assert "! doubt" in shown
        assert "DO NOT TRUST" in shown
        assert "STARVED" in shown


def test_what_an_earlier_second_map_bore_out_is_no_doubt_and_says_on_what_it_rests(fakes: ModuleType) -> None:
    why = "a second map bore it out after 1649 frames; the newest has not seen enough to tell"
    view = replace(
        fakes.particle(1, 6000),
        verdict="ENOUGH",
        verdict_reasons=("0.80 A reached",),
        trusted=True,
        trust_reasons=(why,),
    )
    said = replace(fakes.snapshot(12.0, 2), particles=(view,))
    for width, height in ((80, 24), (120, 36), (160, 48)):
        shown = text(screen(said, width, height, ASCII))
        assert "doubt" not in shown
        assert "DO NOT TRUST" not in shown
    assert f"trusted: {why}" in " ".join(text(facts(view, 60, 20)).split())


def test_enough_is_only_ever_what_the_daemon_says(fakes: ModuleType) -> None:
    before = fakes.snapshot(12.0, 2)
    bare = replace(before, particles=tuple(replace(view, verdict="") for view in before.particles))
    for shown in (screen(before, 160, 48), screen(bare, 160, 48)):
        assert "ENOUGH" not in text(shown)
    assert "state " in text(overview(bare, 120, 6))
    assert "verdict " in text(overview(before, 120, 6))


def test_a_lost_particle_is_lost_whatever_its_last_verdict(fakes: ModuleType) -> None:
    view = replace(fakes.particle(1, 9000), state="LOST", verdict="ENOUGH")
    shown = text(overview(replace(fakes.snapshot(12.0, 1), particles=(view,)), 80, 5))
    assert "LOST" in shown
    assert "ENOUGH" not in shown


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.2, 1.25, "0.2 s to 1.2 s"),
        (6.2, 17.0, "6 s to 17 s"),
        (40.0, 300.0, "40 s to 5 min"),
        (0.4, 17.0, "within 17 s"),
        (400.0, None, "7 min or more"),
        (1e7, None, ""),
        (None, None, ""),
    ],
)
def test_intervals_in_words(low: float | None, high: float | None, words: str) -> None:
    assert span(low, high) == words


def test_the_forecast_is_a_fan_to_the_target(fakes: ModuleType) -> None:
    from tumble.dashboard.detail import trend_panel

    view = fakes.particle(1, 6000)
    without = text(trend_panel(view, 60, 16, FULL))
    fan = text(trend_panel(view, 60, 16, FULL, rate_hz=400.0))
    assert "0.80 Å in 6 s to 17 s" in fan
    assert "in 6 s" not in without
    last = max(frames for frames, _ in view.resolution_trend)
    assert f"{last / 1000:.3g}k frames" in without
    assert f"{last / 1000:.3g}k frames" not in fan  # the axis goes on into the future


def test_a_target_that_was_reached_has_no_fan(fakes: ModuleType) -> None:
    from tumble.dashboard.detail import trend_panel

    view = replace(fakes.particle(1, 6000), target_A=3.0)
    assert text(trend_panel(view, 60, 16, FULL, 400.0)) == text(trend_panel(view, 60, 16, FULL))


def test_s_goes_through_the_slices(fakes: ModuleType) -> None:
    viewer = Viewer()
    viewer.take(fakes.snapshot(12.0, 1), 0.0)
    seen = []
    for _ in range(len(PLANES) + 1):
        shown = text(viewer.draw(80, 24, FULL, 0.0))
        seen.append(tuple(plane for plane in ("xy", "xz", "yz") if f"Map {plane}" in shown))
        viewer.press("s")
    assert seen == [("xy",), ("xz",), ("yz",), ("xy", "xz", "yz"), ("xy",)]


def test_the_other_slices_are_drawn_with_z_upwards(fakes: ModuleType) -> None:
    from tumble.dashboard.detail import slice_panel

    bright = tuple(bytes(32 * [255 if row > 24 else 0]) for row in range(32))  # at high z
    view = replace(fakes.particle(1, 6000), slice_xz=bright, slice_width_A=30.0, diameter_A=25.0)
    rows = slice_panel(view, 40, 21, ASCII, 1, "xz").plain()[1:]
    assert "@" in "".join(rows[:6])
    assert "@" not in "".join(rows[-10:])


def test_stream_lines_keep_what_is_wrong_in_sight(fakes: ModuleType) -> None:
    snapshot: Snapshot = fakes.snapshot(12.0, 1)
    assert "p50/p99 0.12/0.41 s" in text(stream_lines(snapshot, 80))
    assert "in flight" in text(stream_lines(snapshot, 80))
    full = replace(snapshot, disk_free_MiB=900.0, stream=replace(snapshot.stream, missing=7))
    assert "disk 900 MiB free" in text(stream_lines(full, 80))
    assert "missing 7" in text(stream_lines(full, 80))


@pytest.mark.parametrize(("value", "words"), [(812.0, "812 MiB"), (34.5 * 1024, "34.5 GiB"), (2.0**21, "2 TiB")])
def test_sizes(value: float, words: str) -> None:
    assert mebibytes(value) == words


def test_log_lines_tell_changes_of_the_verdict_once(fakes: ModuleType) -> None:
    plain = PlainLines()
    snapshot = fakes.snapshot(12.0, 2)
    lines = plain.lines(snapshot)
    assert sum("CONTINUE: the resolution still improves" in line for line in lines) == 1
    assert sum("P002 DO NOT TRUST the map; two independent accounts" in line for line in lines) == 1
    assert not any("CONTINUE" in line or "TRUST" in line for line in plain.lines(snapshot))
    view = replace(snapshot.particles[0], verdict="ENOUGH", verdict_reasons=("target reached",))
    assert any("P001 ENOUGH: target reached" in line for line in plain.lines(replace(snapshot, particles=(view,))))


def test_reasons_are_wrapped_where_there_is_room(fakes: ModuleType) -> None:
    view = fakes.particle(2, 6000)
    tall = text(facts(view, 50, 20))
    assert "agree on 61 % of" in " ".join(tall.split())
    assert len(essentials(view, 80).plain()) == 2
    assert wrap("one two three", 7, 2, "…") == ["one two", "three"]
    assert wrap("one two three", 7, 1, "…") == ["one tw…"]
    assert wrap("averyverylongword", 7, 3, "…") == ["averyv…"]


def test_the_lattice_that_was_recognised_is_named(fakes: ModuleType) -> None:
    single, twin = fakes.snapshot(12.0, 2).particles
    assert "fcc 3.934" in text(facts(single, 60, 20))
    assert "twinned fcc 3.945" in text(facts(twin, 60, 20))
    assert "twinned fcc lattice constant 3.945 A" in particle_line(twin)
    unknown = replace(twin, lattice="", twinned=False)
    assert "lattice    3.945" in text(facts(unknown, 60, 20))
    assert ", lattice constant 3.945 A" in particle_line(unknown)
    either = replace(single, lattice_constant_A=4.081, metals=("Ag", "Au"))
    assert "fcc 4.081 A, as of Ag or Au, rotation" in text(facts(either, 80, 20, ASCII))
    assert "fcc lattice constant 4.081 A, as of Ag or Au" in particle_line(either)


def test_a_strain_is_one_short_line_and_only_where_there_is_one(fakes: ModuleType) -> None:
    plain = fakes.snapshot(12.0, 1).particles[0]
    assert "strain" not in text(facts(plain, 60, 20)) + particle_line(plain)
    strained = replace(plain, strain_percent=(1.833, -0.167, -1.667))
    assert "strain     +1.8, -0.2, -1.7 % along its axes" in text(facts(strained, 60, 20))
    assert "strained by +1.8, -0.2, -1.7 %" in particle_line(strained)


def test_styled_words_flow_over_lines() -> None:
    def flown(width: int, lines: int) -> list[str]:
        made = flow([("one two", Style(bold=True)), ("three four", Style.null())], width, lines, "…")
        return ["".join(segment.text for segment in line) for line in made]

    assert flown(20, 2) == [" one two  three four"]
    assert flown(18, 2) == [" one two          ", " three four       "]  # whole where there is room for all of it
    assert flown(10, 3) == [" one two  ", " three    ", " four     "]
    assert flown(11, 1) == [" one two  …"]
    assert flown(4, 9) == [" one", " two", " th…", " fo…"]
    assert flown(13, 1) == [" one two  th…"]
    assert flown(8, 1) == [" one tw…"]
    assert flown(15, 1) == [" one two  thre…"]


def test_a_long_verdict_of_the_session_gets_a_line_of_its_own(fakes: ModuleType) -> None:
    words = "0 of 2 particles have enough; go on for P001; P002 shows nothing new: stir, or take another"
    said = replace(fakes.snapshot(12.0, 2), verdict=words)
    for width, height in ((80, 24), (132, 36)):
        shown = text(screen(said, width, height, FULL))
        assert "P002 shows nothing new: stir" in shown
    assert words in text(screen(said, 160, 48, FULL))


def test_reasons_are_whole_at_80_by_24(fakes: ModuleType) -> None:
    shown = text(screen(fakes.snapshot(12.0, 2), 80, 24, FULL, ViewState("P001")))
    assert "4 % of the map's directions not measured yet" in " ".join(shown.split())


def test_what_is_excluded_says_so_instead_of_its_last_verdict(fakes: ModuleType) -> None:
    first, second = fakes.snapshot(12.0, 2).particles
    out = replace(second, state="EXCLUDED", note="excluded by the operator")
    said = replace(fakes.snapshot(12.0, 2), particles=(first, out))
    for width, height in ((80, 24), (160, 48)):
        shown = text(screen(said, width, height, ASCII, ViewState("P002")))
        assert "EXCLUDED" in shown
        assert "excluded by the operator" in shown
        assert "STARVED" not in shown
        assert "turned about one axis" not in shown


def test_the_forecast_and_doubts_are_said_once(fakes: ModuleType) -> None:
    view = fakes.particle(2, 6000)
    why = (
        "1.10 A of 0.80 A",
        "the map is not trusted: two accounts disagree",
        "target in 7 min or later, perhaps never",
    )
    shown = text(facts(replace(view, verdict_reasons=why), 80, 20))
    assert "1.10 A of 0.80 A" in shown
    assert "DO NOT TRUST" in shown
    assert "not trusted" not in shown
    assert "target in" not in shown


def test_a_note_that_is_the_reason_is_said_once_and_a_verdict_for_how_long(fakes: ModuleType) -> None:
    note = "17 of 400 frames for the first map"
    view = replace(
        fakes.particle(1, 6000), verdict="SEARCHING", verdict_reasons=(note,), verdict_frames=1217, note=note,
        trusted=None, trust_reasons=(),
    )  # fmt: skip
    for shown in (text(facts(view, 120, 20, ASCII)), text(essentials(view, 80, 2, ASCII))):
        assert " ".join(shown.split()).count(note) == 1
    assert f"SEARCHING for 1 217 frames: {note}" in text(facts(view, 120, 20, ASCII))
    assert "LOST for" not in text(facts(replace(view, state="LOST"), 120, 20, ASCII))


def test_a_target_out_of_reach_is_said_once(fakes: ModuleType) -> None:
    never = "at this rate of fresh views the target is out of reach"
    ahead = {"forecast_low_s": None, "forecast_median_s": None, "forecast_high_s": None, "forecast_words": never}
    view = replace(fakes.particle(1, 6000), verdict_reasons=("1.10 A of 0.80 A", never), **ahead)
    shown = " ".join(text(facts(view, 120, 20)).split())
    assert shown.count("out of reach") == 1
    assert "out of reach" in " ".join(text(essentials(view, 80)).split())


def test_what_is_waited_for_where_the_halves_cross_at_the_target_already(fakes: ModuleType) -> None:
    view = replace(fakes.particle(1, 6000), target_A=0.8, resolution_A=0.75, metrics={"empty_fraction": 0.2})
    for shown in (text(facts(view, 80, 20)), text(essentials(view, 80))):
        assert "0.80 Å from all sides in 6 s to 17 s" in " ".join(shown.split())
    for other in (replace(view, resolution_A=0.9), replace(view, metrics={"empty_fraction": 0.01})):
        assert "from all sides" not in text(facts(other, 80, 20))


def test_a_forecast_in_the_list_of_particles_is_that_of_now(fakes: ModuleType) -> None:
    why = ("20 % of the map's directions not measured yet", "target from all sides in 12 s to 40 s")
    view = replace(fakes.particle(1, 6000), verdict_reasons=why)
    shown = text(overview(replace(fakes.snapshot(12.0, 1), particles=(view,)), 200, 5, ASCII))
    assert "target from all sides in 6 s to 17 s" in shown
    assert "40 s" not in shown
    ahead = {"forecast_low_s": None, "forecast_median_s": None, "forecast_high_s": None}
    unknown = replace(view, **ahead)
    assert "12 s to 40 s" in text(overview(replace(fakes.snapshot(12.0, 1), particles=(unknown,)), 200, 5, ASCII))
    over = replace(fakes.snapshot(12.0, 1), particles=(replace(view, state="DONE"),))
    assert "target from" not in text(screen(over, 160, 48, ASCII))


def test_what_has_enough_or_is_over_has_no_forecast(fakes: ModuleType) -> None:
    view = fakes.particle(1, 6000)
    shown = fakes.snapshot(12.0, 1)
    for over in (replace(view, verdict="ENOUGH"), replace(view, state="DONE"), replace(view, state="LOST")):
        for width, height in ((80, 24), (120, 36), (160, 48)):
            screened = text(screen(replace(shown, particles=(over,)), width, height, ASCII))
            assert "6 s to 17 s" in text(screen(replace(shown, particles=(view,)), width, height, ASCII))
            assert "6 s to 17 s" not in screened
            assert "forecast" not in screened


def test_the_sphere_says_how_much_of_the_map_was_measured(fakes: ModuleType) -> None:
    from tumble.dashboard.detail import views_panel

    view = replace(fakes.particle(1, 6000), metrics={"empty_fraction": 0.068})
    for width, words in ((20, "map 93% measured"), (60, "map 93% measured, seen from")):
        assert words in text(views_panel(view, width, 12, ASCII))
    assert "100%" not in text(views_panel(replace(view, metrics={"empty_fraction": 1e-4}), 20, 12, ASCII))


def test_long_lines_of_the_log_are_wrapped(fakes: ModuleType) -> None:
    said = replace(fakes.snapshot(12.0, 1), log=("first", "one two three four five six"))
    assert text(log_panel(said, 20, 4)).splitlines()[1:] == [
        " first".ljust(20),
        " one two three".ljust(20),
        "   four five six".ljust(20),
    ]
