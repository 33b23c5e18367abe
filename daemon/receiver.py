"""The receiver process: takes frames off the wire, records them as they came, and puts them into shared memory.

It has its own interpreter, so that a frame never waits for the reconstruction's interpreter lock. Recording comes
first: with a recording, frames that find no room in shared memory wait on disk for their turn.
"""

from __future__ import annotations

import fcntl
import math
import os
import signal
import struct
import time
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..stream.encoded import EncodedFrame
from ..stream.errors import RecordingError
from ..stream.frame import Frame, SeriesEnd, SeriesStart
from ..stream.keeper import Keeper
from ..stream.source import PullSource
from ..stream.tee import Tee
from .books import IntakeBooks
from .errors import TumbleError
from .ring import FrameRing
from .threads import single_threaded

BATCH = 16  # frames announced together at most
POLL_S = 0.05
WAIT_S = 0.005
ENTRY = struct.Struct("<qdd4d")  # image number, time in s, arrival by `time.monotonic` in s, pose (NaN: none)
NO_POSE = (math.nan,) * 4
DRAIN_S = 2.0
RING_FULL = "ring full"
LATE = "after the end of the series"
UNREADABLE = "cannot be read back from disk"
NO_PIXEL_SIZE = "pixel size unknown"
LOCK, LOCK_S = ".lock", 10.0  # a receiver whose daemon was killed needs a moment to end


@dataclass(frozen=True, slots=True)
class ReceiverPlan:
    """Everything the receiver process is told; plain values, because it crosses a process boundary."""

    uri: str
    timeout_s: float
    queue: int
    block: bool  # a full ring is always waited for; otherwise only while the queue in front has room
    ring: str
    record: Path | None
    scaled: bool = True  # the operator gave the pixel size; otherwise the stream has to, or frames are recorded only
    channel: str | None = None
    tee: str | None = None
    tee_every: int = 1
    resume: SeriesStart | None = None  # the series that `record` holds the beginning of


def lock(folder: Path) -> BinaryIO:
    """Make sure that this is the only process that records into `folder`, for as long as the file is open.

    Raises
    ------
    TumbleError : another one still does after a while.
    """
    file = (folder / LOCK).open("ab")
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() > deadline:
                file.close()
                raise TumbleError(f"another daemon records into {folder}: choose another session folder") from None
            time.sleep(0.05)


