"""The reconstruction of some particles: messages in order, all work that is due after each, reports on what came of it.

For one particle everything follows from the order of its messages alone; how those of different particles lie between
each other, and when they come, changes nothing.
"""

from __future__ import annotations

import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..recon.records import NoiseSpectrum, ParticleResult, ParticleStatus, PoseRow
from .checkpoints import Checkpoints, Course, Returning
from .errors import TumbleError
from .freezer import NotKeptError
from .parcels import Background, Meeting, Message, Sighting
from .particles import no_status
from .parts import ParticleLike, Parts

REPORT_EVERY_S = 0.05  # for one particle; changes of its state are told at once
FAILED_REASON = "reconstruction failed"
NO_MEMORY = "out of memory: fewer particles at once or a smaller reconstruction.buffer_frames need less"


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a workshop says of one particle.

    Attributes
    ----------
    applied : observations given to the reconstruction so far.
    reached_s : arrival of the newest of them, `time.monotonic`.
    decided : arrivals of the frames whose pose (or place among the rejected) was decided since the last report.
    busy_s : time spent on this particle since the last report, s.
    failure : why nothing more comes of this particle; empty while all is well.
    trouble : what else the operator should hear, as of files that cannot be written.
    ended : it has come to its final result.
    """

    particle: int
    status: ParticleStatus
    applied: int
    reached_s: float
    decided: tuple[float, ...]
    busy_s: float
    failure: str = ""
    trouble: str = ""
    ended: bool = False


class DeviceLost(TumbleError):
    """Nothing works on the device any more: no use in giving this process another particle."""


class FilesLike(Protocol):
    """Where results go: see `daemon.particle_files.ParticleStore`."""

    def refresh(self, task: Task, *, final: bool) -> None: ...
    def settled_bytes(self, number: int) -> int | None: ...
    def go_on(self, number: int, settled_bytes: int) -> None: ...


@dataclass(slots=True)
class Task:
    """One particle in a workshop."""

    number: int
    reconstruction: ParticleLike | None = None  # None only before the first message
    noise: NoiseSpectrum | None = None
    applied: int = 0
    reached_s: float = 0.0
    pending: deque[float] = field(default_factory=deque)  # arrivals of frames without a pose, no more than it gathers
    failure: str = ""
    trouble: str = ""  # not yet told
    known_trouble: str = ""  # the newest
    ended: bool = False
    busy_s: float = 0.0
    told_s: float = 0.0
    told_state: str = ""
    dirty: bool = False
    last: ParticleStatus | None = None
    course: Course = field(default_factory=Course)
    returning: Returning | None = None  # to a checkpoint
    background: Callable[[], NoiseSpectrum | None] = lambda: None

    def status(self) -> ParticleStatus:
        """The reconstruction's own status, or after a failure the last one known, with what was lost by that."""
        if not self.failure and self.reconstruction is not None:
            self.last = self.reconstruction.status()
            return self.last
        last = self.last or no_status(self.number)
        rejected = Counter(last.frames_rejected)
        rejected[FAILED_REASON] += self.applied - last.frames_used - rejected.total()
        return replace(
            last,
            state="FAILED",
            frames_seen=self.applied,
            frames_rejected=dict(+rejected),
            frames_in_flight=0,
            note=self.failure,
        )

    def result(self) -> ParticleResult | None:
        """What can be written to files now; nothing after a failure."""
        return None if self.failure or self.reconstruction is None else self.reconstruction.result()

    def drain_poses(self) -> tuple[PoseRow, ...]:
        """Poses that are final since the last call and no longer part of `result`."""
        return () if self.failure or self.reconstruction is None else self.reconstruction.drain_poses()


