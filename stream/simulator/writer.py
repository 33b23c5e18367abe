"""Stores a simulated recording: HDF5 `frames` (one chunk per frame, bitshuffle/LZ4) and the truth file beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from .scene import Scene
from .truth import truth_path, write_truth


def write_simulation(
    scene: Scene, path: str | Path, progress: Callable[[int, int], None] | None = None
) -> tuple[Path, Path]:
    """Write all frames of a scene to `path` and its truth to ``<stem>_truth.h5`` beside it.

    The file holds every frame, also those that a live stream of this scene drops. Attributes of `frames` and of the
    root: `pixel_size_A`, `dose_e_per_A2_per_frame`, `frame_time_s`, `voltage_kV`. The files get their names only when
    complete.

    Parameters
    ----------
    progress : called with (frames written, frames in all) after every frame.

    Returns
    -------
    The paths of the recording and of the truth file.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    path = Path(path)
    beside = truth_path(path)
    recipe = scene.options
    attributes = {
        "pixel_size_A": recipe.pixel_size_A,
        "dose_e_per_A2_per_frame": recipe.dose_e_per_A2,
        "frame_time_s": recipe.frame_time_s,
        "voltage_kV": recipe.optics.voltage_kV,
    }
    shape = (recipe.height_px, recipe.width_px)
    unfinished = path.with_name(path.name + ".part")
    try:
        with h5py.File(unfinished, "w") as file:
            frames = file.create_dataset(
                "frames", shape=(len(scene), *shape), dtype=np.uint16, chunks=(1, *shape), **hdf5plugin.Bitshuffle()
            )
            for name, value in attributes.items():
                file.attrs[name] = frames.attrs[name] = value
            for index in range(len(scene)):
                frames[index] = scene.counts(index)
                if progress is not None:
                    progress(index + 1, len(scene))
        write_truth(scene.truth, beside)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path, beside
