"""What leaves the daemon: snapshots for viewers, lines for the operator, files of the session. Their one writer."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from .. import __version__
from ..recon.records import ParticleStatus
from ..stream.frame import SeriesStart
from .books import FrameBooks, combine
from .config import Settings
from .control import ControlServer
from .errors import TumbleError
from .intake import Intake
from .operating import Operator
from .particles import describe, particle_name
from .pipeline import Pipeline
from .receiver import LATE
from .reception import RING_FULL
from .session import Session
from .snapshot import SCHEMA_VERSION, Snapshot, StreamHealth
from .views import disk_free_MiB, judged, memory_MiB, particle_view, verdict

LOG_LINES = 40
TIMELINE_EVERY_S = 1.0
STANDS_STILL_S = 3.0
RATE_OVER_S = 3.0
_DROPPED_WORDS = {
    "queue full": "before they could be recorded: they come faster than the receiver takes them (stream.queue)",
    RING_FULL: "because the front end cannot follow (stream.ring_MiB); with a recording they would wait on disk",
    LATE: "because they came after the end of the series",
}


class Reporter:
    """Reports on one series. It reads the pipeline and changes nothing in it.

    Parameters
    ----------
    settings, intake, session, control : what is reported on, and to whom.
    write : prints a line for the operator.
    before : of the series before in the same run; clock and numbers of the snapshots go on.

    Attributes
    ----------
    phase : WAITING, RUNNING, FINISHING, DONE or FAILED.
    start, pipeline, operator : set when they are known.
    fresh : `time.monotonic` when the newest frame that was analysed had come.
    """

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        session: Session,
        control: ControlServer,
        write: Callable[[str], None],
        before: Reporter | None = None,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._session = session
        self._control = control
        self._write = write
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._began_clock: float = time.monotonic() if before is None else before._began_clock  # noqa: SLF001  # one of us
        self._numbers: Iterator[int] = itertools.count(1) if before is None else before._numbers  # noqa: SLF001
        self._last: tuple[Snapshot | None, FrameBooks] = (None, FrameBooks())
        self._published = self._timelined = 0.0
        self._told_warnings: set[str] = set()
        self._silent = False  # the receiver, for so long that it was said
        self._trouble = ""  # with the session folder, as the operator knows it
        self._told_dropped: dict[str, int] = {}
        self._rates: deque[tuple[float, int]] = deque()
        self.phase = "WAITING"
        self.start: SeriesStart | None = None
        self.pipeline: Pipeline | None = None
        self.operator: Operator | None = None
        self.fresh = self._began_clock
        control.refresh = self.heartbeat

    def begin(self, start: SeriesStart, pixel_size_A: float) -> None:
        """A series has begun."""
        self.start = start
        self._write_down(lambda: self._session.series(start, pixel_size_A))

    def say(self, words: str) -> None:
        """Give the operator a line, and keep it for the viewers."""
        line = f"{time.monotonic() - self._began_clock:7.1f} s  {words}"
        self._log.append(line)
        self._write(line)

    def tick(self, *, force: bool = False) -> None:
        """Publish a snapshot when one is due, and refresh the files when that is due."""
        clock = time.monotonic()
        if not force and clock - self._published < 1 / self._settings.status.rate_hz:
            return
        self._published = clock
        self._pass_warnings_on()
        for entry in () if self.pipeline is None else self.pipeline.particles.values():
            if words := entry.lag_news(clock):
                self.say(words)
        snapshot = self.snapshot()
        self._control.publish(snapshot)
        if force or clock - self._timelined >= TIMELINE_EVERY_S:
            self._timelined = clock
            self._write_down(lambda: self._session.timeline(snapshot, whole=force))

    def _write_down(self, write: Callable[[], None]) -> None:
        """Write to the session folder. When that cannot be done now, the run goes on, and so does its recording."""
        trouble = ""
        try:
            write()
        except TumbleError as error:
            trouble = str(error)
        if trouble != self._trouble:
            self._trouble = trouble
            again = f"{self._session.folder} can be written again"
            self.say(f"{trouble}: make room or restore it; the run goes on" if trouble else again)

    def _pass_warnings_on(self) -> None:
        books = self._intake.books(self._stepped())
        for words in books.warnings:  # of stream and recording, a bounded number
            if words not in self._told_warnings:
                self._told_warnings.add(words)
                self.say(f"stream: {words}")
        self._note_silence(self._intake.silence_s())
        for reason, count in books.dropped.items():
            if count >= 10 * self._told_dropped.get(reason, 0.1):  # now and then, not for each
                self._told_dropped[reason] = count
                self.say(f"{count} frames dropped {_DROPPED_WORDS.get(reason, f'({reason})')}")

    def _note_silence(self, silence_s: float) -> None:
        """Say when the receiver stands still, as a disk that hangs makes it do, and when it goes on."""
        if silence_s >= STANDS_STILL_S and not self._silent:
            self._silent = True
            where = f": the disk of {self._session.folder} takes no frames" if self._settings.session.record else ""
            self.say(f"the receiver has stood still for {silence_s:.0f} s{where}; the detector may lose some meanwhile")
        elif self._silent and silence_s < 1.0:
            self._silent = False
            self.say("the receiver goes on")

    def _stepped(self) -> int:
        return 0 if self.pipeline is None else self.pipeline.books.stepped

    def statuses(self) -> list[ParticleStatus]:
        """What every particle says of itself, in the order of their numbers."""
        if self.pipeline is None:
            return []
        return [judged(entry) for _, entry in sorted(self.pipeline.particles.items())]

    def stream(self) -> StreamHealth:
        """The books of the whole daemon."""
        return self._stream(FrameBooks() if self.pipeline is None else self.pipeline.books)

    def _stream(self, frames: FrameBooks) -> StreamHealth:
        health = combine(self._intake.books(frames.stepped), frames)
        start = self.start
        return replace(
            health,
            source=self._settings.stream.source,
            series_id=None if start is None else start.series_id,
            frame_width_px=None if start is None else start.width,
            frame_height_px=None if start is None else start.height,
            expected=None if start is None else start.number_of_images,
            rate_hz=round(self._rate(health.received), 1),
            lag_s=round(time.monotonic() - self.fresh, 3) if health.in_flight else 0.0,
        )

    def _with_latency(self, health: StreamHealth) -> StreamHealth:
        """`health` with what only the thread that drives the pipeline can tell."""
        pipeline = self.pipeline
        if pipeline is None:
            return health
        half, most = pipeline.analysed.percentiles_ms()
        half_posed, most_posed = pipeline.posed.percentiles_ms()
        return replace(
            health,
            latency_p50_ms=half,
            latency_p99_ms=most,
            pose_latency_p50_ms=half_posed,
            pose_latency_p99_ms=most_posed,
            waiting=pipeline.waiting,
            waiting_on_disk_MiB=round(pipeline.dispatcher.on_disk_bytes / 2**20, 1),
        )

    def _rate(self, received: int) -> float:
        clock = time.monotonic()
        if not self._rates or clock - self._rates[-1][0] > 0.1:
            self._rates.append((clock, received))
        while len(self._rates) > 2 and clock - self._rates[0][0] > RATE_OVER_S:
            self._rates.popleft()
        since, before = self._rates[0]
        return (received - before) / (clock - since) if clock > since else 0.0

    def snapshot(self) -> Snapshot:
        """The daemon at this moment, to be published."""
        pipeline = self.pipeline
        if pipeline is not None:
            pipeline.published()
        entries = [] if pipeline is None else [entry for _, entry in sorted(pipeline.particles.items())]
        pixel_size_A = 0.0 if pipeline is None else pipeline.pixel_size_A
        frames = FrameBooks() if pipeline is None else pipeline.books.copy()
        snapshot = Snapshot(
            version=SCHEMA_VERSION,
            tumble=__version__,
            sequence=next(self._numbers),
            time_s=time.time(),
            uptime_s=round(time.monotonic() - self._began_clock, 3),
            phase=self.phase,
            session=str(self._session.folder),
            stream=self._with_latency(self._stream(frames)),
            particles=tuple(particle_view(entry, pixel_size_A) for entry in entries),
            step_ms={} if pipeline is None else {name: round(spent, 3) for name, spent in pipeline.step_ms.items()},
            memory_MiB=round(memory_MiB() + (0.0 if pipeline is None else pipeline.dispatcher.memory_MiB()), 1),
            disk_free_MiB=disk_free_MiB(self._session.folder),
            log=tuple(self._log),
            verdict=verdict(self.statuses(), frames.used, final=self.phase in ("DONE", "FAILED")),
            paused=self.operator is not None and self.operator.paused,
            mark="" if self.operator is None else self.operator.mark,
            device=self._session.device,
            workers=() if pipeline is None else pipeline.dispatcher.shifts(),
        )
        self._last = (snapshot, frames)
        return snapshot

    def heartbeat(self) -> Snapshot | None:
        """The last snapshot with the clock and the frame counts of now, for while a long piece of work runs.

        Called from another thread: of what the pipeline owns it looks at a copy only.
        """
        last, frames = self._last
        if last is None or last.phase in ("DONE", "FAILED"):
            return None
        before = last.stream
        stream = replace(
            self._stream(frames),
            latency_p50_ms=before.latency_p50_ms,
            latency_p99_ms=before.latency_p99_ms,
            pose_latency_p50_ms=before.pose_latency_p50_ms,
            pose_latency_p99_ms=before.pose_latency_p99_ms,
            waiting=before.waiting,
            waiting_on_disk_MiB=before.waiting_on_disk_MiB,
        )
        return replace(
            last,
            sequence=next(self._numbers),
            time_s=time.time(),
            uptime_s=round(time.monotonic() - self._began_clock, 3),
            stream=stream,
        )

    def close(self) -> None:
        """Write what no worker will write any more and the session's own files, and publish the last snapshot.

        Raises
        ------
        TumbleError : session.json cannot be written, so that the session looks as if it had not been finished.
        """
        if self.pipeline is not None:
            for entry in self.pipeline.particles.values():
                if entry.lost:  # the worker's files are right for all others
                    self._write_down(partial(self._session.summary, entry.status()))
        self._published = time.monotonic()
        self._pass_warnings_on()
        self._write_down(lambda: self._session.timeline(self.snapshot(), whole=True))
        self._session.finish(self.snapshot())

    def idle(self, words: str) -> None:
        """The series is over, and another one is waited for: viewers see the last one until it comes."""
        self.say(words)
        snapshot, frames = self._last
        if snapshot is not None:
            waiting = replace(snapshot, sequence=next(self._numbers), phase="WAITING", log=tuple(self._log))
            self._last = waiting, frames
            self._control.publish(waiting)

    def beat(self) -> None:
        """Tell viewers now and then that the daemon lives, while there is no series."""
        clock = time.monotonic()
        if clock - self._published >= 1 / self._settings.status.rate_hz and (snapshot := self.heartbeat()):
            self._published = clock
            self._control.publish(snapshot)

    def farewell(self) -> None:
        """The run is over: viewers get the last state."""
        snapshot, frames = self._last
        if snapshot is not None:
            last = replace(snapshot, sequence=next(self._numbers), phase=self.phase, log=tuple(self._log))
            self._last = last, frames
            self._control.publish(last)

    def say_results(self) -> None:
        """One line for each particle, and the verdict."""
        for status in self.statuses():
            note = f" ({status.note})" if status.note else ""
            self.say(f"{particle_name(status.particle)} {status.state}: {describe(status)}{note}")
        self.say(verdict(self.statuses(), self.stream().used, final=True))
