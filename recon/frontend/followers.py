"""All tracks of a field together: start, advance, crossing, leaving, losing, and the smoothed places."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device, cpu
from ..records import TrackedParticle
from .bands import Sampling
from .detection import Detection
from .loops import soft_disc, touching
from .options import FrontEndOptions
from .search import Found
from .tracking import TOGETHER, Background, CropTracker, Measurement, Track, alike, crop_bins_for

MEMORY = 100  # frames over which amplitude, excess and local dose are averaged
REBUILD = 50  # frames between two rebuilds of the likelihood filters
PRESENCE_MEMORY = 20
LOW_PRESENT, ENERGY_PRESENT = 0.4, 0.3  # shares of the usual amplitude and energy that still count as being there
SYSTEMATIC_A = 0.18  # what the model of a disc leaves out: facets, twins (per axis; from recordings with known truth)
START_VARIANCE = 4.0  # bins^2
MAX_VARIANCE = 9.0
LEFT_RADII = 0.5  # closer to the edge than this many radii a particle has left


def clusters(reached: list[list[int]]) -> list[list[int]]:
    """Places 0, 1, ... in groups, rising, so that nothing reaches from one group into another.

    Once a frame: sixteen take 4 us here, 170 us with `scipy.sparse.csgraph.connected_components`, which agrees.

    Parameters
    ----------
    reached : for every place those that reach it.
    """
    leader = list(range(len(reached)))

    def found(place: int) -> int:
        while leader[place] != place:
            place = leader[place]
        return place

    for place, others in enumerate(reached):
        for other in others:
            first, second = sorted((found(place), found(other)))
            leader[second] = first
    groups: dict[int, list[int]] = {}
    for place in range(len(reached)):
        groups.setdefault(found(place), []).append(place)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class Place:
    """Smoothed place of a particle in one frame, px."""

    x_px: float
    y_px: float
    sd_px: float
    flag: str


class Followers:
    """The tracks of one field.

    Parameters
    ----------
    rows, columns : frame size, px.
    device : where the frames lie; the processor when there is none.
    host : the processor, whose threads share the particles; those that touch stay with one thread, in their order.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        sampling: Sampling,
        options: FrontEndOptions,
        device: Device | None = None,
        host: Device | None = None,
    ) -> None:
        self._host = host or cpu(1)
        self.sampling = sampling
        self.options = options
        self.shape = (rows, columns)
        self.tracker = CropTracker(rows, columns, sampling, options, device)
        self.tracks: list[Track] = []
        self._background: Background | None = None

    @property
    def active(self) -> list[Track]:
        """Tracks that are still followed."""
        return [track for track in self.tracks if track.state == "tracked"]

    def set_background(self, background: Background) -> None:
        """Use this background from now on."""
        self._background = background

    def start(self, detection: Detection, found: Found) -> Track:
        """Begin a track at a detection; `found` holds the maps it was detected on."""
        background = self._background
        if background is None:
            raise RuntimeError("set_background must come before start")
        mean = np.array([self.sampling.to_bins(detection.y_px), self.sampling.to_bins(detection.x_px)])
        radius = detection.diameter_A / 2 / self.sampling.bin_A
        inside = soft_disc(found.low.shape, mean[0], mean[1], 0.6 * radius, 0.3) > 0.5
        near = soft_disc(found.low.shape, mean[0], mean[1], 2.0 * radius, 0.3) > 0.5
        near &= soft_disc(found.low.shape, mean[0], mean[1], 1.35 * radius, 0.3) < 0.5
        amplitude = float(found.low[inside].mean()) - (float(found.low[near].mean()) if near.any() else 0.0)
        excess = np.array([float(band[inside].mean()) for band in found.energy]) / background.floors - 1
        track = Track(
            particle=len(self.tracks) + 1,
            diameter_A=detection.diameter_A,
            z_score=detection.z_score,
            mean=mean,
            covariance=np.eye(2) * START_VARIANCE,
            amplitude=amplitude,
            excess=excess,
            crop_bins=crop_bins_for(detection.diameter_A, *self.shape, self.sampling),
        )
        self.tracker.build_template(track, background)
        self.tracks.append(track)
        return track

    def advance(self, index: int, data: Any, mean: float, dead: Any | None) -> list[str]:
        """Update every active track with one frame; returns lines for the log.

        Parameters
        ----------
        data : (rows, columns) counts; mean : its mean count; dead : bad pixels or None. Both lie on the device.
        """
        background = self._background
        active = self.active
        if background is None or not active:
            return []
        floors = background.floors * (background.mean / mean)
        crossing, reached = self._neighbours(active)
        corners = [self.tracker.corner(track) for track in active]
        for track in active:
            self.tracker.maker(track.crop_bins)  # made before threads ask for it

        def maps(piece: list[int]) -> list[NDArray[np.float32]]:
            return self.tracker.maps([active[i] for i in piece], [corners[i] for i in piece], data, mean, dead)

        on_device = maps(list(range(len(active)))) if self.tracker.device.xp is not np else None  # all at once

        def follow(_: Device, piece: list[int]) -> list[tuple[int, list[str]]]:
            """One after the other, because each explains away what it now knows of those before it."""
            told = []
            seen = maps(piece) if on_device is None else [on_device[i] for i in piece]
            for i, own in zip(piece, seen, strict=True):
                track, others = active[i], [active[other] for other in reached[i]]
                frames = 1 if track.last_frame is None else min(50, index - track.last_frame)
                measurement = self.tracker.update(track, own, corners[i], floors, others, frames)
                self._learn(track, measurement, background)
                flag = "lost" if track.presence < 1 else "crossing" if i in crossing else ""
                track.last_frame = index
                step = self.tracker.walk_variance * frames
                track.history.add(index, track.mean, track.covariance, step, flag)
                told.append((i, self._judge(track, index)))
            return told

        groups = clusters(reached)
        alone = [group[0] for group in groups if len(group) == 1]
        pieces = [group for group in groups if len(group) > 1] + alike(active, alone, TOGETHER)
        told = sorted(itertools.chain(*self._host.each(follow, pieces)))
        return [line for _, lines in told for line in lines]

    def places_px(self) -> list[tuple[float, float, float]]:
        """(x, y, radius) of every active particle, px."""
        to_px = self.sampling.to_px
        return [
            (to_px(float(t.mean[1])), to_px(float(t.mean[0])), t.diameter_A / 2 / self.sampling.pixel_size_A)
            for t in self.active
        ]

    def tracks_at(self, index: int) -> list[Track]:
        """Tracks whose oldest unsmoothed state belongs to frame `index`."""
        return [track for track in self.tracks if track.history.oldest == index]

    def smoothed(self, track: Track) -> Place:
        """Smooth the oldest state of a track with all later ones, and take it out of the history."""
        mean, covariance, flag = track.history.take()
        variance_A2 = 0.5 * float(covariance[0, 0] + covariance[1, 1]) * self.sampling.bin_A**2 + SYSTEMATIC_A**2
        deviation = variance_A2**0.5 / self.sampling.pixel_size_A
        return Place(self.sampling.to_px(float(mean[1])), self.sampling.to_px(float(mean[0])), deviation, flag)

    def particles(self) -> tuple[TrackedParticle, ...]:
        """Every particle so far."""
        to_px = self.sampling.to_px
        return tuple(
            TrackedParticle(
                t.particle, (to_px(float(t.mean[1])), to_px(float(t.mean[0]))), t.diameter_A, t.z_score, t.state
            )
            for t in self.tracks
        )

    def _neighbours(self, active: list[Track]) -> tuple[set[int], list[list[int]]]:
        """Which tracks cross, and of each those that reach into its crop; by their places in `active`.

        Particles that cross are closer to another than the mean of their diameters: they cannot be told apart.
        """
        reaches, close = touching(
            np.array([track.mean for track in active]),
            np.array([track.diameter_A / self.sampling.bin_A for track in active]),
            np.array([track.crop_bins / 2 for track in active]),
        )
        reached = [np.flatnonzero(row).tolist() if row.any() else [] for row in reaches]
        return set(np.flatnonzero(close).tolist()), reached

    def _learn(self, track: Track, measurement: Measurement, background: Background) -> None:
        """Follow slow changes of brightness and dose; rebuild the filters now and then.

        Pairs of numbers are not given to numpy here, whose calls no two threads can make at a time.
        """
        track.measured += 1
        # The low map fades where the height reverses the contrast, the energy at dark orientations; either one will do.
        usual = sum(max(excess, 0.02) for excess in track.excess.tolist())
        weight = 1 / PRESENCE_MEMORY  # from the first frame on: one noisy frame must not flag the start
        track.low_share += weight * (measurement.amplitude / (track.amplitude or 1e-3) - track.low_share)
        track.energy_share += weight * (sum(measurement.excess.tolist()) / usual - track.energy_share)
        track.presence = max(track.low_share / LOW_PRESENT, track.energy_share / ENERGY_PRESENT)
        shade_weight = 1 / min(track.measured, MEMORY)
        track.dose_ratio += shade_weight * (1 + measurement.shade - track.dose_ratio)
        if track.presence > 1:
            track.amplitude += (measurement.amplitude - track.amplitude) / MEMORY
            track.excess = track.excess + (measurement.excess - track.excess) / MEMORY
        if track.measured % REBUILD == 0:
            self.tracker.build_template(track, background)

    def _judge(self, track: Track, index: int) -> list[str]:
        """Give up a track that left the field or was not there for long."""
        variance = max(float(track.covariance[0, 0]), float(track.covariance[1, 1]))
        if variance > MAX_VARIANCE:
            track.covariance = track.covariance * (MAX_VARIANCE / variance)
        track.frames_without = track.frames_without + 1 if track.presence < 1 else 0
        (row, column), (rows, columns) = track.mean.tolist(), self.tracker.field_bins
        margin = min(row, column, rows - 1 - row, columns - 1 - column)
        radius = track.radius_bins(self.sampling)
        lost = track.frames_without >= self.options.lost_frames
        if margin < LEFT_RADII * radius or (lost and margin < 1.2 * radius):
            track.state = "left"
            return [f"particle {track.particle} left the field at frame {index}"]
        if lost:
            track.state = "lost"
            return [f"particle {track.particle} lost at frame {index}"]
        return []
