"""The daemon itself: takes announcements from the receiver, drives the pipeline, and finishes in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..stream.frame import SeriesStart
from ..stream.keeper import DAMAGED
from .books import FrameBooks, combine, in_words
from .config import Settings
from .dispatch import Dispatcher
from .errors import DONE, FAILED, STREAM_ENDED, TumbleError, UsageError
from .intake import Batch, Begin, End, Geometry, Intake, Over, ReceiverDied
from .operating import Operator
from .orders import Orders
from .particles import particle_name
from .parts import Parts
from .pipeline import NO_DISK, Pipeline
from .receiver import TOO_LARGE
from .reporter import Reporter
from .stops import StopRequests

POLL_S = 0.1
STOPPED = "stopped"
_END_WORDS = {
    "end": "the series has ended",
    "timeout": "the stream fell silent before its end",
    "superseded": "a new series began before this one had ended",
    "stopped": "stopped",
}


class Interrupted(TumbleError):
    """The operator asked a second time: nothing more is computed."""


class Service:
    """One series from its start to its end, and the wait for the next one.

    Parameters
    ----------
    settings, parts : configuration, and where the front end comes from.
    intake, reporter : the receiver's end, and what tells the world.
    stops : who asks for an end asks there.
    health : looks after other processes that are needed; returns words when one has failed.
    dispatcher : gives the reconstruction its work; ``None``: it is done in this process.
    operator : carries out what is asked for over the control socket.

    Attributes
    ----------
    failures : what went wrong, in words.
    over : no other series follows.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        intake: Intake,
        reporter: Reporter,
        stops: StopRequests,
        health: Callable[[], str] = lambda: "",
        dispatcher: Dispatcher | None = None,
        operator: Operator | None = None,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._intake = intake
        self._reporter = reporter
        self._health = health
        self._dispatcher = dispatcher
        self._operator = reporter.operator = operator or Operator(Orders(), stops, reporter.say)
        self._stops = stops
        self._stopping = False
        self._refused = False
        self._pipeline: Pipeline | None = None
        self.failures: list[str] = []
        self.over = False

    def run(self, begun: Begin | None = None) -> int:
        """Run to the end of the series; returns the exit code. Files are written whatever happens.

        Parameters
        ----------
        begun : the series, when it has begun already.

        Raises
        ------
        Exception : a mistake in the program, after the files have been written.
        """
        if begun is None:
            self._reporter.say(f"waiting for a stream from {self._settings.stream.source}")
        try:
            code = self._series(begun)
        except TumbleError as error:  # what has come so far is still worth finishing
            self.over = True
            self.failures.append(str(error))
            code = error.code
            self._write_off(error)
            if isinstance(error, Interrupted):
                self._abandon(STOPPED)
                return self._close(code)
        except Exception:
            self.failures.append("a mistake in the program stopped the series; --debug shows where")
            self._abandon("a mistake in the program")
            self._close(FAILED)
            raise
        try:
            self._finish()
        except Interrupted as error:
            self.over = True
            self.failures.append(str(error))
            self._abandon(STOPPED)
            code = error.code
        return self._close(code)

    def next_series(self) -> Begin | None:
        """Wait for the next series of the run; ``None``: there is none. Orders other than a stop wait for it, too.

        Raises
        ------
        TumbleError : the receiver failed.
        """
        idle = False
        while not self.over:
            message = self._intake.get(POLL_S)
            if isinstance(message, Begin):
                return message
            if isinstance(message, Over):
                self.over = True
                if message.books.received:  # nothing is lost without a word
                    self._reporter.say(f"after the last series: {in_words(combine(message.books, FrameBooks()))}")
            elif not idle:
                idle = True
                self._reporter.idle(f"waiting for the next series from {self._settings.stream.source}")
            self._operator.listen()
            if self._stops.count > 1:
                return None
            self._stop_intake()
            self._reporter.beat()
        return None

    def _abandon(self, reason: str) -> None:
        if self._pipeline is not None:
            self._pipeline.abandon(reason)

    @property
    def frames(self) -> int:
        """How many frames have come to the pipeline."""
        return 0 if self._pipeline is None else self._pipeline.books.stepped

    def _series(self, begun: Begin | None) -> int:
        if begun is not None:
            self._begin(begun.start)
        practice = self._parts.rehearse_front_end()
        while True:
            message = self._intake.get(POLL_S)
            if message is None and self._pipeline is None:
                with suppress(Exception):  # a real frame will meet the same, and say it
                    next(practice, None)
            self._listen()
            self._between()
            self._operator.act(self._pipeline)
            if isinstance(message, Begin):
                self._begin(message.start)
            elif isinstance(message, Geometry):
                self._set_up(message)
            elif isinstance(message, Batch):
                self._take(message)
            elif isinstance(message, End):
                self.over = message.last
                self._reporter.say(_END_WORDS.get(message.reason, message.reason) + self._shortfall())
                if self._refused:
                    return UsageError.code
                return DONE if message.reason in ("end", "stopped") else STREAM_ENDED
            elif isinstance(message, Over):  # stopped before anything began
                self.over = True
                return DONE
            elif words := self._health():
                raise TumbleError(words)

    def _shortfall(self) -> str:
        books = self._reporter.stream()
        absent = (books.expected or 0) - books.received - books.missing
        return f"; {absent} of the {books.expected} announced frames never came" if absent > 0 else ""

    def _begin(self, start: SeriesStart) -> None:
        self._reporter.phase = "RUNNING"
        size = f"{start.width} x {start.height} pixels" if start.width and start.height else "size not announced"
        count = f"{start.number_of_images} frames announced" if start.number_of_images else "open end"
        pixel_size_A = self._pixel_size(start)
        self._reporter.begin(start, pixel_size_A or 0.0)
        self._reporter.say(f"series {start.series_id} begins: {size}, {count}")
        if pixel_size_A is None:
            self._refuse()
        self._parts.begin(start)

    def _pixel_size(self, start: SeriesStart) -> float | None:
        return self._settings.reconstruction.pixel_size_A or start.pixel_size_A

    def _refuse(self) -> None:
        """Nothing can be reconstructed without a pixel size, but a recording is a series that is not lost."""
        words = "the stream does not say the pixel size at the specimen"
        if not self._settings.session.record:
            raise UsageError(f"{words}: give it with --pixel-size, in A")
        folder = self._settings.session.folder or Path()
        words += f": recorded only; tumble replay {folder / 'frames.h5'} --pixel-size SIZE, in A, reconstructs it"
        self._reporter.say(words)
        self.failures.append(words)
        self._refused = True

    def _set_up(self, geometry: Geometry) -> None:
        start = self._reporter.start
        pixel_size_A = None if start is None else self._pixel_size(start)
        if start is None or pixel_size_A is None:
            raise TumbleError("frames came before the start of their series")
        self._reporter.start = replace(start, width=geometry.width, height=geometry.height)  # whatever was announced
        self._pipeline = Pipeline(
            self._parts,
            geometry.height,
            geometry.width,
            pixel_size_A,
            dispatcher=self._dispatcher,
            between=self._between,
            say=self._reporter.say,
        )
        self._reporter.pipeline = self._pipeline

    def _take(self, batch: Batch) -> None:
        if self._pipeline is None:
            raise TumbleError("frames came before their size")
        for frame, arrived_s in self._intake.frames(batch):
            if self._operator.admits(frame.index, self._pipeline):
                self._pipeline.step(frame, arrived_s)
            self._reporter.fresh = arrived_s
            self._between()

    def _listen(self) -> None:
        """Hear the reconstruction, also while no frame comes. Without one, only a recording is worth going on for."""
        if self._pipeline is None:
            return
        self._pipeline.listen()
        if not self._pipeline.dispatcher.workers and not self._settings.session.record:
            raise TumbleError("nobody reconstructs and nothing is recorded: nothing is left to do")

    def _write_off(self, error: TumbleError) -> None:
        self._intake.write_off(self.frames, "lost with the receiver" if isinstance(error, ReceiverDied) else STOPPED)

    def _finish(self) -> None:
        self._reporter.phase = "FINISHING"
        if self._pipeline is not None and self._pipeline.waiting:
            self._reporter.say(f"{self._pipeline.waiting} observations still wait for the reconstruction")
        self._reporter.tick(force=True)
        if self._pipeline is not None:
            self._pipeline.finish()

    def _between(self) -> None:
        """Between pieces of work: signals, viewers, files. Nothing here touches what is computed."""
        self._operator.listen()
        if self._stops.count > 1:
            raise Interrupted("stopped at once: what was not yet computed is missing from the files")
        self._stop_intake()
        self._reporter.tick()

    def _stop_intake(self) -> None:
        if self._stops.count and not self._stopping:
            self._stopping = True
            self._reporter.say("asked to stop: what was received is finished first (ask again to stop at once)")
            self._intake.stop()

    def _unrecorded(self) -> list[tuple[str, int]]:
        counts = self._intake.books(self.frames).unrecorded
        return sorted((reason, count) for reason, count in counts.items() if reason != DAMAGED)  # rejected anyway

    def _close(self, code: int) -> int:
        """Say what came out, write everything, return the exit code."""
        if self._pipeline is not None:
            self.failures += [f"books: {words}" for words in self._pipeline.books.problems]
            for number, entry in sorted(self._pipeline.particles.items()):
                if entry.failure:
                    self.failures.append(f"{particle_name(number)} failed: {entry.failure}")
                if lost := entry.lost[NO_DISK]:
                    self.failures.append(f"{lost} frames of {particle_name(number)} are not in its map: {NO_DISK}")
        self.failures += [f"{count} frames are not in the recording: {reason}" for reason, count in self._unrecorded()]
        if too_large := self._intake.books(self.frames).rejected.get(TOO_LARGE):
            self.failures.append(f"{too_large} frames were recorded only: they are {TOO_LARGE} (stream.ring_MiB)")
        if self.over and (later := self._intake.books(self.frames).later):
            self.failures.append(f"{later} frames of the next series were received and not analysed")
        books = self._reporter.stream()
        if code in (DONE, STREAM_ENDED) and (books.balance() or books.in_flight):
            self.failures.append("books: frames are missing without a reason")
        if self.failures and code == DONE:
            code = FAILED
        for words in self.failures:
            self._reporter.say(words)
        self._reporter.phase = "FAILED" if code else "DONE"
        self._reporter.say_results()
        self._reporter.say(in_words(books))
        try:
            self._reporter.close()
        except TumbleError as error:  # the next series may find room again
            self._reporter.say(f"{error}: the session looks unfinished, and can be gone on with by --resume")
            code = code or FAILED
        return code
