"""Small frames for hours through receiver, accounting and recorder: memory and cost flat, and every frame in the books.

Run it by hand: ``python tests/benchmarks/soak.py [--frames 10000000] [--folder DIR] [--seconds S] [--out FILE.md]``.
One process sends frames of 16 x 16 pixels, bslz4, numbered on and on, some numbers left out, some sent twice. This one
takes them in as the daemon's receiver does (`PullSource`, `Keeper`, own recording) and hands them out again. For a
while the disk is full, which only the recorder is told. A row of the table is a tenth of the frames or of the time; at
the end the books are compared with what was sent, and the recording with the books.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import zmq

from tumble.stream import dectris2, keeper
from tumble.stream.compression import prepare
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.recorder import Recorder
from tumble.stream.source import PullSource

SIZE = 16
LEFT_OUT, TWICE = 10_007, 20_011  # every n-th number
FULL_FROM, FULL_TO = 0.42, 0.45  # share of the frames during which the disk is full
COLUMNS = ("frames", "frames/s", "CPU us a frame", "memory MiB", "recorded", "unrecorded")


def send(pipe: Connection, frames: int, seconds: float) -> None:
    """Messages as cheap as possible: one made beforehand, its number written over."""
    prepare()
    pixels = np.random.default_rng(0).poisson(2.0, (SIZE, SIZE)).astype(np.uint16)
    kept = encode_frame(Frame(1, 0, pixels, 0.0), "bslz4")
    marker = 0x0123456789ABCDEF
    message = dectris2.encode(EncodedFrame(1, marker, 0.0, kept.shape, kept.dtype, "bslz4", kept.blob))
    before, after = message.split(marker.to_bytes(8, "big"))
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, 256)
    socket.bind("tcp://127.0.0.1:0")
    pipe.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    socket.send(dectris2.encode(SeriesStart(1, "soak", SIZE, SIZE, np.dtype(np.uint16))))
    deadline = time.monotonic() + seconds
    sent = left_out = twice = index = 0
    while sent < frames and (index % 1000 or time.monotonic() < deadline):
        if index % LEFT_OUT == LEFT_OUT - 1:
            left_out += 1
        else:
            for _ in range(1 + (index % TWICE == TWICE - 1)):
                socket.send(before + index.to_bytes(8, "big") + after)
                sent += 1
            twice += index % TWICE == TWICE - 1
        index += 1
    socket.send(dectris2.encode(SeriesEnd(1)))
    pipe.send((sent, left_out - (index % LEFT_OUT == 0), twice))
    socket.close(60_000)
    context.term()


@dataclass
class Disk:
    """What the recorder is told of the disk."""

    full: bool = False

    def __call__(self, _: Path) -> int:
        """Free bytes."""
        return 0 if self.full else 1 << 40


def memory_MiB() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def soak(frames: int, seconds: float, folder: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """Run it; rows of the table, and what was wrong."""
    disk = Disk()
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.get_context("spawn").Process(target=send, args=(theirs, frames, seconds), daemon=True)
    sender.start()
    path = folder / "frames.h5"
    keeper.Recorder = lambda path, start, **named: Recorder(path, start, free_bytes=disk, **named)  # type: ignore[assignment, misc]
    kept = keeper.Keeper(path)
    rows, taken, handed_out, began = [], 0, 0, time.monotonic()
    with PullSource("zmq+" + ours.recv(), encoded=True, policy="block", end_timeout_s=120.0) as source:
        last = time.monotonic(), time.process_time(), 0
        while not isinstance(event := source.get(), SeriesEnd):
            if isinstance(event, SeriesStart):
                kept.begin(event)
                continue
            assert isinstance(event, EncodedFrame)
            assert kept.take(event, source.arrived_s)
            taken += 1
            if taken % 7 == 0:  # in bursts, so that frames wait
                while kept.waiting:
                    kept.pop()
                    handed_out += 1
            if taken % 1000 == 0:
                done = max(taken / frames, (time.monotonic() - began) / seconds)
                disk.full = FULL_FROM < done < FULL_TO
                if done * 10 > len(rows) + 1:
                    rows.append(_row(taken, last, kept))
                    last = time.monotonic(), time.process_time(), taken
                    print("  ".join(rows[-1]), flush=True)
        while kept.waiting:
            kept.pop()
            handed_out += 1
        kept.close()
        rows.append(_row(taken, last, kept))
        sent, left_out, twice = ours.recv()
        counters = source.counters
    checks = {
        "received is what was sent": counters.received == sent,
        "the books add up": counters.balance() == 0 and counters.delivered == taken == handed_out,
        "left out is missing": counters.missing == left_out,
        "sent twice is rejected": sum(counters.rejected.values()) == twice == sent - taken,
        "nothing dropped": not counters.dropped,
        "recorded and not recorded": kept.recorded + sum(kept.unrecorded.values()) == taken,
        "only a full disk": set(kept.unrecorded) <= {keeper.DISK_FULL},
        "the file holds it": _holds(path, kept.recorded),
    }
    return rows, [words for words, right in checks.items() if not right]


def _row(taken: int, last: tuple[float, float, int], kept: keeper.Keeper) -> tuple[str, ...]:
    since = max(taken - last[2], 1)
    wall, cpu = time.monotonic() - last[0], time.process_time() - last[1]
    lost = sum(kept.unrecorded.values())
    speed, cost = f"{since / wall:.0f}", f"{cpu / since * 1e6:.1f}"
    return f"{taken}", speed, cost, f"{memory_MiB():.1f}", f"{kept.recorded}", f"{lost}"


def _holds(path: Path, recorded: int) -> bool:
    """Whether the recording has so many frames, with numbers that rise."""
    with h5py.File(path) as file:
        numbers = file["entry/data/image_id"][()]
        return len(file["entry/data/data"]) == len(numbers) == recorded and bool((np.diff(numbers) > 0).all())


def main() -> int:
    """Run it; exits with 1 when a frame is not where it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=86400.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        rows, wrong = soak(given.frames, given.seconds, Path(work))
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS), *(f"| {' | '.join(row)} |" for row in rows)]
    text = "\n".join([*lines, "", "Wrong: " + (", ".join(wrong) or "nothing"), ""])
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
