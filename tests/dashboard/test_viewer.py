"""The loop with a fake clock and a fake screen: how often it draws, what keys do, what a silent daemon looks like."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from tumble.daemon.snapshot import Snapshot
from tumble.dashboard.app import Viewer, run
from tumble.dashboard.block import Block
from tumble.dashboard.look import Look


class FakeScreen:
    """A terminal whose time passes only when somebody waits for keys."""

    def __init__(self, script: dict[float, str] | None = None) -> None:
        self.look = Look()
        self.stopped_by: int | None = None
        self.now = 0.0
        self.columns, self.lines = 80, 24
        self.drawn: list[tuple[float, str]] = []
        self.forgotten = 0
        self._script = sorted((script or {}).items())

    def __enter__(self) -> FakeScreen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def size(self) -> tuple[int, int]:
        return self.columns, self.lines

    def show(self, content: Block) -> None:
        self.drawn.append((self.now, "\n".join(content.plain())))

    def forget(self) -> None:
        self.forgotten += 1

    def keys(self, timeout: float) -> list[str]:
        assert timeout >= 0
        until = self.now + max(timeout, 0.001)
        if self._script and self._script[0][0] <= until:
            moment, key = self._script.pop(0)
            self.now = max(self.now, moment)
            return [key]
        self.now = until
        return []


def play(screen: FakeScreen, poll: Callable[[float], Snapshot | None], until: float = 10.0, **options: object) -> int:
    """Run against a fake screen; leaves at `until`."""
    return run(
        lambda: poll(screen.now),
        finished=lambda: screen.now >= until,
        linger_s=options.pop("linger_s", 0.0),  # type: ignore[arg-type]
        endpoint="tcp://127.0.0.1:31101",
        clock=lambda: screen.now,
        terminal=screen,
        **options,  # type: ignore[arg-type]
    )


def test_at_most_four_redraws_a_second_with_a_busy_daemon_and_busy_fingers(fakes: ModuleType) -> None:
    screen = FakeScreen({step * 0.01: "tab" for step in range(900)})
    play(screen, lambda now: replace(fakes.snapshot(20.0, 3), sequence=int(now * 1000)))
    assert 30 <= len(screen.drawn) <= 41
    moments = [moment for moment, _ in screen.drawn]
    assert min(b - a for a, b in itertools.pairwise(moments)) >= 0.25 - 1e-9


def test_nothing_is_drawn_when_nothing_changes(fakes: ModuleType) -> None:
    fixed = replace(fakes.snapshot(41.0, 1), phase="DONE")
    screen = FakeScreen()
    play(screen, lambda _: fixed, until=30.0)
    assert len(screen.drawn) == 1


def test_a_key_is_answered_at_once_when_idle(fakes: ModuleType) -> None:
    screen = FakeScreen({5.1: "tab"})
    fixed = replace(fakes.snapshot(45.0, 2), phase="DONE")
    play(screen, lambda _: fixed)
    assert [round(moment, 1) for moment, _ in screen.drawn] == [0.0, 5.1]
    assert " ▶ P002" in screen.drawn[1][1]


def test_resize_is_noticed(fakes: ModuleType) -> None:
    screen = FakeScreen()
    fixed = replace(fakes.snapshot(45.0, 2), phase="DONE")

    def poll(now: float) -> Snapshot:
        screen.columns, screen.lines = (120, 40) if now > 3 else (80, 24)
        return fixed

    play(screen, poll)
    assert [len(text.split("\n")) for _, text in screen.drawn] == [24, 40]


def test_waiting_then_silent_then_restarted(fakes: ModuleType) -> None:
    def poll(now: float) -> Snapshot | None:
        if now < 10 or 20 <= now < 30:
            return None
        return fakes.snapshot(now - (10 if now < 30 else 30), 1)  # type: ignore[no-any-return]

    screen = FakeScreen()
    play(screen, poll, until=45.0)

    def text(moment: float) -> str:
        return [words for when, words in screen.drawn if when <= moment][-1]

    assert "waiting for the daemon at tcp://127.0.0.1:31101" in text(9.0)
    assert "NO NEWS" not in text(19.0)
    assert "RUNNING" in text(19.0)
    assert "NO NEWS for 5 s: waiting for the daemon at tcp" in text(25.0)
    assert "P001" in text(25.0)  # the last picture stays
    assert "the daemon was started anew" in text(32.0)
    assert "started anew" not in text(44.0)


def test_pause_freezes_the_display_only(fakes: ModuleType) -> None:
    screen = FakeScreen({3.0: "p", 6.0: "p"})
    play(screen, lambda now: fakes.snapshot(now, 1), until=8.0)
    paused = [text for moment, text in screen.drawn if 3.0 <= moment < 6.0]
    assert len(set(paused)) == 1
    assert "DISPLAY PAUSED" in paused[0]
    assert "up 00:00:07" in screen.drawn[-1][1]


def test_help_opens_and_any_key_closes_it(fakes: ModuleType) -> None:
    screen = FakeScreen({2.0: "?", 4.0: "x"})
    play(screen, lambda _: fakes.snapshot(20, 1), until=6.0)
    shown = {moment: " Help " in text for moment, text in screen.drawn}
    assert any(shown.values())
    assert all(2.0 <= moment < 4.3 for moment, here in shown.items() if here)


def test_q_quits_even_from_help(fakes: ModuleType) -> None:
    screen = FakeScreen({1.0: "?", 2.0: "q"})
    assert play(screen, lambda _: fakes.snapshot(20, 1), until=60.0) == 0
    assert screen.now < 3


def test_selection_survives_new_particles_and_wraps(fakes: ModuleType) -> None:
    viewer = Viewer()
    viewer.take(fakes.snapshot(20.0, 3), 0.0)
    names = []
    for key in ("tab", "down", "right", "up", "backtab"):
        viewer.press(key)
        names.append(viewer.state.selected)
    assert names == ["P002", "P003", "P001", "P003", "P002"]
    viewer.take(fakes.snapshot(21.0, 8), 1.0)
    assert viewer.state.selected == "P002"


def test_keys_without_particles_do_no_harm() -> None:
    viewer = Viewer()
    for key in ("tab", "up", "p", "z", "?", "escape", "5", "redraw"):
        viewer.press(key)
    viewer.draw(80, 24, Look(), 0.0)
    assert not viewer.quit


@pytest.mark.parametrize(("phase", "code"), [("DONE", 0), ("FAILED", 1)])
def test_leaves_by_itself_after_showing_the_end(fakes: ModuleType, phase: str, code: int) -> None:
    last = replace(fakes.snapshot(45.0, 1), phase=phase)
    screen = FakeScreen()
    poll = lambda now: last if now > 5 else fakes.snapshot(now, 1)  # noqa: E731
    assert play(screen, poll, until=1e9, exit_when_done=True, linger_s=4.0) == code
    assert 9.0 <= screen.now <= 9.6
    assert phase in screen.drawn[-1][1]


def test_any_key_ends_the_lingering(fakes: ModuleType) -> None:
    last = replace(fakes.snapshot(45.0, 1), phase="DONE")
    screen = FakeScreen({2.0: "x"})
    assert play(screen, lambda _: last, until=1e9, exit_when_done=True, linger_s=60.0) == 0
    assert screen.now < 3


def test_errors_of_the_caller_come_out() -> None:
    def poll(_: float) -> Snapshot | None:
        raise ValueError("snapshot schema 2, this viewer reads 1")

    with pytest.raises(ValueError, match="schema 2"):
        play(FakeScreen(), poll)


def test_everything_is_drawn_anew_now_and_then(fakes: ModuleType) -> None:
    screen = FakeScreen({1.0: "redraw"})
    fixed = replace(fakes.snapshot(45.0, 1), phase="DONE")
    play(screen, lambda _: fixed, until=200.0)
    assert 4 <= screen.forgotten <= 5
