"""The words of `tumble watch` and `tumble status`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError

if TYPE_CHECKING:
    from .launch import Dashboard

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
    endpoint: EndpointArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole snapshot as JSON.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="One line for each snapshot until the daemon ends.")] = False,
) -> int:
    """Ask a running daemon how it is doing."""
    from .books import in_words
    from .endpoints import find
    from .viewer import Viewer

    with Viewer(find(endpoint)) as viewer:
        for snapshot in viewer.follow() if follow else [viewer.latest()]:
            if as_json:
                typer.echo(snapshot.to_json())
                continue
            typer.echo(f"{snapshot.phase}  {snapshot.verdict}  {in_words(snapshot.stream)}  session {snapshot.session}")
    return 0
