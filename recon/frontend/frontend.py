"""One frame in, observations of every crystal out, with a fixed delay: the step of the front end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clock import StepClock
from ..geometry import box_size_px
from ..records import NoiseSpectrum, Observation, TrackedParticle
from .bands import sampling_for
from .boxes import cut_box
from .correction import Calibration, Corrector
from .followers import Followers
from .motion import Motion
from .noise import NoiseBank
from .options import FrontEndOptions
from .quality import FrameGate
from .rotation import MOST_SUMMED, frames_to_sum, rotation_step_deg, speckle
from .search import MIN_FRAMES, Found, Searcher
from .summing import FrameSummer, Held
from .tracking import Track

REST = "rest of a sum"


@dataclass(frozen=True, slots=True, eq=False)
class FrontEndOutput:
    """What one step gives back.

    Attributes
    ----------
    observations : in frame order for every particle; they come after the detection window and the smoothing lag.
    analysed : indices of the frames that are now final.
    rejected : (frame index, reason) of frames that were not fit to be used.
    events : lines for the operator's log.
    """

    observations: tuple[Observation, ...] = ()
    analysed: tuple[int, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    events: tuple[str, ...] = ()


class FrontEnd:
    """Detection, tracking, boxes and noise of one series; a pure function of the frames and their order.

    Parameters
    ----------
    height, width : frame size, px.
    pixel_size_A : sampling at the specimen, A per px.
    options : see `FrontEndOptions`.
    calibration : dark, gain and bad pixels of the detector; bad pixels are also learnt from the frames.

    Raises
    ------
    ValueError
        If a size is not positive, or the calibration is of another size.
    """

    def __init__(
        self,
        height: int,
        width: int,
        pixel_size_A: float,
        options: FrontEndOptions | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        if height <= 0 or width <= 0:
            raise ValueError(f"frame size must be positive, not {height} x {width} px")
        self.options = options or FrontEndOptions()
        self.pixel_size_A = pixel_size_A
        self.clock = StepClock()
        sampling = self._sampling = sampling_for(pixel_size_A)
        self._gate = FrameGate(height, width, self.options)
        self._corrector = Corrector(height, width, calibration)
        self._followers = Followers(height, width, sampling, self.options)
        self._searcher = Searcher(height, width, sampling, self.options)
        self._noise = NoiseBank((height, width), self.options)
        self._window: list[Held] = []
        self._ring: deque[Held] = deque()
        self._spare: list[NDArray[Any]] = []
        self._dead = self._corrector.bad
        self._searching_window = True
        self._summer = FrameSummer(1 if self.options.sum_frames is None else self.options.sum_frames)
        self._events: list[str] = [] if calibration is None else list(calibration.notes)
        self._rotation_line = ""
        self._deforms = False
        smallest = 0.9 * min(height, width) * pixel_size_A
        if not sampling.resolves_lattice:
            self._events.append(
                f"pixel size {pixel_size_A:g} A cannot resolve a lattice (1.07 A or finer is needed): "
                "no particle can be found; raise the magnification or correct the pixel size"
            )
        elif smallest < self.options.min_diameter_A * 1.5:
            self._events.append(f"frame of {height} x {width} px is too small for a particle at {pixel_size_A:g} A/px")
        self._usable = sampling.resolves_lattice and min(height, width) >= 16 * sampling.bin_px

    def step(self, index: int, time_s: float, data: NDArray[Any]) -> FrontEndOutput:
        """Take one frame.

        Parameters
        ----------
        index : number of the frame in the series, rising.
        time_s : its time, seconds since the series began.
        data : (height, width) counts ``[row=y, column=x]``; copied where it has to be kept.

        Returns
        -------
        Whatever became final; a bad frame comes back in `rejected` at once and never raises.
        """
        data = np.asarray(data)
        if reason := self._gate.unfit(data):
            return FrontEndOutput(rejected=((index, reason),), events=self._take_events())
        corrected, mean = None, None
        if self._corrector.active:
            with self.clock("correct"):
                corrected = self._buffer(self._corrector.dtype(data))
                mean = self._corrector.apply(data, corrected)
        with self.clock("check"):
            reason = self._gate.check(index, data, mean)
        if reason:
            self._reuse(corrected)
            return FrontEndOutput(rejected=((index, reason),), events=self._take_events())
        if not self._usable:
            return FrontEndOutput(analysed=(index,), events=self._take_events())
        with self.clock("keep"):
            kept = self._keep(data) if corrected is None else corrected
            held, left_over = self._summer.add(Held(index, time_s, kept, self._gate.mean, (index,)))
        observations: list[Observation] = []
        analysed: list[int] = []
        rejected = [(number, REST) for number in left_over]
        if held is not None and self._searching_window:
            self._window.append(held)
            limit = max(8, min(self.options.window_frames, self.options.window_bytes // max(1, held.data.nbytes)))
            if len(self._window) >= limit:
                rejected.extend(self._close_window(observations, analysed))
        elif held is not None:
            self._advance(held, observations, analysed)
            self._look_for_newcomers(held)
        return FrontEndOutput(tuple(observations), tuple(analysed), tuple(rejected), self._take_events())

    def flush(self) -> FrontEndOutput:
        """End of the series: give back everything that is still held."""
        observations: list[Observation] = []
        analysed: list[int] = []
        rejected: list[tuple[int, str]] = []
        if self._searching_window and self._window:
            rejected.extend(self._close_window(observations, analysed))
        rejected.extend((number, REST) for number in self._summer.rest())
        while self._ring:
            self._release(observations, analysed)
        return FrontEndOutput(tuple(observations), tuple(analysed), tuple(rejected), self._take_events())

    def noise(self, box_px: int) -> NoiseSpectrum | None:
        """Mean power spectrum of particle-free boxes of this size so far, or None while there are too few.

        A size that was never asked for is measured from now on.
        """
        return self._noise.spectrum(box_px)

    def particles(self) -> tuple[TrackedParticle, ...]:
        """Every particle found so far, also those lost or gone, by number."""
        return self._followers.particles()

    def motion(self) -> Motion | None:
        """Motion of the whole field and of its parts against the first frame; None where there is no graphene."""
        return self._searcher.motion()

    def _keep(self, data: NDArray[Any]) -> NDArray[Any]:
        """Copy of a frame."""
        buffer = self._buffer(data.dtype)
        np.copyto(buffer, data)
        return buffer

    def _buffer(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Room for a frame, used before where it is free: fresh large buffers cost page faults."""
        if self._spare and self._spare[-1].dtype == dtype:
            return self._spare.pop()
        return np.empty(self._gate.shape, dtype)

    def _reuse(self, buffer: NDArray[Any] | None) -> None:
        if buffer is not None and len(self._spare) < 2:
            self._spare.append(buffer)

    def _take_events(self) -> tuple[str, ...]:
        events, self._events = tuple(self._events), []
        return events

    def _close_window(self, observations: list[Observation], analysed: list[int]) -> list[tuple[int, str]]:
        """Detect on the gathered frames, then track through them as if they came now; returns what was left over."""
        window, self._window, self._searching_window = self._window, [], False
        rejected: list[tuple[int, str]] = []
        found = self._search(window)
        if found.detections and self.options.sum_frames is None and self._decide_sum(window, found) > 1:
            sums = []
            for held in window:
                total, left_over = self._summer.add(held)
                rejected.extend((number, REST) for number in left_over)
                if total is not None:
                    sums.append(total)
            window = sums
            found = self._search(window)
        self._leave_out(found.dead)
        self._start(found)
        self._events.extend(found.events)
        if self._rotation_line:
            self._events.append(self._rotation_line)
        if not found.detections:
            self._events.append(f"no particle in the first {len(window)} frames; still looking")
        for held in window:
            self._advance(held, observations, analysed)
        return rejected

    def _leave_out(self, learnt: NDArray[np.bool_] | None) -> None:
        """Leave out bad pixels that were learnt besides those that were known."""
        known = self._corrector.bad
        self._dead = learnt if known is None else known if learnt is None else known | learnt

    def _search(self, window: list[Held]) -> Found:
        with self.clock("detect"):
            return self._searcher.first_search([(held.data, held.mean) for held in window])

    def _decide_sum(self, window: list[Held], found: Found) -> int:
        """Measure the rotation of every particle in the window and set how many frames are summed from now on.

        Decided once per series: boxes and noise spectra of different sums do not belong together. A particle whose
        rotation cannot be measured counts as fast.
        """
        frames = [(held.data, held.mean) for held in window]
        counts, steps = [], []
        for d in found.detections:
            speckles = speckle(frames, (d.x_px, d.y_px), d.diameter_A, self._sampling, list(found.sheets))
            steps.append(rotation_step_deg(speckles, d.diameter_A))
            counts.append(frames_to_sum(steps[-1], d.diameter_A))
        # A sum must leave enough of the window to detect on.
        count = min(*counts, len(window) // MIN_FRAMES, MOST_SUMMED)
        known = sorted(step for step in steps if step is not None)
        words = (
            f"{known[0]:.1f} to {known[-1]:.1f} deg"
            if len(known) > 1
            else f"{known[0]:.1f} deg"
            if known
            else "unknown"
        )
        if known and len(known) < len(steps):
            words += f" (unknown for {len(steps) - len(known)})"
        verdict = "frames are not summed" if count <= 1 else f"{count} frames are summed"
        self._rotation_line = f"rotation per frame {words}: {verdict}"
        self._summer = FrameSummer(max(1, count))
        return self._summer.count

    def _start(self, found: Found) -> None:
        """Begin a track for every detection."""
        if found.background is not None:
            self._followers.set_background(found.background)
        for detection in found.detections:
            track = self._followers.start(detection, found)
            self._noise.register(box_size_px(track.diameter_A, self.pixel_size_A))
            self._events.append(
                f"particle {track.particle} found at ({detection.x_px:.0f}, {detection.y_px:.0f}) px, "
                f"diameter {detection.diameter_A:.1f} A"
            )

    def _advance(self, held: Held, observations: list[Observation], analysed: list[int]) -> None:
        """Track one frame, take empty boxes from it, and release the frame that has waited for the lag."""
        with self.clock("track"):
            self._events.extend(self._followers.advance(held.index, held.data, held.mean, self._dead))
        with self.clock("noise"):
            self._events.extend(self._noise.add_frame(held.data, held.mean, self._followers.places_px(), self._dead))
        self._ring.append(held)
        if len(self._ring) > self.options.lag_frames:
            self._release(observations, analysed)

    def _look_for_newcomers(self, held: Held) -> None:
        """Give a frame to the running search now and then; its cost per frame is bounded by `search_every`."""
        with self.clock("detect"):
            found = self._searcher.next_search(held.data, held.mean, self._followers.active)
        motion = self._searcher.motion()
        if motion is not None and motion.deforms and not self._deforms:
            self._deforms = True
            self._events.append(f"the field deforms: parts moved {np.abs(motion.local_A).max():.1f} A apart")
        if found is not None:
            self._leave_out(found.dead)
            self._start(found)
            self._events.extend(found.events)

    def _release(self, observations: list[Observation], analysed: list[int]) -> None:
        """Cut the boxes of the oldest waiting frame around the smoothed centres."""
        held = self._ring.popleft()
        with self.clock("box"):
            observations.extend(self._observe(track, held) for track in self._followers.tracks_at(held.index))
        analysed.extend(held.members)
        self._reuse(held.data)

    def _observe(self, track: Track, held: Held) -> Observation:
        """Make the observation of one particle in the oldest waiting frame."""
        place = self._followers.smoothed(track)
        box_px = box_size_px(track.diameter_A, self.pixel_size_A)
        corner = (round(place.x_px) - box_px // 2, round(place.y_px) - box_px // 2)
        box, inside = cut_box(held.data, corner, box_px, held.mean * track.dose_ratio, self._dead)
        reason = place.flag if inside or place.flag == "lost" else "edge"
        return Observation(
            particle=track.particle,
            frame=held.index,
            time_s=held.time_s,
            box=box,
            corner_px=corner,
            centre_px=(place.x_px, place.y_px),
            centre_sd_px=place.sd_px,
            accepted=not reason,
            reason=reason,
        )
