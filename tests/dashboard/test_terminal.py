"""The real terminal: a real process on a pseudo-terminal, keys, resize, suspend, signals, and what it leaves behind."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tumble.dashboard.terminal import KeyDecoder

SCRIPT = Path(__file__).with_name("fakes.py")
_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", re.DOTALL)


class Glass:
    """As much of a terminal as is needed to know what a person would see."""

    def __init__(self, columns: int, lines: int) -> None:
        self.cells = [[" "] * columns for _ in range(lines)]
        self.modes: dict[str, bool] = {}
        self._x = self._y = 0
        self._rest = ""  # an escape sequence whose end has not come yet

    def feed(self, text: str) -> None:
        text = self._rest + text
        tail = text.rfind("\x1b")
        whole = tail < 0 or _TOKEN.match(text, tail)
        self._rest = "" if whole else text[tail:]
        for arguments, final, character in _TOKEN.findall(text if whole else text[:tail]):
            if character == "\n":
                self._y += 1
                if self._y == len(self.cells):
                    self.cells = [*self.cells[1:], [" "] * len(self.cells[0])]
                    self._y -= 1
            elif character == "\r":
                self._x = 0
            elif character and character >= " ":
                if self._y < len(self.cells) and self._x < len(self.cells[0]):
                    self.cells[self._y][self._x] = character
                self._x += 1
            elif final == "H":
                parts = [int(part) for part in arguments.split(";") if part] or [1, 1]
                self._y, self._x = parts[0] - 1, parts[1] - 1
            elif final == "J":
                self.cells = [[" "] * len(line) for line in self.cells]
            elif final in "hl" and arguments.startswith("?"):
                self.modes[arguments[1:]] = final == "h"
                if arguments == "?1049":
                    self.cells = [[" "] * len(line) for line in self.cells]
                    self._x = self._y = 0

    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self.cells)


class Process:
    """The fake dashboard behind a pseudo-terminal."""

    def __init__(
        self, *arguments: str, columns: int = 80, lines: int = 24, command: list[str] | None = None, **environment: str
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "LC_ALL", "COLORTERM")}
        fake = [sys.executable, str(SCRIPT), *arguments]
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            # the first terminal that the leader of a session opens becomes its controlling terminal
            ["sh", "-c", 'exec "$@" <"$0"', os.ttyname(self.slave), *(command or fake)],
            stdin=subprocess.DEVNULL,
            stdout=self.slave,
            stderr=self.slave if command else self.complaints,
            start_new_session=True,
            env={**clean, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )
        self.raw = ""
        self.glass = Glass(columns, lines)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.glass = Glass(columns, lines)

    def read(self, seconds: float = 0.05) -> None:
        end = time.monotonic() + seconds
        while select.select([self.master], [], [], max(0.0, end - time.monotonic()))[0]:
            try:
                text = self._decoder.decode(os.read(self.master, 65536))
            except OSError:  # nobody holds the other end any more
                return
            self.raw += text
            self.glass.feed(text)

    def see(self, words: str, seconds: float = 90.0) -> str:
        """Wait until the words stand on the screen; the screen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read()
            if words in self.glass.text():
                return self.glass.text()
            if self.process.poll() is not None:
                break
        self.read()
        raise AssertionError(f"{words!r} not seen in\n{self.glass.text()}\n{self.errors()}")

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 90.0) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        self.read()
        assert self.process.returncode is not None, "still running"
        return self.process.returncode

    def errors(self) -> str:
        self.complaints.seek(0)
        return self.complaints.read().decode()

    def restored(self) -> bool:
        """Cursor, main screen and line editing are back."""
        modes = self.glass.modes
        same: bool = termios.tcgetattr(self.slave)[3] == self.before[3]
        return modes.get("25") is True and modes.get("1049") is False and modes.get("7") is True and same

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.complaints.close()
        for end in (self.master, self.slave):
            os.close(end)


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Process] = []

    def begin(*arguments: str, **options: Any) -> Process:
        running.append(Process(*arguments, **options))
        return running[-1]

    yield begin
    for process in running:
        process.close()


def test_keys_and_quit(start: Any) -> None:
    process = start("--begin", "8", "--stay", "--particles", "2")
    process.see("▶ P001")
    process.see("q quit")  # the first screen may come in pieces
    process.type(b"\t")
    process.see("▶ P002")
    process.type(b"\x1b[A")
    process.see("▶ P001")
    process.type(b"?")
    process.see("Keys   q")
    process.type(b"\x1b")
    process.see("▶ P001")
    process.type(b"p")
    process.see("DISPLAY PAUSED")
    process.type(b"q")
    assert process.wait() == 0
    assert process.restored()
    assert not process.errors()


def test_resize(start: Any) -> None:
    process = start("--begin", "8", "--stay")
    process.see("Log")
    process.resize(160, 48)
    process.signal(signal.SIGWINCH)
    text = process.see("Facts")
    assert len(text.split("\n")[0]) > 120
    process.resize(30, 5)
    process.signal(signal.SIGWINCH)
    process.see("please")
    process.resize(80, 24)
    process.signal(signal.SIGWINCH)
    process.see("q quit")


