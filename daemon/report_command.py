"""The words of `tumble report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from .errors import UsageError

ReportMaker = Callable[[Path, Path | None], list[Path]]  # session, page -> files written
loader: list[Callable[[], ReportMaker]] = []  # put there by `cli.main`: nothing in this folder may import the dashboard


def report(
    session: Annotated[Path, typer.Argument(help="Folder of a session, finished or not.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page (default: report.html in the session).")] = None,
) -> int:
    """Make one page of pictures of a session, to look at, print and send; and scripts for ChimeraX."""
    if not loader:
        raise UsageError("this program makes no reports: run it as tumble")
    try:
        written = loader[0]()(session, out)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for path in written:
        typer.echo(f"wrote {path}")
    return 0
