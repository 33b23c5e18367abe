"""The terminal itself: alternate screen, keys without Enter, changed lines only, and everything put back at the end."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import FrameType
from typing import Any, TextIO

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from .block import Block, Line, length
from .look import Look, can_draw_braille

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # alternate screen, no cursor, no automatic wrap, clear
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronised update; terminals that do not know it ignore it
_ESCAPES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[Z": "backtab",
}
_CONTROLS = {9: "tab", 12: "redraw", 3: "q", 4: "q"}
_SYSTEMS = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}


def detect(stream: TextIO, environment: Mapping[str, str] | None = None) -> tuple[Look, ColorSystem | None]:
    """What the terminal behind `stream` can show: from its encoding, TERM, COLORTERM and NO_COLOR."""
    known = os.environ if environment is None else environment
    console = Console(file=stream, force_terminal=True, _environ=dict(known))
    system = None if console.no_color else _SYSTEMS.get(console.color_system or "")
    colours = 0 if system is None else 16 if system is ColorSystem.STANDARD else 256
    return Look(can_draw_braille(getattr(stream, "encoding", None), known), colours), system


def ansi(line: Line, system: ColorSystem | None) -> str:
    """One line of segments as text with escape codes; without colours, bold, dim and reverse stay."""
    parts = []
    for text, style, _ in line:
        if not style:
            parts.append(text)
            continue
        before, after = _codes(style, system)
        parts.append(f"{before}{text}{after}")
    return "".join(parts)


def _difference(before: Line, line: Line) -> tuple[int, Line]:
    """The column, from 1, where a line begins to differ from the one `before`, as wide, and what to draw there."""
    first, column = 0, 1
    for old, new in zip(before, line, strict=False):
        if old != new:
            break
        first, column = first + 1, column + length(new.text)
    most = min(len(before), len(line)) - first
    last = next((index for index in range(most) if before[-1 - index] != line[-1 - index]), most)
    return column, line[first : len(line) - last]


@lru_cache(maxsize=4096)
def _codes(style: Style, system: ColorSystem | None) -> tuple[str, str]:
    """What stands before and behind a text in a style."""
    shown = style.without_color if system is None else style
    before, _, after = shown.render("\0", color_system=system or ColorSystem.STANDARD).partition("\0")
    return before, after


class KeyDecoder:
    """Bytes from the terminal to names of keys; an escape sequence may come in pieces."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[str]:
        """Decode; empty `data` means that time has passed, so that a lone escape is the key itself."""
        if not data:
            lone, self._pending = self._pending, b""
            return ["escape"] if lone == b"\x1b" else []
        data, self._pending = self._pending + data, b""
        keys = []
        while data:
            if data[0] != 0x1B:
                keys.append(_CONTROLS.get(data[0], chr(data[0]) if 0x20 <= data[0] < 0x7F else ""))
                data = data[1:]
                continue
            size = _sequence_length(data)
            if size is None:
                self._pending = data[-16:]
                break
            keys.append(_ESCAPES.get(data[:size], ""))
            data = data[size:]
        return [key for key in keys if key]


def _sequence_length(data: bytes) -> int | None:
    """Length of the escape sequence at the beginning, None while it is incomplete."""
    if len(data) < 2:
        return None
    if data[1] == ord("O"):
        return 3 if len(data) >= 3 else None
    if data[1] != ord("["):
        return 2
    for index in range(2, len(data)):
        if 0x40 <= data[index] <= 0x7E:
            return index + 1
    return None


