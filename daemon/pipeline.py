"""Frames in, particles out: one `step` per frame, without threads, sockets or clocks that matter.

Everything is scheduled by frame counts: after each frame all work that is due is done before the next frame is looked
at, so the outcome is a function of the frames alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ..recon.records import Observation, ParticleResult, ParticleStatus, PoseRow, TrackedParticle
from ..stream.frame import Frame
from .books import FrameBooks, particle_problem
from .parts import FrontEndOutputLike, ParticleLike, Parts

AUDIT_EVERY = 100  # frames
WATCH_EVERY = 10  # frames; the operator is told of changes at least this often
_SMOOTHING = 0.02  # of the running mean of the time per frame
FAILED_REASON = "reconstruction failed"
TREND_POINTS = 64


def particle_name(number: int) -> str:
    """``P001``: the name of a particle for people and folders."""
    return f"P{number:03d}"


@dataclass(slots=True)
class ParticleEntry:
    """One particle in the pipeline: its reconstruction and its books."""

    tracked: TrackedParticle
    reconstruction: ParticleLike
    pushed: int = 0
    refused: int = 0  # observations that came after a failure
    failure: str = ""
    last: ParticleStatus | None = None
    told: ParticleStatus | None = None  # what the operator was last told
    trend: list[tuple[int, float]] = field(default_factory=list)

    def status(self) -> ParticleStatus:
        """The reconstruction's own status, or the last one known when it has failed."""
        if not self.failure:
            self.last = self.reconstruction.status()
            return self.last
        last = self.last or _no_status(self.tracked.particle)
        rejected = {**last.frames_rejected}
        lost = self.pushed + self.refused - last.frames_used - sum(rejected.values())
        if lost > 0:
            rejected[FAILED_REASON] = rejected.get(FAILED_REASON, 0) + lost
        return replace(
            last,
            state="FAILED",
            frames_seen=self.pushed + self.refused,
            frames_rejected=rejected,
            frames_in_flight=0,
            note=self.failure,
        )

    def result(self) -> ParticleResult | None:
        """What can be written to files now; nothing after a failure."""
        return None if self.failure else self.reconstruction.result()

    def drain_poses(self) -> tuple[PoseRow, ...]:
        """Poses that are final since the last call and no longer part of `result`."""
        return () if self.failure else self.reconstruction.drain_poses()


def _no_status(number: int) -> ParticleStatus:
    return ParticleStatus(
        number, "COLLECTING", 0, 0, {}, 0, None, None, None, (), (), np.zeros(0, np.int32), None, None, {}
    )