def receive(plan: ReceiverPlan, announce: Connection, commands: Connection) -> None:
    """Body of the receiver process.

    Announces over `announce` tuples that begin with ``"start"``, ``"geometry"``, ``"frames"`` (packed entries, in the
    order of the slots), ``"end"`` (with the final books) or ``"failed"`` (in words). Ends when told to over `commands`,
    at the end of the series, or when the other process is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to everybody; the daemon decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    single_threaded()
    ring = FrameRing.attach(plan.ring)
    try:
        _Receiver(plan, ring, announce, commands).run()
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the daemon is gone; nobody is left to tell
    except Exception as error:
        words = (
            str(error) if isinstance(error, (TumbleError, ValueError, OSError)) else f"{type(error).__name__}: {error}"
        )
        announce.send(("failed", words))
        if os.environ.get("TUMBLE_DEBUG"):
            raise
    finally:
        ring.close()


class _Receiver:
    def __init__(self, plan: ReceiverPlan, ring: FrameRing, announce: Connection, commands: Connection) -> None:
        self._plan = plan
        self._lock = None if plan.record is None else lock(plan.record.parent)
        self._keeper = Keeper(plan.record)
        self._resumed, self._awaited = (0, 0) if plan.resume is None else self._keeper.resume(plan.resume)
        self._ring = ring
        self._announce = announce
        self._commands = commands
        self._source = PullSource(
            plan.uri,
            capacity=plan.queue,
            # With a recording there is room for everything, so nothing has to be dropped before it is recorded.
            policy="block" if plan.block or plan.record is not None else "drop",
            end_timeout_s=plan.timeout_s,
            encoded=True,
            channel=plan.channel,
            resume=None if plan.resume is None else (plan.resume, self._awaited),
        )
        self._tee = None if plan.tee is None else Tee(plan.tee, every=plan.tee_every)
        self._scaled = plan.scaled
        self._free = 0  # slots that may be written
        self._next = 0  # slot number, counted on for ever
        self._pending: list[bytes] = []
        self._handed_over = 0
        self._dropped: Counter[str] = Counter()
        self._geometry: tuple[tuple[int, int], np.dtype[Any]] | None = None
        self._posted = 0.0

    def run(self) -> None:
        """Receive one series and announce its end with the final books."""
        with self._source:
            try:
                end = self._resume() or self._series()
                while self._keeper.waiting:
                    self._work_off(patient=True)
                self._flush()
                self._source.stop()
                while (event := self._source.get(DRAIN_S)) is not None:  # after the end, or too late after a stop
                    if isinstance(event, EncodedFrame):
                        self._dropped[LATE] += 1
            finally:
                self._keeper.close()
                if self._lock is not None:
                    Path(self._lock.name).unlink(missing_ok=True)
                    self._lock.close()
                if self._tee is not None:
                    self._tee.close()
            self._announce.send(("end", end, self._books()))

    def _series(self) -> SeriesEnd:
        while True:
            event = self._source.get(0.0 if self._pending or self._keeper.waiting else POLL_S)
            if event is not None and self._tee is not None and not isinstance(event, Frame):
                self._tee.send(event)
            if isinstance(event, SeriesStart):
                self._begin(event)
            elif isinstance(event, SeriesEnd):
                return event
            elif isinstance(event, EncodedFrame):
                self._take(event)
            else:
                self._flush()
                if self._source.finished:
                    return SeriesEnd(-1, "stopped")
                if self._keeper.waiting:
                    self._obey(WAIT_S)
            self._work_off()
            self._obey(0)

    def _begin(self, start: SeriesStart) -> None:
        self._announce_start(start)
        self._keeper.begin(start)

    def _resume(self) -> SeriesEnd | None:
        """Announce the series that goes on, if one does; its end, where nothing more can come."""
        start = self._plan.resume
        if start is None:
            return None
        self._announce_start(start)
        complete = start.number_of_images is not None and self._awaited >= start.number_of_images
        return SeriesEnd(start.series_id) if complete else None

    def _announce_start(self, start: SeriesStart) -> None:
        self._announce.send(("start", start))
        self._scaled = self._scaled or start.pixel_size_A is not None

    def _take(self, frame: EncodedFrame) -> None:
        """Record a frame and let it wait for a slot."""
        if not self._keeper.take(frame, self._source.arrived_s):
            self._dropped[RING_FULL] += 1

    def _work_off(self, *, patient: bool = False) -> None:
        """Hand over the frames that wait, as long as there are slots."""
        while self._keeper.waiting:
            if self._recording_lags() and not patient:
                return
            if self._scaled and not self._slot_is_free(patient):
                if self._plan.record is None:
                    self._dropped[RING_FULL] += 1
                    self._keeper.pop()
                return
            try:
                frame, arrived_s = self._keeper.pop()
            except RecordingError:
                self._dropped[UNREADABLE] += 1
                continue
            self._hand_over(frame, arrived_s)

    def _recording_lags(self) -> bool:
        """Whether frames come so fast that recording them needs all the time; those that are can wait."""
        return self._plan.record is not None and not self._plan.block and self._source.queued > self._plan.queue // 2

    def _hand_over(self, frame: EncodedFrame, arrived_s: float) -> None:
        """Decode a frame into the next slot, or say why not."""
        if not self._scaled:
            self._source.count_rejected(NO_PIXEL_SIZE)
            return
        if self._geometry is None:
            self._cut(frame)
        if self._geometry != (frame.shape, frame.dtype.newbyteorder("=")):
            self._source.count_rejected("wrong size")
            return
        try:
            frame.decode(self._ring.slot(self._next))
        except ValueError:
            self._source.count_rejected("damaged payload")
            return
        self._next += 1
        self._free -= 1
        self._handed_over += 1
        time_s = frame.time_s if math.isfinite(frame.time_s) else 0.0
        self._pending.append(ENTRY.pack(frame.index, time_s, arrived_s, *(frame.pose or NO_POSE)))
        if len(self._pending) >= BATCH:
            self._flush()

    def _cut(self, frame: EncodedFrame) -> None:
        dtype = frame.dtype.newbyteorder("=")
        self._free = self._ring.cut(*frame.shape, dtype)
        self._geometry = (frame.shape, dtype)
        self._announce.send(("geometry", frame.shape, dtype.str))

    def _slot_is_free(self, patient: bool) -> bool:
        """Whether there is a slot. It is waited for while that costs no frame: always, or while the queue has room."""
        if self._geometry is None:
            return True  # the ring is cut with the first frame
        self._obey(0)
        if self._free < 1:
            self._flush()
        while self._free < 1:
            crowded = self._plan.record is not None or self._source.queued > self._plan.queue // 2
            if crowded and not self._plan.block and not patient:
                return False
            self._obey(WAIT_S)
            self._post()
        return True

    def _obey(self, wait_s: float) -> None:
        """Read what the daemon says: a number of slots given back, or stop. Its end raises `EOFError`."""
        while self._commands.poll(wait_s):
            command = self._commands.recv_bytes()
            if command == b"stop":
                self._source.stop()  # what is queued still comes
            else:
                self._free += int(command)
            wait_s = 0.0

    def _flush(self) -> None:
        """Announce what lies in the ring. The books come first, so that they are never behind the frames."""
        self._post(now=bool(self._pending))
        if self._pending:
            self._announce.send(("frames", b"".join(self._pending)))
            self._pending.clear()

    def _post(self, *, now: bool = False) -> None:
        clock = time.monotonic()
        if now or clock - self._posted > 0.2:
            self._posted = clock
            self._ring.post(asdict(self._books()))

    def _books(self) -> IntakeBooks:
        """The books of this process; frames in the source's queue or in hand are waiting."""
        counters = self._source.counters
        received = counters.received + self._resumed
        dropped = Counter(counters.dropped) + self._dropped
        settled = self._handed_over + sum(counters.rejected.values()) + sum(dropped.values())
        return IntakeBooks(
            received=received,
            handed_over=self._handed_over,
            rejected=dict(counters.rejected),
            dropped=dict(dropped),
            missing=counters.missing + self._awaited - self._resumed,
            recorded=self._keeper.recorded,
            unrecorded=dict(self._keeper.unrecorded),
            queue=received - settled,
            queue_size=self._plan.queue + self._ring.slots,
            warnings=(*counters.warnings, *self._keeper.warnings),
        )
