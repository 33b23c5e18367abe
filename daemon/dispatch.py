"""Who reconstructs what, and what is worked off first when the reconstruction cannot follow.

A new particle goes to the worker that has fewest, of equals to the first. A message goes straight to the worker of its
particle while that has room; otherwise it waits on disk behind the others of its particle, so the front end never waits
and memory is bounded.
Room that becomes free goes to the most urgent particle: those that have failed first, because they cost nothing; then
those without a map, the one with the most frames gathered before the others; then those with a map, the one nearest to
a verdict (most milestones in a row that say the same word) and of equals the one farthest behind; last those that have
been told to be enough or not to get better. The order within a particle never changes, so no result depends on this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from ..recon.records import Verdict
from .errors import TumbleError
from .parcels import Ending, Meeting, Message, Parcel, arrival_s, pack
from .snapshot import WorkerView
from .spool import Spool
from .workshop import Report

NO_MAP = ("COLLECTING", "INDEXING")
SETTLED = ("ENOUGH", "PLATEAU")  # verdicts that more frames are not needed for


class WorkerDied(TumbleError):
    """A worker is gone."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Nothing more comes of these particles, in words."""

    particles: tuple[int, ...]
    words: str


class WorkerLike(Protocol):
    """Whoever reconstructs: see `daemon.workers`. `reports` is where they come from, when they take time to come.

    `where` names the GPU; empty for the processor.
    """

    @property
    def where(self) -> str: ...
    @property
    def reports(self) -> Connection | None: ...
    def offer(self, parcel: Parcel) -> bool: ...
    def receive(self) -> list[Report]: ...
    def memory_MiB(self) -> float: ...


@dataclass(slots=True)
class _Lane:
    """What waits for one particle, in order: its meeting, what lies on disk, its ending."""

    number: int
    worker: WorkerLike
    meeting: Parcel | None
    spool: Spool | None = None
    ending: Parcel | None = None
    state: str = "COLLECTING"
    gathered: int = 0
    verdict: Verdict | None = None
    sent_s: float = 0.0  # arrival of the newest observation that was passed on

    @property
    def waits(self) -> bool:
        return self.meeting is not None or bool(self.spool and self.spool.count) or self.ending is not None

    def first(self) -> Parcel | None:
        if self.meeting is not None:
            return self.meeting
        if self.spool is not None and self.spool.count:
            return self.spool.first()
        return self.ending

    def passed_on(self, parcel: Parcel) -> None:
        self.sent_s = arrival_s(parcel) or self.sent_s
        if parcel is self.meeting:
            self.meeting = None
        elif parcel is self.ending:
            self.ending = None
        elif self.spool is not None:
            self.spool.drop()

    def urgency(self) -> tuple[float, ...]:
        """Less comes first."""
        if self.state == "FAILED":
            return (0.0,)
        if self.state in NO_MAP:
            return (1.0, -self.gathered)
        if self.verdict is None:
            return (2.0, 0.0, self.sent_s)
        return (3.0 if self.verdict.word in SETTLED else 2.0, -self.verdict.proposals, self.sent_s)

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()


