"""Mutated messages without end: right ones, changed where it hurts, for the codecs and the books of a stream.

Run it by hand for a long time: ``python tests/stream/mutate.py --messages 1000000``; the test suite runs some thousand.
A message is changed in its structure (values replaced by odd ones, fields removed, doubled, moved, tags and dimensions
changed) or in its bytes (bits flipped, cut, spliced, repeated). Whatever comes out, nothing but a `WireError` may come.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

from tumble.stream import dectris2, simplon1
from tumble.stream.compression import MAX_RAW_BYTES, compress, prepare
from tumble.stream.encoded import LZ4_BLOCK, EncodedFrame, encode_frame
from tumble.stream.errors import WireError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.series import SeriesTracker

LARGEST_EXPANDED = 1 << 22  # bytes; larger ones are honest about their size and only cost time
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 2**16, 2**31, 2**32, 2**53, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308,
    -1e308, float("nan"), float("inf"), "", "image", "start", "end", "bslz4", "lz4", "uint16", "\0", "x" * 300, b"",
    b"\0" * 12, b"\xff" * 40, [], [1], [1, 2], [0, 0], [2**40, 2**40], [[], []], {}, {"": 0}, {"a": {"a": {}}},
    cbor2.CBORTag(40, [[1, 1], cbor2.CBORTag(64, b"\0")]), cbor2.CBORTag(1040, [[2, 2], cbor2.CBORTag(69, b"\0" * 8)]),
    cbor2.CBORTag(56500, ["bslz4", 2, b"\0" * 16]), cbor2.CBORTag(0, "2026-11-21T10:00:00Z"),
    cbor2.CBORTag(2, b"\xff" * 9), cbor2.CBORTag(55799, {}), cbor2.CBORTag(258, []),
)  # fmt: skip
TAGS = (0, 2, 37, 40, 41, 64, 65, 68, 69, 70, 71, 72, 76, 79, 80, 83, 84, 85, 87, 88, 1040, 55799, 56500, 2**63)


def corpus(shape: tuple[int, int] = (20, 30)) -> tuple[list[Any], list[list[bytes]]]:
    """Right messages with images of (height, width): Stream V2 as structures, SIMPLON v1 as parts."""
    rng = np.random.default_rng(0)
    pixels = rng.poisson(2.0, shape).astype(np.uint16)
    table = rng.integers(0, 2, shape).astype(np.uint32)
    start = SeriesStart(
        1,
        "abc",
        shape[1],
        shape[0],
        np.dtype("u2"),
        100,
        0.0025,
        0.358,
        80.0,
        300.0,
        "detector",
        table,
        table.astype(np.float32),
        user_data={"note": ["a", {"b": 1.5}]},
    )
    frames = [
        encode_frame(Frame(1, index, pixels.astype(dtype), index * 0.1), algorithm)
        for index, (dtype, algorithm) in enumerate(
            (dtype, algorithm)
            for dtype in ("u1", "<u2", ">u2", "<u4", "<f4", "<i8")
            for algorithm in ("bslz4", "lz4", "none")
        )
    ]
    column_major = EncodedFrame(1, 90, 0.0, shape, pixels.dtype, "none", pixels.T.tobytes(), True)
    events = [start, *frames, column_major, SeriesEnd(1)]
    modern = [cbor2.loads(dectris2.encode(event)) for event in events]
    block = EncodedFrame(1, 91, 0.0, shape, pixels.dtype, LZ4_BLOCK, compress(pixels, "lz4")[16:])
    old = [*simplon1.encode_start(start), *simplon1.encode_start(start, separate=False)]
    old += [simplon1.encode_frame(frame) for frame in (*frames, block) if frame.algorithm != "lz4"]
    return modern, [*old, simplon1.encode_end(SeriesEnd(1))]


class Mutator:
    """Draws changed messages; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.modern, self.old = corpus()

    def message(self) -> list[bytes]:
        """Parts of one message."""
        if self.rng.random() < 0.7:
            value = self.rng.choice(self.modern)
            for _ in range(self.rng.choice((0, 1, 1, 1, 2, 4))):
                value = self.structure(value)
            try:
                whole = cbor2.dumps(value, canonical=self.rng.random() < 0.1)
            except (cbor2.CBOREncodeError, ValueError, TypeError, OverflowError):
                whole = cbor2.dumps(self.rng.choice(self.modern))
            if self.rng.random() < 0.2:
                whole = dectris2.SELF_DESCRIBE + whole
            return [self.bytes(whole) if self.rng.random() < 0.5 else whole]
        parts = [self.json(part) if part[:1] == b"{" else part for part in self.rng.choice(self.old)]
        return [self.bytes(part) if self.rng.random() < 0.2 else part for part in self.shuffled(parts)]

    def structure(self, value: Any) -> Any:
        """One change somewhere in a structure; containers on the way are copied."""
        if self.rng.random() < 0.12 or not value:
            return self.rng.choice(ODD)
        if isinstance(value, cbor2.CBORTag):
            if self.rng.random() < 0.3:
                return cbor2.CBORTag(self.rng.choice(TAGS), value.value)
            return cbor2.CBORTag(value.tag, self.structure(value.value))
        if isinstance(value, dict):
            changed = dict(value)
            key = self.rng.choice(list(changed))
            what = self.rng.random()
            if what < 0.15:
                del changed[key]
            elif what < 0.25:
                changed[self.rng.choice(("type", "data", "series_id", "image_id", "extra", 7))] = changed.pop(key)
            else:
                changed[key] = self.structure(changed[key])
            return changed
        if isinstance(value, list | tuple):
            items = list(value)
            at = self.rng.randrange(len(items))
            what = self.rng.random()
            if what < 0.15:
                del items[at]
            elif what < 0.3:
                items.insert(at, self.rng.choice(ODD))
            else:
                items[at] = self.structure(items[at])
            return items
        if isinstance(value, bytes):
            return self.bytes(value)
        if isinstance(value, int) and self.rng.random() < 0.5:
            return value + self.rng.choice((-1, 1, 256, -(2**32)))
        return self.rng.choice(ODD)

    def json(self, part: bytes) -> bytes:
        """A changed header."""
        if self.rng.random() < 0.5:
            return part
        try:
            return json.dumps(self.structure(json.loads(part)), default=str).encode()
        except (ValueError, TypeError):
            return part

    def shuffled(self, parts: list[bytes]) -> list[bytes]:
        """Parts missing, doubled or in another order."""
        what = self.rng.random()
        if what < 0.1 and len(parts) > 1:
            del parts[self.rng.randrange(len(parts))]
        elif what < 0.2:
            parts.insert(self.rng.randrange(len(parts) + 1), self.rng.choice(parts))
        elif what < 0.25:
            self.rng.shuffle(parts)
        return parts

    def bytes(self, whole: bytes) -> bytes:
        """Bytes flipped, cut, repeated, or replaced."""
        changed = bytearray(whole or b"\0")
        for _ in range(self.rng.choice((1, 1, 2, 8))):
            at, what = self.rng.randrange(len(changed)), self.rng.random()
            if what < 0.5:
                changed[at] ^= 1 << self.rng.randrange(8)
            elif what < 0.65:
                changed[at] = self.rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif what < 0.75:
                del changed[at : at + self.rng.choice((1, 2, 4, 100))]
            elif what < 0.85:
                changed[at:at] = self.rng.randbytes(self.rng.choice((1, 4, 9)))
            elif what < 0.95:
                changed[at:at] = changed[: self.rng.randrange(1, 40)]
            else:
                del changed[at:]
            changed = changed or bytearray(b"\0")
        return bytes(changed)


