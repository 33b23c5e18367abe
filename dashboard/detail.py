"""Panels of one particle: views on the sphere, FSC curve, resolution against frames, map slice, essentials in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..daemon.snapshot import ParticleView, Snapshot
from .block import Block, Part, block, clean, cut, fit, row
from .look import BOLD, DIM, NULL, WARN, Look
from .mapslice import map_slice
from .panels import LOOK, milliseconds, titled
from .plot import Plot, draw
from .sphere import sphere, summary
from .words import angstrom, arrow, count, percent, reasons, short, trend

_NICE_A = (20.0, 10.0, 5.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.8, 0.7, 0.6, 0.5)


def find(snapshot: Snapshot, name: str) -> ParticleView | None:
    """The particle of that name, else the first, else nothing."""
    for particle in snapshot.particles:
        if particle.name == name:
            return particle
    return snapshot.particles[0] if snapshot.particles else None


def _name(particle: ParticleView) -> str:
    return cut(clean(particle.name), 12)


def _empty(title: str, words: str, width: int, height: int, look: Look) -> Block:
    text = cut(words, width, look.ellipsis)
    lines = block(len(text), [row(len(text), (text, DIM))]) if text else Block(0, ())
    return titled(title, fit(lines, width, height - 1, centre=True), look)


def views_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """From which sides the particle has been seen: hemisphere in equal-area projection, and the same in words."""
    if not particle.coverage:
        return _empty(f"{_name(particle)} views", "no views yet", width, height, look)
    known = summary(particle.coverage)
    words: list[Part] = [f"{percent(known.seen, known.cells)} of sides seen"]
    if known.missing and known.gap_deg >= 5:
        words += ["  ", (f"gap {known.gap_deg:.0f} deg", WARN if known.gap_deg > 15 else NULL)]
    text = sum(len(part if isinstance(part, str) else part[0]) for part in words)
    if text > width:
        words = words[:1]
        text = len(words[0] if isinstance(words[0], str) else words[0][0])
    caption = fit(block(text, [row(text, *words)]), width, 1, centre=True)
    picture = sphere(particle.coverage, width, max(1, height - 2), look)
    return fit(titled(f"{_name(particle)} views", Block(width, picture.lines + caption.lines), look), width, height)


def fsc_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """Half-map FSC against resolution, the 0.143 line, and where they cross."""
    points = [(k, value) for k, value in zip(particle.fsc_k, particle.fsc, strict=False) if math.isfinite(k) and k > 0]
    if len(points) < 2:
        return _empty("FSC", "no half maps yet", width, height, look)
    edge = max(k for k, _ in points)
    ticks = [(1 / length, f"{length:g}") for length in _NICE_A if 1 / length <= edge]
    resolution = particle.resolution_A
    mark = 1 / resolution if resolution and 1 / resolution <= edge else None
    plot = Plot(
        points,
        (0.0, edge),
        (-0.05, 1.05),
        x_ticks=_priority(ticks, width - 6, edge),
        y_ticks=((1.0, "1"), (0.5, ".5"), (0.143, ".143"), (0.0, "0")),
        limit=0.143,
        mark=mark,
    )
    note = angstrom(resolution, look) if resolution else ""
    return titled("FSC", draw(plot, width, height - 1, look), look, note)


def _priority(ticks: Sequence[tuple[float, str]], columns: int, edge: float) -> list[tuple[float, str]]:
    """Ticks with enough room; the last gets the unit."""
    kept: list[tuple[float, str]] = []
    for value, label in reversed(ticks):
        if not kept or (kept[-1][0] - value) / edge * columns >= 5:
            kept.append((value, label))
    kept.reverse()
    if kept:
        kept[0] = (kept[0][0], kept[0][1] + " A")
    return kept


def _trend_points(particle: ParticleView) -> list[tuple[float, float]]:
    return [(float(frames), value) for frames, value in particle.resolution_trend if math.isfinite(value) and value > 0]


def trend_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """Resolution against the number of frames used; lower is better."""
    points = _trend_points(particle)
    if len(points) < 2:
        return _empty("Resolution", "needs two maps", width, height, look)
    low, high = min(value for _, value in points), max(value for _, value in points)
    pad = max(0.02, 0.08 * (high - low))
    bottom, top = max(0.0, low - pad), high + pad
    middle = (bottom + top) / 2
    first, last = points[0][0], max(frames for frames, _ in points)
    plot = Plot(
        points,
        (first, last),
        (bottom, top),
        x_ticks=(
            (first, short(first)),
            ((first + last) / 2, short((first + last) / 2)),
            (last, short(last) + " frames"),
        ),
        y_ticks=tuple((value, _axis_number(value)) for value in (bottom, middle, top)),
    )
    word = trend(particle.resolution_trend)
    note = f"{angstrom(particle.resolution_A, look)} {arrow(word, look)} {word}" if word else ""
    return titled("Resolution", draw(plot, width, height - 1, look), look, note)


def _axis_number(value: float) -> str:
    return f"{value:.2f}" if value < 100 else short(value)


def slice_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK, zoom: int = 1) -> Block:
    """The central slice of the map, cut to the particle or closer (`zoom` times), with the width of what is seen."""
    if not particle.slice_xy or not particle.slice_xy[0]:
        return _empty("Map slice", "no map yet", width, height, look)
    share = 1.0
    if particle.slice_width_A > 0 and particle.diameter_A > 0:
        share = min(1.0, max(0.2, 1.2 * particle.diameter_A / particle.slice_width_A))
    share /= zoom
    note = f"{particle.slice_width_A * share:.0f} {look.angstrom}" if particle.slice_width_A > 0 else ""
    picture = map_slice(particle.slice_xy, share, width, max(1, height - 1), look)
    return fit(titled("Map slice", picture, look, note), width, height)


def facts(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """The particle in words: place, size, lattice, rotation, frames and why some were not used, time per step, note."""
    x, y = particle.centre_px
    turn = "-" if particle.step_deg is None else f"{particle.step_deg:.1f} deg per frame"
    rejected = sum(particle.frames_rejected.values())
    why = f" ({clean(reasons(particle.frames_rejected))})" if rejected else ""
    waiting = f", {count(particle.frames_in_flight)} in flight" if particle.frames_in_flight else ""
    word = trend(particle.resolution_trend)
    entries: list[tuple[str, str]] = [
        ("resolution", f"{angstrom(particle.resolution_A, look)} {arrow(word, look)} {word}"),
        ("frames", f"{count(particle.frames_used)} used of {count(particle.frames_seen)}{waiting}"),
        ("rejected", f"{count(rejected)}{why}"),
        ("lattice", f"{angstrom(particle.lattice_constant_A, look, 3)}, rotation {turn}"),
        ("atoms", count(particle.atoms)),
        ("place", f"({x:.0f}, {y:.0f}) px, diameter {angstrom(particle.diameter_A, look, 1)}"),
        ("ms/frame", milliseconds(particle.ms_per_frame)),
        ("note", clean(particle.note) or "-"),
    ]
    room = max(0, width - 12)
    lines = [row(width, " ", (label.ljust(11), DIM), cut(text, room, look.ellipsis)) for label, text in entries]
    return fit(titled("Facts", block(width, lines), look), width, height)


def essentials(particle: ParticleView, width: int, height: int = 2, look: Look = LOOK) -> Block:
    """Two lines for low terminals: course of the resolution, rotation, cost; then the note and what was not used."""
    first: list[Part] = [" "]
    points = _trend_points(particle)
    if len(points) >= 2:
        word = trend(particle.resolution_trend)
        frames, before = points[0]
        words = f"{angstrom(before, look)} at {short(frames)} frames, now {angstrom(particle.resolution_A, look)}"
        first += [words, " ", (f"{arrow(word, look)} {word}".rstrip(), BOLD)]
    else:
        first.append(f"{count(particle.frames_seen)} frames seen")
    each = [] if particle.step_deg is None else [f"{particle.step_deg:.1f} deg"]
    each += [f"{sum(particle.ms_per_frame.values()):.1f} ms"] if particle.ms_per_frame else []
    if each:
        first.append((f"   {' and '.join(each)} per frame", DIM))
    second: list[Part] = [" "]
    if particle.note:
        second += [(clean(particle.note) + "  ", WARN)]
    second += [("not used ", DIM), clean(reasons(particle.frames_rejected)) or "none"]
    return fit(block(width, [row(width, *first), row(width, *second)]), width, height)
