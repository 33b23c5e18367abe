"""What a command does in the foreground, without a daemon: publish frames, write a simulated movie."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .errors import UsageError

if TYPE_CHECKING:
    from .publishing import Plan


def line(words: str) -> None:
    """Print a line at once."""
    typer.echo(words)
    sys.stdout.flush()


def publish_in_front(plan: Plan, endpoint: str) -> int:
    """Publish in the foreground until the end, or until Ctrl-C or SIGTERM.

    Raises
    ------
    TumbleError : see `publishing.publish`.
    """
    from .endpoints import check_loopback
    from .publishing import publish
    from .threads import single_threaded

    check_loopback(endpoint.removeprefix("zmq+"))
    single_threaded()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    frames = publish(plan, endpoint, lambda uri: line(f"publishing on {uri}; it waits for a client"), stop)
    line(f"published {frames} frames{', stopped' if stop.is_set() else ''}")
    return 0


def write_scene(plan: Plan, out: Path | None, *, overwrite: bool) -> int:
    """Write the simulated movie of a plan, and its truth beside it.

    Raises
    ------
    UsageError : no place to write to.
    """
    from ..stream.simulator.writer import write_simulation
    from .publishing import make_scene

    if out is None:
        raise UsageError("say which file to write")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: choose another name or give --overwrite")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}: make it first")
    frames, truth = write_simulation(make_scene(plan), out)
    line(f"wrote {frames} and {truth}")
    return 0
