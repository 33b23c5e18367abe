"""Noise spectra of every box size in use, fed with empty boxes of the frames as they pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device, cpu
from ..records import NoiseSpectrum
from .boxes import NoiseMean, cut_boxes, empty_corners, radial
from .loops import soft_disc
from .options import FrontEndOptions

MAX_SIZES = 12
PATIENCE = 40  # frames without one empty box before parts of boxes are taken
PLENTY = 1000  # whole boxes after which one frame in four is enough to follow slow changes
ENOUGH = 100  # whole boxes from which on parts are no longer needed


class NoiseBank:
    """One running mean per box size; parts of boxes where the field has no room for whole ones.

    Parameters
    ----------
    shape : (rows, columns) of the frames.
    device : where they lie; the processor when there is none.
    """

    def __init__(self, shape: tuple[int, int], options: FrontEndOptions, device: Device | None = None) -> None:
        self.shape = shape
        self.options = options
        self.device = device or cpu(1)
        self._whole: dict[int, NoiseMean] = {}
        self._parts: dict[int, NoiseMean] = {}
        self._draw = 0

    def register(self, box_px: int) -> None:
        """Measure boxes of this size from now on (at most `MAX_SIZES` sizes, so that the cost stays bounded)."""
        if box_px not in self._whole and len(self._whole) < MAX_SIZES:
            self._whole[box_px] = NoiseMean(box_px, self.options.noise_memory)

    def spectrum(self, box_px: int) -> NoiseSpectrum | None:
        """Mean spectrum of this size, or None while there are too few boxes."""
        self.register(box_px)
        whole, parts = self._whole.get(box_px), self._parts.get(box_px)
        if whole is not None and (parts is None or whole.boxes >= ENOUGH):
            return whole.spectrum()
        spectrum = parts.spectrum() if parts is not None else None
        return None if spectrum is None else NoiseSpectrum(radial(spectrum.power), spectrum.boxes)

    def add_frame(
        self,
        data: Any,
        mean: float,
        particles: list[tuple[float, float, float]],
        dead: Any | None,
    ) -> list[str]:
        """Take empty boxes from one frame; returns lines for the log.

        Parameters
        ----------
        data : (rows, columns) counts, on the device; mean : its mean count.
        particles : (x, y, radius) of every particle, px.
        dead : (rows, columns) bool of bad pixels on the device, or None.
        """
        self._draw += 1
        events = []
        for box_px, whole in self._whole.items():
            if whole.boxes >= PLENTY and self._draw % 4:
                continue
            corners = empty_corners(self.shape, box_px, particles, self._draw, self.options.noise_boxes)
            for box in self._local_contrasts(data, corners, box_px, mean, dead):
                whole.add(box)
            whole.tried += 1
            if whole.boxes == 0 and whole.tried == PATIENCE and self.options.noise_boxes:
                self._parts[box_px] = NoiseMean(box_px, self.options.noise_memory)
                events.append(
                    f"no room for empty boxes of {box_px} px beside the particles: "
                    "the noise spectrum is a radial mean over what is free"
                )
            if box_px in self._parts and whole.boxes < ENOUGH:
                self._add_part(self._parts[box_px], data, mean, particles, dead)
        return events

    def _add_part(
        self,
        parts: NoiseMean,
        data: Any,
        mean: float,
        particles: list[tuple[float, float, float]],
        dead: Any | None,
    ) -> None:
        """Take the free part of one box of the frame, the first of a few places that has enough."""
        for corner in empty_corners(self.shape, parts.box_px, [], self._draw, 4):
            free = np.ones((parts.box_px, parts.box_px), np.float32)
            for x, y, radius in particles:
                free *= 1 - soft_disc(free.shape, y - corner[1], x - corner[0], 1.15 * radius, 0.04 * radius)
            if parts.add_part(self._local_contrasts(data, [corner], parts.box_px, mean, dead)[0], free):
                return

    def _local_contrasts(
        self, data: Any, corners: list[tuple[int, int]], box_px: int, mean: float, dead: Any | None
    ) -> list[NDArray[np.float32]]:
        """Contrast of boxes against their own mean, (box_px, box_px) float32 each."""
        boxes = cut_boxes(self.device, data, corners, box_px, [mean] * len(corners), dead)
        levels = (1 + float(box.mean()) for box in boxes)
        return [
            box if level <= 0 else np.asarray((box + 1) / np.float32(level) - 1, np.float32)
            for box, level in zip(boxes, levels, strict=True)
        ]
