"""Panels of one particle: views on the sphere, FSC curve, resolution against frames and its forecast, map slices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.style import Style

from ..daemon.snapshot import ParticleView, Snapshot
from .block import Block, beside, block, clean, cut, fit, row
from .facts import VOID
from .look import DIM, NULL, WARN, Look
from .mapslice import map_slice
from .panels import LOOK, awaited, titled
from .plot import Fan, Plot, draw
from .sphere import sphere, summary
from .words import angstrom, arrow, percent, short, trend, until

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
    gap = f"  gap {known.gap_deg:.0f} deg" if known.missing and known.gap_deg >= 5 else ""
    words = _measured(particle, percent(known.seen, known.cells), width)
    text = sum(len(part) for part, _ in words)
    if text + len(gap) <= width:
        words.append((gap, WARN if known.gap_deg > 15 else NULL))
        text += len(gap)
    caption = fit(block(text, [row(text, *words)]), width, 1, centre=True)
    picture = sphere(particle.coverage, width, max(1, height - 2), look)
    return fit(titled(f"{_name(particle)} views", Block(width, picture.lines + caption.lines), look), width, height)


def _measured(particle: ParticleView, sides: str, width: int) -> list[tuple[str, Style]]:
    """How much of the map's directions was measured, which decides, and from how many sides, as far as that fits."""
    empty = particle.metrics.get("empty_fraction")
    if empty is None:
        wide = f"seen from {sides} of sides"
        return [(wide if len(wide) <= width else f"{sides} of sides seen", NULL)]
    first = (f"map {percent(round(1e6 * (1 - empty)), 1_000_000)} measured", WARN if empty > VOID else NULL)
    for rest in (f", seen from {sides} of sides", f", {sides} of sides"):
        if len(first[0]) + len(rest) <= width:
            return [first, (rest, NULL)]
    return [first]


def fsc_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK) -> Block:
    """Half-map FSC against resolution, the 0.143 line, and where they cross."""
    points = tuple(
        (k, value) for k, value in zip(particle.fsc_k, particle.fsc, strict=False) if math.isfinite(k) and k > 0
    )
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
        x_ticks=tuple(_priority(ticks, width - 6, edge)),
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


def _trend_points(particle: ParticleView) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(frames), value) for frames, value in particle.resolution_trend if math.isfinite(value) and value > 0
    )


def trend_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK, rate_hz: float = 0.0) -> Block:
    """Resolution against the number of frames used; lower is better; the target dotted, the forecast as a fan to it.

    Parameters
    ----------
    rate_hz : frames per second of the stream, by which the seconds of the forecast become frames; 0: no fan.
    """
    points = _trend_points(particle)
    if len(points) < 2:
        return _empty("Resolution", "needs two maps", width, height, look)
    fan = _fan(particle, points[-1], rate_hz)
    target = [] if particle.target_A is None else [particle.target_A]
    values = [*target, *(value for _, value in points)]
    low, high = min(values), max(values)
    pad = max(0.02, 0.08 * (high - low))
    bottom, top = max(0.0, low - pad), high + pad
    middle = particle.target_A or (bottom + top) / 2
    first, last = points[0][0], max(frames for frames, _ in points)
    end = min(max(last, fan.latest), last + 1.5 * (last - first)) if fan else last
    names = ((first, short(first)), ((first + end) / 2, short((first + end) / 2)), (end, short(end) + " frames"))
    plot = Plot(
        points,
        (first, end),
        (bottom, top),
        x_ticks=names,
        y_ticks=tuple((value, _axis_number(value)) for value in (bottom, top, middle)),
        limit=particle.target_A,
        fan=fan,
    )
    word = trend(particle.resolution_trend)
    note = f"{angstrom(particle.resolution_A, look)} {arrow(word, look)} {word}" if word else ""
    if fan and particle.target_A:
        when = until(particle.forecast_low_s, particle.forecast_high_s)
        note = f"{angstrom(particle.target_A, look)} {when}" if when else note
    return titled("Resolution", draw(plot, width, height - 1, look), look, note)


def _fan(particle: ParticleView, newest: tuple[float, float], rate_hz: float) -> Fan | None:
    """Where the forecast leads: from the newest map to the target, at the earliest and at the latest."""
    target, low, high = particle.target_A, particle.forecast_low_s, particle.forecast_high_s
    if target is None or not awaited(particle) or low is None or rate_hz <= 0:
        return None
    if particle.resolution_A is None or target >= newest[1]:
        return None
    pace = rate_hz * (particle.frames_used / particle.frames_seen if particle.frames_seen else 1.0)
    latest = newest[0] + pace * high if high is not None else math.inf
    return Fan(newest, target, newest[0] + pace * low, latest)


def _axis_number(value: float) -> str:
    return f"{value:.2f}" if value < 100 else short(value)


def slice_panel(
    particle: ParticleView, width: int, height: int, look: Look = LOOK, zoom: int = 1, plane: str = "xy"
) -> Block:
    """A central slice of the map, cut to the particle or closer (`zoom` times), with the width of what is seen.

    Parameters
    ----------
    plane : ``xy`` as in the frames, y downwards; ``xz`` or ``yz``, z upwards.
    """
    picture = {"xz": particle.slice_xz[::-1], "yz": particle.slice_yz[::-1]}.get(plane, particle.slice_xy)
    if not picture or not picture[0]:
        return _empty(f"Map {plane}", "no map yet", width, height, look)
    share = 1.0
    if particle.slice_width_A > 0 and particle.diameter_A > 0:
        share = min(1.0, max(0.2, 1.2 * particle.diameter_A / particle.slice_width_A))
    share /= zoom
    note = f"{particle.slice_width_A * share:.0f} {look.angstrom}" if particle.slice_width_A > 0 else ""
    drawn = map_slice(picture, share, width, max(1, height - 1), look)
    return fit(titled(f"Map {plane}", drawn, look, note), width, height)


def slices_panel(particle: ParticleView, width: int, height: int, look: Look = LOOK, zoom: int = 1) -> Block:
    """All three slices beside each other."""
    each = (width - 2) // 3
    last = width - 2 - 2 * each
    parts = [slice_panel(particle, each, height, look, zoom, plane) for plane in ("xy", "xz")]
    return beside(*parts, slice_panel(particle, last, height, look, zoom, "yz"))
