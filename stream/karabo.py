"""karabo-bridge 2.2 (European XFEL) to events: msgpack headers, each with a payload, one message per train. No sockets.

After the public description of the protocol in the documentation of karabo-bridge-py. Of a train the largest image is
taken, or stack of images, whatever its source; the train number tells what is missing. The protocol knows no end of a
series: silence ends it. Reading msgpack needs the package of that name (an extra).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .compression import Buffer
from .encoded import EncodedFrame, check_geometry
from .errors import WireError
from .frame import SeriesStart
from .series import WireEvent
from .words import printable

_MAX_HEADER_BYTES = 1 << 20
_MOST_IMAGES = 4096  # of one train
REQUEST = b"next"  # what a client says to a server that waits to be asked


def looks_like(part: Buffer) -> bool:
    """Whether a first message part begins a small msgpack map; neither CBOR maps nor JSON begin like that."""
    head = bytes(memoryview(part)[:1])
    return bool(head) and 0x80 <= head[0] <= 0x8F


class Decoder:
    """Reads trains. It remembers with which one the series began."""

    def __init__(self) -> None:
        self._series_id = 0
        self._first = self._last = -1
        self._began_s = math.nan
        self._layout: tuple[int, int, int, str] | None = None  # images in a train, height, width, type

    def decode(self, parts: Sequence[Buffer]) -> list[WireEvent]:
        """Read one train; an empty list where there is no image in it.

        Raises
        ------
        WireError : the message is no train, a field is not what it has to be, or msgpack is not installed.
        """
        if len(parts) % 2:
            raise WireError(f"a train of {len(parts)} parts; headers and payloads come in pairs")
        heads = [(_unpack(head), payload) for head, payload in zip(parts[::2], parts[1::2], strict=True)]
        images = [(head, payload) for head, payload in heads if head.get("content") in ("array", "ImageData")]
        images = [(head, payload) for head, payload in images if len(_shape(head)) in (2, 3)]
        if not images:
            return []
        head, payload = max(images, key=lambda item: memoryview(item[1]).nbytes)
        metadata = next((item for item in (_mapping(head, "metadata") for head, _ in heads) if item), {})
        return self._train(head, payload, metadata)

    def _train(self, head: Mapping[str, Any], payload: Buffer, metadata: Mapping[str, Any]) -> list[WireEvent]:
        dtype, shape = _dtype(head), _shape(head)
        count, height, width = shape if len(shape) == 3 else (1, *shape)
        check_geometry((height, width), dtype)
        view = memoryview(payload).cast("B")
        size = height * width * dtype.itemsize
        if not 0 < count <= _MOST_IMAGES or view.nbytes != count * size:
            raise WireError(f"an array of {view.nbytes} bytes, its shape and type need {count * size}")
        number = metadata.get("timestamp.tid")
        train = number if isinstance(number, int) and _is_natural(number) else self._last + 1
        clock = metadata.get("timestamp")
        clock_s = float(clock) if isinstance(clock, int | float) and math.isfinite(clock) else math.nan
        before: list[WireEvent] = []
        layout = (count, height, width, dtype.str)
        if self._first < 0 or train <= self._last or layout != self._layout:
            self._series_id += 1
            self._first, self._layout, self._began_s = train, layout, clock_s
            source = head.get("source")
            before = [
                SeriesStart(
                    self._series_id,
                    width=width,
                    height=height,
                    dtype=dtype,
                    detector=printable(source) if isinstance(source, str) else "",
                )
            ]
        self._last = train
        first = (train - self._first) * count
        if not _is_natural(first + count):
            raise WireError(f"train {train} is too far from the first one, {self._first}")
        time_s = clock_s - self._began_s
        pieces = pairwise(range(0, (count + 1) * size, size))
        return before + [
            EncodedFrame(self._series_id, first + number, time_s, (height, width), dtype, "none", view[begin:end])
            for number, (begin, end) in enumerate(pieces)
        ]


def _unpack(part: Buffer) -> Mapping[str, Any]:
    try:
        import msgpack
    except ImportError:
        raise WireError("this is karabo-bridge, which needs a package: pip install 'tumble-em[karabo]'") from None
    view = memoryview(part)
    if view.nbytes > _MAX_HEADER_BYTES:
        raise WireError(f"a header of {view.nbytes} bytes is none of karabo-bridge")
    try:
        value = msgpack.unpackb(view, raw=False, strict_map_key=False)
    except Exception:  # noqa: BLE001  # msgpack lets errors of many types through: text, dates, recursion
        raise WireError("a header that is not msgpack") from None
    if not isinstance(value, dict):
        raise WireError("a header that is not a msgpack map")
    return value


def _shape(head: Mapping[str, Any]) -> tuple[int, ...]:
    shape = head.get("shape")
    if not isinstance(shape, list | tuple) or not all(_is_natural(size) for size in shape):
        return ()
    return tuple(int(size) for size in shape)


def _dtype(head: Mapping[str, Any]) -> np.dtype[Any]:
    name = head.get("dtype")
    known = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
    if name not in known:
        raise WireError(f"unknown element type {str(name)[:40]!r}")
    return np.dtype(str(name))


def _mapping(head: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = head.get(name)
    return value if isinstance(value, Mapping) else {}


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62
