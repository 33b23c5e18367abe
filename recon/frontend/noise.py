"""Noise spectra of every box size in use, fed with empty boxes of the frames as they pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import NoiseSpectrum
from .boxes import NoiseMean, cut_box, empty_corners
from .options import FrontEndOptions

MAX_SIZES = 12


class NoiseBank:
    """One running mean per box size.

    Parameters
    ----------
    shape : (rows, columns) of the frames.
    """

    def __init__(self, shape: tuple[int, int], options: FrontEndOptions) -> None:
        self.shape = shape
        self.options = options
        self._means: dict[int, NoiseMean] = {}
        self._draw = 0

    def register(self, box_px: int) -> None:
        """Measure boxes of this size from now on (at most `MAX_SIZES` sizes, so that the cost stays bounded)."""
        if box_px not in self._means and len(self._means) < MAX_SIZES:
            self._means[box_px] = NoiseMean(box_px, self.options.noise_memory)

    def spectrum(self, box_px: int) -> NoiseSpectrum | None:
        """Mean spectrum of this size, or None while there are too few boxes."""
        self.register(box_px)
        mean = self._means.get(box_px)
        return None if mean is None else mean.spectrum()

    def add_frame(
        self,
        data: NDArray[Any],
        particles: list[tuple[float, float, float]],
        dead: NDArray[np.bool_] | None,
    ) -> list[str]:
        """Take empty boxes from one frame; returns lines for the log.

        Parameters
        ----------
        data : (rows, columns) counts.
        particles : (x, y, radius) of every particle, px.
        dead : (rows, columns) bool of bad pixels, or None.
        """
        self._draw += 1
        for box_px, running in self._means.items():
            for x, y in empty_corners(self.shape, box_px, particles, self._draw, self.options.noise_boxes):
                local = float(data[y : y + box_px, x : x + box_px].mean(dtype=np.float64))
                if local > 0:
                    running.add(cut_box(data, (x, y), box_px, local, dead)[0])
        return []