def test_suspended_by_control_z_and_continued(start: Any) -> None:
    """As a person does it, from a shell."""
    process = start(command=["bash", "--norc", "--noediting", "-i"])
    process.type(f"{sys.executable} {SCRIPT} --begin 8 --stay\n".encode())
    process.see("▶ P001")
    process.type(b"\x1a")
    process.see("Stopped")
    assert process.glass.modes["25"]
    assert not process.glass.modes["1049"]
    process.type(b"fg\n")
    process.see("▶ P001")
    assert process.glass.modes["1049"]
    process.type(b"q")
    process.see("bash-")
    process.type(b"echo code $?; exit\n")
    process.see("code 0")
    assert process.wait() == 0


def test_suspended_where_nobody_could_continue_it(start: Any) -> None:
    process = start("--begin", "8", "--stay")
    process.see("▶ P001")
    process.signal(signal.SIGTSTP)
    process.read(0.5)
    process.type(b"\t")
    process.see("▶ P002")
    assert process.glass.modes["1049"]


def test_stopped_and_continued_by_others(start: Any) -> None:
    process = start("--begin", "8", "--stay")
    process.see("▶ P001")
    process.signal(signal.SIGSTOP)
    os.waitpid(process.process.pid, os.WUNTRACED)
    termios.tcsetattr(process.slave, termios.TCSANOW, process.before)
    process.glass = Glass(80, 24)
    process.signal(signal.SIGCONT)
    process.see("▶ P001")
    process.type(b"q")  # works without Enter again
    assert process.wait() == 0
    assert process.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_killed_politely(start: Any, number: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # a process started under nohup would pass on that it is ignored
    try:
        process = start("--begin", "8", "--stay")
    finally:
        signal.signal(number, before)
    process.see("▶ P001")
    process.signal(number)
    assert process.wait() == -number
    assert process.restored()


def test_control_c(start: Any) -> None:
    process = start("--begin", "8", "--stay")
    process.see("▶ P001")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert process.restored()
    assert not process.errors()


def test_silence_is_said(start: Any) -> None:
    process = start("--begin", "8", "--stay", "--silent-after", "9")
    process.see("NO NEWS for")
    process.type(b"q")
    assert process.wait() == 0


def test_waits_for_a_daemon(start: Any) -> None:
    process = start("--silent-after", "-1")
    process.see("waiting for the daemon at tcp://127.0.0.1:31101")


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--fail-after", "41"), 1)])
def test_ends_by_itself(start: Any, arguments: tuple[str, ...], code: int) -> None:
    process = start("--begin", "41.5", "--speed", "4", "--linger", "0.5", *arguments)
    assert process.wait() == code
    assert process.restored()


def test_no_colour(start: Any) -> None:
    process = start("--begin", "8", "--stay", NO_COLOR="1")
    process.see("▶ P001")
    process.type(b"q")
    process.wait()
    assert not re.search(r"\x1b\[(\d+;)*[349][0-8](;\d+)*m", process.raw)


def test_ascii_only(start: Any) -> None:
    process = start("--begin", "8", "--stay", LC_ALL="C")
    process.see("> P001")
    process.type(b"q")
    process.wait()
    assert process.raw.isascii()


def test_only_changed_lines_are_written(start: Any) -> None:
    process = start("--begin", "60", "--stay")  # over: nothing moves but the uptime
    process.see("DONE")
    process.see("q quit")  # the first screen may come in pieces
    process.read(1.0)
    process.raw = ""
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        process.read()
    assert len(re.findall(r"\x1b\[\d+;1H", process.raw)) <= 8


def test_a_terminal_that_goes_away(start: Any) -> None:
    process = start("--begin", "8", "--stay")
    process.see("▶ P001")
    os.close(process.slave)
    os.close(process.master)
    process.process.wait(90)
    process.master, process.slave = os.pipe()


def decoded(*pieces: bytes) -> list[str]:
    decoder = KeyDecoder()
    return [key for piece in pieces for key in decoder.feed(piece)]


def test_keys_in_pieces() -> None:
    assert decoded(b"q?\t") == ["q", "?", "tab"]
    assert decoded(b"\x1b[A\x1b[B\x1bOC\x1b[Z") == ["up", "down", "right", "backtab"]
    assert decoded(b"\x1b", b"[", b"D") == ["left"]
    assert decoded(b"\x1b", b"") == ["escape"]
    assert decoded(b"\x1b[1;5Aq") == ["q"]
    assert decoded(b"\x1b[200~junk\x1b[201~") == ["j", "u", "n", "k"]
    assert decoded(b"\xff\xfe\x00") == []
    assert decoded(b"\x1b[" + b"1" * 500, b"A", b"q")[-1:] == ["q"]


def test_lines_where_there_is_no_terminal() -> None:
    command = [sys.executable, str(SCRIPT), "--begin", "0.1", "--speed", "60", "--frames", "1200"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    lines = result.stdout.splitlines()
    assert "\x1b" not in result.stdout
    assert lines[-1].endswith("adds up; missing 0, recorded 1200")
    assert not result.stderr


def test_a_pipe_that_nobody_answers_says_so_once() -> None:
    command = [sys.executable, str(SCRIPT), "--silent-after", "-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting for the daemon at tcp://127.0.0.1:31101\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(90) == 0
        assert process.stdout.read() == ""
