"""Full-field search: once on the first window, then on a sample of the frames for newcomers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device, cpu
from .background import GrapheneSheet, PowerSpectrum, measure_background, notch_filter
from .bands import MapMaker, Sampling
from .boxes import contrasts
from .correction import median_of_nine
from .detection import Detection, detect, flatten_illumination
from .loops import soft_disc
from .motion import FieldMotion, Motion
from .options import FrontEndOptions
from .tracking import Background, Track

LARGE_FIELD_PX = 512 * 512
MAX_LARGE_FRAMES = 25
MIN_FRAMES = 5
BAD_PIXEL_Z = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Outcome of a search.

    Attributes
    ----------
    detections : new particles, strongest first.
    energy : (bands, bin rows, bin columns) float32, mean energy of every band; low : (bin rows, bin columns).
    background : measured floors and noise, or None when they were not measured anew.
    dead : (rows, columns) bool of bad pixels, or None when there are none.
    sheets : graphene sheets seen.
    """

    detections: tuple[Detection, ...]
    energy: NDArray[np.float32]
    low: NDArray[np.float32]
    background: Background | None
    dead: NDArray[np.bool_] | None
    sheets: tuple[GrapheneSheet, ...] = ()
    events: tuple[str, ...] = ()


def bad_pixels(frames: list[tuple[NDArray[Any], float]]) -> NDArray[np.bool_] | None:
    """Pixels whose mean over the frames stands out from their neighbours, or that sit at the top of the range.

    Parameters
    ----------
    frames : (counts (rows, columns), mean count) of every frame.
    """
    total = np.zeros(frames[0][0].shape, np.float32)
    for data, mean in frames:
        total += np.multiply(data, np.float32(1 / mean), dtype=np.float32, casting="unsafe")
    total /= len(frames)
    dead = stands_out(total)
    first = frames[0][0]
    if first.dtype.kind in "ui":
        dead |= first == np.iinfo(first.dtype).max
    return dead if dead.any() else None


