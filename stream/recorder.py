"""Record a stream to HDF5: one frame per chunk, the compressed bytes of the detector stored as they came.

The file is in SWMR mode (single writer, multiple readers) while it is written, so that what was flushed stays readable
when the writer is killed: `open_recording` reads such a file, plain h5py does with ``swmr=True``. Its layout is that of
NXmx (NeXus), as far as a stream tells what belongs there, with a CRC-32 of every stored frame beside the frames.
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

from .checksum import crc32
from .compression import default_block_bytes
from .encoded import EncodedFrame, encode_frame
from .errors import RecordingError, RecordingGoneError
from .frame import Frame, Quaternion, SeriesStart
from .hdf5 import BITSHUFFLE_FILTER, LZ4_FILTER, OWN_DATASET, as_pose, chunk_algorithm
from .nxmx import attributes, lay_out
from .repair import repair_recording
from .writeout import STEP_BYTES, WriteOut

RESERVE_BYTES = 256 << 20
_COLUMN_CHUNK = 4096
_LOOK_EVERY_BYTES = 32 << 20  # written between two looks at the disk, besides one at every flush
_COLUMNS = {"image_id": np.int64, "time_s": np.float64, "crc32": np.uint32}
_POSE, _NO_POSE = "pose", (math.nan,) * 4  # a column of its own (frames, 4), where the first frame has a pose


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
    wanted_from : position of the first frame that will be read back; those before it leave memory.

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
        self.frames = 0
        self._numbered = self._length = 0  # frames whose numbers are in the file, and places for frames
        self.full = False
        self.wanted_from = 0
        self._write_out, self._not_asked = WriteOut(self.path), 0
        self._flush_every_s = flush_every_s
        self._reserve_bytes, self._free_bytes = reserve_bytes, free_bytes
        self._unwatched = _LOOK_EVERY_BYTES
        self._algorithm = ""
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._data: h5py.Dataset | None = None
        self._form: tuple[tuple[int, int], np.dtype[Any]] | None = None  # of `_data`, which is slow to ask
        self._closed = False
        try:
            if resume:
                repair_recording(self.path)
            self._file = h5py.File(self.path, "r+" if resume else "x", libver="v110")
            if resume:
                self._data = self._continue()
        except FileExistsError:
            raise RecordingError(f"{path} exists already; recordings are never overwritten") from None
        except (OSError, RuntimeError) as error:
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
        if not self._has_room(len(encoded.blob)):
            return False
        try:
            if self._data is None:
                self._data = self._create(encoded)
                self._form = encoded.shape, self._data.dtype
            if self._length <= self.frames:
                self._length = self.frames + 1
                self._data.id.set_extent((self._length, *encoded.shape))
            self._data.id.write_direct_chunk((self.frames, 0, 0), encoded.blob)
        except (OSError, RuntimeError, ValueError) as error:
            raise RecordingError(f"cannot write {self.path}: {_short(error)}") from None
        self.frames += 1
        columns = self._columns
        columns["image_id"].append(frame.index)
        columns["time_s"].append(frame.time_s)
        columns["crc32"].append(crc32(encoded.blob))
        if _POSE in columns:
            columns[_POSE].append(frame.pose or _NO_POSE)
        self._not_asked += len(encoded.blob)
        if self._not_asked >= STEP_BYTES:
            self._not_asked = 0
            self._write_out.go_on(self.frames, self.wanted_from)
        if time.monotonic() - self._last_flush >= self._flush_every_s:
            self.flush()
        return True

    def read(self, position: int, index: int, time_s: float, pose: Quaternion | None = None) -> EncodedFrame:
        """Read back a frame that was written as number `index` at `time_s`, with `pose`.

        Raises
        ------
        RecordingError : there is none at this position, or the disk fails.
        """
        if self._data is None or self._form is None or not 0 <= position < self.frames:
            raise RecordingError(f"{self.path} has no frame at position {position}")
        try:
            _, blob = self._data.id.read_direct_chunk((position, 0, 0))
        except (OSError, RuntimeError, ValueError) as error:
            raise RecordingError(f"cannot read {self.path}: {_short(error)}") from None
        shape, dtype = self._form
        return EncodedFrame(self.start.series_id, index, time_s, shape, dtype, self._algorithm, blob, pose=pose)

    def flush(self) -> None:
        """Hand everything to the operating system: a process killed after this loses nothing written before it.

        Raises
        ------
        RecordingError : the disk fails.
        RecordingGoneError : somebody has removed the file.
        """
        self._last_flush = time.monotonic()
        self._unwatched = _LOOK_EVERY_BYTES
        if self._data is None:
            return
        self._look_after_it()
        try:
            for name, values in self._columns.items():
                self._append(name, values)
            self._numbered = self.frames
            self._data.flush()
        except (OSError, RuntimeError) as error:
            raise RecordingError(f"cannot write {self.path}: {_short(error)}") from None

    def idle(self) -> None:
        """Called while no frame comes: the last ones are flushed no later than others.

        Raises
        ------
        RecordingError : the disk fails.
        """
        if self.frames > self._numbered and time.monotonic() - self._last_flush >= self._flush_every_s:
            self.flush()

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
            raise RecordingError(f"cannot write {self.path}: {_short(error)}") from None
        # Twice the reserve to go on, so that the file does not become a row of single frames.
        self.full = free < size + self._reserve_bytes * (2 if self.full else 1)
        return not self.full

    def _free(self) -> int:
        disk = os.fstatvfs(self._file.id.get_vfd_handle())
        return disk.f_bavail * disk.f_frsize

    def _look_after_it(self) -> None:
        """A file that was removed while it is open can be written to for ever, and nobody will ever read it."""
        if os.fstat(self._file.id.get_vfd_handle()).st_nlink == 0:
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
            self._cut()
        finally:
            try:
                self._file.close()
            except (OSError, RuntimeError) as error:
                raise RecordingError(f"cannot write {self.path}: {_short(error)}") from None

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
            if frame.storable and right_filter and frame.dtype == dtype:
                return frame
            frame = frame.decode()
        data = frame.data.astype(dtype, copy=False)
        return encode_frame(replace(frame, data=data), self._algorithm or "bslz4")

    def _fits_as_it_is(self, frame: EncodedFrame) -> bool:
        """Whether nothing has to be thought about: nearly always."""
        return self._form == (frame.shape, frame.dtype) and frame.storable and frame.algorithm == self._algorithm

    def _create(self, first: EncodedFrame) -> h5py.Dataset:
        """Everything has to exist before SWMR begins, and shape and type are known with the first frame only."""
        self._algorithm = first.algorithm
        element_size = first.dtype.itemsize
        number: int = LZ4_FILTER
        values: tuple[int, ...] = (0,)
        if self._algorithm == "bslz4":
            number, values = BITSHUFFLE_FILTER, (default_block_bytes(element_size) // element_size, 2)
        group = lay_out(self._file, self.start)
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
        for name, dtype in _COLUMNS.items():
            group.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(_COLUMN_CHUNK,), dtype=dtype)
        if first.pose is not None:
            group.create_dataset(_POSE, shape=(0, 4), maxshape=(None, 4), chunks=(_COLUMN_CHUNK, 4), dtype=np.float64)
            self._columns[_POSE] = []
        self._file.swmr_mode = True
        return data

    def _continue(self) -> h5py.Dataset:
        """Go on writing after the last frame that has all its numbers."""
        data = self._file[OWN_DATASET]
        self._form = data.shape[1:], data.dtype
        self._algorithm = chunk_algorithm(data) or ""
        if f"entry/data/{_POSE}" in self._file:
            self._columns[_POSE] = []
        columns = [self._file[f"entry/data/{name}"] for name in self._columns]
        self.frames = self._numbered = min(len(data), *map(len, columns))
        self._length = len(data)  # what lies behind is written over: nothing is changed before SWMR protects it
        self._file.swmr_mode = True
        return data

    def _cut(self) -> None:
        """Remove places that were never filled again after a crash."""
        if self._data is None:
            return
        try:
            for dataset in (self._data, *(self._file[f"entry/data/{name}"] for name in self._columns)):
                if len(dataset) > self.frames:
                    dataset.resize(self.frames, axis=0)
        except (OSError, RuntimeError) as error:
            raise RecordingError(f"cannot write {self.path}: {_short(error)}") from None

    def numbers(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Image numbers and times (s) of the frames that were in the file when it was opened or last flushed."""
        if self._data is None:
            return np.empty(0, np.int64), np.empty(0)
        group, count = self._file["entry/data"], self._numbered
        return group["image_id"][:count], group["time_s"][:count]

    def poses(self) -> list[Quaternion | None]:
        """Poses of the frames that `numbers` counts; empty when the recording has none."""
        if _POSE not in self._columns:
            return []
        return [as_pose(row) for row in self._file[f"entry/data/{_POSE}"][: self._numbered]]

    def _append(self, name: str, values: list[Any]) -> None:
        if values:
            column = self._file[f"entry/data/{name}"]
            end = self._numbered + len(values)
            column.resize(max(len(column), end), axis=0)
            column[self._numbered : end] = values
            column.flush()
            values.clear()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