class Terminal:
    """A context that owns the screen and the keys between `__enter__` and `__exit__`.

    Parameters
    ----------
    output : text stream of the terminal (default ``sys.stdout``).
    source : file descriptor of the keys (default: of ``sys.stdin`` when that is a terminal; None for no keys).
    """

    def __init__(self, output: TextIO | None = None, source: int | None = None) -> None:
        self._output = output or sys.stdout
        self._out = self._output.fileno()
        self._in = source if source is not None else _stdin()
        self.look, self._system = detect(self._output)
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._shown: tuple[Line, ...] = ()
        self._decoder = KeyDecoder()
        self._wake: tuple[int, int] | None = None
        self.stopped_by: int | None = None

    def __enter__(self) -> Terminal:
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        self._install()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._wake:
            for end in self._wake:
                os.close(end)
            self._wake = None

    def size(self) -> tuple[int, int]:
        """Columns and rows now."""
        try:
            size = os.get_terminal_size(self._out)
        except OSError:
            size = shutil.get_terminal_size()
        return (size.columns or 80, size.lines or 24)

    def show(self, content: Block) -> None:
        """Draw what changed since the last time: of each line all from the first segment that did to the last."""
        lines = content.lines
        if len(lines) != len(self._shown):
            self._shown = ()
            changed = ["\x1b[0m\x1b[2J"]
        else:
            changed = []
        for number, line in enumerate(lines):
            before = self._shown[number] if self._shown else ()
            if before != line:
                column, piece = _difference(before, line)
                changed.append(f"\x1b[{number + 1};{column}H{ansi(piece, self._system)}")
        self._shown = lines
        if changed:
            self._write(_BEGIN + "".join(changed) + _END)

    def forget(self) -> None:
        """Draw everything next time: the screen may have been spoilt by something else."""
        self._shown = ()

    def keys(self, timeout: float) -> list[str]:
        """Wait at most `timeout` seconds for keys; returns early on a signal (resize, continue)."""
        sources = [] if self._wake is None else [self._wake[0]]
        if self._in is not None:
            sources.append(self._in)
        try:
            ready = select.select(sources, [], [], max(0.0, timeout))[0]
        except (OSError, ValueError):  # the terminal is gone
            self._in = None
            return []
        if self._wake and self._wake[0] in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake[0], 4096)
        if self._in is None or self._in not in ready:
            return self._decoder.feed(b"")
        try:
            data = os.read(self._in, 1024)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            data = b""
        if not data:  # end of input: a viewer without keys is still a viewer
            self._in = None
        return self._decoder.feed(data)

    def _start(self) -> None:
        if self._in is not None and os.isatty(self._in):
            with contextlib.suppress(termios.error):
                self._saved = termios.tcgetattr(self._in)
                self._cbreak()
        self._write(_ENTER)
        self._shown = ()

    def _cbreak(self) -> None:
        if self._in is not None:
            with contextlib.suppress(termios.error):
                tty.setcbreak(self._in, termios.TCSADRAIN)

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        if self._saved is not None and self._in is not None:
            with contextlib.suppress(termios.error), _ignoring(signal.SIGTTOU):
                termios.tcsetattr(self._in, termios.TCSADRAIN, self._saved)
        self._saved = None

    def _write(self, text: str) -> None:
        data = text.encode(self._output.encoding or "ascii", "replace")
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                select.select([], [self._out], [], 1.0)

    # Signals. Only the main thread may install handlers, and only where nobody else has.

    def _install(self) -> None:
        wanted: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGWINCH: self._on_resize,
            signal.SIGTSTP: self._on_suspend,
            signal.SIGCONT: self._on_continue,
            signal.SIGTERM: self._on_stop,
            signal.SIGHUP: self._on_stop,
        }
        for number, handler in wanted.items():
            try:
                if signal.getsignal(number) == signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, handler)
            except ValueError:  # not the main thread
                return

    def _nudge(self) -> None:
        if self._wake:
            with contextlib.suppress(OSError):
                os.write(self._wake[1], b"x")

    def _on_resize(self, *_: object) -> None:
        self._shown = ()
        self._nudge()

    def _on_stop(self, number: int, _: FrameType | None) -> None:
        self.stopped_by = number
        self._nudge()

    def _on_suspend(self, number: int, _: FrameType | None) -> None:
        self._stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # here the process stops; or not, where no shell could ever continue it
        signal.signal(number, self._on_suspend)
        self._start()
        self._nudge()

    def _on_continue(self, *_: object) -> None:
        if self._saved is not None:  # after SIGSTOP, of which nobody was told: the shell may have changed the terminal
            self._cbreak()
            self._write(_ENTER)
            self._shown = ()
        self._nudge()


def _stdin() -> int | None:
    try:
        number = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return number if os.isatty(number) else None


@contextlib.contextmanager
def _ignoring(number: int) -> Iterator[None]:
    """A background process that restores the terminal must not be stopped for it."""
    try:
        before = signal.signal(number, signal.SIG_IGN)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)
