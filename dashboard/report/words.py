"""Small pieces of the page: numbers with units, tags, tables, figures. All text from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .material import number

TONES = {
    "ENOUGH": "good", "DONE": "good", "MAPPING": "good", "RUNNING": "good",
    "CONTINUE": "plain", "SEARCHING": "plain", "COLLECTING": "plain", "INDEXING": "plain",
    "PLATEAU": "warn", "STARVED": "warn", "CHANGING": "warn", "FINISHING": "warn", "WAITING": "warn",
    "LOST": "bad", "FAILED": "bad",
}  # fmt: skip


def tone(state: str) -> str:
    """Which of good, warn, bad, plain a state is; the word itself always stands beside the colour."""
    return TONES.get(state, "plain")


def tag(words: str) -> str:
    """A state as a label."""
    return f'<span class="tag {tone(words)}">{escape(words)}</span>'


def count(value: object) -> str:
    """A whole number, thousands apart; a dash for anything else."""
    found = number(value)
    return "–" if found is None else f"{found:,.0f}".replace(",", "\u202f")


def quantity(value: object, unit: str, digits: int) -> str:
    """A number with its unit; a dash for anything else."""
    found = number(value)
    return "–" if found is None else f"{found:.{digits}f}\u202f{unit}"


def duration(value: object) -> str:
    """Seconds in words: 41.5 s, 12 min 3 s, 2 h 5 min."""
    found = number(value)
    if found is None:
        return "–"
    if found < 120:
        return f"{found:.1f}\u202fs"
    minutes, seconds = divmod(round(found), 60)
    if minutes < 120:
        return f"{minutes}\u202fmin {seconds}\u202fs"
    return f"{minutes // 60}\u202fh {minutes % 60}\u202fmin"


def numbers(entries: Iterable[tuple[str, str]]) -> str:
    """Large figures with small names, ready text; empty without entries."""
    cells = "".join(f"<div><b>{value}</b><span>{escape(name)}</span></div>" for name, value in entries)
    return f'<div class="numbers">{cells}</div>' if cells else ""


def box(title: str, lines: Sequence[str], kind: str = "") -> str:
    """A framed remark with a list; empty without lines."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="box {kind}"><b>{escape(title)}</b><ul>{items}</ul></div>'


def figure(picture: str, caption: str, title: str = "", kind: str = "") -> str:
    """A picture, ready markup, with its caption."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<figure class="{kind}">{head}{picture}<figcaption>{caption}</figcaption></figure>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, ready text."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table>{lines}</table></div>'


def flat(record: Mapping[str, object], above: str = "") -> list[tuple[str, str]]:
    """A nested record as rows ``section.key``, value; escaped."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.") or [(name, "–")]
        else:
            rows.append((name, "–" if value is None or value == "" else escape(str(value))))
    return rows
