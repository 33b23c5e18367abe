"""Full-field search: once on the first window, then on a sample of the frames for newcomers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from .tiles import Tile, in_pixels, tiles_of
from .tracking import Background, Track

LARGE_FIELD_PX = 512 * 512
MAX_LARGE_FRAMES = 25
MIN_FRAMES = 5
MOST_TILES = 100
RIM_BINS = 12.0  # beyond the radius a hidden disc is exp(-24)
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
    spread = 1.4826 * _median(np.abs(deviation))
    if spread == 0:  # so few counts that most pixels are alike
        spread = float(deviation.std())
    # A fifth of the mean at least: the wanted mask is of broken pixels, not of the strongest fluctuations.
    return np.asarray(np.abs(deviation) > max(BAD_PIXEL_Z * spread, 0.2))


def _hide(
    maps: NDArray[np.float32],
    first: tuple[int, int],
    hidden: list[tuple[NDArray[np.float64], float]],
    floors: NDArray[np.float64],
) -> None:
    """Put the floor where a known particle is, in place; bins.

    Parameters
    ----------
    first : (row, column) where the maps begin.
    hidden : (row, column) and radius of what is hidden.
    """
    shape = (maps.shape[1], maps.shape[2])
    for mean, radius in hidden:
        row, column = float(mean[0]) - first[0], float(mean[1]) - first[1]
        reach = radius + RIM_BINS
        if not (-reach < row < shape[0] + reach and -reach < column < shape[1] + reach):
            continue
        disc = soft_disc(shape, row, column, radius, 0.5)
        maps[:-1] += disc * (floors[:, None, None].astype(np.float32) - maps[:-1])
        maps[-1] *= 1 - disc


def _median(values: NDArray[np.float32]) -> float:
    """What `numpy.median` gives, without its search for what is not a number: half of the time."""
    flat, half = values.ravel(), values.size // 2
    middle = (half,) if flat.size % 2 else (half - 1, half)
    return float(np.partition(flat, middle)[middle[0] : half + 1].mean())


class Searcher:
    """Holds the full-field filters and the running sums of the search.

    Where there are threads, a look at a part of a frame goes on while the next frames come. What it adds to the sums is
    asked for only with the last look of a search, so that no result depends on when it is done.
    """

    def __init__(
        self, rows: int, columns: int, sampling: Sampling, options: FrontEndOptions, device: Device | None = None
    ) -> None:
        """`device` is where the frames of `next_search` lie; those of `first_search` lie on the host."""
        self.sampling = sampling
        self.options = options
        self.device = device or cpu(1)
        self.shape = (rows, columns)
        # One transform of a large field would hold up the frames behind it. A GPU is through with it in no time.
        whole = self.device.xp is not np or rows * columns <= LARGE_FIELD_PX
        self.tiles, self._window = tiles_of(rows, columns, sampling, 1 if whole else options.search_every or MOST_TILES)
        growth = (rows * columns / (288 * 288)) ** 0.5
        between = options.search_every or (min(32, max(8, round(5 * growth))) if whole else 1)
        self.pause = max(1, between // len(self.tiles))
        self.every = self.pause * len(self.tiles)  # frames in which all of the field is seen once
        self._maker: MapMaker | None = None
        self._set_dead(None)
        self._background: Background | None = None
        self._since = self._turn = self._count = 0
        bins = (rows // sampling.bin_px, columns // sampling.bin_px)
        self._sum = np.zeros((len(sampling.bands) + 1, *bins))
        # sums of contrast, on the device: a pixel that breaks later shows in them
        self._fields: list[Any] = [None] * len(self.tiles)
        # Tiles are judged in different tours: the look for pixels that have broken takes longer than a frame.
        self._left = [options.search_frames + number % options.search_frames for number in range(len(self.tiles))]
        self._seen = [0] * len(self.tiles)
        self._looks: deque[tuple[Any, Callable[[], Any]]] = deque()  # that go on: the frame, and what waits for it
        self._motion: FieldMotion | None = None

    def first_search(self, frames: list[tuple[NDArray[Any], float]]) -> Found:
        """Search the first window; also measures bad pixels, graphene and the background.

        Parameters
        ----------
        frames : (counts (rows, columns), mean count) of every frame of the window.
        """
        device = self.device
        alone = replace(device, threads=1)
        whole = MapMaker(*self.shape, self.sampling, alone)
        maker = self._maker = whole if self._window == self.shape else MapMaker(*self._window, self.sampling, alone)
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
            for each in {id(whole): whole, id(maker): maker}.values():
                each.set_notch(notch_filter(*each.fft_shape, sheets, self.sampling.pixel_size_A))
            events.append("graphene at " + ", ".join(f"{sheet.angle_deg:.1f} deg" for sheet in sheets))
            self._motion = FieldMotion(*self.shape, self.sampling.pixel_size_A, sheets, device)
            for data, mean in frames[:: self.every]:
                self._motion.add(device.asarray(contrast(data, mean)))

        def mapped(device: Device, frame: tuple[NDArray[Any], float]) -> Any:
            return device.to_host(whole.maps(device.asarray(contrast(*frame)[None])))

        maps = np.concatenate(device.each(mapped, frames))
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
        """Look at one frame in `pause`, at one part of it; once all were seen often enough, return what is new.

        `data` (rows, columns) counts, on the device; it may be overwritten after `wait`. None while there is nothing to
        tell.
        """
        maker, background = self._maker, self._background
        self._since += 1
        if self._since < self.pause or maker is None or background is None:
            return None
        self._since = 0
        if self._motion is not None and self._turn == 0:
            self._motion.add(contrasts(self.device, data, [(0, 0)], self.shape, [mean], self._dead_there)[0])
        floors = background.floors * (background.mean / mean)
        events = self._look(maker, data, mean, tracks, floors)
        self._turn = (self._turn + 1) % len(self.tiles)
        self._count += self._turn == 0
        if self._count < self.options.search_frames:
            nothing = np.zeros((len(floors), 0, 0), np.float32)
            return Found((), nothing, nothing[0], None, self.dead, (), events) if events else None
        mean_maps = (self._sum / self._count).astype(np.float32)
        self._sum[:], self._count = 0, 0
        detections = [d for d in self._detect(mean_maps) if not self._known(d, tracks)]
        if not detections and not events:
            return None
        return Found(tuple(detections), mean_maps[:-1], mean_maps[-1], None, self.dead, (), events)

    def wait(self, data: Any | None = None) -> None:
        """Wait until nothing is looked at any more, or not this frame."""
        while self._looks and (data is None or any(frame is data for frame, _ in self._looks)):
            self._looks.popleft()[1]()

    def _look(
        self, maker: MapMaker, data: Any, mean: float, tracks: list[Track], floors: NDArray[np.float64]
    ) -> tuple[str, ...]:
        """Add the part of a frame whose turn it is to the sums; returns lines for the log."""
        number = self._turn
        tile, dead = self.tiles[number], self._dead_there
        hidden = [(track.mean, 1.3 * track.radius_bins(self.sampling)) for track in tracks]
        # A thread is left to the frames, and nobody else adds to the sums of this part.
        while len(self._looks) >= max(1, min(self.device.threads, len(self.tiles)) - 1):
            self._looks.popleft()[1]()
        add = self.device.begin(lambda: self._add(number, maker, data, mean, dead, hidden, floors))
        self._looks.append((data, add))
        self._seen[number] += 1
        judged = self._seen[number] >= self._left[number]
        if judged or (number + 1 == len(self.tiles) and self._count + 1 >= self.options.search_frames):
            self.wait()
        if not judged:
            return ()
        field = self.device.to_host(self._fields[number]) / np.float32(self._seen[number])
        self._fields[number], self._seen[number], self._left[number] = None, 0, self.options.search_frames
        return self._learn_bad_pixels(field, tile)

    def _add(
        self,
        number: int,
        maker: MapMaker,
        data: Any,
        mean: float,
        dead: Any,
        hidden: list[tuple[NDArray[np.float64], float]],
        floors: NDArray[np.float64],
    ) -> None:
        """Make the maps of a part, and add them to its sums."""
        bin_px, tile = self.sampling.bin_px, self.tiles[number]
        corner = (tile.window[1] * bin_px, tile.window[0] * bin_px)
        contrast = contrasts(self.device, data, [corner], maker.shape, [mean], dead)
        maps = np.asarray(self.device.to_host(maker.maps(contrast)))[0][:, *tile.inside]
        _hide(maps, tile.first, hidden, floors)
        self._sum[:, *tile.there] += maps
        seen = contrast[0] if len(self.tiles) == 1 else contrast[0][in_pixels(tile.inside, bin_px)]
        if self._fields[number] is None:
            self._fields[number] = seen.copy()
        else:
            self._fields[number] += seen

    def _learn_bad_pixels(self, field: NDArray[np.float32], tile: Tile) -> tuple[str, ...]:
        """Add pixels that have broken since; `field` is the mean contrast of a part, in which known ones are 0."""
        part = (slice(None), slice(None)) if len(self.tiles) == 1 else in_pixels(tile.there, self.sampling.bin_px)
        late = stands_out(field)
        if self.dead is not None:
            late &= ~self.dead[part]
        count = int(late.sum())
        if not count:
            return ()
        dead = np.zeros(self.shape, np.bool_) if self.dead is None else self.dead.copy()
        dead[part] |= late
        self._set_dead(dead)
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

    def _known(self, detection: Detection, tracks: list[Track]) -> bool:
        """Whether a detection is what is left of a particle that is tracked already."""
        for track in tracks:
            dx = detection.x_px - self.sampling.to_px(float(track.mean[1]))
            dy = detection.y_px - self.sampling.to_px(float(track.mean[0]))
            if np.hypot(dx, dy) * self.sampling.pixel_size_A < track.diameter_A:
                return True
        return False
