"""Between the wire and the reconstruction: every frame is recorded first, then waits its turn, in memory or on disk."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .encoded import EncodedFrame
from .errors import CompressionError, RecordingError, RecordingGoneError
from .frame import Quaternion, SeriesStart
from .readers import open_recording
from .recorder import Recorder
from .recording import Recording
from .words import printable

ROOM_FRAMES, ROOM_BYTES = 256, 64 << 20  # that wait in memory; the recording has room for the others
ROOM_UNRECORDED = 16  # frames that wait where nothing is recorded: more would only be later, and lost all the same
MOST_WAITING = 1 << 18  # frames; only numbers are kept of those on disk
DISK_FULL = "disk full"
DAMAGED = "damaged payload"
DISK_FAILED = "disk failed"
REMOVED = "the recording was removed"
_MOST_WARNINGS, _LONGEST_WARNING = 8, 1000


@dataclass(slots=True)
class _Waiting:
    frame: EncodedFrame | None  # None: it is read back from the recording
    position: int  # in the recording; -1: it is not there
    index: int
    time_s: float
    arrived_s: float
    pose: Quaternion | None


class Keeper:
    """Records the frames of one series and hands them out in order.

    Without a recording it holds `room_frames` frames. With one, as many as wait: what is on disk need not be in memory.
    A recording that cannot go on does not end the reconstruction; what is missing from it is counted in `unrecorded`.

    Parameters
    ----------
    path : where to record, or ``None``.
    room_frames, room_bytes : what may wait in memory; one frame always may.

    Attributes
    ----------
    recorded : frames in the recording.
    unrecorded : frames that should be there and are not, by reason.
    warnings : lines for the operator, a bounded number.
    """

    def __init__(self, path: Path | None, *, room_frames: int | None = None, room_bytes: int = ROOM_BYTES) -> None:
        self._path = path
        self._room_frames = room_frames or (ROOM_UNRECORDED if path is None else ROOM_FRAMES)
        self._room_bytes = room_bytes
        self._recorder: Recorder | None = None
        self._reader: Recording | None = None  # of a recording that rests
        self._closed = False
        self._series_id = 0
        self._failed = False
        self._told_full = False
        self._queue: deque[_Waiting] = deque()
        self._in_memory = self._bytes_in_memory = 0
        self._earlier: Iterator[tuple[int, tuple[int, float, Quaternion | None]]] = iter(
            ()
        )  # position, (number, s, pose)
        self._earlier_left = 0
        self.recorded = 0
        self.unrecorded: Counter[str] = Counter()
        self.warnings: list[str] = []

    def begin(self, start: SeriesStart) -> None:
        """A series begins; its recording is made.

        Raises
        ------
        RecordingError : the file exists already or cannot be made.
        """
        self._series_id = start.series_id
        if self._path is not None:
            self._recorder = Recorder(self._path, start)

    def resume(self, start: SeriesStart) -> tuple[int, int]:
        """Go on with the recording of a process that was killed; its frames are handed out before any new one.

        Returns
        -------
        How many there are, and the image number that would follow.

        Raises
        ------
        RecordingError : there is no recording, or it cannot be read.
        """
        if self._path is None:
            raise RecordingError("without a recording there is nothing to go on with")
        if not self._path.exists():  # killed between the start of the series and its first frame
            self.begin(start)
            return 0, 0
        self._series_id = start.series_id
        self._recorder = Recorder(self._path, start, resume=True)
        indices, times_s = self._recorder.numbers()
        poses = self._recorder.poses() or [None] * len(indices)
        self._earlier = enumerate(zip(indices.tolist(), times_s.tolist(), poses, strict=True))
        self.recorded = self._earlier_left = len(indices)
        return len(indices), int(indices[-1]) + 1 if len(indices) else 0

    @property
    def waiting(self) -> int:
        """Frames that were taken and not yet handed out."""
        return len(self._queue) + self._earlier_left

    def take(self, frame: EncodedFrame, arrived_s: float) -> bool:
        """Record a frame and let it wait. False: there is no room for it to wait (it may be recorded all the same)."""
        position = self._record(frame)
        size = len(frame.blob)
        roomy = self._in_memory < self._room_frames and self._bytes_in_memory + size <= self._room_bytes
        kept = frame if roomy or not self._in_memory else None
        if kept is None and (position < 0 or len(self._queue) >= MOST_WAITING):
            return False
        if kept is not None:
            self._in_memory += 1
            self._bytes_in_memory += size
        self._queue.append(_Waiting(kept, position, frame.index, frame.time_s, arrived_s, frame.pose))
        return True

    def pop(self) -> tuple[EncodedFrame, float]:
        """The frame that has waited longest, and when it came off the socket.

        Raises
        ------
        IndexError : none waits.
        RecordingError : it cannot be read back from the recording; it is gone from the queue.
        """
        if self._earlier_left:
            return self._pop_earlier()
        first = self._queue.popleft()
        if first.frame is not None:
            self._in_memory -= 1
            self._bytes_in_memory -= len(first.frame.blob)
            return first.frame, first.arrived_s
        return self._read(first.position, first.index, first.time_s, first.pose), first.arrived_s

    def _pop_earlier(self) -> tuple[EncodedFrame, float]:
        self._earlier_left -= 1
        position, (index, time_s, pose) = next(self._earlier)
        return self._read(position, index, time_s, pose), time.monotonic()

    def _read(self, position: int, index: int, time_s: float, pose: Quaternion | None) -> EncodedFrame:
        if self._recorder is not None:
            return self._recorder.read(position, index, time_s, pose)
        if self._path is None or self._closed:
            raise RecordingError("the recording is closed")
        if self._reader is None:
            self._reader = open_recording(self._path)
        try:
            found = self._reader.encoded(position)
        except IndexError:
            raise RecordingError(f"{self._path} has no frame at position {position}") from None
        return replace(found, series_id=self._series_id, index=index, time_s=time_s, pose=pose)

    def rest(self) -> None:
        """The series is complete and its turn has not come: it lets go of the file, and of the frames that are in it.

        Any number of series may wait like this. Nothing can be taken any more.
        """
        for waiting in self._queue:
            if waiting.frame is not None and waiting.position >= 0:
                self._in_memory -= 1
                self._bytes_in_memory -= len(waiting.frame.blob)
                waiting.frame = None
        self._close_recorder()

    def idle(self) -> None:
        """Called while no frame comes: what was recorded is handed to the operating system in good time."""
        if self._recorder is not None and not self._failed:
            try:
                self._recorder.idle()
            except RecordingError as error:
                self._fail(error)

    def close(self) -> None:
        """Close the recording; nothing can be handed out from it any more."""
        self._closed = True
        self._close_recorder()
        if self._reader is not None:
            self._reader.close()

    def _close_recorder(self) -> None:
        if self._recorder is not None:
            try:
                self._recorder.close()
            except RecordingError as error:
                self._fail(error)
            self._recorder = None

    def _record(self, frame: EncodedFrame) -> int:
        """Position of the frame in the recording, -1 when it is not in it."""
        if self._recorder is None:
            return -1
        if self._failed:
            self.unrecorded[DISK_FAILED] += 1
            return -1
        try:
            stored = self._recorder.write(frame)
        except CompressionError:  # a form that has to be expanded before it is stored, and cannot be
            self.unrecorded[DAMAGED] += 1
            return -1
        except RecordingError as error:
            self._fail(error)
            self.unrecorded[DISK_FAILED] += 1
            return -1
        if stored != (not self._told_full):
            self._told_full = not stored
            self._warn(
                f"recording pauses at frame {frame.index}: the disk of {self._recorder.path.parent} is full; free some"
                if self._told_full
                else f"recording goes on at frame {frame.index}"
            )
        if not stored:
            self.unrecorded[DISK_FULL] += 1
            return -1
        self.recorded += 1
        return self._recorder.frames - 1

    def _fail(self, error: RecordingError) -> None:
        if not self._failed:
            self._failed = True
            if isinstance(error, RecordingGoneError):
                self.unrecorded[REMOVED] += self.recorded
                self.recorded = 0
            elif self._recorder is not None and self.recorded > self._recorder.frames:  # on their way to the disk
                self.unrecorded[DISK_FAILED] += self.recorded - self._recorder.frames
                self.recorded = self._recorder.frames
            self._warn(
                f"the recording has ended: {error}; later frames are not in it: mend that and begin a new series"
            )

    def warn_once(self, words: str) -> None:
        """A line for the operator that is only worth saying once."""
        if printable(words, _LONGEST_WARNING) not in self.warnings:
            self._warn(words)

    def _warn(self, words: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(printable(words, _LONGEST_WARNING))
