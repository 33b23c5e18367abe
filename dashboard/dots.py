"""Drawing in braille: a terminal cell holds 2 x 4 dots. Without Unicode they become ASCII of similar weight."""

from __future__ import annotations

from codecs import charmap_decode
from collections.abc import Sequence
from functools import lru_cache
from math import ceil

# bit of the dot at [row][column] within a cell, as the Unicode block 2800 counts them
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_FLAT = tuple(bit for line in BITS for bit in line)
_UPPER, _LOWER = 0x1B, 0xE4
_BLANK = 0x2800

# 4 x 4 ordered dither (Bayer 1973), thresholds in (0, 1)
_ORDER = ((0, 8, 2, 10), (12, 4, 14, 6), (3, 11, 1, 9), (15, 7, 13, 5))
BAYER = tuple(tuple((value + 0.5) / 16 for value in line) for line in _ORDER)


class Dots:
    """A raster of ``2 columns x 4 rows`` dots per terminal cell; (0, 0) is the upper left dot."""

    __slots__ = ("cells", "columns", "rows")

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = max(0, columns)
        self.rows = max(0, rows)
        self.cells = bytearray(self.columns * self.rows)

    @property
    def width(self) -> int:
        """Dots across."""
        return 2 * self.columns

    @property
    def height(self) -> int:
        """Dots down."""
        return 4 * self.rows

    def put(self, x: int, y: int) -> None:
        """Set a dot; outside the raster nothing happens."""
        if 0 <= x < 2 * self.columns and 0 <= y < 4 * self.rows:
            self.cells[(y >> 2) * self.columns + (x >> 1)] |= BITS[y & 3][x & 1]

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Set the dots of a straight line."""
        self.path(((x0, y0), (x1, y1)))

    def path(self, points: Sequence[tuple[float, float]]) -> None:
        """Set the dots of straight lines from each point to the next; of a single one its dot."""
        cells, columns, width, height = self.cells, self.columns, self.width, self.height
        x0, y0 = points[0]
        self.put(round(x0), round(y0))
        for x1, y1 in points[1:]:
            across, down = x1 - x0, y1 - y0
            steps = ceil(max(abs(across), abs(down))) or 1
            for step in range(1, steps + 1):
                share = step / steps
                x, y = round(x0 + across * share), round(y0 + down * share)
                if 0 <= x < width and 0 <= y < height:
                    cells[(y >> 2) * columns + (x >> 1)] |= _FLAT[(y & 3) << 1 | x & 1]
            x0, y0 = x1, y1

    def text(self, unicode: bool = True) -> list[str]:
        """One string per row of cells."""
        flat = written(self.cells, unicode)
        return [flat[start : start + self.columns] for start in range(0, len(flat), self.columns)] if flat else []


def written(cells: bytes | bytearray, unicode: bool = True) -> str:
    """The characters of cells, given by the pattern of dots in each."""
    return charmap_decode(bytes(cells), "strict", _glyphs(unicode))[0]


@lru_cache(maxsize=2)
def _glyphs(unicode: bool) -> str:
    """The character for each of the 256 patterns of dots in a cell."""
    return "".join(" " if not bits else chr(_BLANK + bits) if unicode else _ascii(bits) for bits in range(256))


def _ascii(bits: int) -> str:
    """A character that weighs about as much as the dots, and lies where they lie."""
    if not bits:
        return " "
    number = bits.bit_count()
    if number >= 7:
        return "#"
    if number >= 5:
        return "+"
    upper, lower = bits & _UPPER, bits & _LOWER
    if upper and lower:
        return ":"
    return "'" if upper else "."
