"""Numbers and states in words that fit a column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .block import clean
from .look import Look

NEVER_S = 1e6  # and more: nothing that a number says
SOON = 0.1  # of the latest time: an earliest one before that is not told
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: int | None, width: int = 7) -> str:
    """A count with thousands marked by blanks, or shortened (12.3M) where that is longer than `width`."""
    if number is None:
        return "-"
    text = f"{number:,}".replace(",", " ")
    return text if len(text) <= width else short(number)


def short(number: float) -> str:
    """A number in at most six characters: 950, 12.3k, 4.56M."""
    for size, unit in _UNITS:
        if abs(number) >= size:
            value = number / size
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
    return f"{number:.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.1f}"


def seconds(value: float) -> str:
    """A short time: 12 ms, 0.35 s, 12 s, 5 min."""
    if not math.isfinite(value):
        return "?"
    if value < 0.1:
        return f"{max(0.0, value) * 1e3:.0f} ms"
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def clock(value: float) -> str:
    """A duration as 00:03:12, with days where there are any."""
    total = int(value) if math.isfinite(value) and value > 0 else 0
    days, rest = divmod(total, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}d {text}" if days else text


def angstrom(value: float | None, look: Look, digits: int = 2) -> str:
    """A length with its unit, or a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f} {look.angstrom}"


def lattice_kind(lattice: str, *, twinned: bool) -> str:
    """Which lattice was recognised: ``fcc``, ``twinned fcc``, or nothing."""
    return f"{'twinned ' * twinned}{lattice}" if lattice else ""


def strain(percent: Sequence[object]) -> str:
    """Principal strains: ``+1.8, -0.2, -1.7 %``; nothing where there is none."""
    known = [value for value in percent if isinstance(value, (int, float)) and math.isfinite(value)]
    return f"{', '.join(f'{value:+.1f}' for value in known)} %" if known else ""


def as_of(metals: Sequence[str]) -> str:
    """Metals that have a lattice constant: ``, as of Pt`` or ``, as of Au or Ag``; empty without any."""
    return f", as of {clean(' or '.join(metals))}" if metals else ""


def percent(part: int, whole: int) -> str:
    """A share in per cent; never 100 unless it is all, never 0 unless it is nothing."""
    if whole <= 0:
        return "-"
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(99.0, max(1.0, share))
    return f"{share:.0f}%"


def reasons(counts: Mapping[str, int]) -> str:
    """``crossing 40, quality 12``: most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count(number)}" for reason, number in ordered if number)


def mebibytes(value: float) -> str:
    """A size given in MiB: 812 MiB, 34.5 GiB, 1.2 TiB."""
    for size, unit in ((2.0**20, "TiB"), (2.0**10, "GiB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} MiB"


def about(value: float) -> str:
    """A time that is a guess, without digits that nobody knows: 0.3 s, 6 s, 40 s, 3 min."""
    if value < 10:
        return f"{max(0.0, value):.{1 if value < 2 else 0}f} s"
    return seconds(value)


def span(low_s: float | None, high_s: float | None) -> str:
    """An interval of time from now: ``40 s to 3 min``, ``within 3 min``, ``40 s or more``; empty when nothing is known.

    What may be as good as now and is over soon has no beginning worth a number.
    """
    if low_s is None or low_s >= NEVER_S:
        return ""
    low = about(low_s)
    if high_s is None:
        return f"{low} or more"
    high = about(high_s)
    if low_s < SOON * high_s:
        return f"within {high}"
    return low if low == high else f"{low} to {high}"


def until(low_s: float | None, high_s: float | None) -> str:
    """`span` as it follows on a target: ``in 40 s to 3 min``, ``within 3 min``."""
    words = span(low_s, high_s)
    return words if not words or words.startswith("within") else f"in {words}"


def trend(points: Sequence[tuple[int, float]]) -> str:
    """Whether the resolution got ``better``, ``worse`` or stayed ``steady`` since half as many frames were used.

    A doubling of the frames is what a map of given B-factor gains a fixed amount from (Rosenthal & Henderson 2003).
    Empty while there are fewer than three points. Better means fewer angstroms, by more than 2 per cent.
    """
    newest: tuple[int, float] | None = None
    before: float | None = None
    oldest, known = 0.0, 0
    for frames, value in reversed(points):  # the newest half is enough of a long one
        if not (math.isfinite(value) and value > 0):
            continue
        newest = newest or (frames, value)
        oldest, known = value, known + 1
        if before is None and 2 * frames <= newest[0]:
            before = value
        if before is not None and known >= 3:
            break
    if newest is None or known < 3:
        return ""
    now, before = newest[1], oldest if before is None else before
    if now < before * 0.98:
        return "better"
    return "worse" if now > before * 1.02 else "steady"


def arrow(word: str, look: Look) -> str:
    """One character for a `trend`."""
    symbols = {"better": ("↘", "\\"), "worse": ("↗", "/"), "steady": ("→", "=")}
    fancy, plain = symbols.get(word, (" ", " "))
    return look.pick(fancy, plain)
