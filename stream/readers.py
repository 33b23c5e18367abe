"""Open recorded frames, whatever program wrote them; a format is told by its first bytes or by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import RecordingError
from .hdf5 import open_hdf5
from .rawstacks import open_mib, open_seq
from .recording import Known, Recording
from .stacks import open_mrc, open_rosetta, open_tiff

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS = (0, 512, 1024, 2048)  # where the signature of an HDF5 file may stand
_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_MIB_SIGNATURE = b"MQ1,"
_SEQ_SIGNATURE = b"\xed\xfe\x00\x00"
_HDF5_SUFFIXES = (".h5", ".hdf5", ".nxs", ".emd")
_MRC_SUFFIXES = (".mrc", ".mrcs", ".st", ".rec", ".map", ".ali")
_ROSETTA_SUFFIXES = (".dm3", ".dm4", ".ser", ".emi", ".tvips", ".blo", ".de5")
KNOWN_FORMATS = "HDF5, EMD, MRC, TIFF, EER, MIB, SEQ, DM3/DM4, SER, TVIPS, BLO"


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
    """Open a file that holds frames; each one is read when it is asked for.

    HDF5: own recordings and NeXus files (``/entry/data/data``, or ``data_000001`` and so on, read one after the other)
    and Velox EMD are recognised; otherwise the largest three-dimensional dataset (frame, row, column) is taken.
    MRC, MIB and SEQ need nothing more; other formats need a package of their own (an extra), which the error names.

    Parameters
    ----------
    dataset : name of the dataset inside an HDF5 file, where the choice above would be wrong.
    pixel_size_A, frame_time_s, dose_e_per_A2, voltage_kV : what the operator knows; wins over what the file says.

    Raises
    ------
    RecordingError : no such file, an unknown format, a missing package, no frames in it. A missing pixel size is no
        error here.
    """
    path = Path(path)
    if not path.exists():
        raise RecordingError(f"no such file: {path}")
    if path.is_dir():
        raise RecordingError(f"{path} is a folder; give the file with the frames")
    known = Known(pixel_size_A, frame_time_s, dose_e_per_A2, voltage_kV, series_id)
    opener = _opener(path)
    if opener is None:
        return open_hdf5(path, dataset, known)
    if dataset is not None:
        raise RecordingError(f"{path} is not an HDF5 file, so it has no dataset {dataset!r}")
    return opener(path, known)


def _opener(path: Path) -> Callable[[Path, Known], Recording] | None:
    """What opens a file; ``None`` for HDF5.

    Raises
    ------
    RecordingError : a format this program does not know, or a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_USER_BLOCKS[-1] + len(_HDF5_SIGNATURE))
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from None
    if any(head[at : at + 8] == _HDF5_SIGNATURE for at in _USER_BLOCKS):
        return None
    if head[:4] in _TIFF_SIGNATURES:
        return open_tiff
    if head[:4] == _MIB_SIGNATURE:
        return open_mib
    if head[:4] == _SEQ_SIGNATURE:
        return open_seq
    if path.suffix.lower() in _MRC_SUFFIXES or head[208:212] == b"MAP ":
        return open_mrc
    if path.suffix.lower() in _ROSETTA_SUFFIXES:
        return open_rosetta
    if path.suffix.lower() in _HDF5_SUFFIXES:
        raise RecordingError(f"{path} is not an HDF5 file, though it is called so")
    raise RecordingError(f"{path} is in no format this program knows ({KNOWN_FORMATS})")
