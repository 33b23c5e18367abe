"""How fast frames come off the wire: decompression alone, publisher to source, and both beside plain pyzmq.

Run it by hand: ``python tests/benchmarks/bench_stream.py [--json FILE] [--only SET]``, sets as below. Figures are
medians; other work on the machine shows in wall times, so processor time per frame stands beside them.

``plain`` compares in one run, with the same sender, many short rounds in turn: pyzmq that receives messages and throws
them away, and our way of taking them in: received, counted, checked, recorded to a file. ``rate`` offers K2-sized
frames at 400 per second. ``expand`` expands such frames as the receiver does, with 1 to 4 threads in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import zmq

from tumble.daemon.expanding import Expansion
from tumble.daemon.heap import keep_freed_memory
from tumble.stream import dectris2
from tumble.stream.compression import compress, decompress, prepare
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.keeper import Keeper
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


def expand_rows(rounds: int, frames: int = 60) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for dose, mean in DOSES.items():
        pixels = counts(SIZES["1920 x 1792"], mean, 4)
        encoded = [encode_frame(Frame(1, index, data, 0.0), "bslz4") for index, data in enumerate(pixels)]
        found: dict[int, list[tuple[float, float]]] = {number: [] for number in (1, 2, 3, 4)}
        for _ in range(rounds):
            for number, figures in found.items():
                figures.append(expand(encoded, pixels, number, frames))
        for number, figures in found.items():
            gains = [one[0] / alone[0] for one, alone in zip(figures, found[1], strict=True)]
            rows.append(
                {
                    "counts": dose,
                    "threads": number,
                    "fps": round(statistics.median(one[0] for one in figures)),
                    "of one thread": f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})",
                    "CPU ms": round(1e3 * statistics.median(one[1] for one in figures), 2),
                    "least": round(1e3 * min(one[1] for one in figures), 2),
                }
            )
    return rows


def expand(encoded: list[EncodedFrame], pixels: list[np.ndarray], threads: int, frames: int) -> tuple[float, float]:
    """Frames per second and processor seconds a frame, of frames that are announced in order as the receiver does."""
    slots = np.zeros((12, *pixels[0].shape), np.uint16)
    expansion, order = Expansion(threads), []
    began, cpu = time.perf_counter(), time.process_time()
    for index in range(frames):
        while len(expansion) == len(slots):
            expansion.wait(0.1)
            order += list(expansion.finished())
        expansion.begin(encoded[index % len(encoded)], slots[index % len(slots)], 0.0)
    while expansion:
        expansion.wait(0.1)
        order += list(expansion.finished())
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    expansion.close()
    assert [one.frame.index for one in order] == [index % len(encoded) for index in range(frames)]
    newest = range(max(0, frames - len(slots)), frames)
    assert all(np.array_equal(slots[index % len(slots)], pixels[index % len(pixels)]) for index in newest)
    return frames / wall, cpu / frames


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


def transport_rows() -> list[dict[str, object]]:
    return [
        transport_row(size, mean, algorithm, way, decode, frames)
        for size, mean, frames in (("288 x 288", 10.0, 6000), ("512 x 512", 0.05, 6000), ("1920 x 1792", 0.05, 600))
        for algorithm in ("bslz4", "none")
        for way in ("tcp", "ipc")
        for decode in (False, True)
    ]


def send_plain(pipe: Connection, endpoint: str, size: str, mean: float, period_s: float) -> None:
    """A sender that costs as little as possible: compressed beforehand, plain pyzmq; a series for each number asked."""
    prepare()
    kept = [encode_frame(Frame(1, 0, data, 0.0), "bslz4") for data in counts(SIZES[size], mean, 4)]
    pipe.send(statistics.mean(len(item.blob) for item in kept))
    while frames := pipe.recv():
        context = zmq.Context()
        socket = context.socket(zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, 64)
        socket.bind(endpoint)
        pipe.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        pipe.recv()
        socket.send(dectris2.encode(SeriesStart(1, width=SIZES[size][1], height=SIZES[size][0])))
        began = time.monotonic()
        late = 0.0
        for first in range(0, frames, 64):
            messages = [
                dectris2.encode(EncodedFrame(1, index, 0.0, item.shape, item.dtype, item.algorithm, item.blob))
                for index in range(first, min(first + 64, frames))
                for item in (kept[index % len(kept)],)
            ]
            for index, message in enumerate(messages, first):
                if period_s:
                    time.sleep(max(0.0, began + index * period_s - time.monotonic()))
                socket.send(message, copy=False)
                late = max(late, time.monotonic() - began - index * period_s)
        socket.send(dectris2.encode(SeriesEnd(1)))
        pipe.send(late)
        socket.close(10_000)
        context.term()


def take_in_turn(pipe: Connection, ours: bool) -> None:
    """Body of a receiving process; it takes a series whenever it is told where, and says what that cost."""
    prepare()
    if ours:
        keep_freed_memory()  # as the receiver of the daemon does
    while order := pipe.recv():
        pipe.send((take_ours if ours else take_plain)(*order))


def take_plain(uri: str, frames: int, folder: str | None) -> tuple[int, float, float]:
    """Frames, wall and processor seconds of a loop that only receives, and writes to a plain file in `folder`."""
    context = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.setsockopt(zmq.RCVHWM, 64)
    socket.connect(uri)
    socket.recv(copy=False)
    began, cpu = time.perf_counter(), time.process_time()
    with nullcontext() if folder is None else open(f"{folder}/plain", "wb", 0) as file:  # noqa: PTH123
        for _ in range(frames):
            message = socket.recv(copy=False)
            if file is not None:
                file.write(message.buffer)
    spent = time.perf_counter() - began, time.process_time() - cpu
    socket.close(0)
    context.term()
    return frames, *spent


def take_ours(uri: str, frames: int, folder: str | None) -> tuple[int, float, float]:
    """The same for the receiver of the daemon: counted and checked, and recorded where `folder` is given."""
    keeper = Keeper(None if folder is None else Path(folder) / "frames.h5", room_frames=4)
    with PullSource("zmq+" + uri, encoded=True) as source:
        start = source.get(60)
        assert isinstance(start, SeriesStart)
        keeper.begin(start)
        began, cpu = time.perf_counter(), time.process_time()
        while not isinstance(event := source.get(60), SeriesEnd):
            assert isinstance(event, EncodedFrame)
            assert keeper.take(event, source.arrived_s)
            keeper.pop()
        keeper.close()
        spent = time.perf_counter() - began, time.process_time() - cpu
        counters = source.counters
    assert counters.balance() == counters.missing == 0
    assert counters.received == frames
    assert folder is None or keeper.recorded == frames, keeper.warnings
    return counters.delivered, *spent


WAYS = ("pyzmq", "received and counted", "pyzmq, plain file", "received, counted, checked, NeXus file")


def one_way(way: str, pipe: Connection, taker: Connection, frames: int, place: str) -> tuple[float, float, float]:
    """Frames per second, processor seconds a frame, and by how many seconds the sender was late at most."""
    pipe.send(frames)
    uri = pipe.recv()
    pipe.send("go")
    taker.send((uri, frames, place if "file" in way else None))
    received, wall, cpu = taker.recv()
    return received / wall, cpu / received, pipe.recv()


def begin(target: Callable[..., None], *arguments: object) -> tuple[Connection, BaseProcess]:
    """A process of its own with a pipe to it: what one way does to its memory is nothing to the others."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *arguments))
    process.start()
    return ours, process