class Pipeline:
    """The live path of one series.

    Parameters
    ----------
    parts : makes the front end and the reconstructions.
    height, width : size of a frame, pixels.
    pixel_size_A : sampling at the specimen.
    between : called between pieces of work with nothing in a half-done state; may raise to stop the run.
    say : receives words for the operator's log.
    """

    def __init__(
        self,
        parts: Parts,
        height: int,
        width: int,
        pixel_size_A: float,
        *,
        between: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._parts = parts
        self._shape = (height, width)
        self.pixel_size_A = pixel_size_A
        self._between = between
        self._say = say
        self._front_end = parts.front_end(height, width, pixel_size_A)
        self._last_index = -1
        self._last_audit = 0
        self.failed: Exception | None = None  # the last failure of a particle, for --debug
        self.books = FrameBooks()
        self.particles: dict[int, ParticleEntry] = {}
        self.newest_time_s = 0.0
        self.step_ms: dict[str, float] = {}

    def step(self, frame: Frame) -> None:
        """Take one frame and do all work that is due because of it. `frame.data` may be reused afterwards."""
        if frame.index <= self._last_index:
            self.books.refuse("repeated image number")
            return
        if frame.data.shape != self._shape:
            self.books.refuse("wrong size")
            return
        self._last_index = frame.index
        self.newest_time_s = frame.time_s
        self.books.take(frame.index)
        begun = time.perf_counter()
        output = self._front_end.step(frame.index, frame.time_s, frame.data)
        self._clock("front end", begun)
        self._digest(output)
        if self.books.stepped - self._last_audit >= AUDIT_EVERY:
            self._last_audit = self.books.stepped
            self._audit(final=False)

    def finish(self) -> None:
        """The series is over: settle what is held back and let every particle come to its final result."""
        self._digest(self._front_end.flush())
        self.books.close()
        for number, entry in sorted(self.particles.items()):
            self._guard(number, entry, entry.reconstruction.finish)
            self._watch(number, entry)
            self._between()
        self._audit(final=True)

    def _digest(self, output: FrontEndOutputLike) -> None:
        self.books.settle(output.analysed, output.rejected)
        for words in output.events:
            self._say(words)
        self._meet_particles()
        for observation in output.observations:
            self._push(observation)
        begun = time.perf_counter()
        for number, entry in sorted(self.particles.items()):
            self._work(number, entry)
        self._clock("reconstruction", begun)

    def _meet_particles(self) -> None:
        for tracked in self._front_end.particles():
            entry = self.particles.get(tracked.particle)
            if entry is not None:
                entry.tracked = tracked
                continue
            self.particles[tracked.particle] = ParticleEntry(tracked, self._reconstruction(tracked))

    def _reconstruction(self, tracked: TrackedParticle) -> ParticleLike:
        made: list[ParticleLike] = []
        noise = lambda: self._front_end.noise(made[0].box_px) if made else None  # noqa: E731
        made.append(self._parts.particle(tracked.particle, self.pixel_size_A, tracked.diameter_A, noise))
        return made[0]

    def _push(self, observation: Observation) -> None:
        entry = self.particles.get(observation.particle)
        if entry is None:
            self.books.problem(f"an observation of particle {observation.particle}, which is not tracked")
        elif entry.failure:
            entry.refused += 1
        else:
            entry.pushed += 1
            self._guard(observation.particle, entry, lambda: entry.reconstruction.push(observation))

    def _work(self, number: int, entry: ParticleEntry) -> None:
        while self._guard(number, entry, entry.reconstruction.work):
            self._watch(number, entry)
            self._between()
        if self.books.stepped % WATCH_EVERY == 0:
            self._watch(number, entry)

    def _guard(self, number: int, entry: ParticleEntry, action: Callable[[], bool | None]) -> bool:
        """Run `action`; a particle that fails must not take the others with it."""
        if entry.failure:
            return False
        try:
            return bool(action())
        except Exception as error:  # noqa: BLE001  # one crystal must not end the run of the others
            entry.failure = f"{type(error).__name__}: {error}"[:200]
            self._say(f"{particle_name(number)} failed: {entry.failure}")
            self.failed = error
            return False

    def _watch(self, number: int, entry: ParticleEntry) -> None:
        """Say what has changed in the life of a particle."""
        before = entry.told
        status = entry.told = entry.status()
        name = particle_name(number)
        if before is None or before.state != status.state:
            words = _STATE_WORDS.get(status.state)
            if words and not entry.failure:
                self._say(f"{name} {words.format(seen=status.frames_seen)}")
        if status.resolution_A is not None and not entry.trend:
            self._say(f"{name} first map: {describe(status)}")
        if status.resolution_A is not None and (not entry.trend or entry.trend[-1][0] != status.frames_used):
            entry.trend.append((status.frames_used, status.resolution_A))
            if len(entry.trend) > TREND_POINTS:
                del entry.trend[1:-1:2]

    def _audit(self, *, final: bool) -> None:
        for entry in self.particles.values():
            words = particle_problem(entry.status(), entry.pushed + entry.refused, final=final)
            if words:
                self.books.problem(words)

    def _clock(self, name: str, begun: float) -> None:
        spent = (time.perf_counter() - begun) * 1e3
        before = self.step_ms.get(name)
        self.step_ms[name] = spent if before is None else before + _SMOOTHING * (spent - before)


_STATE_WORDS = {
    "INDEXING": "indexing: {seen} frames gathered, looking for the lattice",
    "LOST": "lost",
    "FAILED": "failed: no lattice found in {seen} frames",
}


def describe(status: ParticleStatus) -> str:
    """``resolution 1.02 A, 478 atoms, lattice constant 3.981 A, 512 of 530 frames used``."""
    words = []
    if status.resolution_A is not None:
        words.append(f"resolution {status.resolution_A:.2f} A")
    if status.atoms is not None:
        words.append(f"{status.atoms} atoms")
    if status.lattice_constant_A is not None:
        words.append(f"lattice constant {status.lattice_constant_A:.3f} A")
    words.append(f"{status.frames_used} of {status.frames_seen} frames used")
    return ", ".join(words)
