"""A slice of the density map as a picture: half blocks in grey, braille where colours are few, ASCII if it must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import mul

from rich.color import Color
from rich.style import Style

from ..daemon.snapshot import Picture
from .block import Block, fit, runs
from .dots import BAYER, Dots
from .look import NULL, Look

# quadrant blocks; bits: upper left, upper right, lower left, lower right
_QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
FINE_CELLS = 1500  # up to this size the picture is small enough to need, and cheap enough to get, the finer drawing
_RAMP = " .:-=+*#%@"


@lru_cache(maxsize=64)
def _weights(source: int, low: float, high: float, target: int) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """For each target pixel the first source pixel and the weights: tent filter, at least one source pixel wide."""
    scale = (high - low) / target
    reach = max(1.0, scale)
    rows = []
    for index in range(target):
        centre = low + (index + 0.5) * scale - 0.5
        first = max(0, math.ceil(centre - reach))
        last = min(source - 1, math.floor(centre + reach))
        values = [max(1e-6, 1 - abs(position - centre) / reach) for position in range(first, last + 1)]
        if not values:
            first, values = min(source - 1, max(0, round(centre))), [1.0]
        total = sum(values)
        rows.append((first, tuple(value / total for value in values)))
    return tuple(rows)


def resample(picture: Sequence[Sequence[int]], share: float, width: int, height: int) -> list[list[float]]:
    """The middle `share` of a picture (both directions) in width x height pixels, brightness stretched to 0..1.

    Parameters
    ----------
    picture : rows of equal length, any numbers.
    share : 0..1, part of the side that is kept.
    """
    rows, columns = len(picture), min((len(line) for line in picture), default=0)
    if not rows or not columns or width < 1 or height < 1:
        return []
    cut_x, cut_y = (1 - share) * columns / 2, (1 - share) * rows / 2
    across = _weights(columns, cut_x, columns - cut_x, width)
    down = _weights(rows, cut_y, rows - cut_y, height)
    needed = {number for first, weights in down for number in range(first, first + len(weights))}
    narrow = {
        number: [sum(map(mul, weights, picture[number][first : first + len(weights)])) for first, weights in across]
        for number in needed
    }
    image = []
    for first, weights in down:
        parts = [(narrow[first + offset], weight) for offset, weight in enumerate(weights)]
        image.append([sum([line[x] * weight for line, weight in parts]) for x in range(width)])
    low, high = min(map(min, image)), max(map(max, image))
    scale = 1 / (high - low) if high - low > 1e-9 * (abs(high) + abs(low)) else 0.0
    return [[(value - low) * scale for value in line] for line in image]


@lru_cache(maxsize=1024)
def _grey(upper: int, lower: int) -> Style:
    """Style of an upper half block: greys 0..25 of the 256-colour palette (black, the ramp 232-255, white)."""
    numbers = [16 if level <= 0 else 231 if level >= 25 else 231 + level for level in (upper, lower)]
    return Style(color=Color.from_ansi(numbers[0]), bgcolor=Color.from_ansi(numbers[1]))


@lru_cache(maxsize=16)
def map_slice(picture: Picture, share: float, width: int, height: int, look: Look) -> Block:
    """Draw a square picture as large as fits into width x height cells, in the middle.

    Parameters
    ----------
    picture : rows of grey values 0..255 ``[y][x]``.
    share : 0..1, middle part of the picture to show.
    look : characters and colours: grey half blocks with 256 colours, else dithered braille, else an ASCII ramp.
    """
    columns, rows = max(1, min(width, 2 * height)), max(1, min(height, (width + 1) // 2))
    if not picture:
        return fit(Block(width, ()), width, height)
    if look.unicode and look.colours >= 256 and columns * rows <= FINE_CELLS:
        drawn = _quadrants(resample(picture, share, 2 * columns, 2 * rows), columns)
    elif look.unicode and look.colours >= 256:
        image = resample(picture, share, columns, 2 * rows)
        lines = []
        for index in range(0, 2 * rows, 2):
            upper = [int(value * 25 + 0.5) for value in image[index]]
            lower = [int(value * 25 + 0.5) for value in image[index + 1]]
            lines.append(tuple(runs([("▀", _grey(a, b)) for a, b in zip(upper, lower, strict=True)])))
        drawn = Block(columns, tuple(lines))
    elif look.unicode:
        raster = Dots(columns, rows)
        for y, line in enumerate(resample(picture, share, raster.width, raster.height)):
            for x, value in enumerate(line):
                if _firm(value) > BAYER[y & 3][x & 3]:
                    raster.put(x, y)
        drawn = _plain(raster.text(), columns)
    else:
        image = resample(picture, share, columns, rows)
        drawn = _plain(["".join(_RAMP[int(_firm(value) * 9 + 0.5)] for value in line) for line in image], columns)
    return fit(drawn, width, height, centre=True)


def _quadrants(image: list[list[float]], columns: int) -> Block:
    """Two pixels across and two down per cell, in the two greys and the shape that come nearest to the four values."""
    lines = []
    for index in range(0, len(image), 2):
        upper, lower = image[index], image[index + 1]
        cells = []
        for x in range(0, 2 * columns, 2):
            values = (upper[x], upper[x + 1], lower[x], lower[x + 1])
            level = _threshold(values)
            bright = [value for value in values if value >= level]
            dark = [value for value in values if value < level]
            shape = sum(1 << bit for bit, value in enumerate(values) if value >= level)
            high = sum(bright) / len(bright)
            low = sum(dark) / len(dark) if dark else high
            cells.append((_QUADRANTS[shape], _grey(int(high * 25 + 0.5), int(low * 25 + 0.5))))
        lines.append(tuple(runs(cells)))
    return Block(columns, tuple(lines))


def _threshold(values: tuple[float, float, float, float]) -> float:
    """Where to divide four values into two groups of least variance (Otsu 1979)."""
    a, b, c, d = sorted(values)
    splits = (((b + c + d) / 3 - a) ** 2 * 0.75, ((c + d - a - b) / 2) ** 2, (d - (a + b + c) / 3) ** 2 * 0.75)
    return (b, c, d)[splits.index(max(splits))]


def _firm(value: float) -> float:
    """More contrast and an empty background, where there are few levels."""
    return min(1.0, max(0.0, (value - 0.2) / 0.5))


def _plain(lines: Sequence[str], width: int) -> Block:
    return Block(width, tuple(tuple(runs([(line, NULL)])) for line in lines))
