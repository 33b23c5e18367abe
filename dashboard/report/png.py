"""Pictures as PNG inside a page: arrays in, ``data:`` addresses out. Only zlib is needed."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_KINDS = {1: 0, 3: 2, 4: 6}  # channels: colour type of the PNG specification


def encode(image: Bytes) -> bytes:
    """PNG file of a picture.

    Parameters
    ----------
    image : (height, width) grey, or (height, width, 3 or 4) RGB or RGBA, uint8.

    Raises
    ------
    ValueError : another shape, or an empty picture.
    """
    pixels = np.ascontiguousarray(image, dtype=np.uint8)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.ndim not in (2, 3) or channels not in _KINDS or not pixels.size:
        raise ValueError(f"a picture of shape {image.shape} cannot be a PNG: give (height, width[, 3 or 4])")
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, width * channels)
    # filter 1 (Sub): each byte minus that of the pixel to the left; smooth pictures get half as large
    left = np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    filtered = np.ones((height, width * channels + 1), np.uint8)
    filtered[:, 1:] = rows - left
    head = struct.pack(">IIBBBBB", width, height, 8, _KINDS[channels], 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_uri(image: Bytes) -> str:
    """The picture as an address that needs no network. Raises as `encode`."""
    return "data:image/png;base64," + base64.b64encode(encode(image)).decode("ascii")