def stands_out(field: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels of a mean field, (rows, columns) in units of its mean, that differ from all around them."""
    deviation = field - median_of_nine(field)
    spread = 1.4826 * float(np.median(np.abs(deviation)))
    if spread == 0:  # so few counts that most pixels are alike
        spread = float(deviation.std())
    # A fifth of the mean at least: the wanted mask is of broken pixels, not of the strongest fluctuations.
    return np.asarray(np.abs(deviation) > max(BAD_PIXEL_Z * spread, 0.2))


class Searcher:
    """Holds the full-field filters and the running sums of the search."""

    def __init__(
        self, rows: int, columns: int, sampling: Sampling, options: FrontEndOptions, device: Device | None = None
    ) -> None:
        """`device` is where the frames of `next_search` lie; those of `first_search` lie on the host."""
        self.sampling = sampling
        self.options = options
        self.device = device or cpu(1)
        self.shape = (rows, columns)
        growth = (rows * columns / (288 * 288)) ** 0.5
        self.every = options.search_every or min(32, max(8, round(5 * growth)))
        self._maker: MapMaker | None = None
        self._set_dead(None)
        self._field: Any = None  # sum of contrast, on the device: a pixel that breaks later shows in it
        self._background: Background | None = None
        self._since = 0
        self._sum: NDArray[np.float64] | None = None
        self._count = 0
        self._motion: FieldMotion | None = None

    def first_search(self, frames: list[tuple[NDArray[Any], float]]) -> Found:
        """Search the first window; also measures bad pixels, graphene and the background.

        Parameters
        ----------
        frames : (counts (rows, columns), mean count) of every frame of the window.
        """
        device = self.device
        maker = self._maker = MapMaker(*self.shape, self.sampling, device)
        self._set_dead(bad_pixels(frames))

        def contrast(data: NDArray[Any], mean: float) -> NDArray[np.float32]:
            return np.asarray(contrasts(cpu(1), data, [(0, 0)], self.shape, [mean], self.dead)[0])

        events = []
        if self.dead is not None:
            events.append(f"{int(self.dead.sum())} bad pixels are left out")
        if self.shape[0] * self.shape[1] > LARGE_FIELD_PX:
            frames = frames[:: -(-len(frames) // MAX_LARGE_FRAMES)]
        power = PowerSpectrum(*self.shape, self.sampling.pixel_size_A)
        for data, mean in frames[:: max(1, len(frames) // 16)]:
            power.add(contrast(data, mean))
        sheets = power.graphene()
        if sheets:
            maker.set_notch(notch_filter(*maker.fft_shape, sheets, self.sampling.pixel_size_A))
            events.append("graphene at " + ", ".join(f"{sheet.angle_deg:.1f} deg" for sheet in sheets))
            self._motion = FieldMotion(*self.shape, self.sampling.pixel_size_A, sheets, device)
            for data, mean in frames[:: self.every]:
                self._motion.add(device.asarray(contrast(data, mean)))
        fields = (device.asarray(contrast(data, mean)[None]) for data, mean in frames)
        maps = np.concatenate([device.to_host(maker.maps(field)) for field in fields])
        mean_maps = maps.mean(axis=0)
        detections = self._detect(mean_maps) if len(maps) >= MIN_FRAMES else []
        to_bins, bin_A = self.sampling.to_bins, self.sampling.bin_A
        centres = [(to_bins(d.y_px), to_bins(d.x_px), d.diameter_A / 2 / bin_A) for d in detections]
        mean = float(np.mean([mean for _, mean in frames]))
        self._background = measure_background(maps, centres, mean)
        return Found(
            tuple(detections), mean_maps[:-1], mean_maps[-1], self._background, self.dead, tuple(sheets), tuple(events)
        )

    def next_search(self, data: Any, mean: float, tracks: list[Track]) -> Found | None:
        """Look at one frame in `every`; once enough were looked at, return what is new (None in between).

        `data` (rows, columns) counts, on the device.
        """
        self._since += 1
        if self._since < self.every or self._maker is None or self._background is None:
            return None
        self._since = 0
        contrast = contrasts(self.device, data, [(0, 0)], self.shape, [mean], self._dead_there)
        if self._motion is not None:
            self._motion.add(contrast[0])
        maps = np.asarray(self.device.to_host(self._maker.maps(contrast)))[0]
        self._hide(maps, tracks, self._background.floors * (self._background.mean / mean))
        self._sum = maps.astype(np.float64) if self._sum is None else self._sum + maps
        if self._field is None:
            self._field = contrast
        else:
            self._field += contrast
        self._count += 1
        if self._count < self.options.search_frames:
            return None
        mean_maps = (self._sum / self._count).astype(np.float32)
        events = self._learn_bad_pixels(self.device.to_host(self._field)[0] / np.float32(self._count))
        self._sum, self._field, self._count = None, None, 0
        detections = [d for d in self._detect(mean_maps) if not self._known(d, tracks)]
        if not detections and not events:
            return None
        return Found(tuple(detections), mean_maps[:-1], mean_maps[-1], None, self.dead, (), events)

    def _learn_bad_pixels(self, field: NDArray[np.float32]) -> tuple[str, ...]:
        """Add pixels that have broken since; `field` is the mean contrast, in which known ones are 0."""
        late = stands_out(field)
        if self.dead is not None:
            late &= ~self.dead
        count = int(late.sum())
        if not count:
            return ()
        self._set_dead(late if self.dead is None else self.dead | late)
        return (f"{count} more bad pixels are left out",)

    def _set_dead(self, dead: NDArray[np.bool_] | None) -> None:
        """Bad pixels learnt so far, (rows, columns), on the host and on the device."""
        self.dead = dead
        self._dead_there = None if dead is None else self.device.asarray(dead)

    def motion(self) -> Motion | None:
        """Motion of the field so far; None where there is no graphene to tell it."""
        return None if self._motion is None else self._motion.motion()

    def _detect(self, mean_maps: NDArray[np.float32]) -> list[Detection]:
        """Detect on the sum of all bands; particles that are cut by the border are not taken.

        A track ends half a radius from the border, so one that is just leaving is not found again as a newcomer.
        """
        energy = flatten_illumination(mean_maps[:-1].sum(axis=0), mean_maps[-1], self.sampling)
        rows, columns = self.shape
        found = []
        for d in detect(energy, self.sampling, self.options):
            margin = min(d.x_px, d.y_px, columns - 1 - d.x_px, rows - 1 - d.y_px)
            if margin * self.sampling.pixel_size_A >= d.diameter_A / 2:
                found.append(d)
        return found

    def _hide(self, maps: NDArray[np.float32], tracks: list[Track], floors: NDArray[np.float64]) -> None:
        """Put the floor where a known particle is, in place."""
        shape = (maps.shape[1], maps.shape[2])
        for track in tracks:
            radius = 1.3 * track.radius_bins(self.sampling)
            disc = soft_disc(shape, float(track.mean[0]), float(track.mean[1]), radius, 0.5)
            maps[:-1] += disc * (floors[:, None, None].astype(np.float32) - maps[:-1])
            maps[-1] *= 1 - disc

    def _known(self, detection: Detection, tracks: list[Track]) -> bool:
        """Whether a detection is what is left of a particle that is tracked already."""
        for track in tracks:
            dx = detection.x_px - self.sampling.to_px(float(track.mean[1]))
            dy = detection.y_px - self.sampling.to_px(float(track.mean[0]))
            if np.hypot(dx, dy) * self.sampling.pixel_size_A < track.diameter_A:
                return True
        return False
