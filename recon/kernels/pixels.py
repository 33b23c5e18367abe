"""What is done to single pixels of a frame, written once. `build(jit)` compiles the bodies for a processor.

No relaxed arithmetic: the sums are short, and every order of them is fixed here, so that both processors agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """A detector's calibration as the kernels take it, on the device; empty arrays stand for what is not known.

    Attributes
    ----------
    dark, gain : (rows, columns) float32, harmless at bad pixels.
    bad : (rows, columns) bool.
    rows, columns : (b,) int64, places of the bad pixels, row after row.
    starts : (rows + 1,) int64, where those of a row begin.
    sources : (b, 8) int64, flat places of the good pixels around each, -1 where there is none.
    """

    dark: Any
    gain: Any
    bad: Any
    rows: Any
    columns: Any
    starts: Any
    sources: Any


def build(jit: Callable[[Any], Any]) -> SimpleNamespace:
    """Compile all bodies with `jit` and return them by name."""

    @jit
    def corrected(count, dark, gain):
        """A count without its dark level, times the gain of its pixel."""
        return (np.float32(count) - dark) * gain

    @jit
    def contrast(count, scale):
        """``counts / mean - 1``, `scale` being 1 / mean."""
        return np.float32(count) * scale - np.float32(1)

    @jit
    def neighbours_mean(field, sources, otherwise):
        """Mean of the pixels at the flat places `sources` (-1: none); `otherwise` where there is none."""
        total, count, columns = 0.0, 0, field.shape[1]
        for number in range(sources.shape[0]):
            source = sources[number]
            if source >= 0:
                total += field[source // columns, source % columns]
                count += 1
        return total / count if count else otherwise

    @jit
    def gathered(total, value, squared):
        """A sum with one more value in it, or its square."""
        return total + value * value if squared else total + value

    return SimpleNamespace(corrected=corrected, contrast=contrast, neighbours_mean=neighbours_mean, gathered=gathered)
