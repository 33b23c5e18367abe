"""Open a recorded stream: any HDF5 file with frames in a three-dimensional dataset, one chunk at a time."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import h5py
import hdf5plugin  # noqa: F401  # registers the bitshuffle and LZ4 filters with HDF5
import numpy as np
from numpy.typing import NDArray

from .encoded import EncodedFrame
from .errors import CompressionError, RecordingError
from .frame import Event, Frame, SeriesEnd, SeriesStart

BITSHUFFLE_FILTER, LZ4_FILTER = 32008, 32004
_BITSHUFFLE_LZ4 = 2  # fifth client value of the bitshuffle filter: followed by LZ4
OWN_DATASET = "/entry/data/data"


class Recording:
    """Frames in a file. Made by `open_recording`; use it as a context manager, or `close` it.

    Attributes
    ----------
    start : what is known about the series; fields the file does not tell are ``None``.
    """

    def __init__(self, file: h5py.File, datasets: list[h5py.Dataset], start: SeriesStart) -> None:
        self._file = file
        self.start = start
        self._datasets = datasets
        self._algorithms = [_chunk_algorithm(dataset) for dataset in datasets]
        self._ends = np.cumsum([len(dataset) for dataset in datasets]).tolist()
        self._length: int = self._ends[-1]
        self._image_ids = _column(file, "image_id", np.int64, self._length)
        self._times = _column(file, "time_s", np.float64, self._length)

    def __len__(self) -> int:
        return self._length

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._file.filename)

    def index(self, position: int) -> int:
        """Image number of the frame at a position; recordings keep the gaps of the stream."""
        if position < len(self._image_ids):
            return int(self._image_ids[position])
        if len(self._image_ids):  # recorded after the last flush of the numbers
            return int(self._image_ids[-1]) + 1 + position - len(self._image_ids)
        return position

    def time_s(self, position: int) -> float:
        """Start of the exposure of the frame at a position, seconds since the series began."""
        if position < len(self._times) and math.isfinite(self._times[position]):
            return float(self._times[position])
        return self.index(position) * (self.start.frame_time_s or 0.0)

    def frame(self, position: int) -> Frame:
        """Read one frame.

        Raises
        ------
        IndexError : no such position.
        RecordingError : the file is damaged there.
        """
        segment, row = self._locate(position)
        if self._algorithms[segment] is not None:
            encoded = self._read_chunk(segment, row, position)
            if encoded is not None:
                try:
                    return encoded.decode()
                except CompressionError as error:
                    raise RecordingError(f"{self.path}: frame {position} is damaged: {error}") from None
        return Frame(self.start.series_id, self.index(position), self._read(segment, row), self.time_s(position))

    def encoded(self, position: int) -> EncodedFrame:
        """Read one frame without decompressing it, where the file stores one frame per chunk.

        Raises
        ------
        IndexError : no such position.
        RecordingError : the file is damaged there.
        """
        segment, row = self._locate(position)
        if self._algorithms[segment] is not None:
            encoded = self._read_chunk(segment, row, position)
            if encoded is not None:
                return encoded
        data = np.ascontiguousarray(self._read(segment, row))
        height, width = data.shape
        return EncodedFrame(
            self.start.series_id,
            self.index(position),
            self.time_s(position),
            (height, width),
            data.dtype,
            "none",
            data.reshape(-1).view(np.uint8).data,
        )

    @property
    def forwards(self) -> bool:
        """Whether `encoded` gives the compressed bytes of the file."""
        return all(algorithm not in (None, "none") for algorithm in self._algorithms)

    def __iter__(self) -> Iterator[Event]:
        """Start, frames, end: the events any source yields."""
        yield self.start
        for position in range(len(self)):
            yield self.frame(position)
        yield SeriesEnd(self.start.series_id)

    def encoded_events(self) -> Iterator[SeriesStart | EncodedFrame | SeriesEnd]:
        """Start, frames, end; the frames still compressed."""
        yield self.start
        for position in range(len(self)):
            yield self.encoded(position)
        yield SeriesEnd(self.start.series_id)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _locate(self, position: int) -> tuple[int, int]:
        if not 0 <= position < self._length:
            raise IndexError(f"frame {position} of {self._length}")
        segment = bisect.bisect_right(self._ends, position)
        return segment, position - (self._ends[segment - 1] if segment else 0)

    def _read(self, segment: int, row: int) -> NDArray[Any]:
        try:
            return np.asarray(self._datasets[segment][row])
        except (OSError, RuntimeError) as error:
            name = self._datasets[segment].name
            raise RecordingError(f"{self.path}: frame {row} of {name}: {_short(error)}") from None

    def _read_chunk(self, segment: int, row: int, position: int) -> EncodedFrame | None:
        dataset, algorithm = self._datasets[segment], self._algorithms[segment]
        try:
            skipped, blob = dataset.id.read_direct_chunk((row, 0, 0))
        except (OSError, RuntimeError, ValueError):
            return None  # a chunk that was never written: HDF5 fills it in
        height, width = dataset.shape[1:]
        return EncodedFrame(
            self.start.series_id,
            self.index(position),
            self.time_s(position),
            (height, width),
            dataset.dtype,
            "none" if skipped else algorithm or "none",
            blob,
        )


def open_recording(
    path: str | Path,
    *,
    dataset: str | None = None,
    pixel_size_A: float | None = None,
    frame_time_s: float | None = None,
    dose_e_per_A2: float | None = None,
    voltage_kV: float | None = None,
    series_id: int = 1,
) -> Recording:
    """Open any HDF5 file that holds frames as a (frame, height, width) dataset.

    Own recordings and NeXus files (``/entry/data/data``, or ``data_000001`` and so on, read one after the other) are
    recognised; otherwise the largest three-dimensional dataset is taken.

    Parameters
    ----------
    dataset : name of the dataset inside the file, where the choice above would be wrong.
    pixel_size_A, frame_time_s, dose_e_per_A2, voltage_kV : what the operator knows; wins over what the file says.

    Raises
    ------
    RecordingError : no such file, not HDF5, no frames in it. A missing pixel size is no error here.
    """
    path = Path(path)
    file = _open_file(path)
    try:
        datasets = _frame_datasets(file, path, dataset)
        said = _metadata(file, datasets[0])
        height, width = datasets[0].shape[1:]
        native = datasets[0].dtype.newbyteorder("=")
        start = SeriesStart(
            series_id=series_id,
            unique_id=str(said.get("unique_id", "")),
            width=width,
            height=height,
            dtype=native,
            number_of_images=sum(len(part) for part in datasets),
            frame_time_s=frame_time_s or _positive(said.get("frame_time_s")),
            pixel_size_A=pixel_size_A or _positive(said.get("pixel_size_A")),
            dose_e_per_A2=dose_e_per_A2 or _positive(said.get("dose_e_per_A2_per_frame")),
            voltage_kV=voltage_kV or _positive(said.get("voltage_kV")),
            detector=str(said.get("detector", "")),
            pixel_mask=_table(file, "pixel_mask", np.uint32, (height, width)),
            flatfield=_table(file, "flatfield", np.float32, (height, width)),
        )
        return Recording(file, datasets, start)
    except BaseException:
        file.close()
        raise


def _open_file(path: Path) -> h5py.File:
    if not path.exists():
        raise RecordingError(f"no such file: {path}")
    if path.is_dir() or not h5py.is_hdf5(path):
        raise RecordingError(f"{path} is not an HDF5 file; recordings are HDF5 with frames in a 3D dataset")
    try:
        return h5py.File(path, "r")
    except OSError:
        pass  # still being written, or its writer was killed
    try:
        return h5py.File(path, "r", swmr=True)
    except OSError as error:
        raise RecordingError(f"{path} cannot be opened: {_short(error)}") from None


def _frame_datasets(file: h5py.File, path: Path, name: str | None) -> list[h5py.Dataset]:
    if name is not None:
        chosen = _get(file, name)
        if not _holds_frames(chosen):
            raise RecordingError(f"{path} has no 3D dataset {name!r}; it has {_list_of(_candidates(file))}")
        return [chosen]
    own = _get(file, OWN_DATASET)
    if _holds_frames(own):
        return [own]
    parts = _numbered_parts(file)
    if parts:
        return parts
    candidates = _candidates(file)
    if not candidates:
        raise RecordingError(f"{path} has no 3D dataset (frame, row, column) with frames in it")
    return [max(candidates, key=lambda item: item.size * item.dtype.itemsize)]


def _numbered_parts(file: h5py.File) -> list[h5py.Dataset]:
    """NXmx masters link to their data files as data_000001, data_000002, ..."""
    group = _get(file, "/entry/data")
    if not isinstance(group, h5py.Group):
        return []
    names = sorted(name for name in group if name.startswith("data_") and name[5:].isdecimal())
    parts = [part for part in (_get(group, name) for name in names) if _holds_frames(part)]
    return [part for part in parts if part.shape[1:] == parts[0].shape[1:] and part.dtype == parts[0].dtype]


def _candidates(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _name, item: found.append(item) if _holds_frames(item) else None)
    return found


def _holds_frames(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 3 and item.size > 0 and item.dtype.kind in "uif"


def _chunk_algorithm(dataset: h5py.Dataset) -> Literal["none", "lz4", "bslz4"] | None:
    """What one chunk is compressed with, if a chunk is one frame and this program can read it without HDF5."""
    if dataset.chunks != (1, *dataset.shape[1:]) or dataset.is_virtual:
        return None
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    if not filters:
        return "none"
    if len(filters) == 1 and filters[0][0] == LZ4_FILTER:
        return "lz4"
    if len(filters) == 1 and filters[0][0] == BITSHUFFLE_FILTER:
        values = filters[0][2]
        return "bslz4" if len(values) > 4 and values[4] == _BITSHUFFLE_LZ4 else None
    return None


def _metadata(file: h5py.File, dataset: h5py.Dataset) -> dict[str, Any]:
    said: dict[str, Any] = {}
    detector = _get(file, "/entry/instrument/detector")
    if isinstance(detector, h5py.Group):  # NeXus
        said["frame_time_s"] = _scalar(detector, "frame_time")
        said["detector"] = _scalar(detector, "description") or ""
    for attributes in (file.attrs, dataset.attrs):
        said.update({name: value for name, value in _plain(attributes).items() if value is not None})
    return said


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    names = ("pixel_size_A", "frame_time_s", "dose_e_per_A2_per_frame", "voltage_kV", "detector", "unique_id")
    return {name: attributes[name] for name in names if name in attributes}


@overload
def _column(file: h5py.File, name: str, dtype: type[np.int64], length: int) -> NDArray[np.int64]: ...
@overload
def _column(file: h5py.File, name: str, dtype: type[np.float64], length: int) -> NDArray[np.float64]: ...
def _column(file: h5py.File, name: str, dtype: Any, length: int) -> NDArray[Any]:
    item = _get(file, f"/entry/data/{name}")
    if not isinstance(item, h5py.Dataset) or item.ndim != 1 or item.dtype.kind not in "uif":
        return np.empty(0, dtype)
    return np.asarray(item[:length], dtype)


def _table(file: h5py.File, name: str, dtype: Any, shape: tuple[int, int]) -> NDArray[Any] | None:
    item = _get(file, f"/entry/instrument/detector/{name}")
    if not isinstance(item, h5py.Dataset) or item.shape != shape or item.dtype.kind not in "uif":
        return None
    return np.asarray(item[()], dtype)


def _scalar(group: h5py.Group, name: str) -> Any:
    item = _get(group, name)
    if not isinstance(item, h5py.Dataset) or item.size != 1:
        return None
    value = item[()]
    value = value.reshape(-1)[0] if isinstance(value, np.ndarray) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _get(group: h5py.Group, name: str) -> Any:
    try:
        return group.get(name)
    except (OSError, KeyError, RuntimeError):
        return None  # a link to a file that is not there


def _list_of(datasets: list[h5py.Dataset]) -> str:
    return ", ".join(dataset.name for dataset in datasets[:8]) or "none"


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
