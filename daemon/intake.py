"""The daemon's end of the receiver process: starts it, reads what it announces, gives slots back, sees it die."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..stream.frame import Frame, SeriesEnd, SeriesStart
from .books import IntakeBooks
from .config import StreamSettings
from .errors import TumbleError
from .receiver import ENTRY, ReceiverPlan, receive
from .ring import FrameRing


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size and type of the frames, known when the first one has come."""

    height: int
    width: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that lie in shared memory: an entry each, as `receiver.ENTRY` has it, in the order of the slots."""

    entries: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """A series begins. Everything until its `End` belongs to it; `folder` is that of its session."""

    start: SeriesStart
    folder: Path


@dataclass(frozen=True, slots=True)
class End:
    """A series has ended, for a `reason` as in `SeriesEnd`; `last`: no other follows."""

    reason: str
    last: bool


@dataclass(frozen=True, slots=True)
class Over:
    """No series follows. `books` count what came after the last one."""

    books: IntakeBooks


class ReceiverDied(TumbleError):
    """The receiver process ended without saying so."""


Message = Begin | Geometry | Batch | End | Over


class Intake:
    """Runs a receiver process. Use as a context manager.

    Parameters
    ----------
    settings : where the stream is, how many series are taken, and what to do when the ring is full.
    folder : of the first session; the next ones lie beside it.
    record : keep the frames there.
    scaled : the pixel size is known whatever the stream says. Otherwise frames of a stream that does not say it are
        recorded and not handed over.
    resume : series that were interrupted, and their folders: they are worked off first, and what follows is added to
        the last one.
    keys : folder of the keys with which the stream is handed on and fetched from elsewhere; ``None``: that of the user.
    threads : that expand frames in the receiver process.
    """

    def __init__(
        self,
        settings: StreamSettings,
        folder: Path,
        *,
        record: bool,
        scaled: bool = True,
        resume: tuple[tuple[Path, SeriesStart], ...] = (),
        keys: Path | None = None,
        threads: int = 1,
    ) -> None:
        self._ring = FrameRing.create(settings.ring_MiB)
        self._series_id = self._series = 0  # as the source counts them, and as we do
        self._next = 0
        self._books = IntakeBooks()
        self._told_s = 0.0  # when the receiver spoke last, by `time.monotonic`; 0: it has nothing more to say for now
        self._ended = False
        context = multiprocessing.get_context("spawn")
        self._announced, announce = context.Pipe(duplex=False)
        commands, self._commands = context.Pipe(duplex=False)
        plan = ReceiverPlan(
            uri=settings.source,
            timeout_s=settings.timeout_s,
            queue=settings.queue,
            block=settings.when_full == "block",
            ring=self._ring.name,
            folder=folder,
            record=record,
            series=settings.series,
            scaled=scaled,
            channel=settings.channel,
            tee=settings.tee,
            tee_every=settings.tee_every,
            keys=keys,
            threads=threads,
            resume=resume,
        )
        self._process = context.Process(
            target=receive, args=(plan, announce, commands), name="tumble receiver", daemon=True
        )
        self._process.start()
        announce.close()  # so that the end of the receiver is seen as the end of the pipe
        commands.close()

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the receiver."""
        return self._process.pid

    def get(self, timeout_s: float) -> Message | None:
        """The next announcement, or ``None`` when nothing came in time.

        Raises
        ------
        ReceiverDied : the process is gone.
        TumbleError : it failed, in its words.
        """
        try:
            if not self._announced.poll(timeout_s):
                return None
            message = self._announced.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(5.0)
            code = self._process.exitcode
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise ReceiverDied(f"the receiver process died ({how}): frames after this were not taken in") from None
        return self._understand(message)

    def _understand(self, message: tuple[Any, ...]) -> Message:
        kind = message[0]
        if kind == "frames":
            return Batch(tuple(ENTRY.iter_unpack(message[1])))
        if kind == "start":
            start: SeriesStart = message[1]
            self._series_id = start.series_id
            self._series += 1
            self._books, self._ended = IntakeBooks(self._series), False
            return Begin(start, Path(message[2]))
        if kind == "geometry":
            (height, width), dtype = message[1], np.dtype(message[2])
            self._ring.cut(height, width, dtype)
            return Geometry(height, width, dtype)
        if kind == "end":
            end: SeriesEnd = message[1]
            self._books = message[2]
            self._ended = True
            return End(end.reason, message[3])
        if kind == "over":
            if not self._series:
                self._books = message[1]
            self._ended = True
            return Over(message[1])
        raise TumbleError(f"receiver: {message[1]}")

    def frames(self, batch: Batch) -> Iterator[tuple[Frame, float]]:
        """The frames of a batch and when they came off the socket (`time.monotonic`), one after the other.

        The data of each is valid until the next one is asked for.
        """
        done, enough = 0, max(1, self._ring.slots // 8)  # not each by itself, where the receiver has others
        for index, time_s, arrived_s, *pose in batch.entries:
            if index >= 0:  # otherwise nothing is in the slot
                view = self._ring.slot(self._next)
                view.flags.writeable = False
                known = None if math.isnan(pose[0]) else (pose[0], pose[1], pose[2], pose[3])
                yield Frame(self._series_id, index, view, time_s, known), arrived_s
            self._next += 1
            done += 1
            if done >= enough:
                self._give_back(done)
                done = 0
        if done:
            self._give_back(done)

    def _give_back(self, slots: int) -> None:
        try:
            self._commands.send_bytes(str(slots).encode())
        except (BrokenPipeError, OSError):
            return  # the receiver has finished; its last announcements are still to be read

    def stop(self) -> None:
        """Ask the receiver to end; what it has received still comes through `get`, and then its end."""
        try:
            self._commands.send_bytes(b"stop")
        except (BrokenPipeError, OSError):
            return

    def books(self, stepped: int) -> IntakeBooks:
        """The receiver's latest books, brought up to the `stepped` frames that have come out of the ring."""
        books = self._books
        if not self._ended:
            latest = self._ring.read()
            if latest is not None:
                self._told_s = latest["told_s"]  # of a later series, too
            if latest is not None and latest["series"] == self._series:
                self._books = books = IntakeBooks(**latest)
        behind = stepped - books.handed_over
        return books if behind <= 0 else replace(books, received=books.received + behind, handed_over=stepped)

    def silence_s(self) -> float:
        """For how long the receiver has said nothing, s; it speaks five times a second until it has handed over all."""
        return max(0.0, time.monotonic() - self._told_s) if self._told_s and not self._ended else 0.0

    def write_off(self, stepped: int, reason: str) -> None:
        """Nothing more will come out of the ring: what was received but not taken over is booked as dropped."""
        books = self.books(stepped)
        lost = books.received - stepped - sum(books.rejected.values()) - sum(books.dropped.values())
        dropped = {**books.dropped, reason: books.dropped.get(reason, 0) + lost} if lost else books.dropped
        self._books = replace(books, handed_over=stepped, dropped=dropped, queue=0)
        self._ended = True

    def close(self) -> None:
        """End the receiver process, kindly at first, and remove the shared memory."""
        self._commands.close()
        self._process.join(2.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(2.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._announced.close()
        self._ring.close()
