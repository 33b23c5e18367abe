"""What tests of programs share: waiting for what happens instead of for a time, and series that wait for the test."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tumble.stream.frame import Event, Frame, SeriesEnd

LINUX = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at processes through /proc")
PATIENCE_S = 240.0  # with a busy machine


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.02)
    return found


def read_until(process: subprocess.Popen, words: str) -> str:
    """What a process has printed up to the line with `words`, which has to come."""
    text = ""
    while words not in text:
        line = process.stdout.readline()
        assert line, f"{words!r} was never said: {text}"
        text += line
    return text


def held(events: Iterable[Event], at: int, go: threading.Event) -> Iterator[Event]:
    """The events; frame `at` and what follows come once `go` is set."""
    for event in events:
        if isinstance(event, Frame) and event.index == at:
            assert go.wait(PATIENCE_S)
        yield event


def paced(events: Iterable[Event], every_s: float) -> Iterator[Event]:
    """Events at the pace of a detector, so that there is something to miss."""
    for event in events:
        yield event
        time.sleep(every_s)


def ended_when(events: Iterable[Event], over: Callable[[], bool]) -> Iterator[Event]:
    """A paced series that ends when something has happened, however long that takes."""
    for event in paced(events, 0.002):
        if isinstance(event, SeriesEnd) or over():
            break
        yield event
    yield SeriesEnd(1)
