"""DECTRIS Stream V2: one CBOR message to and from an event. No sockets, no state.

After the public Stream V2 specification of DECTRIS; arrays are RFC 8746 typed arrays (tags 64-87) inside a
multi-dimensional array (tag 40 or 1040), byte strings may be compressed (tag 56500). Unknown message types and unknown
fields are skipped, because other senders of this format add their own. A frame that is read shares the memory of its
message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import cbor2
import numpy as np
from numpy.typing import NDArray

from . import cbor
from .compression import Buffer
from .encoded import EncodedFrame, check_geometry, encode_frame, read_detector_table
from .errors import WireError
from .form import Form, form_of
from .frame import Event, Frame, SeriesEnd, SeriesStart
from .poses import goniometer, pose_from
from .words import printable

SELF_DESCRIBE: Final = b"\xd9\xd9\xf7"  # tag 55799
_TAG_ROW_MAJOR, _TAG_COLUMN_MAJOR, _TAG_COMPRESSED, _TAG_SELF_DESCRIBE = 40, 1040, 56500, 55799
_TYPED_ARRAYS: Final = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
_TAG_OF_TYPE: Final = {np.dtype(name): tag for tag, name in reversed(_TYPED_ARRAYS.items())}
_MAX_NUMBER = 2**63
_LOWEST_BEAM_EV = 20_000  # below it, an energy in the header belongs to an X-ray beam line, not to a TEM
_TRIES = 8  # to make a form of an image message, in a series: where none fits, every message is read in full


def decode(payload: Buffer, channel: str | None = None) -> SeriesStart | EncodedFrame | SeriesEnd | None:
    """Read one message.

    Parameters
    ----------
    payload : the whole ZeroMQ message part.
    channel : which channel of a multi-channel image to take; default is the first one in the message.

    Returns
    -------
    The event, or ``None`` for a message type this program does not know.

    Raises
    ------
    WireError : the bytes are not a Stream V2 message, or one of its fields is not what it has to be.
    """
    message = cbor.loads(payload)
    if isinstance(message, cbor.Tag) and message.tag == _TAG_SELF_DESCRIBE:
        message = message.value
    if not isinstance(message, Mapping) or not isinstance(message.get("type"), str):
        raise WireError("a CBOR message, but not a map with a 'type'")
    kind = message["type"]
    if kind == "image":
        return _read_image(message, channel)
    if kind == "start":
        return _read_start(message, channel)
    if kind == "end":
        return SeriesEnd(_number(message, "series_id"))
    return None


class Decoder:
    """Reads the messages of one sender. Images like the one before are read by their form, which takes a third."""

    def __init__(self, channel: str | None = None) -> None:
        self._channel = channel
        self._form: Form | None = None
        self._tries = _TRIES

    def known(self, payload: Buffer) -> EncodedFrame | None:
        """The frame of a message of the form that is known; ``None``: `decode` has to look at it."""
        return None if self._form is None else self._form.read(payload)

    def decode(self, payload: Buffer) -> SeriesStart | EncodedFrame | SeriesEnd | None:
        """Read one message in full, as `dectris2.decode` does, and remember its form.

        Raises
        ------
        WireError : see `dectris2.decode`.
        """
        event = decode(payload, self._channel)
        if isinstance(event, SeriesStart):
            self._tries = _TRIES
        elif isinstance(event, EncodedFrame) and self._tries:
            self._tries -= 1
            self._form = form_of(payload, event) or self._form
        return event


def encode(event: Event | EncodedFrame, compression: str = "bslz4", channel: str = "threshold_1") -> bytes:
    """Write one message. `compression` is used for frames that are not compressed yet, and for the tables of a start.

    Raises
    ------
    CompressionError : unknown compression, or a frame that is too large.
    WireError : a frame that Stream V2 cannot carry.
    """
    if isinstance(event, SeriesStart):
        message = _start_message(event, compression, channel)
    elif isinstance(event, SeriesEnd):
        message = {"type": "end", "series_id": event.series_id, "series_unique_id": ""}
    else:
        encoded = encode_frame(event, compression) if isinstance(event, Frame) else event
        message = _image_message(encoded, channel)
    return SELF_DESCRIBE + cbor2.dumps(message)


def _read_image(message: Mapping[str, Any], channel: str | None) -> EncodedFrame:
    series_id, index = _number(message, "series_id"), _number(message, "image_id")
    channels = message.get("data")
    if not isinstance(channels, Mapping) or not channels:
        raise WireError("an image without data")
    if channel is not None and channel not in channels:
        names = ", ".join(printable(str(name), 40) for name in list(channels)[:8])
        raise WireError(f"an image without channel {channel!r}; it has {names}: set stream.channel to one of these")
    shape, dtype, algorithm, blob, column_major = _read_array(channels[channel or next(iter(channels))])
    height, width = check_geometry(shape, dtype)
    time_s = _seconds(message.get("start_time"))
    pose = pose_from(message.get("user_data"))
    return EncodedFrame(series_id, index, time_s, (height, width), dtype, algorithm, blob, column_major, pose)


def _read_start(message: Mapping[str, Any], channel: str | None) -> SeriesStart:
    user_data = message.get("user_data")
    user_data = _plain(user_data) if isinstance(user_data, Mapping) else {}
    specimen = user_data.get("tumble")
    specimen = specimen if isinstance(specimen, Mapping) else {}
    voltage_kV = _positive(specimen.get("voltage_kV"))
    energy_eV = _positive(message.get("incident_energy"))
    if voltage_kV is None and energy_eV is not None and energy_eV >= _LOWEST_BEAM_EV:
        voltage_kV = energy_eV / 1000
    return SeriesStart(
        series_id=_number(message, "series_id"),
        unique_id=_text(message.get("series_unique_id")),
        width=_count(message.get("image_size_x")),
        height=_count(message.get("image_size_y")),
        dtype=_read_dtype(message.get("image_dtype")),
        number_of_images=_count(message.get("number_of_images")),
        frame_time_s=_positive(message.get("frame_time")),
        pixel_size_A=_positive(specimen.get("pixel_size_angstrom")),
        dose_e_per_A2=_positive(specimen.get("dose_e_per_A2")),
        voltage_kV=voltage_kV,
        detector=_text(message.get("detector_description")),
        pixel_mask=_read_table(message.get("pixel_mask"), channel, np.uint32),
        flatfield=_read_table(message.get("flatfield"), channel, np.float32),
        flatfield_applied=message.get("flatfield_enabled") is True,
        user_data=user_data,
        goniometer_deg=goniometer(message.get("goniometer")),
    )


def _read_table(tables: Any, channel: str | None, as_type: type[np.generic]) -> NDArray[Any] | None:
    if not isinstance(tables, Mapping) or not tables:
        return None
    name = channel if channel in tables else next(iter(tables))
    shape, dtype, algorithm, blob, column_major = _read_array(tables[name])
    image = EncodedFrame(0, 0, math.nan, check_geometry(shape, dtype), dtype, algorithm, blob, column_major)
    return read_detector_table(image, as_type)


def _read_array(value: Any) -> tuple[tuple[int, ...], np.dtype[Any], str, Buffer, bool]:
    """Return shape, element type, algorithm, payload and whether it is column-major."""
    if not isinstance(value, cbor.Tag) or value.tag not in (_TAG_ROW_MAJOR, _TAG_COLUMN_MAJOR):
        raise WireError("an array has to carry tag 40 or 1040")
    if not _is_list(value.value, 2) or not _is_list(value.value[0]):
        raise WireError("a multi-dimensional array has to be [[dimensions], typed array]")
    dimensions, typed = value.value
    if not 1 <= len(dimensions) <= 8 or not all(_is_number(size) for size in dimensions):
        raise WireError("the dimensions of an array have to be natural numbers")
    if not isinstance(typed, cbor.Tag) or typed.tag not in _TYPED_ARRAYS:
        known = getattr(typed, "tag", type(typed).__name__)
        raise WireError(f"array of an element type this program does not know (tag {known})")
    algorithm, blob = _read_bytes(typed.value, np.dtype(_TYPED_ARRAYS[typed.tag]).itemsize)
    return tuple(dimensions), np.dtype(_TYPED_ARRAYS[typed.tag]), algorithm, blob, value.tag == _TAG_COLUMN_MAJOR


def _read_bytes(value: Any, element_size: int) -> tuple[str, Buffer]:
    if isinstance(value, bytes | memoryview):
        return "none", value
    if not isinstance(value, cbor.Tag) or value.tag != _TAG_COMPRESSED:
        raise WireError("the elements of an array have to be a byte string")
    if not _is_list(value.value, 3) or not isinstance(value.value[0], str):
        raise WireError("compressed bytes have to be [algorithm, element size, bytes]")
    algorithm, announced, blob = value.value
    if not isinstance(blob, bytes | memoryview):
        raise WireError("compressed bytes have to be [algorithm, element size, bytes]")
    if algorithm not in ("lz4", "bslz4"):
        raise WireError(f"compression {algorithm[:40]!r} is not supported; set the detector to bslz4, lz4 or none")
    if algorithm == "bslz4" and announced != element_size:
        raise WireError(f"compressed as {announced}-byte elements, but the array has {element_size}-byte elements")
    return algorithm, blob


def _read_dtype(value: Any) -> np.dtype[Any] | None:
    if value is None:
        return None
    if value not in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32", "float64"):
        raise WireError(f"unknown image_dtype {str(value)[:40]!r}")
    return np.dtype(value)


def _image_message(frame: EncodedFrame, channel: str) -> dict[str, Any]:
    if frame.dtype not in _TAG_OF_TYPE:
        raise WireError(f"Stream V2 has no array of type {frame.dtype}")
    if frame.algorithm not in ("none", "lz4", "bslz4"):
        frame = encode_frame(frame.decode(), "bslz4")
    tag = _TAG_COLUMN_MAJOR if frame.column_major else _TAG_ROW_MAJOR
    array = _array(frame.shape, frame.dtype, frame.algorithm, bytes(frame.blob), tag)
    message: dict[str, Any] = {
        "type": "image",
        "series_id": frame.series_id,
        "series_unique_id": "",
        "image_id": frame.index,
        "data": {channel: array},
    }
    if math.isfinite(frame.time_s):
        message["start_time"] = [round(frame.time_s * 1e9), 1_000_000_000]
    if frame.pose is not None:
        message["user_data"] = {"tumble": {"quaternion": list(frame.pose)}}
    return message


def _array(
    shape: tuple[int, ...], dtype: np.dtype[Any], algorithm: str, blob: bytes, tag: int = _TAG_ROW_MAJOR
) -> cbor2.CBORTag:
    content = blob if algorithm == "none" else cbor2.CBORTag(_TAG_COMPRESSED, [algorithm, dtype.itemsize, blob])
    return cbor2.CBORTag(tag, [list(shape), cbor2.CBORTag(_TAG_OF_TYPE[dtype], content)])


def _start_message(start: SeriesStart, compression: str, channel: str) -> dict[str, Any]:
    specimen = {
        "pixel_size_angstrom": start.pixel_size_A,
        "dose_e_per_A2": start.dose_e_per_A2,
        "voltage_kV": start.voltage_kV,
    }
    user_data = dict(start.user_data)
    said = {name: value for name, value in specimen.items() if value is not None}
    if said:
        earlier = user_data.get("tumble")
        user_data["tumble"] = {**(earlier if isinstance(earlier, Mapping) else {}), **said}
    message: dict[str, Any] = {
        "type": "start",
        "series_id": start.series_id,
        "series_unique_id": start.unique_id,
        "channels": [channel],
        "image_size_x": start.width,
        "image_size_y": start.height,
        "image_dtype": None if start.dtype is None else start.dtype.name,
        "number_of_images": start.number_of_images,
        "frame_time": start.frame_time_s,
        "incident_energy": None if start.voltage_kV is None else start.voltage_kV * 1000,
        "detector_description": start.detector,
        "user_data": user_data,
    }
    if start.goniometer_deg is not None:
        first, increment = start.goniometer_deg
        message["goniometer"] = {"alpha": {"start": first, "increment": increment}}
    if start.flatfield is not None:
        message["flatfield_enabled"] = start.flatfield_applied
    tables = (("pixel_mask", start.pixel_mask), ("flatfield", start.flatfield))
    for name, table in tables:
        if table is not None:
            encoded = encode_frame(Frame(0, 0, table, math.nan), compression)
            message[name] = {channel: _array(encoded.shape, encoded.dtype, encoded.algorithm, bytes(encoded.blob))}
    return {name: value for name, value in message.items() if value is not None}


def _number(message: Mapping[str, Any], name: str) -> int:
    value = message.get(name)
    if not _is_number(value):
        raise WireError(f"{name} has to be a natural number")
    return int(value)  # type: ignore[arg-type]  # checked above


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_NUMBER


def _is_list(value: Any, length: int | None = None) -> bool:
    return isinstance(value, list | tuple) and (length is None or len(value) == length)


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and value > 0 else None


def _positive(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < 1e300 else None


def _plain(value: Any, depth: int = 0) -> Any:
    """Dictionaries, lists, texts and numbers only, so that it can go to a file or to another process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, cbor.Tag) and depth < 8:
        return _plain(value.value, depth + 1)
    if isinstance(value, Mapping) and depth < 8:
        return {str(name): _plain(item, depth + 1) for name, item in value.items()}
    if _is_list(value) and depth < 8:
        return [_plain(item, depth + 1) for item in value]
    return str(value)[:200]


def _text(value: Any) -> str:
    return printable(value) if isinstance(value, str) else ""


def _seconds(value: Any) -> float:
    """A rational [numerator, denominator] as seconds; NaN where the source gave none."""
    if not _is_list(value, 2) or not all(isinstance(part, int) and abs(part) < _MAX_NUMBER for part in value):
        return math.nan
    return float(value[0] / value[1]) if value[1] > 0 else math.nan
