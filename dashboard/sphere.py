"""Which sides of a particle have been seen: counts on a hemisphere of viewing directions, drawn in braille.

The cells are those of a Fibonacci hemisphere with n points (cell i: z = 1 - (i + 0.5) / n, azimuth = i * golden angle);
a view and its opposite carry the same information, so one hemisphere is all there is. Drawn in Lambert's azimuthal
equal-area projection, so that an unseen side looks as large as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .block import Block, fit, inked
from .dots import BAYER, BITS, Dots, written
from .look import AXIS, GOOD, LIMIT, Look

# a view cell within a terminal cell: its number, its dots for each level of density, how many dots it has at most
Patch = tuple[int, tuple[int, ...], int]
Vector = tuple[float, float, float]
LEVELS = 16
_STYLES = (AXIS, GOOD, LIMIT)  # inks: of the rim, where much was seen, where little was
_MUCH, _LITTLE = 2, 3
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True, slots=True)
class Coverage:
    """A count of views in words: cells seen, cells, the median over all cells, and the widest unseen patch."""

    seen: int
    cells: int
    views: int
    median: int
    gap_deg: float  # angular radius of the largest cap without a view, to a degree

    @property
    def missing(self) -> int:
        """Cells that were never seen."""
        return self.cells - self.seen


@lru_cache(maxsize=8)
def directions(number: int) -> tuple[Vector, ...]:
    """Unit vectors (x, y, z) of the cells of a Fibonacci hemisphere with `number` points."""
    vectors = []
    for index in range(number):
        z = 1 - (index + 0.5) / number
        radius = math.sqrt(1 - z * z)
        azimuth = index * GOLDEN_ANGLE
        vectors.append((radius * math.cos(azimuth), radius * math.sin(azimuth), z))
    return tuple(vectors)


@lru_cache(maxsize=64)
def summary(coverage: tuple[int, ...]) -> Coverage:
    """Sum up the counts per cell."""
    cells = len(coverage)
    seen = [index for index in range(cells) if coverage[index] > 0]
    median = sorted(coverage)[cells // 2] if cells else 0
    return Coverage(len(seen), cells, sum(coverage), median, _gap(coverage, seen))


def _gap(coverage: Sequence[int], seen: Sequence[int]) -> float:
    """Angular distance from the unseen cell that lies farthest from any view to the nearest view, in degrees, up to the
    next whole one: cells are some seven degrees apart.
    """
    cells = len(coverage)
    if not seen:
        return 90.0
    if len(seen) == cells:
        return 0.0
    views, radius = sum(1 << index for index in seen), 1
    for index in range(cells):
        if not coverage[index]:
            while not views & _cap(cells, index, radius):
                radius += 1
    return float(radius)


@lru_cache(maxsize=1 << 16)
def _cap(cells: int, index: int, radius_deg: int) -> int:
    """The cells within `radius_deg` of one or of its opposite, a bit for each."""
    vectors, least = directions(cells), math.cos(math.radians(radius_deg))
    x, y, z = vectors[index]
    return sum(1 << other for other, (a, b, c) in enumerate(vectors) if abs(a * x + b * y + c * z) >= least)


def _nearest(cells: int, columns: int, rows: int) -> list[tuple[int, int, int]]:
    """Dots (x, y, nearest cell) of a disc that fills columns x rows terminal cells."""
    size = min(2 * columns, 4 * rows)
    radius = size / 2 - 0.5
    offset_x, offset_y = columns - 0.5, 2 * rows - 0.5
    points: dict[tuple[int, int], Vector] = {}
    for y in range(4 * rows):
        for x in range(2 * columns):
            u, v = (x - offset_x) / radius, (offset_y - y) / radius
            square = u * u + v * v
            if square <= 1.0:  # r^2 = 1 - z
                scale = math.sqrt(2 - square)
                points[x, y] = (u * scale, v * scale, 1 - square)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    reach = math.ceil(radius * 3.2 / math.sqrt(cells)) + 1
    for cell, (a, b, c) in enumerate(directions(cells)):
        for p, q, r in ((a, b, c), (-a, -b, -c)):
            if r < -0.2:
                continue
            factor = 1 / math.sqrt(1 + r)
            middle_x, middle_y = round(offset_x + p * factor * radius), round(offset_y - q * factor * radius)
            for y in range(middle_y - reach, middle_y + reach + 1):
                for x in range(middle_x - reach, middle_x + reach + 1):
                    point = points.get((x, y))
                    if point is not None:
                        cosine = point[0] * p + point[1] * q + point[2] * r
                        if (x, y) not in best or cosine > best[x, y][0]:
                            best[x, y] = (cosine, cell)
    return [(x, y, cell) for (x, y), (_, cell) in best.items()]


@lru_cache(maxsize=16)
def _raster(cells: int, columns: int, rows: int) -> tuple[tuple[Patch, ...], ...]:
    """For each terminal cell the view cells that show in it, with their dots for every level of density.

    All that does not depend on the counts is done here, once per size: the disc is the costliest part of the screen.
    """
    patches: dict[tuple[int, int], list[int]] = {}
    for x, y, cell in _nearest(cells, columns, rows):
        order = patches.setdefault(((y >> 2) * columns + (x >> 1), cell), [0] * (LEVELS + 1))
        rank = int(BAYER[y & 3][x & 3] * LEVELS)
        for level in range(rank + 1, LEVELS + 1):
            order[level] |= BITS[y & 3][x & 1]
    raster: list[list[Patch]] = [[] for _ in range(columns * rows)]
    for (place, cell), order in patches.items():
        raster[place].append((cell, tuple(order), order[LEVELS].bit_count()))
    return tuple(tuple(found) for found in raster)


@lru_cache(maxsize=16)
def _rim(columns: int, rows: int) -> bytes:
    """The dots of the circle around the disc, per terminal cell."""
    size = min(2 * columns, 4 * rows)
    radius = size / 2 - 0.5
    steps = max(8, 4 * size)
    raster = Dots(columns, rows)
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        raster.put(round(columns - 0.5 + radius * math.cos(angle)), round(2 * rows - 0.5 + radius * math.sin(angle)))
    return bytes(raster.cells)


class _Disc:
    """The disc of one size with what was drawn on it last: of the next counts only what differs is drawn anew."""

    def __init__(self, cells: int, columns: int, rows: int) -> None:
        self._rim = _rim(columns, rows)
        self._raster = _raster(cells, columns, rows) if cells else ()
        self._places: list[list[int]] = [[] for _ in range(cells)]  # terminal cells in which a view cell shows
        for place, patches in enumerate(self._raster):
            for cell, _, _ in patches:
                self._places[cell].append(place)
        self._levels = [0] * cells
        self.dots = bytearray(self._rim)
        self.inks = bytearray(bool(bits) for bits in self._rim)

    def draw(self, levels: list[int]) -> None:
        """Bring `dots` and `inks` up to date with the density of each view cell."""
        changed = {
            place
            for cell, (before, level) in enumerate(zip(self._levels, levels, strict=True))
            if before != level
            for place in self._places[cell]
        }
        self._levels = levels
        for place in changed:
            bits = total = dots = 0
            for cell, order, number in self._raster[place]:
                level = levels[cell]
                bits |= order[level]
                total += level * number
                dots += number
            rim = self._rim[place]
            self.dots[place] = rim | bits
            self.inks[place] = (_MUCH if total >= 0.6 * LEVELS * dots else _LITTLE) if bits else bool(rim)


_disc = lru_cache(maxsize=4)(_Disc)


@lru_cache(maxsize=16)
def sphere(coverage: tuple[int, ...], width: int, height: int, look: Look) -> Block:
    """Draw the counts per cell: blank where nothing was seen, denser where more was seen.

    Parameters
    ----------
    coverage : views per cell of a Fibonacci hemisphere; empty for nothing known.
    width, height : size of the block in terminal cells; the disc is as large as fits, in the middle.
    look : characters and colours.
    """
    columns, rows = max(1, min(width, 2 * height)), max(1, min(height, (width + 1) // 2))
    disc = _disc(len(coverage), columns, rows)
    top = math.log1p(max(0, 0, *coverage)) or 1.0
    disc.draw([int(LEVELS * (0.3 + 0.7 * math.log1p(views) / top)) if views > 0 else 0 for views in coverage])
    lines = inked(written(disc.dots, look.unicode), bytes(disc.inks), columns, _STYLES)
    return fit(Block(columns, lines), width, height, centre=True)
