"""How fast frames come off the wire: decompression alone, and publisher to source in two processes over loopback.

Run it by hand: ``python tests/benchmarks/bench_stream.py [--json FILE]``. Figures are medians; other work on the
machine shows in them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from multiprocessing.connection import Connection

import numpy as np

from tumble.stream.compression import compress, decompress, prepare
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import Publisher
from tumble.stream.source import PullSource

SIZES = {"288 x 288": (288, 288), "512 x 512": (512, 512), "1920 x 1792": (1792, 1920)}
DOSES = {"sparse (0.05 per pixel)": 0.05, "80 e/A2 at 0.358 A (10 per pixel)": 10.0}
MEBI = 1 << 20


def counts(shape: tuple[int, int], mean: float, number: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.poisson(mean, shape).astype(np.uint16) for _ in range(number)]


def codec_rows() -> list[dict[str, object]]:
    rows = []
    for dose, mean in DOSES.items():
        (frame,) = counts(SIZES["1920 x 1792"], mean, 1)
        out = np.empty(frame.nbytes, np.uint8)
        for algorithm in ("bslz4", "lz4"):
            blob = compress(frame, algorithm)
            packing, unpacking = [], []
            for _ in range(9):
                began = time.perf_counter()
                compress(frame, algorithm)
                middle = time.perf_counter()
                decompress(blob, algorithm, 2, frame.nbytes, out)
                packing.append(frame.nbytes / (middle - began) / 1e6)
                unpacking.append(frame.nbytes / (time.perf_counter() - middle) / 1e6)
            rows.append(
                {
                    "algorithm": algorithm,
                    "counts": dose,
                    "ratio": round(frame.nbytes / len(blob), 1),
                    "compress MB/s raw": round(statistics.median(packing)),
                    "decompress MB/s raw": round(statistics.median(unpacking)),
                }
            )
    return rows


def publish(pipe: Connection, endpoint: str, shape: tuple[int, int], mean: float, algorithm: str, frames: int) -> None:
    prepare()
    encoded = [encode_frame(Frame(1, 0, data, 0.0), algorithm) for data in counts(shape, mean, 4)]

    def events() -> object:
        yield SeriesStart(1, width=shape[1], height=shape[0])
        for index in range(frames):
            kept = encoded[index % len(encoded)]
            yield EncodedFrame(1, index, 0.0, kept.shape, kept.dtype, kept.algorithm, kept.blob)
        yield SeriesEnd(1)

    with Publisher(endpoint) as publisher:
        pipe.send(publisher.source_uri)
        pipe.send(publisher.publish(events()).bytes)


def transport_row(
    size: str, mean: float, algorithm: str, transport: str, decode: bool, frames: int
) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        endpoint = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{folder}/s"
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, endpoint, SIZES[size], mean, algorithm, frames)
        sender = multiprocessing.get_context("spawn").Process(target=publish, args=arguments)
        sender.start()
        with PullSource(ours.recv(), encoded=not decode) as source:
            source.get()
            began = time.perf_counter()
            received = sum(1 for _ in iter(source.get, SeriesEnd(1)))
            seconds = time.perf_counter() - began
            assert source.counters.balance() == source.counters.missing == 0
        wire = ours.recv()
        sender.join()
    height, width = SIZES[size]
    return {
        "frames": size,
        "mean counts": mean,
        "compression": algorithm,
        "transport": transport,
        "decoded": decode,
        "received": received,
        "fps": round(received / seconds),
        "wire MB/s": round(wire / seconds / 1e6),
        "raw MB/s": round(received * height * width * 2 / seconds / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    prepare()
    codec = codec_rows()
    transport = [
        transport_row(size, mean, algorithm, way, decode, frames)
        for size, mean, frames in (("288 x 288", 10.0, 6000), ("512 x 512", 0.05, 6000), ("1920 x 1792", 0.05, 600))
        for algorithm in ("bslz4", "none")
        for way in ("tcp", "ipc")
        for decode in (False, True)
    ]
    for row in (*codec, *transport):
        print("  ".join(f"{name}: {value}" for name, value in row.items()))
    if arguments.json:
        with open(arguments.json, "w") as file:  # noqa: PTH123
            json.dump({"machine": platform.processor(), "codec": codec, "transport": transport}, file, indent=1)


if __name__ == "__main__":
    main()
