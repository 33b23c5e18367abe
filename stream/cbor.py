"""Read CBOR (RFC 8949) without copying: byte strings come back as views of the message.

The general library copies every byte string, and of a frame that costs as much as receiving it. Only what Stream V2 is
made of is interpreted: tags stay tags (a damaged date in a header is nobody's loss), and nothing is allocated on the
word of the sender.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .errors import WireError

_MAX_DEPTH = 32
_MAX_ITEMS = 1 << 16  # of one map or list
_BREAK = object()
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_INDEFINITE = -1
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged value (major type 6)."""

    tag: int
    value: Any


def loads(payload: bytes | bytearray | memoryview) -> Any:
    """Read one item that fills the whole message.

    Returns
    -------
    int, float, bool, None, str, dict, list, `Tag`, and for byte strings a memoryview of `payload` (or bytes, where the
    sender sent it in pieces).

    Raises
    ------
    WireError : not CBOR, truncated, followed by more bytes, or nested deeper than any detector message.
    """
    view = memoryview(payload).cast("B") if not isinstance(payload, bytes) else memoryview(payload)
    try:
        value, at = _read(view, 0, 0)
    except (IndexError, struct.error):
        raise WireError("not a CBOR message: truncated") from None
    except (UnicodeDecodeError, OverflowError):
        raise WireError("not a CBOR message: text that is not UTF-8") from None
    if value is _BREAK:
        raise WireError("not a CBOR message: a break outside")
    if at != view.nbytes:
        raise WireError(f"not a CBOR message: {view.nbytes - at} bytes left over")
    return value


class Head(NamedTuple):
    """The head of one item: its major type, its number (-1: of no known length), where it begins and where it ends."""

    major: int
    number: int
    begin: int
    end: int


def heads(whole: bytes) -> Iterator[Head]:
    """Heads of all items of a message that `loads` has read, in the order in which they stand there."""
    view, at = memoryview(whole), 0
    while at < len(whole):
        begin, major, info = at, whole[at] >> 5, whole[at] & 31
        if major == 7:
            number, at = info, _read_simple(view, at + 1, info)[1]
        else:
            number, at = _read_number(view, at + 1, info, major)
        yield Head(major, number, begin, at)
        at += max(number, 0) if major in (2, 3) else 0


def _read(view: memoryview, at: int, depth: int) -> tuple[Any, int]:
    """The item at a place, and where the next one begins."""
    head = view[at]
    major, info = head >> 5, head & 31
    if major == 7:
        return _read_simple(view, at + 1, info)
    number, at = _read_number(view, at + 1, info, major)
    if major == 0:
        return number, at
    if major == 3:
        text, at = _read_bytes(view, at, number, major)
        return str(text, "utf-8"), at
    if major == 2:
        return _read_bytes(view, at, number, major)
    if major == 1:
        return -1 - number, at
    if depth >= _MAX_DEPTH:
        raise WireError("not a CBOR message: nested too deeply")
    if major == 6:
        value, at = _read(view, at, depth + 1)
        if value is _BREAK:
            raise WireError("not a CBOR message: a tag of nothing")
        return Tag(number, value), at
    return _read_list(view, at, number, depth) if major == 4 else _read_map(view, at, number, depth)


def _read_number(view: memoryview, at: int, info: int, major: int) -> tuple[int, int]:
    """Value or length that belongs to a head."""
    if info < 24:
        return info, at
    if info == 31 and 2 <= major <= 5:
        return _INDEFINITE, at
    size = _SIZES.get(info)
    if size is None:
        raise WireError("not a CBOR message: reserved length")
    if view.nbytes - at < size:
        raise IndexError
    return int.from_bytes(view[at : at + size], "big"), at + size


def _read_bytes(view: memoryview, at: int, length: int, major: int) -> tuple[memoryview | bytes, int]:
    if length != _INDEFINITE:
        if length > view.nbytes - at:
            raise IndexError
        return view[at : at + length], at + length
    pieces: list[memoryview] = []
    while view[at] != 0xFF:
        head = view[at]
        size, at = _read_number(view, at + 1, head & 31, head >> 5)
        if head >> 5 != major or not 0 <= size <= view.nbytes - at:
            raise WireError("not a CBOR message: a string in pieces of another kind")
        pieces.append(view[at : at + size])
        at += size
    return b"".join(pieces), at + 1


def _read_list(view: memoryview, at: int, length: int, depth: int) -> tuple[list[Any], int]:
    _check_length(view, at, length)
    values: list[Any] = []
    while len(values) != length:
        value, at = _read(view, at, depth + 1)
        if value is _BREAK:
            if length != _INDEFINITE:
                raise WireError("not a CBOR message: a list that ends early")
            break
        values.append(value)
        if len(values) > _MAX_ITEMS:
            raise WireError("not a CBOR message: a list that does not end")
    return values, at


def _read_map(view: memoryview, at: int, length: int, depth: int) -> tuple[dict[Any, Any], int]:
    _check_length(view, at, length)
    values: dict[Any, Any] = {}
    count = 0
    while count != length:
        key, at = _read(view, at, depth + 1)
        if key is _BREAK and length == _INDEFINITE:
            break
        if not isinstance(key, str | int):
            raise WireError("not a CBOR message: the key of a map is neither text nor number")
        value, at = _read(view, at, depth + 1)
        if value is _BREAK:
            raise WireError("not a CBOR message: a map that ends early")
        values[key] = value
        count += 1
        if count > _MAX_ITEMS:
            raise WireError("not a CBOR message: a map that does not end")
    return values, at


def _check_length(view: memoryview, at: int, length: int) -> None:
    if length > min(view.nbytes - at, _MAX_ITEMS):
        raise WireError(f"not a CBOR message: {length} items cannot be in it")


def _read_simple(view: memoryview, at: int, info: int) -> tuple[Any, int]:
    if info in _SIMPLE:
        return _SIMPLE[info], at
    if info == 31:
        return _BREAK, at
    if info == 25:
        return struct.unpack_from(">e", view, at)[0], at + 2
    if info == 26:
        return struct.unpack_from(">f", view, at)[0], at + 4
    if info == 27:
        return struct.unpack_from(">d", view, at)[0], at + 8
    raise WireError("not a CBOR message: a simple value nobody has defined")