class Workshop:
    """Owner of the reconstructions of some particles.

    Parameters
    ----------
    parts : makes the reconstructions.
    tell : receives the reports.
    files : keeps the files of a particle up to date; ``None``: none are written.
    checkpoints : of the session, kept and gone on from, where there are files; ``None``: there are none.
    """

    def __init__(
        self,
        parts: Parts,
        tell: Callable[[Report], None],
        files: FilesLike | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._parts, self._tell, self._files = parts, tell, files
        self._checkpoints = checkpoints if files is not None else None
        self.tasks: dict[int, Task] = {}

    def apply(self, message: Message) -> None:
        """Take a message and do all work that is due because of it.

        Raises
        ------
        DeviceLost : a particle has failed, and so will every other one.
        """
        task = self.tasks.setdefault(message.particle, Task(message.particle))
        if self._checkpoints is None:
            self._apply(task, message)
            return
        task.course.note(message)
        if isinstance(message, Meeting):
            task.returning = self._checkpoints.returning(task.number)
        if task.returning is None:
            self._apply(task, message)
            self._keep(task, self._checkpoints)
        elif not task.returning.holds_back(message, task.course):
            self._return(task, task.returning, message, self._checkpoints)

    def _apply(self, task: Task, message: Message) -> None:
        begun = time.monotonic()
        if isinstance(message, Meeting):
            self._guard(task, lambda: self._meet(task, message))
        elif isinstance(message, Background):
            task.noise = message.spectrum
        elif isinstance(message, Sighting):
            self._push(task, message)
        task.dirty = True
        while self._guard(task, lambda: task.reconstruction is not None and task.reconstruction.work()):
            begun = self._after_piece(task, begun)
        if not isinstance(message, Meeting | Background | Sighting):
            self._end(task)
        task.busy_s += time.monotonic() - begun
        if task.ended or time.monotonic() - task.told_s >= REPORT_EVERY_S:
            self._report(task)

    def next_report_s(self) -> float | None:
        """Seconds until `report` has something to tell; ``None``: nothing will change by waiting."""
        told = [task.told_s for task in self.tasks.values() if task.dirty]
        return max(0.0, min(told) + REPORT_EVERY_S - time.monotonic()) if told else None

    def report(self) -> None:
        """Tell what is due."""
        for task in self.tasks.values():
            if task.dirty and time.monotonic() - task.told_s >= REPORT_EVERY_S:
                self._report(task)

    def _known(self, task: Task) -> Mapping[str, object]:
        """What belongs to this process, and not to the state of a particle."""
        return {"noise": task.background, **self._parts.shared()}

    def _keep(self, task: Task, checkpoints: Checkpoints) -> None:
        mapped = task.last is not None and task.last.state == "MAPPING"
        if not mapped or task.failure or task.ended or self._files is None or not checkpoints.due(task.number):
            return
        settled_bytes = self._files.settled_bytes(task.number)
        if settled_bytes is not None:
            checkpoints.keep(task.number, task.reconstruction, task.course, settled_bytes, self._known(task))

    def _return(self, task: Task, returning: Returning, message: Message, checkpoints: Checkpoints) -> None:
        """All messages of a checkpoint have come: go on from it, or do what it would have spared."""
        task.returning = None
        task.background = lambda: task.noise
        if returning.arrived(task.course) and self._taken_up(task, returning, checkpoints):
            self._report(task)
        else:
            for earlier in returning.messages():
                self._apply(task, earlier)
            self._apply(task, message)
        returning.close()

    def _taken_up(self, task: Task, returning: Returning, checkpoints: Checkpoints) -> bool:
        try:
            reconstruction = checkpoints.load(returning.kept, self._known(task))
            if self._files is not None:
                self._files.go_on(task.number, returning.kept.settled_bytes)
        except (NotKeptError, TumbleError):
            return False
        task.reconstruction, task.noise = reconstruction, returning.noise
        task.applied = returning.sightings
        undecided = task.status().frames_in_flight
        task.reached_s = returning.arrivals[-1] if returning.arrivals else 0.0
        task.pending.extend(returning.arrivals[len(returning.arrivals) - undecided :])
        return True

    def _meet(self, task: Task, meeting: Meeting) -> bool:
        task.background = lambda: task.noise
        task.reconstruction = self._parts.particle(
            task.number, meeting.pixel_size_A, meeting.diameter_A, task.background
        )
        return False

    def _push(self, task: Task, sighting: Sighting) -> None:
        task.applied += 1
        task.reached_s = sighting.arrived_s
        reconstruction = task.reconstruction
        if sighting.observation.accepted:
            task.pending.append(sighting.arrived_s)
        if reconstruction is not None:
            self._guard(task, lambda: reconstruction.push(sighting.observation))

    def _end(self, task: Task) -> None:
        if task.reconstruction is not None:
            self._guard(task, task.reconstruction.finish)
        self._write(task, final=True)
        task.ended = True

    def _after_piece(self, task: Task, begun: float) -> float:
        """Between two pieces of work: tell what has changed, refresh files. Returns the time."""
        task.busy_s += time.monotonic() - begun
        self._write(task, final=False)
        status = self._status(task)
        if status.state != task.told_state or time.monotonic() - task.told_s >= REPORT_EVERY_S:
            self._report(task, status)
        return time.monotonic()

    def _write(self, task: Task, *, final: bool) -> None:
        if self._files is None:
            return
        try:
            self._files.refresh(task, final=final)
        except TumbleError as error:  # the next refresh may find room again
            words = str(error)
            if words != task.known_trouble:
                task.trouble = task.known_trouble = words
            if final and not task.failure:
                task.failure = words

    def _status(self, task: Task) -> ParticleStatus:
        status = task.last or no_status(task.number)

        def ask() -> None:
            nonlocal status
            status = task.status()

        self._guard(task, ask)
        return task.status() if task.failure else status

    def _report(self, task: Task, status: ParticleStatus | None = None) -> None:
        status = status or self._status(task)
        decided = []
        while len(task.pending) > status.frames_in_flight:
            decided.append(task.pending.popleft())
        report = Report(
            task.number, status, task.applied, task.reached_s, tuple(decided), task.busy_s, task.failure, task.trouble,
            task.ended,
        )  # fmt: skip
        task.busy_s, task.trouble, task.dirty = 0.0, "", False
        task.told_s, task.told_state = time.monotonic(), status.state
        self._tell(report)

    def _guard(self, task: Task, action: Callable[[], bool | None]) -> bool:
        """Run `action`; a particle that fails must not take the others with it."""
        if task.failure:
            return False
        try:
            return bool(action())
        except Exception as error:  # noqa: BLE001  # one crystal must not end the run of the others
            from ..recon.device import out_of_memory  # the daemon imports this module, too, and computes nothing

            task.failure = NO_MEMORY if out_of_memory(error) else f"{type(error).__name__}: {error}"[:200]
            if os.environ.get("TUMBLE_DEBUG"):
                traceback.print_exc()
        task.reconstruction = None  # its memory is for the others
        if words := self._parts.recover():
            raise DeviceLost(words)
        return False
