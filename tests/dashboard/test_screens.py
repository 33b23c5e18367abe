"""Whole screens: exact sizes for any terminal and any snapshot, and text that was looked at once and must not drift."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem

from tumble.daemon.snapshot import Snapshot
from tumble.dashboard.block import Block, length
from tumble.dashboard.layout import ViewState, help_screen, screen, waiting
from tumble.dashboard.look import Look
from tumble.dashboard.terminal import ansi

PICTURES = Path(__file__).with_name("pictures")
LOOKS = {"": Look(True, 256), "-16": Look(True, 16), "-nocolour": Look(True, 0), "-ascii": Look(False, 0)}
SIZES = [(80, 24), (120, 36), (160, 48)]


def check(name: str, text: str) -> None:
    """Compare with a stored picture; TUMBLE_UPDATE_PICTURES=1 stores it anew: look at it before it is committed."""
    path = PICTURES / name
    if os.environ.get("TUMBLE_UPDATE_PICTURES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    stored = path.read_text(encoding="utf-8")
    difference = "\n".join(difflib.unified_diff(stored.splitlines(), text.splitlines(), "stored", "now", lineterm=""))
    assert not difference, difference


def plain(block: Block) -> str:
    return "\n".join(line.rstrip() for line in block.plain()) + "\n"


def exact(block: Block, width: int, height: int, unicode: bool = True) -> None:
    lines = block.plain()
    assert len(lines) == height
    for line in lines:
        assert length(line) == width
        assert line.isprintable()
        if not unicode:
            assert line.isascii()


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look or "full")
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_picture(fakes: ModuleType, width: int, height: int, look: str) -> None:
    drawn = screen(fakes.snapshot(12.0, 2), width, height, LOOKS[look], ViewState("P001"))
    exact(drawn, width, height, LOOKS[look].unicode)
    check(f"running-{width}x{height}{look}.txt", plain(drawn))


@pytest.mark.parametrize(("colours", "system"), [(256, ColorSystem.EIGHT_BIT), (16, ColorSystem.STANDARD), (0, None)])
def test_picture_with_escapes(fakes: ModuleType, colours: int, system: ColorSystem | None) -> None:
    drawn = screen(fakes.snapshot(12.0, 2), 80, 24, Look(True, colours), ViewState("P001"))
    text = "\n".join(ansi(line, system) for line in drawn.lines) + "\n"
    if system is None:
        for code in ("\x1b[3", "\x1b[9", ";3", ";38"):  # no colour codes; bold, dim and reverse may stay
            assert code not in text
    check(f"running-80x24-{colours}.ans", text)


@pytest.mark.parametrize("particles", [0, 1, 12])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_numbers_of_particles(fakes: ModuleType, width: int, height: int, particles: int) -> None:
    drawn = screen(fakes.snapshot(20.0, particles), width, height, LOOKS[""], ViewState("P011"))
    exact(drawn, width, height)
    check(f"particles-{particles}-{width}x{height}.txt", plain(drawn))
    if particles == 12:
        assert any(line.startswith(" ▶ P011") for line in drawn.plain())


@pytest.mark.parametrize("kind", ["bare", "huge"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_odd_snapshots(fakes: ModuleType, width: int, height: int, kind: str) -> None:
    drawn = screen(getattr(fakes, kind)(), width, height)
    exact(drawn, width, height)
    check(f"{kind}-{width}x{height}.txt", plain(drawn))


def test_every_moment_of_a_movie(fakes: ModuleType) -> None:
    for second in (-1.0, 0.0, 0.3, 0.8, 1.4, 2.0, 5.0, 39.0, 41.0, 44.0):
        exact(screen(fakes.snapshot(second, 3), 80, 24), 80, 24)
        exact(screen(fakes.snapshot(second, 3), 132, 43), 132, 43)


def test_help_fits_80_by_24() -> None:
    drawn = help_screen(80, 24)
    exact(drawn, 80, 24)
    assert "…" not in plain(drawn)
    assert not drawn.plain()[-1].strip()  # nothing was cut off below


def test_waiting_says_where() -> None:
    assert "waiting for the daemon at tcp://127.0.0.1:31101" in plain(waiting("tcp://127.0.0.1:31101", 80, 24))
    exact(waiting("tcp://" + "x" * 300, 20, 3), 20, 3)


def test_nothing_is_said_by_colour_alone(fakes: ModuleType) -> None:
    """Screens that mean different things differ in their text."""
    fine = fakes.snapshot(12.0, 2)
    texts = {plain(screen(variant, 80, 24, LOOKS["-ascii"])) for variant in _variants(fine)}
    assert len(texts) == len(_variants(fine))


def _variants(fine: Snapshot) -> list[Snapshot]:
    lossy = replace(fine.stream, dropped={"queue full": 7}, received=fine.stream.received + 7)
    first, second = fine.particles
    return [
        fine,
        replace(fine, phase="FAILED"),
        replace(fine, stream=lossy),
        replace(fine, stream=replace(fine.stream, lag_s=12.0)),
        replace(fine, stream=replace(fine.stream, received=fine.stream.received + 1)),
        replace(fine, particles=(replace(first, state="LOST"), second)),
        replace(fine, particles=(replace(first, resolution_trend=((1, 1.0), (2, 1.0), (3, 2.0))), second)),
    ]


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 260),
    height=st.integers(1, 90),
    second=st.floats(-1, 45),
    particles=st.integers(0, 5),
    look=st.sampled_from(list(LOOKS.values())),
    state=st.sampled_from([ViewState("P002"), ViewState(help=True), ViewState(notice="word " * 60), ViewState(zoom=4)]),
)
def test_any_size(
    fakes: ModuleType, width: int, height: int, second: float, particles: int, look: Look, state: ViewState
) -> None:
    exact(screen(fakes.snapshot(round(second, 1), particles), width, height, look, state), width, height, look.unicode)


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 260), height=st.integers(1, 90), look=st.sampled_from(list(LOOKS.values())))
def test_any_size_with_hostile_words(fakes: ModuleType, width: int, height: int, look: Look) -> None:
    exact(screen(fakes.huge(), width, height, look), width, height)
