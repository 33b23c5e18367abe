"""One particle in words: the verdict and why, what it needs, what it cost."""

from __future__ import annotations

import math

from rich.style import Style

from ..daemon.snapshot import ParticleView
from .block import Block, Part, block, clean, fit, flow, row, wrap
from .look import BAD, BOLD, DIM, GOOD, NULL, WARN, Look
from .panels import LOOK, awaited, milliseconds, style_of, titled, word_of
from .tilts import tilt_lines
from .words import about, angstrom, arrow, as_of, count, lattice_kind, reasons, seconds, short, strain, trend, until

Entry = tuple[str, Part]
VOID = 0.05  # share of the directions that may stay unmeasured: the verdict's
_SHORT = ("ms/frame",)  # takes one line and is cut off, so that words have room
_VERDICT_LINES = 3  # that it may have at least: why it was said is worth more than what stands at the end
# metrics an operator can use, in the order in which they are shown: name, words, factor
_METRICS = (
    ("efficiency", "evenness {:.2f} of 1", 1),
    ("empty_fraction", "{:.0f} % of the map's directions unmeasured", 100),
    ("weakest_cone", "weakest side {:.0f} % of the middle one", 100),
    ("effective_views", "worth {:.0f} even views", 1),
    ("fresh_views_per_s", "{:.0f} more a second", 1),
)


