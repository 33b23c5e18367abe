"""One particle in words: the verdict and why, what it needs, what it cost."""

from __future__ import annotations

import math

from rich.cells import set_cell_size

from ..daemon.snapshot import ParticleView
from .block import Block, Part, block, clean, cut, fit, length, row
from .look import BAD, BOLD, DIM, GOOD, NULL, WARN, Look
from .panels import LOOK, milliseconds, style_of, titled
from .words import about, angstrom, arrow, count, reasons, seconds, short, span, trend

Entry = tuple[str, Part]
# metrics an operator can use, in the order in which they are shown: name, words, digits, unit
_METRICS = (
    ("efficiency", "efficiency", 2, ""),
    ("empty_fraction", "unseen", 0, "%"),
    ("area_ratio", "isotropy", 2, ""),
    ("effective_views", "even views", 0, ""),
    ("fresh_views_per_s", "fresh views", 1, "/s"),
)


def facts(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """The particle as a table: verdict, trust, forecast, frames and why some were not used, lattice, cost, note."""
    x, y = particle.centre_px
    turn = "-" if particle.step_deg is None else f"{particle.step_deg:.1f} deg per frame"
    word = trend(particle.resolution_trend)
    atoms = "" if particle.atoms is None else f", {count(particle.atoms)} atoms"
    entries = [
        *_judgement(particle, look),
        ("resolution", f"{angstrom(particle.resolution_A, look)} {arrow(word, look)} {word}".rstrip() + atoms),
        *_metrics(particle),
        ("frames", _frames(particle)),
        ("rejected", _rejected(particle)),
        ("lattice", f"{angstrom(particle.lattice_constant_A, look, 3)}, rotation {turn}"),
        ("place", f"({x:.0f}, {y:.0f}) px, diameter {angstrom(particle.diameter_A, look, 1)}"),
        ("ms/frame", milliseconds(particle.ms_per_frame)),
        ("note", clean(particle.note) or "-"),
    ]
    room = max(1, width - 12)
    spare = height - 1 - len(entries)
    lines = []
    for label, value in entries:
        text, style = (value, NULL) if isinstance(value, str) else value
        pieces = wrap(text, room, 1 + max(0, spare), look)
        spare -= len(pieces) - 1
        for number, piece in enumerate(pieces):
            lines.append(row(width, " ", ((label if number == 0 else "").ljust(11), DIM), (piece, style)))
    return fit(titled("Facts", block(width, lines), look), width, height)


def wrap(text: str, width: int, lines: int, look: Look) -> list[str]:
    """A text on at most so many lines, broken between words; what does not fit is cut off and marked."""
    made: list[str] = []
    while len(made) < lines - 1 and length(text) > width:
        stop = set_cell_size(text, width + 1).rfind(" ")
        if stop <= 0:
            break
        made.append(text[:stop])
        text = text[stop + 1 :]
    return [*made, cut(text, width, look.ellipsis)]


def _judgement(particle: ParticleView, look: Look) -> list[Entry]:
    """Verdict, trust and forecast, as far as the daemon gives them."""
    entries: list[Entry] = []
    if particle.verdict:
        why = "; ".join(clean(words) for words in particle.verdict_reasons)
        text = f"{clean(particle.verdict)}: {why}" if why else clean(particle.verdict)
        entries.append(("verdict", (text, style_of(particle.verdict))))
    if particle.trusted is not None or particle.trust_reasons:
        entries.append(("map", trust(particle)))
    if particle.target_A is not None:
        entries.append(("forecast", _forecast(particle, look)))
    return entries


def trust(particle: ParticleView) -> Part:
    """Whether the map can be trusted, in words."""
    why = "; ".join(clean(words) for words in particle.trust_reasons)
    if particle.trusted is None:
        return f"not judged yet{': ' if why else ''}{why}"
    if particle.trusted:
        return ("trusted: two independent accounts agree", GOOD)
    return (f"DO NOT TRUST{': ' if why else ''}{why}", BAD)


def _forecast(particle: ParticleView, look: Look) -> str:
    until = span(particle.forecast_low_s, particle.forecast_high_s)
    target = angstrom(particle.target_A, look)
    likely = "" if particle.forecast_median_s is None else f", about {about(particle.forecast_median_s)}"
    words = clean(particle.forecast_words)
    return f"{target} in {until}{likely}" if until else f"{target}: {words or 'not known yet'}"


def _metrics(particle: ParticleView) -> list[Entry]:
    words = []
    for name, label, digits, unit in _METRICS:
        value = particle.metrics.get(name)
        if value is not None and math.isfinite(value):
            words.append(f"{label} {value * (100 if unit == '%' else 1):.{digits}f}{unit}")
    return [("views", ", ".join(words))] if words else []


def _frames(particle: ParticleView) -> str:
    waiting = f", {count(particle.frames_in_flight)} in flight" if particle.frames_in_flight else ""
    behind = f", {seconds(particle.lag_s)} behind" if particle.frames_waiting and particle.lag_s > 0 else ""
    return f"{count(particle.frames_used)} used of {count(particle.frames_seen)}{waiting}{behind}"


def _rejected(particle: ParticleView) -> str:
    rejected = sum(particle.frames_rejected.values())
    return f"{count(rejected)} ({clean(reasons(particle.frames_rejected))})" if rejected else "0"


def essentials(particle: ParticleView, width: int, height: int = 2, look: Look = LOOK) -> Block:
    """Two lines for low terminals: verdict and forecast, or the course of the resolution; then remarks."""
    first: list[Part] = [" "]
    if particle.verdict:
        first.append((clean(particle.verdict) + "  ", style_of(particle.verdict)))
        if particle.target_A is not None:
            until = span(particle.forecast_low_s, particle.forecast_high_s)
            first.append(f"{angstrom(particle.target_A, look)} in {until or 'a time not known yet'}  ")
        why = "; ".join(clean(words) for words in particle.verdict_reasons)
        used = sum(len(part if isinstance(part, str) else part[0]) for part in first)
        first.append((cut(why, max(0, width - used), look.ellipsis), DIM))
    else:
        first += _course(particle, look)
    each = [] if particle.step_deg is None else [f"{particle.step_deg:.1f} deg"]
    each += [f"{sum(particle.ms_per_frame.values()):.1f} ms"] if particle.ms_per_frame else []
    if each and not particle.verdict:
        first.append((f"   {' and '.join(each)} per frame", DIM))
    second: list[Part] = [" "]
    if particle.trusted is False:
        second += [trust(particle), "  "]
    if particle.note:
        second += [(clean(particle.note) + "  ", WARN)]
    second += [("not used ", DIM), clean(reasons(particle.frames_rejected)) or "none"]
    return fit(block(width, [row(width, *first), row(width, *second)]), width, height)


def _course(particle: ParticleView, look: Look) -> list[Part]:
    points = [(n, value) for n, value in particle.resolution_trend if math.isfinite(value) and value > 0]
    if len(points) < 2:
        return [f"{count(particle.frames_seen)} frames seen"]
    word = trend(particle.resolution_trend)
    frames, before = points[0]
    words = f"{angstrom(before, look)} at {short(frames)} frames, now {angstrom(particle.resolution_A, look)}"
    return [words, " ", (f"{arrow(word, look)} {word}".rstrip(), BOLD)]
