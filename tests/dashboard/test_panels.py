"""Panels one by one: geometry of the sphere, curves and pictures, and the words for states."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.daemon.snapshot import StreamHealth, WorkerView, from_json
from tumble.dashboard import detail, panels
from tumble.dashboard.block import clean, cut, length, row, spread
from tumble.dashboard.dots import Dots
from tumble.dashboard.facts import facts
from tumble.dashboard.look import Look, can_draw_braille
from tumble.dashboard.mapslice import map_slice, resample
from tumble.dashboard.plot import Plot, draw
from tumble.dashboard.sphere import directions, sphere, summary
from tumble.dashboard.words import clock, count, percent, reasons, seconds, short, trend

FULL, ASCII = Look(), Look(unicode=False, colours=0)


def filled(lines: list[str]) -> int:
    """Braille dots in a text."""
    return sum((ord(character) - 0x2800).bit_count() for line in lines for character in line if character > "\u2800")


def test_directions_are_an_even_hemisphere() -> None:
    cells = directions(400)
    assert len(cells) == 400
    assert all(math.isclose(x * x + y * y + z * z, 1.0) and z > 0 for x, y, z in cells)
    assert abs(sum(z for _, _, z in cells) / 400 - 0.5) < 1e-9  # z is uniform on a sphere (Archimedes)
    assert math.hypot(sum(x for x, _, _ in cells), sum(y for _, y, _ in cells)) < 2.0


def test_sphere_is_blank_where_nothing_was_seen() -> None:
    left = tuple(10 if x < 0 else 0 for x, _, _ in directions(400))
    lines = sphere(left, 40, 20, FULL).plain()
    west = filled([line[4:19] for line in lines[5:15]])
    east = filled([line[21:36] for line in lines[5:15]])
    assert west > 1000
    assert east == 0


def test_equal_area() -> None:
    """The cap of the pole and the band at the rim with as many cells each show about as many dots."""
    cells = directions(400)
    inner = filled(sphere(tuple(int(z > 0.5) for _, _, z in cells), 60, 30, FULL).plain())
    outer = filled(sphere(tuple(int(z <= 0.5) for _, _, z in cells), 60, 30, FULL).plain())
    rim = filled(sphere((), 60, 30, FULL).plain())
    assert 0.9 < (inner - rim) / (outer - rim) < 1.25  # the rim hides some of the outer dots


def test_denser_where_more_was_seen() -> None:
    cells = directions(400)
    counts = tuple(200 if y > 0 else 1 for _, y, _ in cells)
    lines = sphere(counts, 40, 20, FULL).plain()
    assert filled(lines[:10]) > 1.8 * filled(lines[10:])


def test_summary_finds_the_gap() -> None:
    cells = directions(400)
    seen = tuple(int(math.degrees(math.acos(z)) > 30) for _, _, z in cells)
    found = summary(seen)
    assert found.gap_deg == pytest.approx(30, abs=4)
    assert found.missing == 400 - sum(seen)
    assert summary((1,) * 400).gap_deg == 0
    assert summary((0,) * 400).gap_deg == 90
    assert summary(()).cells == 0


def test_plot_puts_points_where_they_belong() -> None:
    lines = draw(Plot(((0, 0), (1, 1)), (0, 1), (0, 1), y_ticks=((0, "0"), (1, "1"))), 22, 12, FULL).plain()
    assert lines[0].startswith("1┤")
    assert lines[9].startswith("0┤")
    assert lines[9][2] != " "  # lower left corner
    assert lines[0][21] != " "  # upper right corner
    assert lines[0][2:10].strip() == ""


def test_plot_leaves_gaps_for_what_is_not_a_number() -> None:
    whole = draw(Plot(((0, 0.5), (1, 0.5), (2, 0.5)), (0, 2), (0, 1)), 30, 8, FULL).plain()
    broken = draw(Plot(((0, 0.5), (1, math.nan), (2, 0.5)), (0, 2), (0, 1)), 30, 8, FULL).plain()
    assert filled(broken) < filled(whole) / 4


def test_fsc_crosses_the_limit_at_the_resolution(fakes: ModuleType) -> None:
    view = fakes.particle(1, 8000)
    text = detail.fsc_panel(view, 60, 20).plain()
    assert f"{view.resolution_A:.2f} Å" in text[0]
    assert any(".143" in line for line in text)
    assert " 2 " in text[-1]
    assert " 1 " in text[-1]


def test_resample_keeps_the_mean_and_the_place() -> None:
    picture = [[255 if (x, y) == (12, 4) else 0 for x in range(16)] for y in range(16)]
    small = resample(picture, 1.0, 8, 8)
    assert max((small[y][x], x, y) for x in range(8) for y in range(8))[1:] == (6, 2)
    assert resample([], 1.0, 4, 4) == []
    flat = resample([[7] * 5] * 5, 0.5, 9, 3)
    assert flat == [[0.0] * 9] * 3


@settings(deadline=None)
@given(size=st.integers(1, 40), width=st.integers(1, 60), height=st.integers(1, 30), share=st.floats(0.05, 1.0))
def test_slices_of_any_size(size: int, width: int, height: int, share: float) -> None:
    picture = tuple(bytes((x * y) % 256 for x in range(size)) for y in range(size))
    for look in (FULL, Look(True, 16), ASCII):
        drawn = map_slice(picture, share, width, height, look)
        assert drawn.height == height
        assert all(length(line) == width for line in drawn.plain())


def test_slice_without_colour_shows_the_particle() -> None:
    picture = tuple(bytes(255 * (math.hypot(x - 31.5, y - 31.5) < 16) for x in range(64)) for y in range(64))
    lines = map_slice(picture, 1.0, 40, 20, Look(True, 0)).plain()
    assert filled([lines[10][15:25]]) == 80
    assert filled([lines[1]]) == 0
    assert map_slice(picture, 1.0, 40, 20, ASCII).plain()[10][20] == "@"


def test_stream_states_in_words() -> None:
    def word(phase: str = "RUNNING", **fields: object) -> str:
        return panels.stream_state(StreamHealth(**fields), phase)[0]  # type: ignore[arg-type]

    assert word(received=5, used=5) == "no loss"
    assert word(received=5, used=4) == "BOOKS OFF BY 1"
    assert word(received=5, used=3, dropped={"queue full": 2}) == "LOST 2 FRAMES"
    assert word(missing=1200) == "LOST 1.2k FRAMES"
    assert word(lag_s=4.0) == "BEHIND BY 4.00 s"
    assert word(lag_s=4.0, expected=9, received=9, in_flight=9) == "all frames in, 9 to do"
    assert word("WAITING") == "no frames yet"


def test_overview_scrolls_to_the_selected(fakes: ModuleType) -> None:
    snapshot = fakes.snapshot(30.0, 12)
    for name in ("P001", "P006", "P012"):
        lines = panels.overview(snapshot, 80, 6, FULL, name).plain()
        assert len(lines) == 6
        assert sum(line.startswith(" ▶") for line in lines) == 1
        assert any(line.startswith(f" ▶ {name}") for line in lines)


def test_unknown_selection_falls_back(fakes: ModuleType) -> None:
    snapshot = fakes.snapshot(30.0, 2)
    assert detail.find(snapshot, "gone") is snapshot.particles[0]
    assert detail.find(replace(snapshot, particles=()), "gone") is None


def test_trend() -> None:
    assert trend([]) == ""
    assert trend([(1, 2.0), (2, 1.0)]) == ""
    assert trend([(100, 2.0), (200, 1.5), (300, 1.2)]) == "better"
    assert trend([(100, 1.0), (200, 1.0), (300, 1.005)]) == "steady"
    assert trend([(100, 1.0), (200, 1.0), (300, 1.2)]) == "worse"
    assert trend([(400, 1.04), (700, 0.87), (780, 0.95)]) == "better"  # no half as many: since the first
    assert trend([(100, 3.0), (200, 1.0), (400, 1.0)]) == "steady"
    assert trend([(1, 0.0), (2, math.inf), (3, math.nan)]) == ""


def test_numbers_in_words() -> None:
    assert [count(None), count(1234), count(12345678), count(0)] == ["-", "1 234", "12.3M", "0"]
    assert [short(3.25), short(1e12), short(950), short(12.0)] == ["3.2", "1T", "950", "12"]
    assert [seconds(0.0123), seconds(0.5), seconds(300.0), seconds(math.nan)] == ["12 ms", "0.50 s", "5 min", "?"]
    assert [clock(3661), clock(90061), clock(-1), clock(math.inf)] == [
        "01:01:01",
        "1d 01:01:01",
        "00:00:00",
        "00:00:00",
    ]
    assert [percent(1, 1000), percent(999, 1000), percent(0, 5), percent(5, 5), percent(1, 0)] == [
        "1%",
        "99%",
        "0%",
        "100%",
        "-",
    ]
    assert reasons({"b": 2, "a": 2, "none": 0, "c": 30}) == "c 30, a 2, b 2"


def test_words_from_outside_are_made_harmless() -> None:
    assert clean("a\tb\x1b[31m\u202e\x07") == "a b?[31m??"
    assert clean("Ångström, 漢字") == "Ångström, 漢字"


@given(text=st.text(max_size=60), width=st.integers(0, 40))
def test_rows_are_exact_for_any_text(text: str, width: int) -> None:
    harmless = clean(text)
    assert length("".join(segment.text for segment in row(width, harmless, " end"))) == width
    assert length("".join(segment.text for segment in spread(width, [harmless], ["right"]))) == width
    assert length(cut(harmless, width)) <= width


def test_ascii_dots_weigh_like_braille() -> None:
    dots = Dots(4, 1)
    dots.put(0, 0)
    dots.put(2, 3)
    for y in range(4):
        dots.put(4, y)
        dots.put(6, y)
        dots.put(7, y)
    dots.put(-1, 0)
    dots.put(8, 0)
    assert dots.text(unicode=False) == ["'.:#"]


def test_when_braille_can_be_drawn() -> None:
    assert can_draw_braille("utf-8", {"LANG": "de_DE.UTF-8", "TERM": "xterm-256color"})
    assert can_draw_braille("utf-8", {"TERM": "tmux-256color"})
    assert not can_draw_braille("ascii", {})
    assert not can_draw_braille("latin-1", {})
    assert not can_draw_braille(None, {})
    assert not can_draw_braille("utf-8", {"LC_ALL": "C", "LANG": "de_DE.UTF-8"})
    assert not can_draw_braille("utf-8", {"TERM": "linux", "LANG": "C.UTF-8"})


def test_snapshot_json_round_trip(fakes: ModuleType) -> None:
    for snapshot in (fakes.snapshot(30.0, 3), fakes.bare(), fakes.snapshot(-1, 0)):
        assert from_json(snapshot.to_json()) == snapshot


def test_gpus_and_those_that_died_are_told(fakes: ModuleType) -> None:
    snapshot = replace(fakes.snapshot(30.0, 2), device="2 x NVIDIA H200, 140 GiB")
    first = replace(snapshot.particles[0], where="GPU 1")
    well = replace(snapshot, workers=(WorkerView("GPU 0"), WorkerView("GPU 1")), particles=(first,))
    assert from_json(well.to_json()) == well
    assert any("2 x NVIDIA H200, 140 GiB" in line for line in panels.stream_panel(well, 60, 24).plain())
    assert any("compute" in line and "GPU 1" in line for line in facts(first, 60, 24).plain())
    ill = replace(well, workers=(WorkerView("GPU 0"), WorkerView("GPU 1", alive=False)))
    for block in (panels.stream_panel(ill, 60, 24), panels.stream_lines(ill, 80, 3)):
        assert any("GPU 1 died" in line for line in block.plain())
    assert not any("compute" in line for line in panels.stream_panel(fakes.snapshot(30.0, 2), 60, 24).plain())


def test_pause_mark_and_exclusion_are_seen_without_colour(fakes: ModuleType) -> None:
    snapshot = fakes.snapshot(12.0, 2)
    gone = replace(snapshot.particles[0], state="EXCLUDED", note="excluded by the operator")
    snapshot = replace(
        snapshot, paused=True, mark="beam moved (after frame 7)", particles=(gone, snapshot.particles[1])
    )
    for width in (80, 120, 160):
        assert "PAUSED: recorded, not analysed" in "".join(panels.header(snapshot, width).plain())
        first = next(row for row in panels.overview(snapshot, width, 8).plain() if gone.name in row)
        assert "EXCLUDED" in first
    assert "beam moved (after frame 7)" in "".join(panels.stream_lines(snapshot, 160, 3).plain())