def facts(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """The particle as a table: verdict, trust, forecast, frames and why some were not used, lattice, cost, note."""
    x, y = particle.centre_px
    turn = "-" if particle.step_deg is None else f"{particle.step_deg:.1f} deg per frame"
    word = trend(particle.resolution_trend)
    atoms = "" if particle.atoms is None else f", {count(particle.atoms)} atoms"
    atoms += f" ({clean(reasons(particle.elements))})" if particle.elements else ""
    kind = lattice_kind(particle.lattice, twinned=particle.twinned)
    lattice = f"{clean(kind)} {angstrom(particle.lattice_constant_A, look, 3)}{as_of(particle.metals)}, rotation {turn}"
    entries = [
        *_judgement(particle, look),
        ("resolution", f"{angstrom(particle.resolution_A, look)} {arrow(word, look)} {word}".rstrip() + atoms),
        *tilt_lines(particle.tilts, look.angstrom),
        *_metrics(particle),
        ("frames", _frames(particle)),
        *(() if particle.tilts else (("lattice", lattice.lstrip()),)),
        *((("strain", f"{strained} along its axes"),) if (strained := strain(particle.strain_percent)) else ()),
        ("place", f"({x:.0f}, {y:.0f}) px, diameter {angstrom(particle.diameter_A, look, 1)}"),
        ("ms/frame", milliseconds(particle.ms_per_frame)),
    ]
    if note := _remark(particle):
        entries.append(("note", (note, WARN)))
    if particle.where:
        entries.append(("compute", clean(particle.where)))
    room = max(1, width - 12)
    spare = height - 1 - len(entries)
    lines = []
    for label, value in entries:
        text, style = (value, NULL) if isinstance(value, str) else value
        lines_left = 1 if label in _SHORT else max(1 + spare, _VERDICT_LINES if label == "verdict" else 1)
        pieces = wrap(text, room, lines_left, look.ellipsis)
        spare -= len(pieces) - 1
        for number, piece in enumerate(pieces):
            lines.append(row(width, " ", ((label if number == 0 else "").ljust(11), DIM), (piece, style)))
    return fit(titled("Facts", block(width, lines), look), width, height)


def _judgement(particle: ParticleView, look: Look) -> list[Entry]:
    """Verdict, trust and forecast, as far as the daemon gives them."""
    entries: list[Entry] = []
    if particle.verdict:
        said = word_of(particle)
        below = _forecast(particle, look) if awaited(particle) else ""
        why = "; ".join(words for words in _why(particle) if not below.endswith(words))
        text = clean(said) + _since(particle)
        text += f": {why}" if why else ""
        entries.append(("verdict", (text, style_of(said))))
    if particle.trusted is not None or particle.trust_reasons:
        entries.append(("map", trust(particle)))
    if awaited(particle):
        entries.append(("forecast", _forecast(particle, look)))
    return entries


def _since(particle: ParticleView) -> str:
    """For how many frames the verdict has been said; empty where another word stands for it."""
    known = particle.verdict_frames is not None and word_of(particle) == particle.verdict and not particle.tilts
    return f" for {count(particle.verdict_frames)} frames" if known else ""


def trust(particle: ParticleView) -> tuple[str, Style]:
    """Whether the map can be trusted, in words."""
    why = "; ".join(clean(words) for words in particle.trust_reasons)
    if particle.trusted is None:
        return (f"not judged yet{': ' if why else ''}{why}", NULL)
    if particle.trusted:
        return (f"trusted: {why or 'two independent accounts agree'}", GOOD)
    return (f"DO NOT TRUST{': ' if why else ''}{why}", BAD)


def _forecast(particle: ParticleView, look: Look) -> str:
    when = until(particle.forecast_low_s, particle.forecast_high_s)
    target = wanted(particle, look)
    likely = "" if particle.forecast_median_s is None else f", about {about(particle.forecast_median_s)}"
    words = clean(particle.forecast_words)
    return f"{target} {when}{likely}" if when else f"{target}: {words or 'not known yet'}"


def wanted(particle: ParticleView, look: Look = LOOK) -> str:
    """What the forecast is about: the target; where the halves cross there already, directions still lack."""
    here, target, empty = particle.resolution_A, particle.target_A, particle.metrics.get("empty_fraction")
    reached = here is not None and target is not None and here <= target
    return angstrom(target, look) + " from all sides" * (reached and empty is not None and empty > VOID)


def _metrics(particle: ParticleView) -> list[Entry]:
    words = []
    for name, text, factor in _METRICS:
        value = particle.metrics.get(name)
        if value is not None and math.isfinite(value) and value >= 0:
            words.append(text.format(factor * value))
    return [("views", ", ".join(words))] if words else []


def _frames(particle: ParticleView) -> str:
    waiting = f", {count(particle.frames_in_flight)} in flight" if particle.frames_in_flight else ""
    behind = f", {seconds(particle.lag_s)} behind" if particle.frames_waiting and particle.lag_s > 0 else ""
    unused = clean(reasons(particle.frames_rejected))
    said = f"{count(particle.frames_used)} used of {count(particle.frames_seen)}{waiting}{behind}"
    return f"{said}; not used: {unused}" if unused else said


def essentials(particle: ParticleView, width: int, height: int = 2, look: Look = LOOK) -> Block:
    """Two lines for low terminals: verdict, forecast and why, or the course of the resolution; then remarks."""
    parts: list[tuple[str, Style]] = []
    if particle.verdict:
        parts.append((clean(word_of(particle)), style_of(word_of(particle))))
        if awaited(particle):
            when = until(particle.forecast_low_s, particle.forecast_high_s)
            parts += [(f"{wanted(particle, look)} {when}", NULL)] if when else []
        parts += [trust(particle)] if particle.trusted is False else []
        parts.append(("; ".join(_why(particle)), NULL))
    else:
        parts += _course(particle, look)
        each = [] if particle.step_deg is None else [f"{particle.step_deg:.1f} deg"]
        each += [f"{sum(particle.ms_per_frame.values()):.1f} ms"] if particle.ms_per_frame else []
        parts.append((f"{' and '.join(each)} per frame" if each else "", DIM))
    parts.append((_remark(particle), WARN))
    unused = clean(reasons(particle.frames_rejected))
    parts.append((f"not used: {unused}" if unused else "", DIM))
    return fit(block(width, flow([part for part in parts if part[0]], width, height, look.ellipsis)), width, height)


def _remark(particle: ParticleView) -> str:
    """The note, unless it is what the verdict gives as its reason."""
    return "" if particle.verdict and particle.note in particle.verdict_reasons else clean(particle.note)


def _why(particle: ParticleView) -> list[str]:
    """The reasons of the verdict, without what is said beside them anyway: the forecast, and doubts of the map."""
    if particle.state == "EXCLUDED":
        return []
    said = [clean(words) for words in particle.verdict_reasons]
    if not awaited(particle) or particle.forecast_low_s is not None:
        said = [words for words in said if not words.startswith("target ")]
    return [words for words in said if particle.trusted is not False or not words.startswith("the map is not trusted")]


def _course(particle: ParticleView, look: Look) -> list[tuple[str, Style]]:
    points = [(n, value) for n, value in particle.resolution_trend if math.isfinite(value) and value > 0]
    if len(points) < 2:
        return [(f"{count(particle.frames_seen)} frames seen", NULL)]
    word = trend(particle.resolution_trend)
    frames, before = points[0]
    words = f"{angstrom(before, look)} at {short(frames)} frames, now {angstrom(particle.resolution_A, look)}"
    return [(words, NULL), (f"{arrow(word, look)} {word}".strip(), BOLD)]
