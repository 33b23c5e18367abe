"""DECTRIS SIMPLON stream v1: multipart messages of JSON headers and blobs, to and from events. No sockets.

After the public SIMPLON API reference, with the habits of senders that were seen: the series header and its
configuration come as one message or as two, bitshuffle payloads may have a zeroed 12-byte header, and ``lz4`` payloads
are bare LZ4 blocks without the HDF5 framing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from .compression import HEADER_BYTES, Buffer, default_block_bytes
from .encoded import LZ4_BLOCK, EncodedFrame, check_geometry, read_detector_table
from .errors import WireError
from .frame import SeriesEnd, SeriesStart
from .series import WireEvent
from .words import printable

_TYPES: Final = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32", "float64")
_ENCODING: Final = re.compile(r"(?:(bs(8|16|32|64)-)?(lz4))?([<>])?")
_MAX_HEADER_BYTES: Final = 1 << 22


def looks_like(part: Buffer) -> bool:
    """Whether a first message part starts a JSON object; a Stream V2 message never does."""
    return bytes(memoryview(part)[:1]) == b"{"


class Decoder:
    """Reads messages. It remembers one thing: a series header whose configuration has not come yet."""

    def __init__(self) -> None:
        self._header: dict[str, Any] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a header has come whose configuration is still to come."""
        return self._header is not None

    def decode(self, parts: Sequence[Buffer]) -> list[WireEvent]:
        """Read one multipart message; an empty list where it says nothing (yet).

        Raises
        ------
        WireError : the message is not SIMPLON v1, or one of its fields is not what it has to be.
        """
        starts = [0, *(at for at in range(1, len(parts)) if _starts_message(parts[at])), len(parts)]
        return [event for first, last in pairwise(starts) for event in self._decode_one(parts[first:last])]

    def _decode_one(self, parts: Sequence[Buffer]) -> list[WireEvent]:
        head = _json(parts[0])
        kind = str(head.get("htype", ""))
        if kind.startswith("dheader-"):
            pending = self._flush()
            self._header = head
            if len(parts) == 1 and head.get("header_detail") != "none":
                return pending  # the configuration comes as a message of its own
            return [*pending, *self._flush(parts[1:])]
        if not kind and self._header is not None:
            return self._flush(parts)
        pending = self._flush()
        if kind.startswith("dimage-"):
            return [*pending, _read_image(head, parts)]
        if kind.startswith("dseries_end-"):
            return [*pending, SeriesEnd(_natural(head, "series"))]
        return pending

    def _flush(self, parts: Sequence[Buffer] = ()) -> list[WireEvent]:
        header, self._header = self._header, None
        return [] if header is None else [_read_start(header, parts)]


def _starts_message(part: Buffer) -> bool:
    """Whether a part is the first of a message; a sender that fell behind puts several messages into one."""
    head = bytes(memoryview(part)[:256])
    return head[:1] == b"{" and any(name in head for name in (b'"dheader-', b'"dimage-', b'"dseries_end-'))


def encode_start(start: SeriesStart, separate: bool = True) -> list[list[bytes]]:
    """Messages of a series start: header and configuration as two messages, or as one of two parts."""
    header = {"htype": "dheader-1.0", "header_detail": "basic", "series": start.series_id}
    config = {
        "x_pixels_in_detector": start.width,
        "y_pixels_in_detector": start.height,
        "bit_depth_image": None if start.dtype is None else 8 * start.dtype.itemsize,
        "nimages": start.number_of_images,
        "ntrigger": 1,
        "trigger_mode": "exts",
        "frame_time": start.frame_time_s,
        "description": start.detector,
    }
    parts = [_dump(header), _dump({name: value for name, value in config.items() if value is not None})]
    return [[part] for part in parts] if separate else [parts]


def encode_frame(frame: EncodedFrame) -> list[bytes]:
    """Message of one frame."""
    size = frame.dtype.itemsize
    names = {"none": "", "bslz4": f"bs{8 * size}-lz4", LZ4_BLOCK: "lz4"}
    if frame.algorithm not in names:
        raise WireError(f"SIMPLON v1 cannot carry {frame.algorithm!r}")
    order = ">" if frame.dtype.byteorder == ">" else "<"
    height, width = frame.shape
    blob = bytes(frame.blob)
    start_ns = 0 if not math.isfinite(frame.time_s) else round(frame.time_s * 1e9)
    return [
        _dump({"htype": "dimage-1.0", "series": frame.series_id, "frame": frame.index, "hash": ""}),
        _dump(
            {
                "htype": "dimage_d-1.0",
                "shape": [width, height],
                "type": frame.dtype.name,
                "encoding": names[frame.algorithm] + order,
                "size": len(blob),
            }
        ),
        blob,
        _dump({"htype": "dconfig-1.0", "start_time": start_ns, "stop_time": start_ns, "real_time": 0}),
    ]


def encode_end(end: SeriesEnd) -> list[bytes]:
    """Message of a series end."""
    return [_dump({"htype": "dseries_end-1.0", "series": end.series_id})]


