"""How the terminal lets us draw: characters, number of colours, and the styles and symbols that follow from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style

NULL = Style.null()
BOLD = Style(bold=True)
DIM = Style(dim=True)
TITLE = Style(bold=True, color="cyan")
GOOD = Style(color="green")
WARN = Style(color="yellow", bold=True)
BAD = Style(color="red", bold=True)
CURVE = Style(color="cyan", bold=True)
LIMIT = Style(color="yellow")
MARK = Style(color="magenta")
AXIS = Style(dim=True)
CHOSEN = Style(reverse=True, bold=True)

# terminals whose fonts have neither braille nor arrows, whatever the locale says
_POOR_TERMINALS = frozenset({"linux", "dumb", "vt100", "vt102", "vt220", "ansi"})


@dataclass(frozen=True, slots=True)
class Look:
    """What may be drawn with. `colours` is 0, 16 or 256 (256 stands for true colour as well)."""

    unicode: bool = True
    colours: int = 256

    def pick(self, fancy: str, plain: str) -> str:
        """The first where the terminal shows Unicode, else the second."""
        return fancy if self.unicode else plain

    @property
    def rule(self) -> str:
        """Character of horizontal rules."""
        return "─" if self.unicode else "-"

    @property
    def ellipsis(self) -> str:
        """Mark of a text that was cut."""
        return "…" if self.unicode else "~"

    @property
    def angstrom(self) -> str:
        """Unit of lengths."""
        return "Å" if self.unicode else "A"

    @property
    def bar(self) -> str:
        """Separator of parts in one line."""
        return "│" if self.unicode else "|"


def can_draw_braille(encoding: str | None, environment: Mapping[str, str] | None = None) -> bool:
    """Whether braille and box characters can be shown.

    Parameters
    ----------
    encoding : encoding of the output stream, e.g. ``sys.stdout.encoding``.
    environment : environment variables (default: of this process). Python turns the C locale into UTF-8 by itself
        (PEP 538, PEP 540), so an explicit ``LC_ALL=C`` has to be looked for here.
    """
    known = os.environ if environment is None else environment
    try:
        "⣿─…▀".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    locale = known.get("LC_ALL") or known.get("LC_CTYPE") or known.get("LANG") or ""
    return locale not in ("C", "POSIX") and known.get("TERM", "") not in _POOR_TERMINALS
