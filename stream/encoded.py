"""A frame as it came off the wire: still compressed, so that it can be recorded or forwarded without being expanded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compression import MAX_RAW_BYTES, Buffer, compress, decompress, decompress_lz4_block
from .errors import CompressionError
from .frame import Frame, Quaternion

MOST_TABLE_PIXELS = 1 << 27  # of a pixel mask or flat field: more than any detector has
LZ4_BLOCK = "lz4-block"  # one bare LZ4 block, as SIMPLON v1 sends it; not an HDF5 framing


@dataclass(slots=True, eq=False)
class EncodedFrame:
    """One detector image, not yet decompressed. Nobody changes one; to forbid it would take as long as reading one.

    Attributes
    ----------
    series_id, index : as in `Frame`.
    time_s : start of the exposure in seconds since the series began; NaN when the source did not say.
    shape : (height, width).
    dtype : element type on the wire; its byte order may differ from this machine's.
    algorithm : ``"none"``, ``"lz4"``, ``"bslz4"`` or `LZ4_BLOCK`.
    blob : the payload with its framing.
    column_major : the payload runs down the columns first.
    pose : as in `Frame`.
    """

    series_id: int
    index: int
    time_s: float
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    algorithm: str
    blob: Buffer
    column_major: bool = False
    pose: Quaternion | None = None

    @property
    def raw_bytes(self) -> int:
        """Bytes after decompression."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def storable(self) -> bool:
        """Whether `blob` can be an HDF5 chunk as it is."""
        return self.algorithm in ("none", "lz4", "bslz4") and not self.column_major

    def decode(self, out: NDArray[Any] | None = None) -> Frame:
        """Decompress.

        Parameters
        ----------
        out : optional (height, width) C-contiguous array of the frame's type in native byte order, written to.

        Raises
        ------
        CompressionError : the payload is damaged, or `out` does not fit.
        """
        native = self.dtype.newbyteorder("=")
        if out is not None and (out.shape != self.shape or out.dtype != native or not out.flags.c_contiguous):
            raise CompressionError(f"the output array has to be a contiguous {native} array of shape {self.shape}")
        direct = out is not None and native == self.dtype and not self.column_major
        flat = out.reshape(-1).view(np.uint8) if out is not None and direct else None
        if self.algorithm == LZ4_BLOCK:
            raw = decompress_lz4_block(self.blob, self.raw_bytes, flat)
        else:
            raw = decompress(self.blob, self.algorithm, self.dtype.itemsize, self.raw_bytes, flat)
        if direct and out is not None:
            return Frame(self.series_id, self.index, out, self.time_s, self.pose)
        elements = raw.view(self.dtype)
        image = elements.reshape(self.shape[::-1]).T if self.column_major else elements.reshape(self.shape)
        if out is not None:
            out[...] = image
            return Frame(self.series_id, self.index, out, self.time_s, self.pose)
        return Frame(self.series_id, self.index, np.ascontiguousarray(image, dtype=native), self.time_s, self.pose)


def encode_frame(frame: Frame, algorithm: str) -> EncodedFrame:
    """Compress a frame. Raises `CompressionError` for an unknown algorithm or a frame that is too large."""
    height, width = frame.data.shape
    return EncodedFrame(
        frame.series_id,
        frame.index,
        frame.time_s,
        (height, width),
        frame.data.dtype,
        algorithm,
        compress(frame.data, algorithm),
        pose=frame.pose,
    )


def read_detector_table(image: EncodedFrame, dtype: type[np.generic]) -> NDArray[Any]:
    """A pixel mask or flat field that came with the start of a series, as (height, width) array of `dtype`.

    Values that the type cannot hold become others, without a word.

    Raises
    ------
    CompressionError : the payload is damaged, or there is no detector of that size.
    """
    if math.prod(image.shape) > MOST_TABLE_PIXELS:  # of a few bytes, compressed, gigabytes can be made
        raise CompressionError(
            f"a detector table of {image.shape[1]} x {image.shape[0]} pixels is larger than any detector"
        )
    with np.errstate(all="ignore"):
        return image.decode().data.astype(dtype)


def check_geometry(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return (height, width) if this can be one frame, before anything is allocated for it.

    Raises
    ------
    CompressionError : not two-dimensional, empty, or larger than a frame can be.
    """
    if len(shape) != 2:
        raise CompressionError(f"an image has two dimensions, this one has {len(shape)}")
    if min(shape) < 1 or math.prod(shape) * dtype.itemsize > MAX_RAW_BYTES:
        raise CompressionError(f"{shape[1]} x {shape[0]} pixels of type {dtype} cannot be a frame")
    return shape[0], shape[1]
