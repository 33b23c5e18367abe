"""Image stacks of other programs: MRC, TIFF, EER, and what RosettaSciIO reads; each package is loaded when needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import RecordingError
from .frame import SeriesStart
from .recording import Known, Recording, start_of

_METRES_A = {"m": 1e10, "um": 1e4, "µm": 1e4, "nm": 10.0, "pm": 0.01, "Å": 1.0, "A": 1.0, "angstrom": 1.0}
_UNSIGNED_STAMP = 1146047817  # IMOD's mark: bit 0 of the next word says whether bytes are signed


class Stack(Recording):
    """A recording whose frames come from a function of another package."""

    def __init__(
        self,
        path: Path,
        start: SeriesStart,
        length: int,
        read: Callable[[int], Any],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(path, start, length)
        self._read, self._close = read, close

    def read(self, position: int) -> NDArray[Any]:
        """(height, width) counts of one frame."""
        try:
            data = np.asarray(self._read(position))
        except (OSError, ValueError, RuntimeError, IndexError, KeyError, ImportError) as error:
            raise RecordingError(f"{self.path}: frame {position} cannot be read: {_short(error)}") from None
        if data.shape != (self.start.height, self.start.width):
            raise RecordingError(f"{self.path}: frame {position} has another size than the first one")
        return data

    def close(self) -> None:
        """Close the file."""
        self._close()


def open_mrc(path: Path, known: Known) -> Recording:
    """Open an MRC file or stack; it is mapped, not read.

    Raises
    ------
    RecordingError : not MRC, compressed, or in a mode mrcfile does not know (the packed 4 bits of mode 101).
    """
    import mrcfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what mrcfile finds unusual is usual with cameras
            file = mrcfile.mmap(path, mode="r", permissive=True)
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read as MRC: {_short(error)}") from None
    images = file.data
    if images is None or images.ndim not in (2, 3) or images.dtype.kind not in "uif":
        file.close()
        raise RecordingError(f"{path} holds no frames in a mode that can be read; save it as 8 or 16 bit integers")
    images = images if images.ndim == 3 else images[None]
    stamp, flags = (int(value) for value in np.frombuffer(file.header.tobytes()[152:160], "<i4"))
    if images.dtype == np.int8 and stamp == _UNSIGNED_STAMP and not flags & 1:
        images = images.view(np.uint8)
    size = float(file.voxel_size.x)
    start = start_of(known, images.shape[1:], images.dtype, len(images), pixel_size_A=size)
    return Stack(path, start, len(images), lambda position: images[position], file.close)


def open_tiff(path: Path, known: Known) -> Recording:
    """Open a TIFF stack, or the electron events of an EER file, page by page.

    Raises
    ------
    RecordingError : tifffile (and, for EER and compressed pages, imagecodecs) is missing, or there are no grey frames.
    """
    try:
        import tifffile
    except ImportError:
        raise _missing(path, "TIFF", "tiff") from None
    try:
        file = tifffile.TiffFile(path)
        series = file.series[0]
        pages = series.pages if file.is_eer else file.pages  # without the sum that may come before the frames of EER
        first = pages[0].aspage()
    except (OSError, ValueError, IndexError, AttributeError, tifffile.TiffFileError) as error:
        raise RecordingError(f"{path} cannot be read as TIFF: {_short(error)}") from None
    shape = (first.imagelength, first.imagewidth)
    problem = _tiff_problem(path, first)
    if problem is not None:
        file.close()
        raise problem
    length, read = len(pages), lambda position: pages[position].asarray()
    if length == 1 and len(series.shape) > 2 and series.dataoffset is not None:  # one directory for all, as ImageJ does
        images = tifffile.memmap(path, mode="r").reshape(-1, *shape)
        length, read = len(images), lambda position: images[position]
    return Stack(path, start_of(known, shape, first.dtype, length), length, read, file.close)


def _tiff_problem(path: Path, page: Any) -> RecordingError | None:
    """Why frames like this page cannot be used."""
    if len(page.shape) != 2 or page.dtype is None or page.dtype.kind not in "uif":
        return RecordingError(f"{path} does not hold grey images")
    if int(page.compression) == 1:
        return None
    try:
        import imagecodecs  # noqa: F401

        page.asarray()
    except ImportError:
        return _missing(path, "EER" if path.suffix.lower() == ".eer" else "compressed TIFF", "tiff")
    except Exception as error:  # noqa: BLE001  # a codec raises whatever it meets in a damaged file
        return RecordingError(f"{path} cannot be expanded: {_short(error)}")
    return None


def open_rosetta(path: Path, known: Known) -> Recording:
    """Open a format of a microscope vendor with RosettaSciIO (GPL, hence not among our own dependencies).

    Raises
    ------
    RecordingError : the package is missing, the file is damaged, or holds no stack of images.
    """
    try:
        from rsciio import IO_PLUGINS
    except ImportError:
        raise _missing(path, path.suffix[1:].upper(), "vendor") from None
    import importlib

    suffix = path.suffix[1:].lower()
    names = [plugin["api"] for plugin in IO_PLUGINS if suffix in plugin["file_extensions"]]
    try:
        contents = importlib.import_module(names[0]).file_reader(str(path), lazy=True)
    except Exception as error:  # noqa: BLE001  # foreign readers raise whatever they meet in a damaged file
        raise RecordingError(f"{path} cannot be read: {_short(error)}") from None
    stacks = [item for item in contents if len(item["data"].shape) >= 2 and item["data"].dtype.kind in "uif"]
    if not stacks:
        raise RecordingError(f"{path} holds no images")
    chosen = max(stacks, key=lambda item: int(item["data"].size))
    images = chosen["data"].reshape(-1, *chosen["data"].shape[-2:])  # a scan is a series, too
    axis = chosen["axes"][-1]
    size = abs(axis.get("scale", 0.0)) * _METRES_A.get(str(axis.get("units")), 0.0)
    start = start_of(known, images.shape[1:], images.dtype, len(images), pixel_size_A=size)
    return Stack(path, start, len(images), lambda position: images[position].compute())


def _missing(path: Path, what: str, extra: str) -> RecordingError:
    return RecordingError(
        f"{path}: reading {what} needs a package that is not installed: pip install 'tumble-em[{extra}]'"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
