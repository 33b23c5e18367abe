"""The loop of the dashboard: snapshots in, keys in, at most four redraws a second out."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ..daemon.snapshot import Snapshot
from .block import Block
from .layout import PLANES, ViewState, screen, waiting
from .look import Look
from .plain import PlainLines
from .terminal import Terminal

REDRAW_S = 0.25
STALE_S = 3.0
REPAINT_S = 60.0  # now and then everything is drawn anew: somebody may have written across the screen
_OVER = ("DONE", "FAILED")


class Screen(Protocol):
    """What the loop needs from a terminal."""

    look: Look
    stopped_by: int | None

    def size(self) -> tuple[int, int]:
        """Columns and rows."""

    def show(self, content: Block) -> None:
        """Draw."""

    def forget(self) -> None:
        """Draw everything next time."""

    def keys(self, timeout: float) -> list[str]:
        """Wait for keys."""


class Viewer:
    """What the screen shows, as a state that snapshots, keys and time change. No terminal, no waiting."""

    def __init__(self, endpoint: str = "", stale_s: float = STALE_S) -> None:
        self.endpoint = endpoint
        self.quit = False
        self.state = ViewState()
        self.latest: Snapshot | None = None
        self._frozen: Snapshot | None = None
        self._stale_s = stale_s
        self._started: float | None = None
        self._heard = 0.0
        self._restarted = 0.0

    def take(self, snapshot: Snapshot | None, now: float) -> bool:
        """Hear from the daemon; None means no news. Returns whether there was news."""
        if self._started is None:
            self._started = self._heard = now
        if snapshot is None:
            return False
        before = self.latest
        if before is not None and (snapshot.sequence, snapshot.time_s) == (before.sequence, before.time_s):
            return False
        if before is not None and snapshot.sequence < before.sequence and snapshot.uptime_s < before.uptime_s:
            self._restarted = now + 10.0
        self.latest, self._heard = snapshot, now
        return True

    def press(self, key: str) -> bool:
        """Do what a key says. Returns whether the screen has to change."""
        if self.state.help and key != "redraw":
            self.quit = self.quit or key == "q"
            self.state = replace(self.state, help=False)
            return True
        if key == "q":
            self.quit = True
        elif key in ("?", "h"):
            self.state = replace(self.state, help=True)
        elif key in ("tab", "down", "right", "j", "n"):
            self._step(1)
        elif key in ("backtab", "up", "left", "k", "N"):
            self._step(-1)
        elif key == "z":
            self.state = replace(self.state, zoom=self.state.zoom * 2 if self.state.zoom < 4 else 1)
        elif key == "s":
            self.state = replace(self.state, plane=PLANES[(PLANES.index(self.state.plane) + 1) % len(PLANES)])
        elif key == "p":
            self._frozen = None if self._frozen else self.latest
            self.state = replace(self.state, paused=self._frozen is not None)
        else:
            return key == "redraw"
        return True

    def _step(self, by: int) -> None:
        shown = self.shown
        names = [particle.name for particle in shown.particles] if shown else []
        if names:
            here = names.index(self.state.selected) if self.state.selected in names else 0
            self.state = replace(self.state, selected=names[(here + by) % len(names)])

    @property
    def shown(self) -> Snapshot | None:
        """The snapshot on the screen: the newest, or the one that was frozen."""
        return self._frozen or self.latest

    @property
    def over(self) -> bool:
        """Whether the daemon has said its last word."""
        return self.latest is not None and self.latest.phase in _OVER

    def notice(self, now: float) -> str:
        """What has to be said beside the snapshot; empty when all is well."""
        if self.state.paused:
            return "DISPLAY PAUSED, p goes on"
        silent = now - self._heard
        if not self.over and silent > self._stale_s:
            where = f" at {self.endpoint}" if self.endpoint else ""
            return f"NO NEWS for {silent:.0f} s: waiting for the daemon{where}"
        return "the daemon was started anew" if now < self._restarted else ""

    def draw(self, width: int, height: int, look: Look, now: float) -> Block:
        """The whole screen."""
        snapshot = self.shown
        if snapshot is None:
            return waiting(self.endpoint, width, height, look, now - (self._started or now))
        return screen(snapshot, width, height, look, replace(self.state, notice=self.notice(now)))


def run(
    poll: Callable[[], Snapshot | None],
    *,
    finished: Callable[[], bool] | None = None,
    endpoint: str = "",
    exit_when_done: bool = False,
    linger_s: float = 5.0,
    ascii_only: bool = False,
    clock: Callable[[], float] = time.monotonic,
    terminal: Terminal | None = None,
) -> int:
    """Show the dashboard until the person quits or the work is over. Takes the terminal and always gives it back.

    Where standard output is no terminal, log lines are printed instead (`plain.PlainLines`).

    Parameters
    ----------
    poll : returns the newest snapshot, or None when there is no news (also while the daemon cannot be reached). Called
        four times a second from this thread; must not block. Whatever it raises is raised here, terminal restored.
    finished : asked as often; once it says True the dashboard leaves after `linger_s`, or at any key.
    endpoint : where the daemon is looked for, for the words on the screen.
    exit_when_done : leave by itself after phase DONE or FAILED, showing the final state for `linger_s`, or until a key.
    linger_s : seconds.
    ascii_only : no braille, no box characters (default: decided from locale and TERM).
    clock : monotonic time, seconds.
    terminal : for tests.

    Returns
    -------
    0, or 1 when the last phase seen was FAILED. ``q`` and Ctrl-C end the viewer only: 0. SIGTERM and SIGHUP, where the
    caller has no handler of its own, restore the terminal and then end the process as they always do.

    Raises
    ------
    OSError : the terminal cannot be written.
    """
    viewer = Viewer(endpoint)
    if terminal is None and not sys.stdout.isatty():
        with contextlib.suppress(KeyboardInterrupt):
            _print(viewer, poll, finished or (lambda: False), exit_when_done, clock)
        return _code(viewer)
    with terminal or Terminal() as window:
        if ascii_only:
            window.look = Look(unicode=False, colours=window.look.colours)
        with contextlib.suppress(KeyboardInterrupt):
            _loop(viewer, window, poll, finished or (lambda: False), exit_when_done, linger_s, clock)
        stopped = window.stopped_by
    if stopped is not None and signal.getsignal(stopped) == signal.SIG_DFL:
        os.kill(os.getpid(), stopped)
    return _code(viewer)


def _code(viewer: Viewer) -> int:
    return 1 if viewer.latest is not None and viewer.latest.phase == "FAILED" else 0


def _print(
    viewer: Viewer,
    poll: Callable[[], Snapshot | None],
    finished: Callable[[], bool],
    exit_when_done: bool,
    clock: Callable[[], float],
) -> None:
    """The same as `_loop` for a file or a pipe: no screen, no keys, a line when there is something to say."""
    plain, silent = PlainLines(), False
    over = False
    while not over:
        over = finished()  # asked first, so that what came before the end is still printed
        if viewer.take(poll(), clock()) and viewer.latest is not None:
            for line in plain.lines(viewer.latest):
                sys.stdout.write(line + "\n")
            silent = False
        elif not silent and not viewer.over and viewer.notice(clock()):
            sys.stdout.write(f"waiting for the daemon{f' at {viewer.endpoint}' if viewer.endpoint else ''}\n")
            silent = True
        sys.stdout.flush()
        over |= exit_when_done and viewer.over
        if not over:
            time.sleep(REDRAW_S)


def _loop(
    viewer: Viewer,
    window: Screen,
    poll: Callable[[], Snapshot | None],
    finished: Callable[[], bool],
    exit_when_done: bool,
    linger_s: float,
    clock: Callable[[], float],
) -> None:
    drawn = painted = polled = -1e9
    size = (0, 0)
    notice = ""
    leave: float | None = None
    dirty = True
    while not viewer.quit and window.stopped_by is None:
        now = clock()
        if now - polled >= REDRAW_S:
            polled = now
            dirty |= viewer.take(poll(), now) and not viewer.state.paused
            if leave is None and (finished() or (exit_when_done and viewer.over)):
                leave = now + linger_s
        if leave is not None and now >= leave:
            return
        if now - drawn >= REDRAW_S:
            words = viewer.notice(now) if viewer.shown else f"{now - drawn:.0f}"
            if window.size() != size or words != notice or now - painted >= REPAINT_S:
                dirty = True
            if dirty:
                if now - painted >= REPAINT_S:
                    window.forget()
                    painted = now
                size, notice = window.size(), words
                window.show(viewer.draw(*size, window.look, now))
                drawn, dirty = now, False
        wait = max(0.0, (drawn + REDRAW_S if dirty else polled + REDRAW_S) - clock())
        for key in window.keys(wait):
            if leave is not None:
                return
            if key == "redraw":
                window.forget()
            dirty |= viewer.press(key)
