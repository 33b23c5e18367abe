"""HDF5 files with frames: own recordings, NeXus masters, Berkeley and Velox EMD, any three-dimensional dataset."""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import h5py
import hdf5plugin  # noqa: F401  # registers the bitshuffle and LZ4 filters with HDF5
import numpy as np
from numpy.typing import NDArray

from .checksum import crc32
from .encoded import EncodedFrame
from .errors import CompressionError, RecordingError
from .frame import Frame, Quaternion, SeriesStart
from .recording import Known, Recording, positive, start_of

BITSHUFFLE_FILTER, LZ4_FILTER = 32008, 32004
_BITSHUFFLE_LZ4 = 2  # fifth client value of the bitshuffle filter: followed by LZ4
OWN_DATASET = "/entry/data/data"
_VELOX_IMAGES = "/Data/Image"
_UNITS_A = {"m": 1e10, "um": 1e4, "µm": 1e4, "nm": 10.0, "pm": 0.01, "a": 1.0, "å": 1.0, "angstrom": 1.0}


class Hdf5Recording(Recording):
    """Frames in one dataset (frame, row, column), or in several that follow each other."""

    def __init__(self, file: h5py.File, datasets: list[h5py.Dataset], start: SeriesStart) -> None:
        self._ends = np.cumsum([len(dataset) for dataset in datasets]).tolist()
        super().__init__(Path(file.filename), start, self._ends[-1])
        self._file = file
        self._datasets = datasets
        self._algorithms = [chunk_algorithm(dataset) for dataset in datasets]
        self._image_ids = _column(file, "image_id", np.int64, len(self))
        self._times = _column(file, "time_s", np.float64, len(self))
        self._checks = _column(file, "crc32", np.int64, len(self))
        self._poses = _poses(file, len(self))

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
        return super().time_s(position)

    def pose(self, position: int) -> Quaternion | None:
        """Pose of the frame at a position, where the stream said it."""
        return self._poses[position] if position < len(self._poses) else None

    def frame(self, position: int) -> Frame:
        """Read one frame; parameters and errors as for `Recording.frame`."""
        encoded = self._chunk(position)
        if encoded is None:
            return super().frame(position)
        try:
            return encoded.decode()
        except CompressionError as error:
            raise RecordingError(f"{self.path}: frame {position} is damaged: {error}") from None

    def encoded(self, position: int) -> EncodedFrame:
        """Read one frame as the file stores it, where that is one frame per chunk; errors as for `Recording`."""
        return self._chunk(position) or super().encoded(position)

    @property
    def forwards(self) -> bool:
        """Whether `encoded` gives the compressed bytes of the file."""
        return all(algorithm not in (None, "none") for algorithm in self._algorithms)

    def read(self, position: int) -> NDArray[Any]:
        """(height, width) counts of one frame, through HDF5."""
        segment, row = self._locate(position)
        try:
            return np.asarray(self._datasets[segment][row])
        except (OSError, RuntimeError) as error:
            name = self._datasets[segment].name
            raise RecordingError(f"{self.path}: frame {row} of {name}: {_short(error)}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _locate(self, position: int) -> tuple[int, int]:
        self._check(position)
        segment = bisect.bisect_right(self._ends, position)
        return segment, position - (self._ends[segment - 1] if segment else 0)

    def _chunk(self, position: int) -> EncodedFrame | None:
        """A frame as it is stored, or ``None`` where HDF5 has to read it."""
        segment, row = self._locate(position)
        dataset, algorithm = self._datasets[segment], self._algorithms[segment]
        if algorithm is None:
            return None
        try:
            skipped, blob = dataset.id.read_direct_chunk((row, 0, 0))
        except (OSError, RuntimeError, ValueError):
            return None  # a chunk that was never written: HDF5 fills it in
        if position < len(self._checks) and crc32(blob) != self._checks[position]:
            raise RecordingError(
                f"{self.path}: frame {position} is damaged: its bytes are not those that were recorded"
            )
        height, width = dataset.shape[1:]
        return EncodedFrame(
            self.start.series_id,
            self.index(position),
            self.time_s(position),
            (height, width),
            dataset.dtype,
            "none" if skipped else algorithm,
            blob,
            pose=self.pose(position),
        )


class VeloxRecording(Recording):
    """Images of a Velox EMD file, whose last axis is the frame."""

    def __init__(self, file: h5py.File, images: h5py.Dataset, start: SeriesStart) -> None:
        super().__init__(Path(file.filename), start, images.shape[2])
        self._file, self._images = file, images

    def read(self, position: int) -> NDArray[Any]:
        """(height, width) counts of one frame."""
        try:
            return np.asarray(self._images[:, :, position])
        except (OSError, RuntimeError) as error:
            raise RecordingError(f"{self.path}: frame {position}: {_short(error)}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_hdf5(path: Path, dataset: str | None, known: Known) -> Recording:
    """Open an HDF5 file; see `open_recording`."""
    file = _open_file(path)
    try:
        images = None if dataset else _velox_images(file)
        if images is not None:
            said = _velox_metadata(images)
            rows, columns, length = images.shape
            return VeloxRecording(file, images, start_of(known, (rows, columns), images.dtype, length, **said))
        datasets = _frame_datasets(file, path, dataset)
        shape = datasets[0].shape[1:]
        start = start_of(
            known,
            shape,
            datasets[0].dtype,
            sum(len(part) for part in datasets),
            **_metadata(file, datasets[0]),
            pixel_mask=_table(file, "pixel_mask", np.uint32, shape),
            flatfield=_table(file, "flatfield", np.float32, shape),
            flatfield_applied=bool(_detector_scalar(file, "flatfield_applied")),
        )
        return Hdf5Recording(file, datasets, start)
    except BaseException:
        file.close()
        raise


def _open_file(path: Path) -> h5py.File:
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


def chunk_algorithm(dataset: h5py.Dataset) -> Literal["none", "lz4", "bslz4"] | None:
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


def _velox_images(file: h5py.File) -> h5py.Dataset | None:
    """Images of a Velox file: (row, column, frame), the largest set where there are several."""
    group = _get(file, _VELOX_IMAGES)
    if not isinstance(group, h5py.Group):
        return None
    found = [_get(group, f"{name}/Data") for name in group]
    return max((item for item in found if _holds_frames(item)), key=lambda item: item.size, default=None)


def _velox_metadata(images: h5py.Dataset) -> dict[str, Any]:
    """Pixel size and voltage from the JSON beside the images."""
    text = _get(images.parent, "Metadata")
    if not isinstance(text, h5py.Dataset) or text.ndim != 2:
        return {}
    try:
        facts = json.loads(bytes(text[:, 0]).rstrip(b"\0"))
        size_m = float(facts["BinaryResult"]["PixelSize"]["width"])
        voltage_V = positive(facts.get("Optics", {}).get("AccelerationVoltage"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {"pixel_size_A": size_m * 1e10, "voltage_kV": None if voltage_V is None else voltage_V / 1000}


def _metadata(file: h5py.File, dataset: h5py.Dataset) -> dict[str, Any]:
    """What a file says of its series, under the names of `SeriesStart`."""
    said = {
        "frame_time_s": _detector_scalar(file, "frame_time"),
        "detector": str(_detector_scalar(file, "description") or ""),
        "pixel_size_A": _emd_pixel_size(dataset),
    }
    for attributes in (file.attrs, dataset.attrs):
        said.update({name: value for name, value in _plain(attributes).items() if value is not None})
    said["dose_e_per_A2"] = said.pop("dose_e_per_A2_per_frame", None)
    said["detector"] = str(said["detector"])
    said["unique_id"] = str(said.get("unique_id", ""))
    return said


def _emd_pixel_size(dataset: h5py.Dataset) -> float | None:
    """Berkeley EMD: the vector dim3 beside the data has the places of the columns, with units such as ``[n_m]``."""
    places = _get(dataset.parent, "dim3")
    if not isinstance(places, h5py.Dataset) or places.ndim != 1 or len(places) < 2 or places.dtype.kind not in "uif":
        return None
    units = places.attrs.get("units", "")
    units = units.decode(errors="replace") if isinstance(units, bytes) else str(units)
    factor = _UNITS_A.get(units.strip("[] ").replace("_", "").lower())
    return None if factor is None else positive(abs(float(places[1]) - float(places[0])) * factor)


def _detector_scalar(file: h5py.File, name: str) -> Any:
    """A field of the NeXus detector."""
    detector = _get(file, "/entry/instrument/detector")
    return _scalar(detector, name) if isinstance(detector, h5py.Group) else None


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


def _poses(file: h5py.File, length: int) -> list[Quaternion | None]:
    """Poses that an own recording has beside its frames; empty where it has none."""
    item = _get(file, "/entry/data/pose")
    if not isinstance(item, h5py.Dataset) or item.ndim != 2 or item.shape[1] != 4 or item.dtype.kind != "f":
        return []
    return [as_pose(row) for row in np.asarray(item[:length], np.float64)]


def as_pose(row: NDArray[np.float64]) -> Quaternion | None:
    """A row (4,) of the poses of a recording; None where the frame had none."""
    return (float(row[0]), float(row[1]), float(row[2]), float(row[3])) if np.isfinite(row).all() else None


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


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
