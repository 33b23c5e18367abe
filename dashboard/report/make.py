"""`tumble report`: from a session folder to report.html and the files beside it."""

from __future__ import annotations

from pathlib import Path

from .density import VIEWS, surface
from .material import ReportError, read
from .others import write
from .page import document
from .particle import ready, section
from .png import data_uri


def make(session: Path, out: Path | None = None) -> list[Path]:
    """Write the report of a session, finished or not.

    Parameters
    ----------
    session : folder of the session; only read, unless `out` lies in it.
    out : the page (default: ``report.html`` in the session); files for other programs go to a folder beside it that
        has its name without the suffix.

    Returns
    -------
    The files written, the page first.

    Raises
    ------
    ReportError : `session` is no session, or a file cannot be written.
    """
    material = read(session)
    page = session / "report.html" if out is None else out
    if not page.parent.is_dir():
        raise ReportError(f"there is no folder {page.parent}: make it first")
    series = material.facts.get("series")
    portraits: dict[str, str] = {}
    sections: list[str] = []
    written = [page]
    try:
        for particle in material.particles:
            density = ready(particle)
            if density is not None:
                portraits[particle.name] = data_uri(surface(density, next(iter(VIEWS))))
            portrait = portraits.get(particle.name, "")
            known = series if isinstance(series, dict) else {}
            sections.append(section(particle, density, material.timeline, known, portrait))
            written += write(page.with_suffix(""), session, particle, density)
        page.write_text(document(material, sections, portraits), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write {error.filename or page}: {error.strerror or error}") from None
    return written