def beside_plain(
    size: str, mean: float, transport: str, frames: int, folder: str, period_s: float = 0.0, rounds: int = 1
) -> list[dict[str, object]]:
    """All ways in turn, again and again: what else the machine does meets all of them, and ratios are of one round."""
    figures: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        endpoint = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{place}/s"
        ours, sender = begin(send_plain, endpoint, size, mean, period_s)
        takers = {way: begin(take_in_turn, "pyzmq" not in way) for way in WAYS}
        blob_bytes = ours.recv()
        for turn in range(rounds):
            for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                with tempfile.TemporaryDirectory(dir=place) as fresh:
                    figures[way].append(one_way(way, ours, takers[way][0], frames, fresh))
        for pipe, process in ((ours, sender), *takers.values()):
            pipe.send(None)
            process.join()
    rows: list[dict[str, object]] = []
    for way, found in figures.items():
        fps, cpu_s = (statistics.median(column) for column in list(zip(*found, strict=True))[:2])
        row: dict[str, object] = {
            "frames": size,
            "kB": round(blob_bytes / 1e3),
            "transport": transport,
            "way": way,
            "fps": round(fps),
            "of pyzmq": shares(found, figures[WAYS[0]]),
            "of pyzmq with a file": shares(found, figures[WAYS[2]]),
            "MB/s": round(fps * blob_bytes / 1e6),
            "CPU us": round(cpu_s * 1e6),
        }
        if period_s:
            row |= {"offered fps": round(1 / period_s), "sender late by at most ms": round(found[0][2] * 1e3, 1)}
        rows.append(row)
    return rows


def shares(found: list[tuple[float, float, float]], others: list[tuple[float, float, float]]) -> str:
    """Of the rates of another way, round by round: the median, and the quartiles where there are several rounds."""
    ratios = [one[0] / other[0] for one, other in zip(found, others, strict=True)]
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the figures to this file too")
    parser.add_argument("--only", choices=("codec", "expand", "transport", "plain", "rate"))
    parser.add_argument("--size", choices=SIZES, help="of `plain`")
    parser.add_argument("--transport", nargs="+", choices=("tcp", "ipc"), default=("tcp", "ipc"), help="of `plain`")
    parser.add_argument("--rounds", type=int, default=8, help="of `plain`, which takes the median of their ratios")
    parser.add_argument(
        "--length", type=int, default=4, help="of the series of `plain`, whose beginning and end cost, too"
    )
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where recordings of the benchmark go")
    arguments = parser.parse_args()
    prepare()
    sets: dict[str, Callable[[], list[dict[str, object]]]] = {
        "codec": codec_rows,
        "expand": lambda: expand_rows(arguments.rounds),
        "transport": transport_rows,
        "plain": lambda: [
            row
            for size, mean, frames in (
                ("288 x 288", 10.0, 3000 * arguments.length),
                ("512 x 512", 10.0, 1500 * arguments.length),
                ("1920 x 1792", 0.05, 800 * arguments.length),
            )
            if arguments.size in (None, size)
            for way in arguments.transport
            for row in beside_plain(size, mean, way, frames, arguments.folder, rounds=arguments.rounds)
        ],
        "rate": lambda: beside_plain("1920 x 1792", 0.05, "tcp", 4000, arguments.folder, 1 / 400),
    }
    figures = {}
    for name, measure in sets.items():
        if arguments.only in (None, name):
            figures[name] = measure()
            for row in figures[name]:
                print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:  # noqa: PTH123
            json.dump({"machine": platform.processor(), **figures}, file, indent=1)


if __name__ == "__main__":
    main()
