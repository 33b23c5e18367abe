"""Colour maps with even steps of lightness, readable for colour-blind eyes and in grey print."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# viridis and cividis at equal distances (van der Walt & Smith 2015; Nunez, Anderton & Renslow 2018)
_VIRIDIS = "440154 482878 3e4a89 31688e 26828e 1f9e89 35b779 6dcd59 b4de2c fde725"
_CIVIDIS = "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838"


def _table(words: str) -> NDArray[np.float64]:
    return np.array([[int(word[i : i + 2], 16) for i in (0, 2, 4)] for word in words.split()], np.float64)


_MAPS = {"viridis": _table(_VIRIDIS), "cividis": _table(_CIVIDIS)}


def shade(values: ArrayLike, name: str) -> NDArray[np.uint8]:
    """Colours (..., 3) RGB uint8 of values (...) 0..1 in the map `name`, ``viridis`` or ``cividis``."""
    table = _MAPS[name]
    position = np.clip(np.nan_to_num(np.asarray(values, np.float64)), 0, 1) * (len(table) - 1)
    steps = np.arange(len(table))
    return np.stack([np.interp(position, steps, table[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def hexadecimal(value: float, name: str) -> str:
    """One colour of a map as ``#rrggbb``."""
    red, green, blue = shade(value, name).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def gradient(name: str, stops: int = 10) -> str:
    """The map as the stops of a CSS ``linear-gradient``, from left to right."""
    return ",".join(hexadecimal(i / (stops - 1), name) for i in range(stops))
