"""Options of the command line for tilt series, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import UsageError

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Where the frames are in an HDF5 file.")]


@dataclass(frozen=True, slots=True)
class TiltOptions:
    """The options of a tilt series."""

    poses: Annotated[
        str | None,
        typer.Option("--poses", help="A tilt series: poses come with the stream, or from the file of --tilts."),
    ] = None
    tilts: Annotated[
        str | None,
        typer.Option("--tilts", help="Tilt angles: a .rawtlt, .tlt, .csv or HDF5 file, or a dataset in FILE."),
    ] = None
    tilt_axis: Annotated[
        float | None, typer.Option("--tilt-axis", help="Tilt axis, degrees from the columns (x) to the rows (y) [90].")
    ] = None
    tilt_box: Annotated[
        str | None,
        typer.Option("--tilt-box", help="X,Y,WIDTH,HEIGHT in pixels of what is reconstructed (default: all)."),
    ] = None
    tilt_wide: Annotated[
        float | None, typer.Option("--tilt-wide", help="Specimen across the axis, in fields; 3 for a film [1].")
    ] = None
    tilt_thick: Annotated[
        float | None, typer.Option("--tilt-thick", help="Specimen along the beam, in fields, where it is thinner [1].")
    ] = None
    tilt_align: Annotated[
        bool | None,
        typer.Option(
            "--tilt-align/--no-tilt-align", help="Match shifts and small turns of tilts, or leave them as told."
        ),
    ] = None

    def settings(self, *, replayed: bool = False) -> dict[str, Any]:
        """The section `tilts` of the configuration; a file without a word on poses means that they come from it.

        Parameters
        ----------
        replayed : the angles were read beside a recording (`replayed_tilts`) and go with its frames.

        Raises
        ------
        UsageError : a box that is not four whole numbers.
        """
        return {
            "poses": "stream" if replayed else self.poses or ("file" if self.tilts else None),
            "file": None if replayed else self.tilts,
            "axis_deg": self.tilt_axis,
            "box": None if self.tilt_box is None else _corners(self.tilt_box),
            "wide": self.tilt_wide,
            "thick": self.tilt_thick,
            "align": self.tilt_align,
        }


def _corners(box: str) -> tuple[int, ...]:
    try:
        corners = tuple(int(part) for part in box.split(","))
    except ValueError:
        corners = ()
    if len(corners) != 4:
        raise UsageError(f"--tilt-box {box}: give four whole numbers X,Y,WIDTH,HEIGHT in pixels")
    return corners


def replayed_tilts(file: Path, tilts: str | None, dataset: str | None) -> tuple[dict[int, Any] | None, str | None]:
    """Poses for the frames of a recording, and the dataset that holds its frames.

    Parameters
    ----------
    file : the recording. tilts : a file, or a dataset in `file`. dataset : with the frames; None: it is found.

    Raises
    ------
    UsageError : there are no such angles, or not as many as frames.
    """
    if tilts is None:
        return None, dataset
    import h5py

    from ..stream.errors import RecordingError
    from ..stream.readers import open_recording
    from ..stream.tilts import read_tilts, stack_of

    path = Path(tilts)
    if not path.is_file() and not (file.is_file() and h5py.is_hdf5(file)):
        raise UsageError(f"no such file with tilt angles: {tilts}; {file} is no HDF5 file that could hold them")
    try:
        poses = read_tilts(path) if path.is_file() else read_tilts(file, tilts)
        dataset = dataset or stack_of(file, len(poses))
        with open_recording(file, dataset=dataset) as recording:
            numbers = {recording.index(position) for position in range(len(recording))}
    except RecordingError as error:
        raise UsageError(str(error)) from None
    if not numbers & set(poses):
        raise UsageError(f"{tilts} has poses of {len(poses)} frames, none of them one of the {len(numbers)} in {file}")
    if path.is_file() and path.suffix.lower() != ".csv" and len(poses) != len(numbers):
        raise UsageError(f"{tilts} has {len(poses)} angles, but {file} has {len(numbers)} frames: they must be as many")
    return poses, dataset
