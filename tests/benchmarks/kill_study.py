"""SIGKILL at random moments, again and again: what was received, recorded and used, and whether the state is the same.

Run it by hand: ``python tests/benchmarks/kill_study.py [--kills 100] [--per-series 5] [--out FILE.md]``. Each series of
small frames is sent once, at a steady pace, while its daemon (real sockets and processes, stand-ins for the stages) is
killed a few times and started anew with the same session folder: every other time the daemon alone, otherwise all of
its processes at once. Then the recording is given to a daemon that nobody kills, and every file of the particle is
compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tumble.stream.frame import Event, Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import Publisher
from tumble.stream.readers import open_recording

PROGRAM = Path(__file__).resolve().parents[1] / "daemon" / "fake_daemon.py"
SIZE, FRAME_TIME_S = 16, 0.004
STARTED_S = 60.0  # patience with a busy machine
COLUMNS = ("kills", "sent", "recorded", "received", "used", "missing", "lost", "doubled", "files equal")


Row = tuple[int, ...]  # as in COLUMNS; `lost`: recorded frames that are not used, `missing`: sent, but never recorded


def events(seed: int, frames: threading.Event, sent: list[int]) -> Iterator[Event]:
    """Frames of counts at the pace of a detector until `frames` is set, and the end."""
    rng = np.random.default_rng(seed)
    user_data = {"tumble": {"pixel_size_angstrom": 0.5}}
    yield SeriesStart(
        1, f"series {seed}", SIZE, SIZE, np.dtype(np.uint16), None, FRAME_TIME_S, 0.5, user_data=user_data
    )
    while not frames.is_set():
        yield Frame(1, sent[0], rng.poisson(10.0, (SIZE, SIZE)).astype(np.uint16), sent[0] * FRAME_TIME_S)
        sent[0] += 1
        time.sleep(FRAME_TIME_S)
    yield SeriesEnd(1)


@contextmanager
def published(source: Iterable[Event]) -> Iterator[str]:
    """Publish events from a thread; gives the address."""
    with Publisher(linger_s=30.0, peer_timeout_s=600.0) as publisher:
        stop = threading.Event()
        thread = threading.Thread(target=lambda: publisher.publish(source, "max", stop), daemon=True)
        thread.start()
        try:
            yield publisher.source_uri
        finally:
            stop.set()
            thread.join(30.0)


def start(uri: str, folder: Path) -> subprocess.Popen[bytes]:
    """A daemon that goes on with what is in `folder`."""
    words = [sys.executable, str(PROGRAM), uri, str(folder), "0.0", "--record", "--resume", "--timeout", "120"]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


def last_seen(folder: Path) -> dict[str, int]:
    """Frame counts of the newest whole line of the timeline."""
    try:
        lines = (folder / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return dict(json.loads(line)["stream"])
        except (ValueError, KeyError):
            continue
    return {}


def killed(uri: str, folder: Path, rng: random.Random, *, whole: bool) -> None:
    """Start a daemon and kill it at a random moment: while it starts, works off what is there, or receives."""
    process = start(uri, folder)
    deadline = time.monotonic() + STARTED_S
    if rng.random() < 0.75:  # otherwise while it starts
        before = len(last_lines(folder))
        while len(last_lines(folder)) <= before and time.monotonic() < deadline:
            time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 2.0))
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def last_lines(folder: Path) -> list[str]:
    """Lines of the timeline so far."""
    try:
        return (folder / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def one_series(seed: int, kills: int, work: Path) -> Row:
    """Send a series, kill its daemon `kills` times, finish, and compare."""
    rng, folder, again = random.Random(seed), work / f"{seed}-killed", work / f"{seed}-again"
    done, sent = threading.Event(), [0]
    with published(events(seed, done, sent)) as uri:
        for number in range(kills):
            killed(uri, folder, rng, whole=bool(number % 2))
        process = start(uri, folder)
        while last_seen(folder).get("used", 0) < 50 and process.poll() is None:
            time.sleep(0.1)
        time.sleep(1.0)
        done.set()
        process.wait(300)
    with open_recording(folder / "frames.h5") as recording:
        numbers = [recording.frame(position).index for position in range(len(recording))]
        with published(iter(recording)) as uri:
            start(uri, again).wait(300)
    books = json.loads((folder / "session.json").read_text(encoding="utf-8"))["accounting"]
    particle = folder / "particles" / "P001"
    same = all(
        path.read_bytes() == (again / "particles" / "P001" / path.name).read_bytes() for path in particle.iterdir()
    )
    return (
        kills,
        sent[0],
        len(numbers),
        books["received"],
        books["used"],
        sent[0] - len(numbers),
        len(numbers) - books["used"],
        len(numbers) - len(set(numbers)),
        same and numbers == sorted(numbers),
    )


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows as Markdown, with their sum; the last column says whether the files are equal."""
    sums = *map(sum, zip(*(row[:-1] for row in rows), strict=True)), all(row[-1] for row in rows)
    lines = [f"| series | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for name, row in (*enumerate(rows, 1), ("all", sums)):
        lines.append(f"| {name} | {' | '.join(map(str, row[:-1]))} | {'yes' if row[-1] else 'NO'} |")
    return "\n".join(lines) + "\n"


def told(columns: Sequence[str], series: Iterable[Row], out: Path | None) -> int:
    """Print rows as they come and keep their table in `out`; 1 when a frame was lost or doubled, or a file differs."""
    rows: list[Row] = []
    for row in series:
        rows.append(row)
        print(dict(zip(columns, row, strict=True)), flush=True)
        if out is not None:
            out.write_text(table(columns, rows), encoding="utf-8")
    print(table(columns, rows))
    lost, doubled = columns.index("lost"), columns.index("doubled")
    return int(any(row[lost] or row[doubled] or not row[-1] for row in rows))


def main() -> int:
    """Run the study; exits with 1 when a frame was lost or doubled, or a file differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-series", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    count = -(-given.kills // given.per_series)
    with tempfile.TemporaryDirectory() as work:
        series = (one_series(seed, given.per_series, Path(work)) for seed in range(1, count + 1))
        return told(COLUMNS, series, given.out)


if __name__ == "__main__":
    sys.exit(main())