def _read_start(header: Mapping[str, Any], parts: Sequence[Buffer]) -> SeriesStart:
    config = _json(parts[0]) if parts else {}
    dtype = {8: "u1", 16: "u2", 32: "u4", 64: "u8"}.get(_count(config.get("bit_depth_image")) or 0)
    whole = config.get("roi_mode") in (None, "", "disabled")  # a region of interest makes the frames smaller
    energy_eV = _positive(config.get("incident_energy", config.get("photon_energy")))
    tables = _read_tables(parts[1:])
    return SeriesStart(
        series_id=_natural(header, "series"),
        width=_count(config.get("x_pixels_in_detector")) if whole else None,
        height=_count(config.get("y_pixels_in_detector")) if whole else None,
        dtype=None if dtype is None else np.dtype(dtype),
        number_of_images=_expected(config),
        frame_time_s=_positive(config.get("frame_time")),
        voltage_kV=energy_eV / 1000 if energy_eV is not None and energy_eV >= 20_000 else None,
        detector=printable(str(config.get("description", ""))),
        pixel_mask=tables.get("dpixelmask"),
        flatfield=tables.get("dflatfield"),
        flatfield_applied=config.get("flatfield_correction_applied") in (True, 1),
    )


def _expected(config: Mapping[str, Any]) -> int | None:
    images, triggers = _count(config.get("nimages")), _count(config.get("ntrigger"))
    if config.get("trigger_mode") in ("exte", "inte"):
        return triggers  # these modes take one image per trigger
    return None if images is None else images * (triggers or 1)


def _read_tables(parts: Sequence[Buffer]) -> dict[str, Any]:
    """Pairs of a JSON header and a raw blob: pixel mask and flat field; other tables are passed over."""
    tables: dict[str, Any] = {}
    for described, blob in zip(parts[::2], parts[1::2], strict=False):
        head = _json(described)
        name = str(head.get("htype", "")).partition("-")[0]
        if name in ("dpixelmask", "dflatfield"):
            shape, dtype = _shape(head), _dtype(head)
            image = EncodedFrame(0, 0, math.nan, shape, dtype, "none", blob)
            tables[name] = read_detector_table(image, np.uint32 if name == "dpixelmask" else np.float32)
    return tables


def _read_image(head: Mapping[str, Any], parts: Sequence[Buffer]) -> EncodedFrame:
    if len(parts) < 3:
        raise WireError(f"an image message needs at least 3 parts, this one has {len(parts)}")
    described = _json(parts[1])
    if not str(described.get("htype", "")).startswith("dimage_d-"):
        raise WireError("the second part of an image message has to be dimage_d-1.0")
    encoding = _ENCODING.fullmatch(str(described.get("encoding", "")))
    if encoding is None:
        raise WireError(f"encoding {str(described.get('encoding'))[:40]!r} is not supported; set bslz4, lz4 or none")
    shape, dtype = _shape(described), _dtype(described)
    _, bits, lz4, order = encoding.groups()
    if order == ">":
        dtype = dtype.newbyteorder(">")
    if bits is not None and int(bits) != 8 * dtype.itemsize:
        raise WireError(f"encoding bs{bits}-lz4 does not fit elements of {dtype.itemsize} bytes")
    algorithm = "bslz4" if bits is not None else LZ4_BLOCK if lz4 else "none"
    blob = parts[2]
    if algorithm == "bslz4":
        blob = _with_header(blob, math.prod(shape) * dtype.itemsize, dtype.itemsize)
    times = _json(parts[3]) if len(parts) > 3 else {}
    return EncodedFrame(
        _natural(head, "series"),
        _natural(head, "frame"),
        _seconds(times.get("start_time")),
        shape,
        dtype,
        algorithm,
        blob,
    )


def _with_header(blob: Buffer, raw_bytes: int, element_size: int) -> Buffer:
    """Write the header that some senders leave zero, so that the payload can be stored as an HDF5 chunk."""
    if bytes(memoryview(blob)[:HEADER_BYTES]) != bytes(HEADER_BYTES) or raw_bytes == 0:
        return blob
    header = raw_bytes.to_bytes(8, "big") + default_block_bytes(element_size).to_bytes(4, "big")
    return header + bytes(memoryview(blob)[HEADER_BYTES:])


def _shape(described: Mapping[str, Any]) -> tuple[int, int]:
    shape = described.get("shape")
    if not isinstance(shape, list) or not all(_is_natural(size) for size in shape):
        raise WireError("shape has to be a list of natural numbers")
    return check_geometry(tuple(reversed(shape)), _dtype(described))  # [x, y] on the wire


def _dtype(described: Mapping[str, Any]) -> np.dtype[Any]:
    name = described.get("type")
    if name not in _TYPES:
        raise WireError(f"unknown element type {str(name)[:40]!r}")
    return np.dtype(name).newbyteorder("<")


def _json(part: Buffer) -> dict[str, Any]:
    view = memoryview(part)
    if view.nbytes > _MAX_HEADER_BYTES:
        raise WireError(f"a header of {view.nbytes} bytes is not JSON")
    try:
        value = json.loads(bytes(view))
    except (ValueError, RecursionError):
        raise WireError("a header that is not JSON") from None
    if not isinstance(value, dict):
        raise WireError("a header that is not a JSON object")
    return value


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _natural(head: Mapping[str, Any], name: str) -> int:
    value = head.get(name)
    if not _is_natural(value):
        raise WireError(f"{name} has to be a natural number")
    return int(value)  # type: ignore[arg-type]  # checked above


def _count(value: Any) -> int | None:
    return int(value) if _is_natural(value) and value > 0 else None


def _positive(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e300 else None


def _seconds(nanoseconds: Any) -> float:
    return nanoseconds * 1e-9 if _is_natural(nanoseconds) else math.nan
