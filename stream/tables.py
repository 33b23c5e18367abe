"""Read a table of a detector from a file: a gain reference, a dark image, a mask of bad pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .errors import RecordingError
from .readers import open_recording


def read_table(path: Path, longest: int = 1000) -> NDArray[Any]:
    """Read one image; of a series, the mean of its first frames (a movie without beam is a dark reference).

    Formats: ``.npy``, HDF5 (the largest image in it, or frames), and everything `open_recording` reads.

    Parameters
    ----------
    longest : frames of a series that are averaged at most.

    Returns
    -------
    (rows, columns) ``[row=y, column=x]``, of the type in the file; float64 where frames were averaged.

    Raises
    ------
    RecordingError : no such file, an unknown format, no image in it.
    """
    if path.suffix.lower() == ".npy":
        return _read_npy(path)
    image = _read_hdf5_image(path)
    if image is not None:
        return image
    with open_recording(path) as recording:
        frames = min(len(recording), longest)
        if frames == 1:
            return recording.frame(0).data
        total = np.zeros(recording.frame(0).data.shape)
        for position in range(frames):
            total += recording.frame(position).data
        return total / frames


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind not in "buif":
        raise RecordingError(f"{path} does not hold one image (rows, columns)")
    return table


def _read_hdf5_image(path: Path) -> NDArray[Any] | None:
    """The largest two-dimensional dataset of an HDF5 file, or ``None``."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    images: list[h5py.Dataset] = []

    def look(_name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2 and item.size and item.dtype.kind in "buif":
            images.append(item)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(look)
            return np.asarray(max(images, key=lambda item: item.size)[()]) if images else None
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}") from None
