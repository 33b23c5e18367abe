"""The form of the image messages of a series: all that they share, so that only what differs has to be read.

Messages of one series have the same keys, tags, shape and compression; they differ in numbers and in their payload. Of
one that was read in full a pattern is made, in which every natural number outside of the image may be another one. What
fits the pattern means the same but for those numbers; what does not is read in full.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from . import cbor
from .compression import Buffer
from .encoded import EncodedFrame

_NUMBER = rb"([\x00-\x17]|\x18.|\x19..|\x1a.{4}|\x1b.{8})"
_UNREAD = _NUMBER.replace(b"(", b"(?:", 1)  # one that nobody asks for
_LENGTH = rb"([\x40-\x57]|\x58.|\x59..|\x5a.{4}|\x5b.{8})"
_ONCE = (b"series_id", b"image_id", b"data")  # so that they can be nothing but the keys that were read; no user_data
_TIME = b"start_time"
_MAX_NUMBER = 2**63


@dataclass(frozen=True, slots=True)
class Form:
    """What the image messages of a series have in common.

    Attributes
    ----------
    head, tail : patterns of what stands before the payload, its length included, and behind it.
    index, time : which numbers are that of the image and, as a fraction, its time; ``None``: no message says it.
    example : the frame that the pattern was made of, without its payload.
    """

    head: re.Pattern[bytes]
    tail: re.Pattern[bytes]
    index: int
    time: tuple[int, int] | None
    example: EncodedFrame

    def read(self, payload: Buffer) -> EncodedFrame | None:
        """The frame of a message of this form, which shares its memory; ``None``: it is of another form."""
        head = self.head.match(payload)
        if head is None:
            return None
        *numbers, length = [_number(text) for text in head.groups()]
        begin = head.end()
        end = begin + length
        if end > len(payload):
            return None
        tail = self.tail.fullmatch(payload, end)
        if tail is None:
            return None
        numbers += [_number(text) for text in tail.groups()]
        index, like = numbers[self.index], self.example
        if index >= _MAX_NUMBER:
            return None
        time_s = math.nan
        if self.time is not None:
            above, below = numbers[self.time[0]], numbers[self.time[1]]
            if above >= _MAX_NUMBER or not 0 < below < _MAX_NUMBER:
                return None
            time_s = above / below
        blob = memoryview(payload)[begin:end]
        return EncodedFrame(
            like.series_id, index, time_s, like.shape, like.dtype, like.algorithm, blob, like.column_major
        )


def form_of(payload: Buffer, frame: EncodedFrame) -> Form | None:
    """The form of a Stream V2 message that was read as `frame`; ``None``: others like it may differ in more."""
    whole = bytes(payload)
    heads = list(cbor.heads(whole))
    blobs = [place for place, head in enumerate(heads) if head.major == 2]
    if len(blobs) != 1 or any(head.number < 0 for head in heads):  # several images, or something in pieces
        return None
    blob = heads[blobs[0]]
    around = whole[: blob.begin], whole[blob.end + blob.number :]
    if any(sum(part.count(key) for part in around) != 1 for key in _ONCE):
        return None
    if frame.pose is not None or sum(part.count(_TIME) for part in around) > 1:
        return None
    (head, tail), names = _patterns(whole, heads, blobs[0])
    time = (names.index("above"), names.index("below")) if {"above", "below"} <= set(names) else None
    if time is None and ("above" in names or "below" in names or math.isfinite(frame.time_s)):
        return None
    return Form(
        re.compile(head, re.DOTALL),
        re.compile(tail, re.DOTALL),
        names.index("image_id"),
        time,
        replace(frame, blob=b""),
    )


def _patterns(whole: bytes, heads: list[cbor.Head], blob: int) -> tuple[list[bytes], list[str]]:
    """Patterns of what stands before and behind the payload, and what the numbers in them are."""
    patterns, names = [b"", b""], []
    image = False
    for place, head in enumerate(heads):
        last = heads[max(0, place - 3) : place][::-1]
        key = _text(whole, last[0]) if last else b""
        image = (image or key == b"data") and place <= blob
        if place == blob:
            patterns[0] += _LENGTH
        elif head.major == 0 and not image and key != b"series_id":
            name = "image_id" if key == b"image_id" else _part_of_time(whole, last)
            patterns[place > blob] += _NUMBER if name else _UNREAD
            names += [name] if name else []
        else:
            patterns[place > blob] += re.escape(whole[head.begin : head.end] + _text(whole, head))
    return patterns, names


def _part_of_time(whole: bytes, last: list[cbor.Head]) -> str:
    """Whether a number is that above or below the line of the time, from the heads before it, the last one first."""
    for place, name in ((0, "above"), (1, "below")):
        if len(last) > place + 1 and _text(whole, last[place + 1]) == _TIME and last[place][:2] == (4, 2):
            return name
    return ""


def _text(whole: bytes, head: cbor.Head) -> bytes:
    return whole[head.end : head.end + head.number] if head.major == 3 else b""


def _number(text: bytes) -> int:
    return text[0] & 31 if len(text) == 1 else int.from_bytes(text[1:], "big")
