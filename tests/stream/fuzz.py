"""Coverage-guided fuzzing of one codec with atheris, which is not among the dependencies of the tests.

``NUMBA_DISABLE_JIT=1 python tests/stream/fuzz.py dectris2 FOLDER -max_total_time=3600``: a target, a folder that keeps
what was found so that a later run goes on from there, and what libFuzzer is to be told. Without its compiler numba
leaves plain Python, whose branches atheris sees; so decompression is covered like the rest. Seeds are the right
messages of `mutate`.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tumble.stream"]):
    from tumble.stream import dectris2, karabo, simplon1
    from tumble.stream.compression import decompress, decompress_lz4_block
    from tumble.stream.encoded import EncodedFrame
    from tumble.stream.errors import WireError
    from tumble.stream.series import SeriesTracker

sys.path.insert(0, str(Path(__file__).parent))
import cbor2
import msgpack
import numpy as np
from mutate import corpus

LARGEST = 1 << 12  # bytes expanded: plain Python is slow
LARGEST_IN_MESSAGE = 1 << 10  # smaller still, since what expands has a target of its own
SEPARATOR = b"\x00\xffPART\xff\x00"


def take(events: list) -> None:
    """Book the events, expand the frames."""
    tracker = SeriesTracker()
    for event in events:
        tracker.feed(event)
        if isinstance(event, EncodedFrame) and event.raw_bytes <= LARGEST_IN_MESSAGE:
            event.decode()


def fuzz_dectris2(data: bytes) -> None:
    """Messages one after the other: what is read by its form has to be what is read in full."""
    decoder = dectris2.Decoder()
    for message in data.split(SEPARATOR):
        quick = decoder.known(message)
        try:
            event = decoder.decode(message)
        except WireError:
            assert quick is None
            continue
        assert quick is None or same(quick, event)
        with contextlib.suppress(WireError):
            take([] if event is None else [event])


def same(quick: EncodedFrame, slow: object) -> bool:
    """Whether two frames are equal, payload and unknown time included."""
    assert isinstance(slow, EncodedFrame)
    told = [
        (item.series_id, item.index, item.shape, item.dtype, item.algorithm, item.column_major)
        for item in (quick, slow)
    ]
    times = repr(quick.time_s) == repr(slow.time_s)
    return told[0] == told[1] and times and bytes(quick.blob) == bytes(slow.blob) and quick.pose == slow.pose


def fuzz_simplon1(data: bytes) -> None:
    decoder = simplon1.Decoder()
    try:
        for message in data.split(SEPARATOR * 2):
            take(decoder.decode(message.split(SEPARATOR)))
    except WireError:
        pass


def fuzz_compression(data: bytes) -> None:
    if len(data) < 4:
        return
    raw_bytes = int.from_bytes(data[:2], "big") % LARGEST
    element_size = (1, 2, 4, 8)[data[2] & 3]
    raw_bytes -= raw_bytes % element_size
    try:
        if data[3] % 3 == 2:
            expanded = decompress_lz4_block(data[4:], raw_bytes)
        else:
            expanded = decompress(data[4:], ("lz4", "bslz4")[data[3] % 3], element_size, raw_bytes)
        assert expanded.size == raw_bytes
    except WireError:
        pass


def fuzz_karabo(data: bytes) -> None:
    decoder = karabo.Decoder()
    try:
        for message in data.split(SEPARATOR * 2):
            take(decoder.decode(message.split(SEPARATOR)))
    except WireError:
        pass


def trains() -> list[bytes]:
    """Two trains one after the other: of one image each, of stacks, and a repeated one."""
    pixels = np.random.default_rng(0).poisson(2.0, (3, 8, 10))
    found = []
    for numbers, dtype, shape in (
        ((7, 9), "uint16", (8, 10)),
        ((3, 3), "float32", (3, 8, 10)),
        (("x", 5), "int8", (8, 10)),
    ):
        messages = []
        for number in numbers:
            data = pixels[: shape[0] if len(shape) == 3 else 1].astype(dtype)
            metadata = {"source": "camera", "timestamp.tid": number, "timestamp": 1000.5}
            head = {"source": "camera", "content": "array", "path": "image.data", "dtype": dtype, "shape": shape}
            first = {"source": "camera", "content": "msgpack", "metadata": metadata}
            parts = [msgpack.packb(first), msgpack.packb({"gain": 1}), msgpack.packb(head), data.tobytes()]
            messages.append(SEPARATOR.join(parts))
        found.append((SEPARATOR * 2).join(messages))
    return found


def sequences(modern: list) -> list[bytes]:
    """Images of one form, after each other."""
    found = []
    for value in modern:
        if value["type"] == "image":
            later = [
                dict(value) | {"image_id": number, "start_time": [number * 7, 1000]} for number in (5, 300, 1 << 40)
            ]
            found.append(SEPARATOR.join(cbor2.dumps(item) for item in (value, *later)))
    return found


TARGETS = {
    "dectris2": fuzz_dectris2,
    "simplon1": fuzz_simplon1,
    "karabo": fuzz_karabo,
    "compression": fuzz_compression,
}


def seeds(name: str, folder: Path) -> None:
    """Write the right messages as the first inputs."""
    modern, old = corpus((4, 6))  # small ones: most of what libFuzzer changes should matter
    blobs = []
    for value in corpus()[0]:
        frame = dectris2.decode(cbor2.dumps(value))
        if isinstance(frame, EncodedFrame) and frame.algorithm != "none":
            kind = ("lz4", "bslz4").index(frame.algorithm)
            head = frame.raw_bytes.to_bytes(2, "big") + bytes([frame.dtype.itemsize.bit_length() - 1, kind])
            blobs.append(head + bytes(frame.blob))
    found = {
        "dectris2": [cbor2.dumps(value) for value in modern] + sequences(modern),
        "simplon1": [SEPARATOR.join(parts) for parts in old],
        "karabo": trains(),
        "compression": blobs,
    }[name]
    for number, content in enumerate(found):
        (folder / f"seed{number}").write_bytes(content)


def main() -> None:
    name, folder, *options = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    seeds(name, Path(folder))
    atheris.Setup([sys.argv[0], folder, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