class Dispatcher:
    """The pipeline's end of all workers.

    Parameters
    ----------
    workers : at least one.
    folder : where messages wait on disk; ``None``: `give` refuses them instead, so that the source is made to wait.
    """

    def __init__(self, workers: Sequence[WorkerLike], folder: Path | None = None) -> None:
        self._workers = list(workers)
        self._folder = folder
        self._lanes: dict[int, _Lane] = {}
        self._dead: list[WorkerLike] = []
        self._losses: list[Loss] = []

    @property
    def workers(self) -> int:
        """How many are alive."""
        return len(self._workers)

    @property
    def on_disk_bytes(self) -> int:
        """What waits on disk."""
        return sum(lane.spool.nbytes for lane in self._lanes.values() if lane.spool is not None)

    def memory_MiB(self) -> float:
        """Memory of the workers."""
        return sum(worker.memory_MiB() for worker in self._workers)

    def shifts(self) -> tuple[WorkerView, ...]:
        """The workers as an operator sees them, also those that have died."""
        return tuple(
            WorkerView(worker.where, worker not in self._dead, self._busy(worker), round(worker.memory_MiB(), 1))
            for worker in (*self._workers, *self._dead)
        )

    def _busy(self, worker: WorkerLike) -> int:
        """How many particles a worker has to work for."""
        return sum(lane.worker is worker and lane.state != "FAILED" for lane in self._lanes.values())

    def meet(self, meeting: Meeting) -> str:
        """Give a new particle to a worker; returns where it works, for people.

        Raises
        ------
        WorkerDied : there is none left.
        """
        if not self._workers:
            raise WorkerDied("no reconstruction process is left")
        worker = min(self._workers, key=self._busy)
        self._lanes[meeting.particle] = _Lane(meeting.particle, worker, pack(meeting))
        self._pass_on()
        return worker.where

    def give(self, message: Message) -> bool:
        """Take a message for a particle that was met; False: no room, try again after `reports`.

        Raises
        ------
        OSError : it should have waited on disk, which is full or fails. The message is lost, nothing else.
        """
        lane = self._lanes.get(message.particle)
        if lane is None:
            return True  # its worker has died, which `reports` says
        parcel = pack(message)
        if not lane.waits and self._offered(lane, parcel):
            lane.passed_on(parcel)
            return True
        if self._folder is None:
            return False
        if lane.spool is None:
            lane.spool = Spool(self._folder)
        lane.spool.put(parcel)
        return True

    def end(self, particle: int) -> None:
        """Nothing more comes for a particle; its final result follows when everything before is worked off."""
        lane = self._lanes.get(particle)
        if lane is not None:
            lane.ending = pack(Ending(particle))
            self._pass_on()

    def forget(self, particle: int) -> None:
        """Nothing more is wanted of a particle; what waits for it is dropped."""
        lane = self._lanes.pop(particle, None)
        if lane is not None:
            lane.close()

    def reports(self, timeout_s: float = 0.0) -> Iterator[Report | Loss]:
        """What has come of the work since the last call; waits up to `timeout_s` for something to come."""
        self._pass_on()
        if timeout_s and not self._losses:
            sources = [worker.reports for worker in self._workers]
            wait([source for source in sources if source is not None], 0.0 if None in sources else timeout_s)
        for worker in tuple(self._workers):
            try:
                found = worker.receive()
            except WorkerDied as error:
                self._workers.remove(worker)
                self._dead.append(worker)
                gone = tuple(number for number, lane in self._lanes.items() if lane.worker is worker)
                self._lose(gone, str(error))
                continue
            for report in found:
                self._note(report)
                yield report
        losses, self._losses = self._losses, []
        yield from losses
        self._pass_on()

    def close(self) -> None:
        """Forget what waits."""
        self._lose(tuple(self._lanes), "")
        self._losses.clear()

    def _note(self, report: Report) -> None:
        lane = self._lanes.get(report.particle)
        if lane is not None:
            status = report.status
            lane.state, lane.gathered, lane.verdict = status.state, status.frames_seen, status.verdict
            if report.ended:
                lane.close()
                del self._lanes[report.particle]

    def _pass_on(self) -> None:
        """Fill the room the workers have, the most urgent particle first."""
        for worker in tuple(self._workers):
            lanes = [lane for lane in self._lanes.values() if lane.worker is worker and lane.waits]
            while lanes:
                lane = min(lanes, key=_Lane.urgency)
                try:
                    parcel = lane.first()
                except OSError as error:
                    self._lose((lane.number,), f"what waited on disk cannot be read back: {error.strerror or error}")
                    parcel = None
                if parcel is not None and not self._offered(lane, parcel):
                    break
                if parcel is not None:
                    lane.passed_on(parcel)
                lanes = [lane for lane in lanes if lane.waits and lane.number in self._lanes]

    def _offered(self, lane: _Lane, parcel: Parcel) -> bool:
        try:
            return lane.worker.offer(parcel)
        except WorkerDied:
            return False  # `receive` says so too
        except TumbleError as error:  # it will never fit
            self._lose((lane.number,), str(error))
            return True

    def _lose(self, particles: tuple[int, ...], words: str) -> None:
        for number in particles:
            self._lanes.pop(number).close()
        if particles:
            self._losses.append(Loss(particles, words))
