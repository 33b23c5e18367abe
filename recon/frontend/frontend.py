"""One frame in, observations of every crystal out, with a fixed delay: the step of the front end.

On a GPU the pixels of a frame stay there: correction, levels, the crops that particles are followed on with their maps,
the search for newcomers. Back come the maps of the crops, a few dozen pixels wide, and the boxes. A frame is worked on
while the next one is being copied, one step later than on the processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clock import StepClock
from ..device import Device, cpu, gpu
from ..geometry import box_size_px
from ..records import NoiseSpectrum, Observation, TrackedParticle
from .bands import sampling_for
from .boxes import cut_boxes, inside
from .correction import Calibration, Corrector
from .feed import Feed
from .followers import Followers, Place
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
    device : where the frames are worked on; None: what the options say.
    threads : of the processor, which share a frame and its particles; no result depends on their number.

    Raises
    ------
    RuntimeError
        If the options want a GPU and none works.
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
        device: Device | None = None,
        threads: int = 1,
    ) -> None:
        if height <= 0 or width <= 0:
            raise ValueError(f"frame size must be positive, not {height} x {width} px")
        self.options = options or FrontEndOptions()
        self.pixel_size_A = pixel_size_A
        self.clock = StepClock()
        sampling = self._sampling = sampling_for(pixel_size_A)
        self.device = device = device or (gpu() if self.options.device == "gpu" else cpu(threads))
        self._feed = Feed((height, width), device)
        self._coming: tuple[int, float, NDArray[Any], Any] | None = None  # being copied while another is worked on
        self._gate = FrameGate(height, width, self.options, device)
        self._corrector = Corrector(height, width, calibration, device)
        self._followers = Followers(height, width, sampling, self.options, device, cpu(threads))
        self._searcher = Searcher(height, width, sampling, self.options, device)
        self._noise = NoiseBank((height, width), self.options, device)
        self._window: list[Held] = []
        self._ring: deque[Held] = deque()
        self._leave_out(None)
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
        Whatever became final; a bad frame comes back in `rejected` at once, on a GPU one step later, and never raises.
        """
        data = np.asarray(data)
        if reason := self._gate.unfit(data):
            return FrontEndOutput(rejected=((index, reason),), events=self._take_events())
        counts, frame = self._feed.send(data)
        if not self._feed.ahead:
            return self._work(index, time_s, counts, frame)
        before, self._coming = self._coming, (index, time_s, counts, frame)
        return self._work(*before) if before else FrontEndOutput(events=self._take_events())

    def _work(self, index: int, time_s: float, data: NDArray[Any], frame: Any) -> FrontEndOutput:
        """Take one frame; `frame` is `data` on the device."""
        mean, levels = None, None
        if self._corrector.active:
            with self.clock("correct"):
                kept = self._feed.room(self._corrector.dtype(data))
                mean = self._corrector.apply(frame, kept)
        else:
            with self.clock("keep"):
                kept, levels = self._feed.keep(frame)
        with self.clock("check"):
            reason = self._gate.check(index, data, mean, frame, levels)
        if self._corrector.active and self._feed.ahead:
            self._feed.give_back(frame)
        if reason or not self._usable:
            self._feed.give_back(kept)
            rejected, analysed = (((index, reason),), ()) if reason else ((), (index,))
            return FrontEndOutput(analysed=analysed, rejected=rejected, events=self._take_events())
        held, left_over = self._summer.add(Held(index, time_s, kept, self._gate.mean, (index,)))
        return self._follow(held, left_over)

    def _follow(self, held: Held | None, left_over: tuple[int, ...]) -> FrontEndOutput:
        """Follow the particles in a frame or a complete sum, or gather it in the window of the first search."""
        observations: list[Observation] = []
        analysed: list[int] = []
        rejected = [(number, REST) for number in left_over]
        if held is not None and self._searching_window:
            self._window.append(held)
            limit = max(8, min(self.options.window_frames, self.options.window_bytes // max(1, held.data.nbytes)))
            if len(self._window) >= limit:
                rejected.extend(self._close_window(observations, analysed))
        elif held is not None:
            self._advance(held, observations, analysed, search=True)
        return FrontEndOutput(tuple(observations), tuple(analysed), tuple(rejected), self._take_events())

    def flush(self) -> FrontEndOutput:
        """End of the series: give back everything that is still held."""
        last, self._coming = self._coming, None
        out = self._work(*last) if last else FrontEndOutput()
        observations, analysed, rejected = list(out.observations), list(out.analysed), list(out.rejected)
        if self._searching_window and self._window:
            rejected.extend(self._close_window(observations, analysed))
        rejected.extend((number, REST) for number in self._summer.rest())
        self._searcher.wait()
        while self._ring:
            oldest = self._ring.popleft()
            with self.clock("box"):
                observations.extend(self._observe(oldest))
            analysed.extend(oldest.members)
            self._feed.give_back(oldest.data)
        events = (*out.events, *self._take_events())
        return FrontEndOutput(tuple(observations), tuple(analysed), tuple(rejected), events)

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
        dead = learnt if known is None else known if learnt is None else known | learnt
        self._dead = None if dead is None else self.device.asarray(dead)

    def _search(self, window: list[Held]) -> Found:
        with self.clock("detect"):
            return self._searcher.first_search(self._on_host(window))

    def _on_host(self, window: list[Held]) -> list[tuple[NDArray[Any], float]]:
        """Frames, once a series, for what is done on the host: their counts and mean count."""
        return [(self.device.to_host(held.data), held.mean) for held in window]

    def _decide_sum(self, window: list[Held], found: Found) -> int:
        """Measure the rotation of every particle in the window and set how many frames are summed from now on.

        Decided once per series: boxes and noise spectra of different sums do not belong together. A particle whose
        rotation cannot be measured counts as fast.
        """
        frames = self._on_host(window)
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

    def _advance(
        self, held: Held, observations: list[Observation], analysed: list[int], *, search: bool = False
    ) -> None:
        """Track one frame; then search it, take empty boxes from it, and release the frame that has waited for the lag.

        These three read the tracks and touch nothing in common, so that threads may do them at the same time; a search
        goes on while the next frames come.
        """
        with self.clock("track"):
            self._events.extend(self._followers.advance(held.index, held.data, held.mean, self._dead))
        self._ring.append(held)
        oldest = self._ring.popleft() if len(self._ring) > self.options.lag_frames else None
        places, active, dead = self._followers.places_px(), self._followers.active, self._dead
        with self.clock("detect"):
            found = self._searcher.next_search(held.data, held.mean, active) if search else None
        jobs: list[tuple[str, Callable[[], Any]]] = [
            ("noise", lambda: self._noise.add_frame(held.data, held.mean, places, dead)),
            ("box", lambda: [] if oldest is None else self._observe(oldest)),
        ]
        noise_events, boxes = self._done(jobs)
        self._events.extend(noise_events)
        observations.extend(boxes)
        if oldest is not None:
            analysed.extend(oldest.members)
            self._searcher.wait(oldest.data)
            self._feed.give_back(oldest.data)
        if search:
            self._take_newcomers(found)

    def _done(self, jobs: list[tuple[str, Callable[[], Any]]]) -> list[Any]:
        """What the jobs give; with several threads at once, and timed as one step then."""
        if self.device.threads > 1:
            with self.clock("noise, box"):
                return self.device.each(lambda _, job: job[1](), jobs)
        given = []
        for step, work in jobs:
            with self.clock(step):
                given.append(work())
        return given

    def _take_newcomers(self, found: Found | None) -> None:
        """Begin tracks for what a search has found."""
        motion = self._searcher.motion()
        if motion is not None and motion.deforms and not self._deforms:
            self._deforms = True
            self._events.append(f"the field deforms: parts moved {np.abs(motion.local_A).max():.1f} A apart")
        if found is not None:
            self._leave_out(found.dead)
            self._start(found)
            self._events.extend(found.events)

    def _observe(self, held: Held) -> list[Observation]:
        """Make the observations of all particles in the oldest waiting frame; boxes of one size are cut together."""
        tracks = self._followers.tracks_at(held.index)
        places = [self._followers.smoothed(track) for track in tracks]
        sizes = [box_size_px(track.diameter_A, self.pixel_size_A) for track in tracks]
        corners = [(round(p.x_px) - n // 2, round(p.y_px) - n // 2) for p, n in zip(places, sizes, strict=True)]
        boxes: dict[int, NDArray[np.float32]] = {}
        for size in sorted(set(sizes)):
            chosen = [i for i, own in enumerate(sizes) if own == size]
            means = [held.mean * tracks[i].dose_ratio for i in chosen]
            cut = cut_boxes(self.device, held.data, [corners[i] for i in chosen], size, means, self._dead)
            boxes.update(zip(chosen, cut, strict=True))
        return [
            self._observation(held, *of, boxes[i]) for i, of in enumerate(zip(tracks, places, corners, strict=True))
        ]

    def _observation(
        self, held: Held, track: Track, place: Place, corner: tuple[int, int], box: NDArray[np.float32]
    ) -> Observation:
        """The observation of one particle."""
        whole = inside(self._gate.shape, corner, len(box))
        reason = place.flag if whole or place.flag == "lost" else "edge"
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
