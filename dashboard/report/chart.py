"""Curves as SVG whose colours come from the page, so that they suit light, dark and paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Range = tuple[float, float]
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 46
STRIP = 22
NAMES = 12  # the line above the curves: what they show on the left, which is which on the right


@dataclass(frozen=True, slots=True)
class Series:
    """A curve. `kind` is ``line``, ``step`` (the value holds until the next) or ``dots``; `colour` 1 to 4."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    kind: str = "line"
    colour: int = 1


@dataclass(frozen=True, slots=True)
class Band:
    """An area between two curves over the same x, a forecast's interval for example."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """States in time below a chart: segments (from, to, word, tone), tone one of good, warn, bad, plain."""

    label: str
    segments: Sequence[tuple[float, float, str, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows. `limits` are labelled dashed lines across, `marks` labelled lines upwards."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series] = ()
    bands: Sequence[Band] = ()
    limits: Sequence[tuple[float, str]] = ()
    marks: Sequence[tuple[float, str]] = ()
    strips: Sequence[Strip] = ()
    x_range: Range | None = None
    y_range: Range | None = None
    x_ticks: Sequence[tuple[float, str]] | None = None
    width: int = 560
    height: int = 260


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range, at most about `most` of them."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A tick's number: no trailing zeros, thousands with a thin space."""
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1000 else f"{value:.6g}"


