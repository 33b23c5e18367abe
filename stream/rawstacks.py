"""Cameras that write one header and one raw image after the other: MIB (Quantum Detectors) and SEQ (StreamPix)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import RecordingError
from .frame import SeriesStart
from .recording import Known, Recording, start_of

_MIB_TYPES = {"U08": ">u1", "U16": ">u2", "U32": ">u4", "U64": ">u8"}
_SEQ_MONO = 100
_SEQ_FIELDS = struct.Struct(
    "<9Id"
)  # width, height, depth, real depth, bytes, format, frames, origin, pitch; frame rate
_SEQ_FIELDS_AT, _SEQ_VERSION_AT = 548, 28
_MAX_SIDE = 1 << 16


class RawStack(Recording):
    """Frames of one size at equal distances in a file; it is mapped, not read."""

    def __init__(
        self, path: Path, start: SeriesStart, length: int, layout: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        super().__init__(path, start, length)
        self._first, self._pitch = layout
        self._dtype = dtype
        self._bytes: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")

    def read(self, position: int) -> NDArray[Any]:
        """(height, width) counts of one frame, in the byte order of the file."""
        height, width = self.start.height or 0, self.start.width or 0
        begin = self._first + position * self._pitch
        raw = np.asarray(self._bytes[begin : begin + height * width * self._dtype.itemsize])
        return raw.view(self._dtype).reshape(height, width)


def open_mib(path: Path, known: Known) -> Recording:
    """Open a MIB file of a Merlin detector: before every frame a text header that says its own size.

    After the file format in the Merlin user manual (Quantum Detectors): ``MQ1,number,header bytes,chips,width,height,
    type, ...``.

    Raises
    ------
    RecordingError : the header is damaged, or the frames are in the raw format of the read-out (R64).
    """
    with path.open("rb") as file:
        fields = file.read(384).decode("ascii", errors="replace").split(",")
    try:
        header, width, height = int(fields[2]), int(fields[4]), int(fields[5])
    except (IndexError, ValueError):
        raise RecordingError(f"{path}: the header of the first frame is damaged") from None
    kind = fields[6].strip() if len(fields) > 6 else ""
    if kind not in _MIB_TYPES:
        raise RecordingError(
            f"{path} holds frames of type {kind[:8]!r}; save as U08, U16 or U32 in the Merlin software"
        )
    dtype = np.dtype(_MIB_TYPES[kind])
    return _open_raw(path, known, (height, width), dtype, (header, header), None)


def open_seq(path: Path, known: Known) -> Recording:
    """Open an uncompressed monochrome SEQ file of StreamPix, as several direct electron cameras write.

    After the sequence file format in the StreamPix manual (NorPix): a header, then image and time stamp in turn.

    Raises
    ------
    RecordingError : the header is damaged, or the frames are compressed or coloured.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    if len(head) < 1024:
        raise RecordingError(f"{path}: the header is truncated")
    width, height, depth, _, size, kind, _, _, pitch, rate = _SEQ_FIELDS.unpack_from(head, _SEQ_FIELDS_AT)
    (version,) = struct.unpack_from("<i", head, _SEQ_VERSION_AT)
    if kind != _SEQ_MONO or depth not in (8, 16, 32) or size != width * height * depth // 8:
        raise RecordingError(f"{path} holds compressed or coloured frames; save it uncompressed and monochrome")
    dtype = np.dtype(f"<u{depth // 8}")
    first = 8192 if version >= 5 else 1024
    return _open_raw(path, known, (height, width), dtype, (first, pitch - size), 1 / rate if rate > 0 else None)


def _open_raw(
    path: Path,
    known: Known,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    gaps: tuple[int, int],
    frame_time_s: float | None,
) -> Recording:
    """`gaps`: bytes in front of the first frame, and between frames."""
    first, between = gaps
    frame_bytes = shape[0] * shape[1] * dtype.itemsize
    pitch = frame_bytes + between
    length = (path.stat().st_size - first + between) // pitch if pitch > 0 else 0
    if not 0 < min(shape) <= max(shape) < _MAX_SIDE or first < 0 or between < 0:
        raise RecordingError(f"{path}: the header of the file is damaged")
    if length < 1:
        raise RecordingError(f"{path} has no whole frame in it")
    start = start_of(known, shape, dtype, length, frame_time_s=frame_time_s)
    return RawStack(path, start, length, (first, pitch), dtype)
