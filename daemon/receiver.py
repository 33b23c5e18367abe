"""The receiver process: takes frames off the wire, records them as they came, and puts them into shared memory.

It has its own interpreter, so that a frame never waits for the reconstruction's interpreter lock. Recording comes
first: with a recording, frames that find no room in shared memory wait on disk for their turn, and so does a series
that begins while the one before is still being finished.
"""

from __future__ import annotations

import math
import os
import select
import signal
import struct
import time
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from ..stream import checksum
from ..stream.counters import Cut
from ..stream.encoded import EncodedFrame
from ..stream.errors import RecordingError
from ..stream.frame import Frame, SeriesEnd, SeriesStart
from ..stream.keeper import DAMAGED
from ..stream.source import PullSource
from ..stream.tee import Tee
from .books import IntakeBooks
from .doorkeeper import Doorkeeper, presenting
from .endpoints import is_local
from .errors import TumbleError
from .expanding import Expanded, Expansion
from .folders import next_folder
from .heap import keep_freed_memory
from .keys import KeyFolder
from .outbox import Outbox
from .reception import RING_FULL, Reception
from .ring import FrameRing
from .threads import single_threaded

BATCH = 16  # frames announced together at most
POLL_S = 0.05
WAIT_S = 0.005
MOST_SERIES = 64  # of which frames wait in memory; recordings wait on disk, however many there are
ENTRY = struct.Struct("<qdd4d")  # image number, time in s, arrival by `time.monotonic` in s, pose (NaN: none)
NO_POSE = (math.nan,) * 4
EMPTY_SLOT = ENTRY.pack(-1, 0.0, 0.0, *NO_POSE)  # of a frame that turned out to be damaged: it goes back unread
LATE = "after the end of the series"
UNREADABLE = "cannot be read back from disk"
NO_PIXEL_SIZE = "pixel size unknown"
TOO_LARGE = "too large for the shared memory"


@dataclass(frozen=True, slots=True)
class ReceiverPlan:
    """Everything the receiver process is told; plain values, because it crosses a process boundary."""

    uri: str
    timeout_s: float
    queue: int
    block: bool  # a full ring is always waited for; otherwise only while the queue in front has room
    ring: str
    folder: Path  # of the session of the first series; those that follow get folders beside it
    record: bool
    series: int = 1  # how many; 0: until it is told to stop
    scaled: bool = True  # the operator gave the pixel size; otherwise the stream has to, or frames are recorded only
    channel: str | None = None
    tee: str | None = None
    tee_every: int = 1
    keys: Path | None = None  # of the tee, where it listens beyond this machine, and of the source; None: of the user
    threads: int = 1  # that expand frames
    # Series that a killed process has left recordings of, with their folders. The last one may go on.
    resume: tuple[tuple[Path, SeriesStart], ...] = ()


