"""Poses that are known beforehand, from tilt files and datasets of angles; see `poses` for what a pose is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from .encoded import EncodedFrame
from .errors import RecordingError
from .frame import Frame, Quaternion
from .poses import quaternion, tilted

Tilts = dict[int, Quaternion]  # pose by image number
Item = TypeVar("Item")

ANGLE_NAMES = ("tilt_deg", "angle_deg", "tilt", "angle", "tilts", "angles", "tilt_angle", "tilt_angles")
POSE_NAMES = ("qw", "qx", "qy", "qz")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LONGEST_FILE = 64 << 20  # bytes; a million lines are less


def with_poses(events: Iterable[Item], tilts: Mapping[int, Quaternion]) -> Iterator[Item]:
    """`events`, with the pose that `tilts` has for each frame; other frames stay as they are."""
    for event in events:
        known = tilts.get(event.index) if isinstance(event, Frame | EncodedFrame) else None
        yield event if known is None else replace(event, pose=known)  # type: ignore[type-var]  # both are dataclasses


def read_tilts(path: Path, dataset: str | None = None) -> Tilts:
    """Read poses from a file.

    Text (``.rawtlt``, ``.tlt``): one angle in degrees a line. ``.csv``: a header that names one of `ANGLE_NAMES` or
    qw, qx, qy, qz, and perhaps `frame` (from 0), as poses.csv of a session does. HDF5: a dataset (n,) of degrees, or of
    radians when its attribute `units` says so, or (n, 4) of quaternions.

    Parameters
    ----------
    dataset : name inside an HDF5 file; found by its name when not given.

    Raises
    ------
    RecordingError : no such file, nothing in it that is a pose.
    """
    if not path.is_file():
        raise RecordingError(f"no such file with tilt angles: {path}")
    try:
        with path.open("rb") as file:
            if file.read(8) == _HDF5_SIGNATURE:
                return _read_hdf5(path, dataset)
            file.seek(0)
            text = file.read(_LONGEST_FILE).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecordingError(f"{path} is no text: give tilt angles as one number a line, .csv or HDF5") from None
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from None
    tilts = _read_csv(path, text) if path.suffix.lower() == ".csv" else _read_lines(path, text)
    if not tilts:
        raise RecordingError(f"{path} has no tilt angle in it")
    return tilts


def stack_of(path: Path, frames: int) -> str | None:
    """Name of the only three-dimensional dataset of an HDF5 file that has so many frames; None when it is not the only
    one, or the file is no HDF5.
    """
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 3 and len(item) == frames and item.dtype.kind in "uif":
            found.append(name)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(look)
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


def _read_lines(path: Path, text: str) -> Tilts:
    tilts: Tilts = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if words:
            try:
                tilts[len(tilts)] = tilted(_degrees(words))
            except ValueError:
                raise RecordingError(
                    f"{path}, line {number}: {words[:40]!r} is no angle in degrees (one number a line)"
                ) from None
    return tilts


def _read_csv(path: Path, text: str) -> Tilts:
    reader = csv.DictReader(io.StringIO(text))
    names = {str(name).strip().lower(): str(name) for name in reader.fieldnames or ()}
    angle = next((names[name] for name in ANGLE_NAMES if name in names), None)
    turned = [names[name] for name in POSE_NAMES if name in names]
    if angle is None and len(turned) < 4:
        raise RecordingError(f"{path}: its first line has to name the columns: angle, or qw,qx,qy,qz; perhaps frame")
    tilts: Tilts = {}
    for row in reader:
        try:
            number = int(row[names["frame"]]) if "frame" in names else len(tilts)
            pose = quaternion(row[name] for name in turned) if len(turned) == 4 else tilted(_degrees(row[angle or ""]))
        except (ValueError, TypeError, OverflowError):
            raise RecordingError(
                f"{path}, line {reader.line_num}: no pose in it (an angle in degrees, or qw, qx, qy, qz)"
            ) from None
        if number in tilts or number < 0:
            raise RecordingError(f"{path}, line {reader.line_num}: frame {number} is there twice, or negative")
        tilts[number] = pose
    return tilts


def _degrees(words: str | float) -> float:
    angle = float(words)
    if not abs(angle) <= 360:
        raise ValueError(angle)
    return angle


def _read_hdf5(path: Path, name: str | None) -> Tilts:
    try:
        with h5py.File(path, "r") as file:
            found = file.get(name) if name is not None else _find(file)
            if not _is_table(found):
                has = ", ".join(_tables(file)) or "none"
                asked = f"no dataset {name!r} with tilt angles" if name else "no dataset that is called tilt or angle"
                raise RecordingError(f"{path} has {asked} (n,) or poses (n, 4); of that shape it has {has}")
            values = np.asarray(found[()], np.float64)
            units = found.attrs.get("units", "deg")
            label = found.name
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}") from None
    units = units.decode(errors="replace") if isinstance(units, bytes) else str(units)
    return _from_table(values, f"{path}, dataset {label}", radians=units.lower().startswith("rad"))


def _from_table(values: NDArray[np.float64], where: str, *, radians: bool) -> Tilts:
    tilts: Tilts = {}
    for number, value in enumerate(values):
        try:
            turned = quaternion(value) if value.ndim else tilted(_degrees(math.degrees(value) if radians else value))
        except ValueError:
            raise RecordingError(f"{where}: entry {number} is no pose (degrees, or w, x, y, z)") from None
        tilts[number] = turned
    return tilts


def _find(file: h5py.File) -> h5py.Dataset | None:
    """The dataset that is called as angles or poses are; None when there is none or more than one."""
    known = {name: item for name, item in _tables(file).items() if name.rpartition("/")[2].lower() in _TABLE_NAMES}
    return next(iter(known.values())) if len(known) == 1 else None


_TABLE_NAMES = (*ANGLE_NAMES, "quaternion", "quaternions", "pose", "poses")


def _tables(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: found.update({name: item}) if _is_table(item) else None)
    return found


def _is_table(item: Any) -> TypeGuard[h5py.Dataset]:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "uif" or not item.size:
        return False
    return item.ndim == 1 or (item.ndim == 2 and item.shape[1] == 4)
