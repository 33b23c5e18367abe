"""Record a stream to HDF5: one frame per chunk, the compressed bytes of the detector stored as they came.

The file is in SWMR mode (single writer, multiple readers) while it is written, so that what was flushed stays readable
when the writer is killed: `open_recording` reads such a file, plain h5py does with ``swmr=True``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from .compression import default_block_bytes
from .encoded import EncodedFrame, encode_frame
from .errors import RecordingError
from .frame import Frame, SeriesStart
from .hdf5 import BITSHUFFLE_FILTER, LZ4_FILTER

_COLUMN_CHUNK = 4096


class Recorder:
    """Writes one series to one file.

    Parameters
    ----------
    path : the file; it must not exist.
    start : the series; its known fields become attributes of the dataset.
    flush_every_s : how much of the stream a killed process may lose.

    Raises
    ------
    RecordingError : the file exists or cannot be made.
    """

    def __init__(self, path: str | Path, start: SeriesStart, *, flush_every_s: float = 1.0) -> None:
        self.path = Path(path)
        self.start = start
        self.frames = 0
        self._flush_every_s = flush_every_s
        self._algorithm = ""
        self._image_ids: list[int] = []
        self._times: list[float] = []
        self._data: h5py.Dataset | None = None
        try:
            self._file = h5py.File(self.path, "x", libver="v110")
        except FileExistsError:
            raise RecordingError(f"{path} exists already; recordings are never overwritten") from None
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error}") from None
        self._last_flush = time.monotonic()

    def write(self, frame: Frame | EncodedFrame) -> None:
        """Append one frame; a compressed one is stored without being expanded.

        Raises
        ------
        RecordingError : the frame has another shape or type than the first one, or the disk is full.
        CompressionError : a frame that cannot be stored as it came turned out to be damaged.
        """
        encoded = self._fitting(frame)
        if self._data is None:
            self._data = self._create(encoded)
        try:
            self._data.resize(self.frames + 1, axis=0)
            self._data.id.write_direct_chunk((self.frames, 0, 0), encoded.blob)
        except (OSError, RuntimeError) as error:
            raise RecordingError(f"cannot write {self.path}: {error}") from None
        self.frames += 1
        self._image_ids.append(frame.index)
        self._times.append(frame.time_s)
        if time.monotonic() - self._last_flush >= self._flush_every_s:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system: a process killed after this loses nothing written before it."""
        self._last_flush = time.monotonic()
        if self._data is None:
            return
        try:
            self._append("image_id", self._image_ids)
            self._append("time_s", self._times)
            self._data.flush()
        except (OSError, RuntimeError) as error:
            raise RecordingError(f"cannot write {self.path}: {error}") from None
        self._image_ids, self._times = [], []

    def close(self) -> None:
        """Flush and close. A recording without frames has no dataset."""
        if not self._file:
            return
        try:
            self.flush()
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
        pixels = frame if isinstance(frame, EncodedFrame) else frame.data
        shape, dtype = pixels.shape, pixels.dtype
        if self._data is not None:
            same_type = dtype.newbyteorder("=") == self._data.dtype.newbyteorder("=")
            if shape != self._data.shape[1:] or not same_type:
                raise RecordingError(f"frame {frame.index} has another shape or type than the recording {self.path}")
            dtype = self._data.dtype
        if isinstance(frame, EncodedFrame):
            right_filter = frame.algorithm == self._algorithm if self._algorithm else frame.algorithm != "none"
            if frame.storable and right_filter and frame.dtype == dtype:
                return frame
            frame = frame.decode()
        data = frame.data.astype(dtype, copy=False)
        return encode_frame(replace(frame, data=data), self._algorithm or "bslz4")

    def _create(self, first: EncodedFrame) -> h5py.Dataset:
        """Everything has to exist before SWMR begins, and shape and type are known with the first frame only."""
        self._algorithm = first.algorithm
        element_size = first.dtype.itemsize
        number: int = LZ4_FILTER
        values: tuple[int, ...] = (0,)
        if self._algorithm == "bslz4":
            number, values = BITSHUFFLE_FILTER, (default_block_bytes(element_size) // element_size, 2)
        group = self._file.create_group("entry/data")
        group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "data"
        self._file["entry"].attrs["NX_class"] = "NXentry"
        data = group.create_dataset(
            "data",
            shape=(0, *first.shape),
            maxshape=(None, *first.shape),
            chunks=(1, *first.shape),
            dtype=first.dtype,
            compression=number,
            compression_opts=values,
        )
        for name, value in _attributes(self.start).items():
            data.attrs[name] = value
        for name, dtype in (("image_id", np.int64), ("time_s", np.float64)):
            group.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(_COLUMN_CHUNK,), dtype=dtype)
        self._write_tables()
        self._file.swmr_mode = True
        return data

    def _write_tables(self) -> None:
        for name, table in (("pixel_mask", self.start.pixel_mask), ("flatfield", self.start.flatfield)):
            if table is not None:
                self._file.create_dataset(f"entry/instrument/detector/{name}", data=table, compression="gzip")

    def _append(self, name: str, values: list[Any]) -> None:
        if values:
            column = self._file[f"entry/data/{name}"]
            column.resize(len(column) + len(values), axis=0)
            column[-len(values) :] = values
            column.flush()


def _attributes(start: SeriesStart) -> dict[str, Any]:
    said = {
        "series_id": start.series_id,
        "unique_id": start.unique_id,
        "detector": start.detector,
        "frame_time_s": start.frame_time_s,
        "pixel_size_A": start.pixel_size_A,
        "dose_e_per_A2_per_frame": start.dose_e_per_A2,
        "voltage_kV": start.voltage_kV,
    }
    return {name: value for name, value in said.items() if value not in (None, "")}
