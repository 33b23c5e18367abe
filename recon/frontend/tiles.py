"""Parts of a large field, looked at in turn, one in each frame, so that no frame costs much more than another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from .bands import Sampling

MARGIN_BINS = 6  # at least: what wraps around in a transform has died away over 9 A
TILE_PX = 256  # about; what a window takes fits into a cache of 2 MiB


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of the field: what is kept of it, and the window around it that is transformed.

    Attributes
    ----------
    first, size : (row, column) of what is kept, bins of the field.
    window : (row, column) where the window begins, bins of the field; every window of a field has the same size.
    """

    first: tuple[int, int]
    size: tuple[int, int]
    window: tuple[int, int]

    @property
    def inside(self) -> tuple[slice, slice]:
        """What is kept, as a part of the window, bins."""
        return _slices(self.first[0] - self.window[0], self.first[1] - self.window[1], self.size)

    @property
    def there(self) -> tuple[slice, slice]:
        """What is kept, as a part of the field, bins."""
        return _slices(*self.first, self.size)


def _slices(row: int, column: int, size: tuple[int, int]) -> tuple[slice, slice]:
    return slice(row, row + size[0]), slice(column, column + size[1])


def in_pixels(part: tuple[slice, slice], bin_px: int) -> tuple[slice, slice]:
    """Slices of bins as slices of pixels."""
    rows, columns = part
    return (
        slice(rows.start * bin_px, rows.stop * bin_px),
        slice(columns.start * bin_px, columns.stop * bin_px),
    )


def tiles_of(rows: int, columns: int, sampling: Sampling, most: int) -> tuple[list[Tile], tuple[int, int]]:
    """Divide a field.

    Parameters
    ----------
    rows, columns : of the field, px.
    most : tiles at most.

    Returns
    -------
    Tiles that cover the field without overlap, and the size of their windows, px: quick to transform, or with one tile
    the field as it is.
    """
    bin_px = sampling.bin_px
    field = (rows // bin_px, columns // bin_px)
    if most == 1:
        return [Tile((0, 0), field, (0, 0))], (rows, columns)
    down = max(1, min(round(rows / TILE_PX), round((most * rows / columns) ** 0.5), most))
    across = max(1, min(round(columns / TILE_PX), most // down))
    edges = [np.linspace(0, bins, count + 1).astype(int) for bins, count in zip(field, (down, across), strict=True)]
    window = [_window(int(np.diff(cuts).max()), bins, bin_px) for cuts, bins in zip(edges, field, strict=True)]
    tiles = []
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            size = (int(bottom - top), int(right - left))
            begins = [
                min(max(int(start) - (wide - kept) // 2, 0), bins - wide)
                for start, wide, kept, bins in zip((top, left), window, size, field, strict=True)
            ]
            tiles.append(Tile((int(top), int(left)), size, (begins[0], begins[1])))
    return tiles, (window[0] * bin_px, window[1] * bin_px)


def _window(kept: int, field: int, bin_px: int) -> int:
    """Bins of a window around `kept` of them, in a field of so many; the field itself where there is no room."""
    for bins in range(kept + 2 * MARGIN_BINS, field):
        if scipy.fft.next_fast_len(bins * bin_px, real=True) == bins * bin_px:
            return bins
    return field