def spread(values: Sequence[float], *, zero: bool = False) -> Range:
    """A range that holds all finite values with a little room; with `zero` it begins at 0."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return (0.0, 1.0)
    low, high = min(finite), max(finite)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if zero else low - room, high + room)


class _Frame:
    """Where values come to lie in the picture."""

    def __init__(self, chart: Chart) -> None:
        xs = [x for series in chart.series for x in series.x]
        ys = [y for series in chart.series for y in series.y] + [y for y, _ in chart.limits]
        xs += [x for band in chart.bands for x in band.x]
        ys += [y for band in chart.bands for y in (*band.low, *band.high)]
        finite = [x for x in xs if math.isfinite(x)]
        self.x_range = chart.x_range or ((min(finite), max(finite)) if finite else (0.0, 1.0))
        self.y_range = chart.y_range or spread(ys)
        self.right = chart.width - RIGHT
        self.bottom = chart.height - BOTTOM
        self.top = TOP

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / ((high - low) or 1.0) * (self.right - LEFT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / ((high - low) or 1.0)
        return self.bottom - min(1.02, max(-0.02, share)) * (self.bottom - self.top)


def draw(chart: Chart) -> str:
    """The chart as an ``<svg>`` element."""
    frame = _Frame(chart)
    height = chart.height + STRIP * len(chart.strips) + (6 if chart.strips else 0)
    parts = [f'<svg class="chart" viewBox="0 0 {chart.width} {height}" role="img" aria-label="{escape(chart.title)}">']
    parts += _axes(chart, frame)
    parts += [_band(band, frame) for band in chart.bands]
    lines, words = _limits(chart, frame)
    parts += [*lines, *(_series(series, frame) for series in chart.series), *words]  # words stay legible over a curve
    parts += _legend(chart, frame)
    for row, strip in enumerate(chart.strips):
        parts += _strip(strip, frame, chart.height + 2 + STRIP * row)
    return "".join(parts) + "</svg>"


def _axes(chart: Chart, frame: _Frame) -> list[str]:
    parts = []
    for value in ticks(*frame.y_range, most=5):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{frame.right}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>')
    marks = chart.x_ticks if chart.x_ticks is not None else [(x, label(x)) for x in ticks(*frame.x_range, most=7)]
    for value, words in marks:
        x = frame.x(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {frame.bottom}v5"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{frame.bottom + 18}" text-anchor="middle">{escape(words)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {frame.top}V{frame.bottom}H{frame.right}"/>')
    parts.append(f'<text class="name" x="4" y="{NAMES + 4}">{escape(chart.y_label)}</text>')
    across = (LEFT + frame.right) / 2
    parts.append(
        f'<text class="name" x="{across:.0f}" y="{frame.bottom + 39}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>"
    )
    return parts


def _limits(chart: Chart, frame: _Frame) -> tuple[list[str], list[str]]:
    """Lines, and the words beside them."""
    lines, notes = [], []
    for value, words in chart.limits:
        y = frame.y(value)
        lines.append(f'<path class="limit" d="M{LEFT} {y:.1f}H{frame.right}"/>')
        notes.append(f'<text class="note" x="{LEFT + 6}" y="{y - 5:.1f}">{escape(words)}</text>')
    for value, words in chart.marks:
        if not frame.x_range[0] <= value <= frame.x_range[1]:
            continue
        x = frame.x(value)
        left = x > (LEFT + frame.right) / 2
        anchor, shift = ("end", -6) if left else ("start", 6)
        lines.append(f'<path class="mark" d="M{x:.1f} {frame.top}V{frame.bottom}"/>')
        notes.append(
            f'<text class="note" x="{x + shift:.1f}" y="{frame.top + 12}" text-anchor="{anchor}">{escape(words)}</text>'
        )
    return lines, notes


def _band(band: Band, frame: _Frame) -> str:
    there = list(zip(band.x, band.high, strict=True)) + list(zip(band.x, band.low, strict=True))[::-1]
    points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in there)
    return f'<polygon class="band" points="{points}"><title>{escape(band.label)}</title></polygon>'


def _series(series: Series, frame: _Frame) -> str:
    places = [
        (frame.x(x), frame.y(y)) if math.isfinite(x) and math.isfinite(y) else None
        for x, y in zip(series.x, series.y, strict=True)
    ]
    if series.kind == "dots":
        drawn = "".join(f"M{p[0]:.1f} {p[1]:.1f}h0" for p in places if p)
        return f'<path class="dots c{series.colour}" d="{drawn}"/>'
    words: list[str] = []
    pen = False
    for place in places:
        if place is None:
            pen = False
            continue
        x, y = place
        if not pen:
            words.append(f"M{x:.1f} {y:.1f}")
        else:
            words.append(f"H{x:.1f}V{y:.1f}" if series.kind == "step" else f"L{x:.1f} {y:.1f}")
        pen = True
    return f'<path class="curve c{series.colour}" d="{"".join(words)}"/>'


def _named(chart: Chart) -> list[Series]:
    return [series for series in chart.series if series.label]


def _legend(chart: Chart, frame: _Frame) -> list[str]:
    """Names of the curves in a row above them, from the right; none where there is one curve only."""
    parts: list[str] = []
    if len(_named(chart)) < 2:
        return parts
    x = float(frame.right)
    for series in reversed(_named(chart)):
        x -= 9.2 * len(series.label) + 36
        kind = "dots" if series.kind == "dots" else "curve"
        stroke = f"M{x + 4:.0f} {NAMES}h0m7 0h0m7 0h0" if kind == "dots" else f"M{x:.0f} {NAMES}h22"
        parts.append(f'<path class="{kind} c{series.colour}" d="{stroke}"/>')
        parts.append(f'<text class="note" x="{x + 28:.0f}" y="{NAMES + 4}">{escape(series.label)}</text>')
    return parts


def _strip(strip: Strip, frame: _Frame, top: float) -> list[str]:
    """A row of states; a word stands in a segment when it fits, and always in the segment's title."""
    label_at = f'x="{LEFT - 7}" y="{top + 13:.0f}" text-anchor="end"'
    parts = [f'<text class="tick row-name" {label_at}>{escape(strip.label)}</text>']
    for begin, end, words, tone in strip.segments:
        x0, x1 = max(LEFT, frame.x(begin)), min(frame.right, frame.x(end))
        if x1 <= x0:
            continue
        parts.append(
            f'<rect class="state {tone}" x="{x0:.1f}" y="{top:.0f}" width="{x1 - x0:.1f}" height="{STRIP - 4}">'
            f"<title>{escape(words)}: {label(begin)} to {label(end)}</title></rect>"
        )
        if x1 - x0 > 8.6 * len(words) + 6:
            parts.append(
                f'<text class="state-name" x="{(x0 + x1) / 2:.1f}" y="{top + 13:.0f}" text-anchor="middle">'
                f"{escape(words)}</text>"
            )
    return parts
