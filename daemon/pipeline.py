"""Frames in, particles out: one `step` per frame finds and follows particles and hands on what it saw of them.

The reconstruction happens elsewhere (`daemon.workers`), usually in other processes, and never holds a step up. What it
is told depends on the frames alone: for each particle its observations in order, and at fixed places between them the
background spectrum. So the outcome is a function of the frames, whatever the timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ..recon.geometry import box_size_px
from ..recon.records import Observation, TrackedParticle
from ..stream.frame import Frame
from .books import FrameBooks, particle_problem
from .dispatch import Dispatcher, Loss, WorkerDied
from .latency import Latency, TimePerFrame
from .parcels import Background, Meeting, Message, sighting
from .particles import ParticleEntry, particle_name
from .parts import FrontEndOutputLike, Parts, PlacedFrontEnd
from .workers import WorkerHere
from .workshop import Report

NOISE_EVERY = 50  # observations of a particle between two background spectra
POLL_S = 0.05
DIED = "lost with the reconstruction"
NO_DISK = "no room to wait on disk"
FRONT_END, RECONSTRUCTION = "front end", "reconstruction"


class Pipeline:
    """The live path of one series.

    Parameters
    ----------
    parts : makes the front end, and without `dispatcher` the reconstructions.
    height, width : size of a frame, pixels.
    pixel_size_A : sampling at the specimen.
    dispatcher : gives the reconstruction its work; ``None``: all of it is done here, within `step`.
    between : called while `step` or `finish` wait for the reconstruction; may raise to stop the run.
    say : receives words for the operator's log.
    """

    def __init__(
        self,
        parts: Parts,
        height: int,
        width: int,
        pixel_size_A: float,
        *,
        dispatcher: Dispatcher | None = None,
        between: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._shape = (height, width)
        self.pixel_size_A = pixel_size_A
        self._between = between
        self._say = say
        self._front_end = parts.front_end(height, width, pixel_size_A)
        self._placed = self._front_end if isinstance(self._front_end, PlacedFrontEnd) else None
        self._last_index = -1
        self._arrived: dict[int, float] = {}  # of the frames the front end holds
        self.dispatcher = dispatcher or Dispatcher([WorkerHere(parts)])
        self.books = FrameBooks()
        self.particles: dict[int, ParticleEntry] = {}
        self.analysed, self.posed = Latency(), Latency()
        self._times = {FRONT_END: TimePerFrame(), RECONSTRUCTION: TimePerFrame()}

    def step(self, frame: Frame, arrived_s: float | None = None) -> None:
        """Take one frame, which came at `arrived_s` (`time.monotonic`). `frame.data` may be reused afterwards."""
        if frame.index <= self._last_index:
            self.books.refuse("repeated image number")
            return
        if frame.data.shape != self._shape:
            self.books.refuse("wrong size")
            return
        self._last_index = frame.index
        begun = time.monotonic()
        self._arrived[frame.index] = begun if arrived_s is None else arrived_s
        self.books.take(frame.index)
        if self._placed is not None and frame.pose is not None:
            self._placed.place(frame.pose)
        output = self._front_end.step(frame.index, frame.time_s, frame.data)
        self._times[FRONT_END].add(1, time.monotonic() - begun)
        self._digest(output)

    def finish(self) -> None:
        """The series is over: settle what is held back and wait until every particle has come to its final result."""
        self._digest(self._front_end.flush())
        self.books.close()
        for number, entry in sorted(self.particles.items()):
            self._tell_noise(entry)
            if not entry.ended:
                self.dispatcher.end(number)
        while not all(entry.ended for entry in self.particles.values()):
            self.listen(POLL_S)
            self._between()
        for entry in self.particles.values():
            self._check(entry, final=True)

    def abandon(self, reason: str) -> None:
        """Nothing more is worked off: what is undecided is booked as lost for `reason`."""
        self.books.write_off(reason)
        for entry in self.particles.values():
            if not entry.ended:
                entry.abandon(reason)
        self.dispatcher.close()

    def exclude(self, number: int, reason: str) -> bool:
        """Stop the work on a particle; False: there is none, or it is over already."""
        entry = self.particles.get(number)
        if entry is None or entry.ended:
            return False
        self.listen()
        self.dispatcher.forget(number)
        entry.exclude(reason)
        return True

    def listen(self, timeout_s: float = 0.0) -> None:
        """Take over what the reconstruction has to say; wait up to `timeout_s` for something to be said."""
        for report in self.dispatcher.reports(timeout_s):
            if isinstance(report, Loss):
                self._lose(report.particles, report.words)
            else:
                self._take(report)

    @property
    def waiting(self) -> int:
        """Observations that the reconstruction has not come to."""
        return sum(entry.waiting for entry in self.particles.values())

    @property
    def step_ms(self) -> dict[str, float]:
        """Time per frame of the front end and per particle-frame of the reconstruction, over the last thousand, ms."""
        return {name: spent for name, clock in self._times.items() if (spent := clock.ms) is not None}

    def published(self) -> None:
        """A snapshot of now is being made."""
        now_s = time.monotonic()
        self.analysed.published(now_s)
        self.posed.published(now_s)

    def _digest(self, output: FrontEndOutputLike) -> None:
        self.books.settle(output.analysed, output.rejected)
        for words in output.events:
            self._say(words)
        for tracked in self._front_end.particles():
            self._meet(tracked)
        for observation in output.observations:
            self._observe(observation)
        self._settle(output.analysed)
        self._settle(index for index, _ in output.rejected)
        self.listen()

    def _settle(self, indices: Iterable[int]) -> None:
        for index in indices:
            arrived_s = self._arrived.pop(index, None)
            if arrived_s is not None:
                self.analysed.add(arrived_s)

    def _meet(self, tracked: TrackedParticle) -> None:
        entry = self.particles.get(tracked.particle)
        if entry is not None:
            entry.tracked = tracked
            return
        entry = self.particles[tracked.particle] = ParticleEntry(tracked)
        try:
            entry.where = self.dispatcher.meet(Meeting(tracked.particle, self.pixel_size_A, tracked.diameter_A))
        except WorkerDied as error:
            self._lose((tracked.particle,), str(error))

    def _observe(self, observation: Observation) -> None:
        entry = self.particles.get(observation.particle)
        if entry is None:
            self.books.problem(f"an observation of particle {observation.particle}, which is not tracked")
            return
        entry.given += 1
        if entry.given % NOISE_EVERY == 0:
            self._tell_noise(entry)
        arrived_s = self._arrived.get(observation.frame, 0.0) or time.monotonic()
        entry.first_s = entry.first_s or arrived_s
        if entry.over or (entry.failure and entry.ended):
            entry.lost[entry.over or DIED] += 1
        elif words := self._give(sighting(observation, arrived_s)):
            if not entry.lost[NO_DISK]:
                self._say(f"{particle_name(observation.particle)} loses frames: {NO_DISK} ({words})")
            entry.lost[NO_DISK] += 1

    def _tell_noise(self, entry: ParticleEntry) -> None:
        """Send the background as it is known now: at a place in the sequence that follows from the frames alone."""
        tracked = entry.tracked
        spectrum = self._front_end.noise(box_size_px(tracked.diameter_A, self.pixel_size_A))
        if spectrum is not None and not entry.ended:
            self._give(Background(tracked.particle, spectrum))

    def _give(self, message: Message) -> str:
        """Hand a message on, waiting where there is nothing to put it meanwhile; returns why it is lost."""
        try:
            while not self.dispatcher.give(message):
                self.listen(POLL_S)
                self._between()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _take(self, report: Report) -> None:
        entry = self.particles[report.particle]
        if entry.ended:
            return  # what a worker was still doing when the particle was excluded or lost
        entry.last, entry.applied, entry.reached_s = report.status, report.applied, report.reached_s
        entry.ended = report.ended
        for arrived_s in report.decided:
            self.posed.add(arrived_s)
        self._times[RECONSTRUCTION].add(len(report.decided), report.busy_s)
        if report.trouble:
            self._say(f"{particle_name(report.particle)}: {report.trouble}")
        if report.failure and not entry.failure:
            entry.failure = report.failure
        self._tell(entry)
        self._check(entry, final=False)

    def _lose(self, particles: Iterable[int], words: str) -> None:
        self._say(words)
        for number in particles:
            entry = self.particles[number]
            entry.abandon(DIED, words)
            self._tell(entry)

    def _tell(self, entry: ParticleEntry) -> None:
        for words in entry.news():
            self._say(words)

    def _check(self, entry: ParticleEntry, *, final: bool) -> None:
        if words := particle_problem(entry.status(), entry.given, final=final):
            self.books.problem(words)
