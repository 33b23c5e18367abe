"""The words of `tumble watch` and `tumble status`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError

if TYPE_CHECKING:
    from .launch import Dashboard
    from .snapshot import Snapshot

ALIVE_S = 1.0  # a line for eyes comes this often though nothing has changed

loader: list[Callable[[], Dashboard]] = []  # put there by `cli.main`: nothing in this folder may import the dashboard

EndpointArgument = Annotated[str | None, typer.Argument(help="Of the daemon (default: the newest here).")]


def watch(endpoint: EndpointArgument = None) -> int:
    """Attach a dashboard to a daemon, running or yet to come; any number of them, they only look."""
    from .following import Watch

    if not loader:
        raise UsageError("this program has no dashboard: use tumble status --follow")
    with Watch(endpoint) as daemon:
        return loader[0]()(daemon.poll, finished=None, endpoint=daemon.endpoint, exit_when_done=False)


def status(
    place: Annotated[
        str | None, typer.Argument(help="Endpoint of a daemon (default: the newest here), or a session folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole snapshot as JSON.")] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="A line at once, then one for each change until the daemon ends."),
    ] = False,
) -> int:
    """Ask a running daemon how it is doing, or a session folder how it went."""
    from .endpoints import find
    from .told import is_session, last_told
    from .viewer import Viewer

    if place is not None and is_session(place):
        _say(last_told(Path(place)), as_json=as_json)
        return 0
    with Viewer(find(place)) as viewer:
        if not follow:
            _say(viewer.latest(), as_json=as_json)
            return 0
        said, at = "", -math.inf
        for snapshot in viewer.follow():
            words = _line(snapshot)
            if as_json or words != said or time.monotonic() - at >= ALIVE_S:  # for eyes, what is new; and that it lives
                _say(snapshot, as_json=as_json)
                said, at = words, time.monotonic()
    return 0


def _line(snapshot: Snapshot) -> str:
    from .books import in_words

    return f"{snapshot.phase}  {snapshot.verdict}  {in_words(snapshot.stream)}  session {snapshot.session}"


def _say(snapshot: Snapshot, *, as_json: bool) -> None:
    typer.echo(snapshot.to_json() if as_json else _line(snapshot))  # which flushes