def receive(plan: ReceiverPlan, announce: Connection, commands: Connection) -> None:
    """Body of the receiver process.

    Announces over `announce` tuples that begin with ``"start"``, ``"geometry"``, ``"frames"`` (packed entries, in the
    order of the slots), ``"end"`` (with the final books), and ``"over"`` after the last series or ``"failed"`` (in
    words). Ends when told to over `commands`, after the series that are wanted, or when the other process is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to everybody; the daemon decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    single_threaded()
    keep_freed_memory()
    if plan.record:
        checksum.prepare()
    ring = FrameRing.attach(plan.ring)
    outbox = Outbox(announce)
    try:
        _Receiver(plan, ring, outbox, commands).run()
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the daemon is gone; nobody is left to tell
    except Exception as error:
        words = (
            str(error) if isinstance(error, (TumbleError, ValueError, OSError)) else f"{type(error).__name__}: {error}"
        )
        outbox.send(("failed", words))
        if os.environ.get("TUMBLE_DEBUG"):
            raise
    finally:
        outbox.close()
        ring.close()


class _Receiver:
    def __init__(self, plan: ReceiverPlan, ring: FrameRing, announce: Outbox, commands: Connection) -> None:
        self._plan = plan
        self._wanted = max(plan.series, len(plan.resume)) if plan.series else 0  # series; 0: no end
        self._begun = self._ended = 0
        self._series: deque[Reception] = deque()  # not yet handed over; frames come to the last one
        self._cut = Cut()  # where the newest one that has ended did
        awaited = self._resume()
        self._ring = ring
        self._announce = announce
        self._commands, self._heard = commands, select.poll()  # of `Connection`'s own each call makes a new one
        self._heard.register(commands.fileno(), select.POLLIN)
        keys = KeyFolder(plan.keys)
        self._source = PullSource(
            plan.uri,
            capacity=plan.queue,
            # With a recording there is room for everything, so nothing has to be dropped before it is recorded.
            policy="block" if plan.block or plan.record else "drop",
            end_timeout_s=plan.timeout_s,
            encoded=True,
            channel=plan.channel,
            resume=awaited,
            present=presenting(plan.uri, keys),
        )
        guarded = plan.tee is not None and not is_local(plan.tee.removeprefix("zmq+"))
        door = Doorkeeper(keys) if guarded else None
        self._tee = None if plan.tee is None else Tee(plan.tee, every=plan.tee_every, door=door)
        self._free = 0  # slots that may be written
        self._next = 0  # slot number, counted on for ever
        self._expansion = Expansion(plan.threads)  # of frames of the series that is handed over
        self._pending: list[bytes] = []
        self._posted = 0.0

    def run(self) -> None:
        """Receive until all series that are wanted are handed over, and say that it is over."""
        with self._source:
            try:
                if self._series:
                    self._announce_start(self._series[0])
                if self._enough:
                    self._source.stop()
                while self._series or not self._source.finished:
                    self._listen()
                    self._work_off()
                    self._obey(0)
                    self._post()
                self._announce.send(("over", self._idle_books()))
            finally:
                self._expansion.close()
                for reception in self._series:
                    reception.close()
                if self._tee is not None:
                    self._tee.close()

    @property
    def _enough(self) -> bool:
        return 0 < self._wanted <= self._ended

    def _listen(self) -> None:
        """Take what comes next, if something does."""
        waiting = bool(self._series and self._series[0].keeper.waiting)
        busy = self._pending or self._expansion or waiting
        event = self._source.get(0.0 if busy else POLL_S)
        if event is not None and self._tee is not None and not isinstance(event, Frame):
            self._tee.send(event)
        if event is None:
            self._flush()
            for reception in self._series:
                reception.keeper.idle()
            if self._source.finished:
                self._settle()
            if self._expansion:
                self._expansion.wait(WAIT_S)
            elif waiting:
                self._obey(WAIT_S)
        elif self._enough:  # after the end, or too late after a stop
            self._series[-1].dropped[LATE] += isinstance(event, EncodedFrame)
        elif isinstance(event, SeriesStart):
            self._begin(event)
        elif isinstance(event, SeriesEnd):
            self._end(event)
        elif isinstance(event, EncodedFrame):
            if self._plan.record or len(self._series) <= MOST_SERIES:
                self._series[-1].take(event, self._source.arrived_s)
            else:
                self._series[-1].dropped[RING_FULL] += 1

    def _resume(self) -> tuple[SeriesStart, int] | None:
        """Take up what a killed process has left; which series goes on, and with which frame."""
        awaited = None
        for number, (folder, start) in enumerate(self._plan.resume, 1):
            reception = self._admit(folder)
            awaited = start, reception.resume(start, scaled=self._plan.scaled)
            if number < len(self._plan.resume) or reception.complete:
                reception.end, awaited = SeriesEnd(start.series_id), None
                self._ended += 1
                if number > 1:
                    reception.rest()
                if not self._enough:
                    reception.cut = self._cut
        return awaited

    def _admit(self, folder: Path) -> Reception:
        self._begun += 1
        self._series.append(Reception(self._begun, folder, record=self._plan.record, before=self._cut))
        return self._series[-1]

    def _begin(self, start: SeriesStart) -> None:
        first = self._plan.folder
        reception = self._admit(next_folder(first) if self._begun else first)
        reception.begin(start, scaled=self._plan.scaled)
        if reception is self._series[0]:
            self._announce_start(reception)

    def _end(self, end: SeriesEnd) -> None:
        self._series[-1].end = end
        self._ended += 1
        if len(self._series) > 1:
            self._series[-1].rest()
        if self._enough:
            self._source.stop()  # what came with the end still belongs to it
        else:
            self._series[-1].cut = self._cut = self._source.ended

    def _settle(self) -> None:
        """The source has stopped: nothing more comes for the newest series."""
        if self._series and self._series[-1].cut is None:
            newest, cut = self._series[-1], self._source.cut
            if newest.end is not None:  # what was to be said of it has been put away with its end
                cut = replace(cut, warnings=(*self._source.ended.warnings, *cut.warnings))
            newest.end = newest.end or SeriesEnd(-1, "stopped")
            newest.cut = self._cut = cut

    def _announce_start(self, reception: Reception) -> None:
        self._announce.send(("start", reception.start, str(reception.folder)))

    def _work_off(self) -> None:
        """Hand over the frames that wait, as long as there are slots; and the end, when there are no more."""
        while self._series:
            first = self._series[0]
            self._collect()
            while first.keeper.waiting:
                if self._recording_lags() or not self._hand_on(first):
                    return
                self._collect()
            if not first.over:
                return
            while self._expansion:
                self._expansion.wait(WAIT_S)
                self._collect()
            self._flush()
            first.close()
            last = self._source.finished and len(self._series) == 1
            self._ring.post(replace(self._books(), told_s=0.0).plain())  # nothing more is said of it
            self._announce.send(("end", first.end, self._books(), last))
            self._series.popleft()
            if self._series:
                self._announce_start(self._series[0])

    def _recording_lags(self) -> bool:
        """Whether frames come so fast that recording them needs all the time; those that are can wait."""
        return self._plan.record and not self._plan.block and self._source.queued > self._plan.queue // 2

    def _hand_on(self, reception: Reception) -> bool:
        """Hand over one frame that waits; False: there is no slot for it."""
        if reception.scaled and not self._slot_is_free(reception):
            if not self._plan.record:
                reception.dropped[RING_FULL] += 1
                reception.keeper.pop()
            return False
        try:
            frame, arrived_s = reception.keeper.pop()
        except RecordingError:
            reception.dropped[UNREADABLE] += 1
            return True
        self._hand_over(reception, frame, arrived_s)
        return True

    def _hand_over(self, reception: Reception, frame: EncodedFrame, arrived_s: float) -> None:
        """Begin to expand a frame into the next slot, or say why not."""
        if not reception.scaled:
            reception.rejected[NO_PIXEL_SIZE] += 1
            return
        if reception.geometry is None and not self._carve(reception, frame):
            reception.rejected[TOO_LARGE] += 1
            return
        if reception.geometry != (frame.shape, frame.dtype.newbyteorder("=")):
            reception.rejected["wrong size"] += 1
            return
        self._expansion.begin(frame, self._ring.slot(self._next), arrived_s)
        self._next += 1
        self._free -= 1

    def _collect(self) -> None:
        """Announce the frames that have been expanded, in their order."""
        for one in self._expansion.finished():
            self._pending.append(self._entry(self._series[0], one))
            if len(self._pending) >= BATCH:
                self._flush()

    def _entry(self, reception: Reception, one: Expanded) -> bytes:
        if one.damage:
            if not reception.rejected[DAMAGED]:  # one line; the others are counted
                reception.keeper.warn_once(f"frame {one.frame.index} cannot be expanded: {one.damage}")
            reception.rejected[DAMAGED] += 1
            return EMPTY_SLOT
        reception.handed_over += 1
        frame = one.frame
        time_s = frame.time_s if math.isfinite(frame.time_s) else 0.0
        return ENTRY.pack(frame.index, time_s, one.arrived_s, *(frame.pose or NO_POSE))

    def _carve(self, reception: Reception, frame: EncodedFrame) -> bool:
        """Cut the ring for frames like this one. False: they do not fit, and all that can be done is to record them."""
        dtype = frame.dtype.newbyteorder("=")
        try:
            self._free = self._ring.cut(*frame.shape, dtype)
        except TumbleError as error:
            if not self._plan.record:
                raise
            reception.keeper.warn_once(str(error))
            return False
        reception.geometry = (frame.shape, dtype)
        self._announce.send(("geometry", frame.shape, dtype.str))
        return True

    def _slot_is_free(self, reception: Reception) -> bool:
        """Whether there is a slot. It is waited for while that costs no frame: always, or while the queue has room."""
        # The ring is cut with the first frame of a series: nothing of the series before may lie in it then.
        needed = 1 if reception.geometry else self._ring.slots
        if self._free < needed:
            self._obey(0)
        while self._free < needed:
            self._collect()
            self._flush()
            crowded = self._plan.record or self._source.queued > self._plan.queue // 2
            if crowded and not self._plan.block and not self._source.finished:
                return False
            self._expansion.wait(WAIT_S)
            self._obey(0 if self._expansion else WAIT_S)
            self._post()
        return True

    def _obey(self, wait_s: float) -> None:
        """Read what the daemon says: a number of slots given back, or stop. Its end raises `EOFError`."""
        while self._heard.poll(wait_s * 1000):
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
            if self._series:
                self._ring.post(self._books().plain())
            elif not self._begun:  # what comes may be nothing that begins a series, and the operator has to hear of it
                self._ring.post(self._idle_books().plain())

    def _books(self) -> IntakeBooks:
        """The books of the series that is handed over."""
        return self._series[0].books(self._source.cut, self._plan.queue + self._ring.slots)

    def _idle_books(self) -> IntakeBooks:
        """What came after the last series and belongs to none."""
        counted = self._source.cut.since(self._cut)
        return IntakeBooks(
            received=counted.received,
            rejected=counted.rejected,
            dropped=counted.dropped,
            missing=counted.missing,
            warnings=counted.warnings,
        )
