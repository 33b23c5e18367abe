"""What of a recording grows: the index of its frames and the columns beside them, in datasets that HDF5 has made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from .chunk_index import ChunkIndex
from .direct import DirectFile, Write
from .errors import RecordingError
from .hdf5 import OWN_DATASET, chunk_algorithm
from .object_header import ObjectHeader
from .repair import HEAD_BYTES, WRITTEN_TO, superblock

COLUMN_CHUNK = 4096
GROUP = "entry/data"
POSE = "pose"  # a column of its own (frames, 4), where the first frame has a pose
COLUMNS: dict[str, DTypeLike] = {"image_id": np.int64, "time_s": np.float64, "crc32": np.uint32, POSE: np.float64}


class _Column:
    """One dataset of numbers, in chunks of its own."""

    def __init__(self, file: DirectFile, header: int) -> None:
        self._file = file
        self._header = ObjectHeader(file.file, header)
        self._index = ChunkIndex(file.reserve)
        self._chunk = self._count = 0

    def extend(self, values: NDArray[Any]) -> list[Write]:
        """Append (n,) or (n, width) values."""
        writes: list[Write] = []
        chunks = []
        row_bytes = values.itemsize * int(np.prod(values.shape[1:]))
        while len(values):
            at = self._count % COLUMN_CHUNK
            if at == 0:
                self._chunk = self._file.reserve(COLUMN_CHUNK * row_bytes)
                chunks.append(self._chunk)
            taken, values = values[: COLUMN_CHUNK - at], values[COLUMN_CHUNK - at :]
            writes.append((self._chunk + at * row_bytes, taken.tobytes()))
            self._count += len(taken)
        writes += self._index.extend(self._index.rows(np.array(chunks, np.uint64)))
        return [*writes, *self._header.changed(self._count, self._index.address)]


class FrameTable:
    """Places of the frames in the file, and the numbers beside them.

    Parameters
    ----------
    file : the recording. headers : where the object headers of its datasets are, by name. chunk_bytes : of an image.

    Attributes
    ----------
    count : frames in it.

    Raises
    ------
    RecordingError : the datasets are not such that they can grow.
    """

    def __init__(self, file: DirectFile, headers: dict[str, int], chunk_bytes: int) -> None:
        self._file = file
        self._columns = {name: _Column(file, headers[name]) for name in COLUMNS if name in headers}
        self._header = ObjectHeader(file.file, headers["data"])
        self._index = ChunkIndex(file.reserve, chunk_bytes)
        self.count = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(self._columns)

    def extend(self, places: NDArray[np.uint64], columns: dict[str, NDArray[Any]]) -> list[Write]:
        """Append frames.

        Parameters
        ----------
        places : (n, 2) addresses and sizes in bytes. columns : (n,) or (n, 4) values, by name.

        Returns
        -------
        What has to be written after the frames themselves, in this order; at every moment the file is a whole one.
        """
        writes = [write for name, column in self._columns.items() for write in column.extend(columns[name])]
        writes += self._index.extend(self._index.rows(places[:, 0], places[:, 1]))
        self.count = self._index.count
        writes += self._header.changed(self.count, self._index.address)
        return [*writes, marked(self._file, WRITTEN_TO)]

    def settled(self, count: int) -> int:
        """Of how many of the first `count` frames, once their places are written, these will stay where they are."""
        return self._index.settled(count)

    def place(self, position: int) -> tuple[int, int]:
        """Address and size of a frame whose place is settled.

        Raises
        ------
        OSError : the disk fails.
        """
        return self._index.place(os.pread(self._file.file, self._index.element_bytes, self._index.where(position)))


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a recording already has: frames that are whole with all their numbers.

    Attributes
    ----------
    headers : as for `FrameTable`. places, columns : as for `FrameTable.extend`.
    shape, dtype, algorithm : of the frames, and what they are compressed with.
    """

    headers: dict[str, int]
    places: NDArray[np.uint64]
    columns: dict[str, NDArray[Any]]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    algorithm: str


def read_earlier(path: Path) -> Earlier:
    """Read what there is; the file carries no mark of a writer any more.

    Raises
    ------
    RecordingError : it is no recording of ours.
    OSError, RuntimeError, KeyError : HDF5 cannot read it.
    """
    with h5py.File(path, "r") as file:
        data = file[OWN_DATASET]
        columns = {name: file[f"{GROUP}/{name}"] for name in COLUMNS if f"{GROUP}/{name}" in file}
        algorithm = chunk_algorithm(data)
        if algorithm in (None, "none"):
            raise RecordingError(f"{path} has no frames as a recorder writes them")
        headers = {name: header_address(item) for name, item in (*columns.items(), ("data", data))}
        places = _places(data, min(len(data), *map(len, columns.values())))
        return Earlier(
            headers,
            places,
            {name: item[: len(places)] for name, item in columns.items()},
            data.shape[1:],
            data.dtype,
            str(algorithm),
        )


def _places(data: h5py.Dataset, most: int) -> NDArray[np.uint64]:
    """Addresses and sizes (n, 2) of the frames up to the first place that was never filled."""
    places = np.zeros((most, 2), np.uint64)

    def note(chunk: Any) -> None:
        if chunk.chunk_offset[0] < most:
            places[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

    data.id.chunk_iter(note)
    empty = np.flatnonzero(places[:, 1] == 0)
    return places[: empty[0]] if len(empty) else places


def marked(file: DirectFile, flags: int) -> Write:
    """The beginning of the file, with these marks and the end that the file has by now."""
    return 0, superblock(os.pread(file.file, HEAD_BYTES, 0), flags, file.end)


def header_address(dataset: h5py.Dataset) -> int:
    """Where the object header of a dataset is in the file."""
    return int(h5py.h5o.get_info(dataset.id).addr)
