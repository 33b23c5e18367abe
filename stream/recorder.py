"""Record a stream to HDF5: one frame per chunk, the compressed bytes of the detector stored as they came.

HDF5 makes the file with all its objects; frames and what grows beside them are written by us (`direct.py`,
`frame_table.py`), since HDF5 would copy every frame through the page cache. While it is written the file is marked as
one in SWMR mode (single writer, multiple readers), and at every moment it is a whole one: what was flushed stays
readable when the writer is killed. `open_recording` reads such a file, plain h5py does with ``swmr=True``. Its layout
is that of NXmx (NeXus), as far as a stream tells what belongs there, with a CRC-32 of every frame beside the frames.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from .chunk_index import largest
from .compression import default_block_bytes
from .direct import PAGE, DirectFile
from .encoded import EncodedFrame, encode_frame
from .errors import RecordingError, RecordingGoneError
from .frame import Frame, Quaternion, SeriesStart
from .frame_table import COLUMN_CHUNK, COLUMNS, POSE, FrameTable, header_address, marked, read_earlier
from .hdf5 import BITSHUFFLE_FILTER, LZ4_FILTER, as_pose
from .nxmx import attributes, lay_out
from .repair import WRITTEN_TO, repair_recording, superblock

RESERVE_BYTES = 256 << 20
_LOOK_EVERY_BYTES = 32 << 20  # written between two looks at the disk, besides one at every flush
_NO_POSE = (math.nan,) * 4
_SMALLEST_HEADER = 256  # bytes; those of our datasets are a little larger


class Recorder:
    """Writes one series to one file.

    HDF5 does not outlive a full disk, so it never meets one: while less than a reserve is free, frames are refused and
    `full` is true; when there is room again, recording goes on.

    Parameters
    ----------
    path : the file; it must not exist, unless it is to be continued.
    start : the series; its known fields become attributes of the dataset.
    resume : go on with the file of a process that was killed, after the last frame that is whole with its numbers.
    flush_every_s : how much of the stream a killed process may lose.
    reserve_bytes : what is left free on the disk.
    free_bytes : says how much is free in a folder; ``None``: the file system does, wherever the file is by now.

    Attributes
    ----------
    frames : how many are in the file; the last one stands at position ``frames - 1``.
    full : the disk has no room at the moment.

    Raises
    ------
    RecordingError : the file exists or cannot be made.
    """

    def __init__(
        self,
        path: str | Path,
        start: SeriesStart,
        *,
        resume: bool = False,
        flush_every_s: float = 1.0,
        reserve_bytes: int = RESERVE_BYTES,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self.path = Path(path)
        self.start = start
        self.frames = self._taken = 0  # in the file or on the way there; and those that were, should the disk fail
        self.full = False
        self._flush_every_s = flush_every_s
        self._reserve_bytes, self._free_bytes = reserve_bytes, free_bytes
        self._unwatched = _LOOK_EVERY_BYTES
        self._algorithm = ""
        self._columns: dict[str, list[Any]] = {}  # of frames that are not in the table yet
        self._places: list[tuple[int, int]] = []  # addresses and sizes of those that have none in the table on the disk
        self._places_from = 0
        self._table: FrameTable | None = None
        self._form: tuple[tuple[int, int], np.dtype[Any]] | None = None
        self._largest = 0  # bytes of a frame that the table can hold
        self._earlier: dict[str, NDArray[Any]] = {}
        self._closed = False
        try:
            if resume:
                repair_recording(self.path)
            self._file = DirectFile(self.path, new=not resume)
            try:
                if resume:
                    self._continue()
                else:
                    self._file.head(_made(lambda _: None))
            except BaseException:
                self._file.close()
                raise
        except FileExistsError:
            raise RecordingError(f"{path} exists already; recordings are never overwritten") from None
        except (OSError, RuntimeError, KeyError) as error:
            raise RecordingError(f"cannot write {path}: {_short(error)}") from None
        self._last_flush = time.monotonic()

    def write(self, frame: Frame | EncodedFrame) -> bool:
        """Append one frame; a compressed one is stored without being expanded. False: the disk has no room for it.

        Raises
        ------
        RecordingError : the frame has another shape or type than the first one, or the disk fails.
        CompressionError : a frame that cannot be stored as it came turned out to be damaged.
        """
        encoded = self._fitting(frame)
        blob = encoded.blob
        if not self._has_room(len(blob)):
            return False
        try:
            if self._table is None:
                self._create(encoded)
            address, check = self._file.append(blob)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._failed(error) from None
        self._places.append((address, len(blob)))
        self.frames += 1
        self._taken = self.frames
        columns = self._columns
        columns["image_id"].append(frame.index)
        columns["time_s"].append(frame.time_s)
        columns["crc32"].append(check)
        if POSE in columns:
            columns[POSE].append(frame.pose or _NO_POSE)
        if time.monotonic() - self._last_flush >= self._flush_every_s:
            self._hand_over()
        return True

    def read(self, position: int, index: int, time_s: float, pose: Quaternion | None = None) -> EncodedFrame:
        """Read back a frame that was written as number `index` at `time_s`, with `pose`.

        Raises
        ------
        RecordingError : there is none at this position, or the disk fails.
        """
        if self._table is None or self._form is None or not 0 <= position < self._taken:
            raise RecordingError(f"{self.path} has no frame at position {position}")
        try:
            recent = position - self._places_from
            address, size = self._places[recent] if recent >= 0 else self._table.place(position)
            blob = self._file.read(address, size)
        except OSError as error:
            raise RecordingError(f"cannot read {self.path}: {_short(error)}") from None
        if len(blob) != size:
            raise RecordingError(f"cannot read {self.path}: it ends before the frame at position {position}")
        shape, dtype = self._form
        return EncodedFrame(self.start.series_id, index, time_s, shape, dtype, self._algorithm, blob, pose=pose)

    def flush(self) -> None:
        """Hand everything to the operating system: a process killed after this loses nothing written before it.

        Raises
        ------
        RecordingError : the disk fails.
        RecordingGoneError : somebody has removed the file.
        """
        self._hand_over()
        try:
            self._file.settle()
        except OSError as error:
            raise self._failed(error) from None

    def idle(self) -> None:
        """Called while no frame comes: the last ones are flushed no later than others.

        Raises
        ------
        RecordingError : the disk fails.
        """
        if self._columns.get("image_id") and time.monotonic() - self._last_flush >= self._flush_every_s:
            self.flush()

    def _hand_over(self) -> None:
        """Let the thread of the file write what has come since the last time, and the table of it after that."""
        self._last_flush = time.monotonic()
        self._unwatched = _LOOK_EVERY_BYTES
        if self._table is None:
            return
        self._look_after_it()
        settled = self._table.settled(self._file.reached) - self._places_from
        if settled > 0:
            del self._places[:settled]
            self._places_from += settled
        try:
            self._file.check()
            if new := self.frames - self._table.count:
                columns = {name: np.array(values, COLUMNS[name]) for name, values in self._columns.items()}
                self._file.post(self._table.extend(np.array(self._places[-new:], np.uint64), columns), self.frames)
                for values in self._columns.values():
                    values.clear()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> RecordingError:
        """What is said of a disk that fails; only frames that a reader of the file will find count as written."""
        if self._table is not None:
            self.frames = min(self.frames, self._file.reached)
        return RecordingError(f"cannot write {self.path}: {_short(error)}")

    def _has_room(self, size: int) -> bool:
        """Whether the disk has room for `size` bytes more; it is asked now and then, and always while it is full."""
        self._unwatched += size
        if not self.full and self._unwatched < _LOOK_EVERY_BYTES:
            return True
        self._unwatched = 0
        self._look_after_it()
        try:
            free = self._free() if self._free_bytes is None else self._free_bytes(self.path.parent)
        except OSError as error:
            raise self._failed(error) from None
        # Twice the reserve to go on, so that the file does not become a row of single frames.
        self.full = free < size + self._reserve_bytes * (2 if self.full else 1)
        return not self.full

    def _free(self) -> int:
        disk = os.fstatvfs(self._file.file)
        return disk.f_bavail * disk.f_frsize

    def _look_after_it(self) -> None:
        """A file that was removed while it is open can be written to for ever, and nobody will ever read it."""
        if os.fstat(self._file.file).st_nlink == 0:
            raise RecordingGoneError(f"{self.path} was removed while it was written, and the frames in it with it")

    def close(self) -> None:
        """Flush and close. A recording without frames has no dataset.

        Raises
        ------
        RecordingError : the disk fails; what was flushed before is in the file.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
            self._file.post([marked(self._file, 0)], self.frames)
            self._file.settle()
        except OSError as error:
            raise self._failed(error) from None
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fitting(self, frame: Frame | EncodedFrame) -> EncodedFrame:
        """The frame as this file holds frames: it has one filter and one byte order; what differs is recompressed."""
        if isinstance(frame, EncodedFrame) and self._fits_as_it_is(frame):
            return frame
        pixels = frame if isinstance(frame, EncodedFrame) else frame.data
        shape, dtype = pixels.shape, pixels.dtype
        if self._form is not None:
            same_type = dtype.newbyteorder("=") == self._form[1].newbyteorder("=")
            if shape != self._form[0] or not same_type:
                raise RecordingError(f"frame {frame.index} has another shape or type than the recording {self.path}")
            dtype = self._form[1]
        if isinstance(frame, EncodedFrame):
            right_filter = frame.algorithm == self._algorithm if self._algorithm else frame.algorithm != "none"
            if right_filter and frame.dtype == dtype and _storable(frame):
                return frame
            frame = frame.decode()
        data = frame.data.astype(dtype, copy=False)
        return encode_frame(replace(frame, data=data), self._algorithm or "bslz4")

    def _fits_as_it_is(self, frame: EncodedFrame) -> bool:
        """Whether nothing has to be thought about: nearly always."""
        return (
            self._form == (frame.shape, frame.dtype)
            and frame.algorithm == self._algorithm
            and (not frame.column_major and 0 < len(frame.blob) <= self._largest)
        )

    def _create(self, first: EncodedFrame) -> None:
        """HDF5 makes the objects, in memory; shape and type are known with the first frame only."""
        self._algorithm = first.algorithm
        element_size = first.dtype.itemsize
        number: int = LZ4_FILTER
        values: tuple[int, ...] = (0,)
        if self._algorithm == "bslz4":
            number, values = BITSHUFFLE_FILTER, (default_block_bytes(element_size) // element_size, 2)
        names = [name for name in COLUMNS if name != POSE or first.pose is not None]
        headers: dict[str, int] = {}

        def make(file: h5py.File) -> None:
            group = lay_out(file, self.start)
            data = group.create_dataset(
                "data",
                shape=(0, *first.shape),
                maxshape=(None, *first.shape),
                chunks=(1, *first.shape),
                dtype=first.dtype,
                compression=number,
                compression_opts=values,
            )
            for name, value in attributes(self.start).items():
                data.attrs[name] = value
            for name in names:
                row = (4,) if name == POSE else ()
                group.create_dataset(
                    name, shape=(0, *row), maxshape=(None, *row), chunks=(COLUMN_CHUNK, *row), dtype=COLUMNS[name]
                )
            headers.update({name: header_address(group[name]) for name in ("data", *names)})

        self._file.head(_made(make))
        self._begin(headers, first.shape, first.dtype)

    def _begin(self, headers: dict[str, int], shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Begin the table of frames of this form, in datasets that are in the file."""
        self._form, raw_bytes = (shape, dtype), math.prod(shape) * dtype.itemsize
        self._largest = largest(raw_bytes)
        self._table = FrameTable(self._file, headers, raw_bytes)
        self._columns = {name: [] for name in self._table.names}

    def _continue(self) -> None:
        """Go on after the last frame that has all its numbers: their table is written anew, behind everything."""
        earlier = read_earlier(self.path)
        self._algorithm = earlier.algorithm
        self._begin(earlier.headers, earlier.shape, earlier.dtype)
        assert self._table is not None  # noqa: S101  # just made
        self.frames = self._taken = len(earlier.places)
        self._earlier = earlier.columns
        table = self._table.extend(earlier.places, earlier.columns)
        self._file.post([marked(self._file, WRITTEN_TO), *table], self.frames)
        self._file.settle()
        self._places_from = self._table.settled(self.frames)
        self._places = [(int(address), int(size)) for address, size in earlier.places[self._places_from :]]

    def numbers(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Image numbers and times (s) of the frames that were in the file when it was opened."""
        return self._earlier.get("image_id", np.empty(0, np.int64)), self._earlier.get("time_s", np.empty(0))

    def poses(self) -> list[Quaternion | None]:
        """Poses of the frames that `numbers` counts; empty when the recording has none."""
        return [as_pose(row) for row in self._earlier.get(POSE, ())]


def _storable(frame: EncodedFrame) -> bool:
    """Whether it can be a chunk as it came; HDF5 knows none that are empty, and none that are absurdly large."""
    return frame.storable and 0 < len(frame.blob) <= largest(frame.raw_bytes)


def _made(make: Callable[[h5py.File], None]) -> bytes:
    """The bytes of a new HDF5 file with what `make` puts into it, as one that is being written.

    Headers that change later lie in one page each, so that a kill cannot tear them.
    """
    with h5py.File(
        "new",
        "w",
        driver="core",
        backing_store=False,
        libver="v110",
        alignment_threshold=_SMALLEST_HEADER,
        alignment_interval=PAGE,
    ) as file:
        make(file)
        file.flush()
        image = bytes(file.id.get_file_image())
    head = superblock(image, WRITTEN_TO, len(image))
    return head + image[len(head) :]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