class Target:
    """What a receiver does with a message, without its socket."""

    def __init__(self) -> None:
        self.tracker = SeriesTracker()
        self.old = simplon1.Decoder()
        self.outcomes: Counter[str] = Counter()
        self.delivered = 0

    def take(self, parts: list[bytes]) -> None:
        """Decode, book, expand; anything but a `WireError` is a mistake and comes through."""
        try:
            if simplon1.looks_like(parts[0]):
                events = self.old.decode(parts)
            else:
                events = [event for event in map(dectris2.decode, parts) if event is not None]
        except WireError:
            self.outcomes["refused"] += 1
            return
        for event in events:
            if isinstance(event, EncodedFrame):
                self.expand(event)
            self.delivered += sum(isinstance(item, EncodedFrame) for item in self.tracker.feed(event))
        self.outcomes["understood" if events else "ignored"] += 1

    def expand(self, frame: EncodedFrame) -> None:
        """Expand a frame that may be damaged."""
        assert 0 < frame.raw_bytes <= MAX_RAW_BYTES
        if frame.raw_bytes > LARGEST_EXPANDED:
            self.outcomes["large frame"] += 1
            return
        try:
            expanded = frame.decode()
        except WireError:
            self.outcomes["damaged frame"] += 1
            return
        assert expanded.data.shape == frame.shape

    def check(self) -> None:
        """The books are right."""
        assert self.tracker.received == self.delivered + sum(self.tracker.rejected.values())
        assert len(self.tracker.warnings) <= 16


def memory_MiB() -> float:
    """Memory of this process now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def run(messages: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Target:
    """Feed `messages` mutated messages; tells of memory and of the slowest one as it goes."""
    prepare()
    mutator, target = Mutator(seed), Target()
    slowest, spent = 0.0, 0.0
    for number in range(messages):
        parts = mutator.message()
        began = time.process_time()
        target.take(parts)
        took = time.process_time() - began
        slowest, spent = max(slowest, took), spent + took
        if number % 1000 == 0:
            target.check()
        if (number + 1) % max(1, messages // 10) == 0:
            outcomes = ", ".join(f"{count} {name}" for name, count in sorted(target.outcomes.items()))
            say(
                f"{number + 1} messages: {outcomes}; {memory_MiB():.1f} MiB, {spent / (number + 1) * 1e6:.0f} us each, "
                f"slowest {slowest * 1e3:.1f} ms"
            )
    target.check()
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    run(arguments.messages, arguments.seed, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
