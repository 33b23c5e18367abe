"""A small plot with axes in braille: one curve, dotted limits, labelled ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style

from .block import Block, Line, blank, inked, row
from .dots import Dots, written
from .look import AXIS, CURVE, LIMIT, MARK, Look

Point = tuple[float, float]
_FILLED = bytes([0]) + bytes([255]) * 255
_INKS = tuple(bytes([0]) + bytes([number]) * 255 for number in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class Fan:
    """A forecast: from the point `start` to the height `target`, at the `earliest` x and at the `latest`."""

    start: Point
    target: float
    earliest: float
    latest: float  # may be infinite


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw. Ticks are (value, label); `limit` is a dotted horizontal line, `mark` a dotted vertical one."""

    points: tuple[Point, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()
    limit: float | None = None
    mark: float | None = None
    markers: bool = False  # emphasise each point
    fan: Fan | None = None
    style: Style = field(default=CURVE)


@lru_cache(maxsize=32)  # between two maps nothing of it changes
def draw(plot: Plot, width: int, height: int, look: Look) -> Block:
    """Draw into width x height cells; the last line holds the labels of the x axis."""
    margin = max((len(label) for _, label in plot.y_ticks), default=0)
    columns, rows = width - margin - 1, height - 2
    if columns < 4 or rows < 2:
        return blank(max(0, width), height)
    curve, limit, mark = Dots(columns, rows), Dots(columns, rows), Dots(columns, rows)

    (left, right), (bottom, top) = plot.x_range, plot.y_range
    breadth, rise, last_x, last_y = (right - left) or 1.0, (top - bottom) or 1.0, curve.width - 1, curve.height - 1

    def place(x: float, y: float) -> Point:
        up = (y - bottom) / rise
        return (x - left) / breadth * last_x, (0.0 if up > 1 else 1.0 if up < 0 else 1 - up) * last_y

    _curve(plot, curve, place)
    if plot.limit is not None:
        y = round(place(plot.x_range[0], plot.limit)[1])
        for x in range(0, limit.width, 3):
            limit.put(x, y)
    if plot.mark is not None and math.isfinite(plot.mark):
        x = round(place(plot.mark, 0.0)[0])
        for y in range(0, mark.height, 3):
            mark.put(x, y)
    if plot.fan is not None:
        _fan(plot.fan, plot.x_range[1], mark, place)
    labels = {round(place(0.0, value)[1]) // 4: label for value, label in plot.y_ticks}
    lines = []
    drawn = _merged([bytes(raster.cells) for raster in (curve, limit, mark)], columns, (plot.style, LIMIT, MARK), look)
    for index in range(rows):
        label = labels.get(index, "")
        tick = look.pick("┤", "+") if label else look.bar
        lines.append((Segment(label.rjust(margin) + tick, AXIS), *drawn[index]))
    return Block(width, (*lines, *_x_axis(plot, columns, margin, look)))


def _merged(layers: Sequence[bytes], columns: int, styles: Sequence[Style], look: Look) -> tuple[Line, ...]:
    """The lines of three rasters, in each cell the first that has dots there.

    All cells at once, as one long number: a loop over them would be most of the work of a plot.
    """
    dots = inks = taken = 0
    for layer, ink in zip(layers, _INKS, strict=True):
        dots |= int.from_bytes(layer, "big") & ~taken
        inks |= int.from_bytes(layer.translate(ink), "big") & ~taken
        taken |= int.from_bytes(layer.translate(_FILLED), "big")
    size = len(layers[0])
    return inked(written(dots.to_bytes(size, "big"), look.unicode), inks.to_bytes(size, "big"), columns, styles)


def _curve(plot: Plot, raster: Dots, place: Callable[[float, float], Point]) -> None:
    path: list[Point] = []
    for x, y in (*plot.points, (math.nan, math.nan)):
        if math.isfinite(x) and math.isfinite(y):
            path.append(place(x, y))
        elif path:
            raster.path(path)
            for across, down in path if plot.markers else ():
                for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                    raster.put(round(across) + dx, round(down) + dy)
            path = []


def _fan(fan: Fan, end: float, raster: Dots, place: Callable[[float, float], Point]) -> None:
    """The two edges, cut at the end of the axis, and dots between them."""
    (x0, y0) = fan.start
    edges = []
    for arrival in (fan.earliest, fan.latest):
        until = min(end, arrival)
        share = 0.0 if math.isinf(arrival) else (until - x0) / max(arrival - x0, 1e-9)
        edges.append((until, y0 + (fan.target - y0) * share))
        raster.line(*place(x0, y0), *place(*edges[-1]))
    left, right = place(x0, y0)[0], place(end, y0)[0]
    for column in range(int(left) + 2, int(right), 3):
        x = x0 + (column - left) / max(right - left, 1e-9) * (end - x0)
        heights = []
        for until, y in edges:
            share = min(1.0, (x - x0) / max(until - x0, 1e-9))
            heights.append(place(x, y0 + (y - y0) * share)[1])
        for line in range(int(min(heights)) + 2, int(max(heights)), 3):
            raster.put(column, line)


def _x_axis(plot: Plot, columns: int, margin: int, look: Look) -> tuple[Line, Line]:
    """The axis with its tick marks, and the labels below; labels that would touch each other are left out."""
    axis = [look.rule] * columns
    labels = [" "] * (columns + margin + 1)
    low, high = plot.x_range
    free = 0
    for value, label in plot.x_ticks:
        column = round((value - low) / ((high - low) or 1.0) * (columns - 1))
        if not 0 <= column < columns:
            continue
        start = min(max(column + margin + 1 - len(label) // 2, 0), len(labels) - len(label))
        if start < free:
            continue
        axis[column] = look.pick("┴", "+")
        labels[start : start + len(label)] = label
        free = start + len(label) + 1
    corner = " " * margin + look.pick("└", "+")
    width = columns + margin + 1
    return row(width, (corner + "".join(axis), AXIS)), row(width, ("".join(labels), AXIS))
