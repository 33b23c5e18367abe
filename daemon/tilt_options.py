"""Options of the command line for tilt series and alloys, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import UsageError

PosesOption = Annotated[
    str | None, typer.Option("--poses", help="A tilt series: poses come with the stream, or from the file of --tilts.")
]
TiltsOption = Annotated[
    str | None, typer.Option("--tilts", help="Tilt angles: a .rawtlt, .tlt, .csv or HDF5 file, or a dataset in FILE.")
]
AxisOption = Annotated[
    float | None, typer.Option("--tilt-axis", help="Tilt axis, degrees from the columns (x) to the rows (y) [90].")
]
BoxOption = Annotated[
    str | None, typer.Option("--tilt-box", help="X,Y,WIDTH,HEIGHT in pixels of what is reconstructed (default: all).")
]
WideOption = Annotated[
    float | None, typer.Option("--tilt-wide", help="Specimen across the axis, in fields; 3 for a film [1].")
]
ThickOption = Annotated[
    float | None, typer.Option("--tilt-thick", help="Specimen along the beam, in fields, where it is thinner [1].")
]
AlignOption = Annotated[
    bool | None,
    typer.Option("--tilt-align/--no-tilt-align", help="Match shifts and small turns of tilts, or leave them as told."),
]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Where the frames are in an HDF5 file.")]


def tilt_settings(
    *,
    poses: str | None = None,
    file: str | None = None,
    axis: float | None = None,
    box: str | None = None,
    wide: float | None = None,
    thick: float | None = None,
    align: bool | None = None,
) -> dict[str, Any]:
    """The section `tilts` of the configuration; a file without a word on poses means that they come from it.

    Raises
    ------
    UsageError : a box that is not four whole numbers.
    """
    corners: tuple[int, ...] | None = None
    if box is not None:
        try:
            corners = tuple(int(part) for part in box.split(","))
        except ValueError:
            corners = ()
        if len(corners) != 4:
            raise UsageError(f"--tilt-box {box}: give four whole numbers X,Y,WIDTH,HEIGHT in pixels")
    return {
        "poses": poses or ("file" if file else None),
        "file": file,
        "axis_deg": axis,
        "box": corners,
        "wide": wide,
        "thick": thick,
        "align": align,
    }


def element_settings(words: str | None) -> dict[str, Any]:
    """What `--element` says of the section `reconstruction`: one element, or those of an alloy, `Pd,Pt`."""
    if words is None or "," not in words:
        return {"element": words}
    return {"elements": tuple(word.strip() for word in words.split(","))}


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
