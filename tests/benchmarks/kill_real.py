"""SIGKILL of the whole real program: `tumble run` with front end, reconstruction and checkpoints, killed and resumed.

Run it by hand: ``python tests/benchmarks/kill_real.py [--series 4] [--kills 8] [--frames 480] [--out FILE.md]``. Each
series is a simulated movie of one crystal. Its daemon is killed at random moments, every other time with all its
processes: while it starts, while frames come, or some time after it wrote a checkpoint, which it does every second
here. Before each kill there are frames left that have not been sent. Then the recording is given to a `tumble run`
that nobody kills, and every file of every particle is compared byte by byte.
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
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kill_study import Row, last_seen, published, told

from tumble.daemon import checkpoints
from tumble.stream.frame import Event, Frame
from tumble.stream.readers import open_recording
from tumble.stream.simulator import scene_from_options

TAKEN_UP = "TUMBLE_STUDY_TAKEN_UP"  # names the file in which processes say that they go on from a checkpoint
FRAME_TIME_S = 0.01
PATIENCE_S = 900.0
SETTINGS = """\
stream.timeout_s = 900.0
session.files_every_s = 1.0
reconstruction = {bootstrap_frames = 160, threads = 1, device = "cpu"}
"""
COLUMNS = ("kills", "before a map", "after one", "from a checkpoint", "sent", "recorded", "received", "used", "missing",
           "lost", "doubled", "files compared", "equal")  # fmt: skip


def soon() -> None:
    """Checkpoints every second, in this process and in those begun from here; say when one is gone on from."""
    checkpoints.Checkpoints.__init__.__kwdefaults__["every_s"] = 1.0  # type: ignore[index]
    checkpoints.LEAST_WORK = 2
    load = checkpoints.Checkpoints.load

    def told(self: checkpoints.Checkpoints, kept: checkpoints.Kept, known: dict[str, object]) -> object:
        state = load(self, kept, known)
        with Path(os.environ[TAKEN_UP]).open("a", encoding="utf-8") as file:
            file.write(f"{kept.count}\n")
        return state

    checkpoints.Checkpoints.load = told  # type: ignore[method-assign, assignment]


if TAKEN_UP in os.environ:
    soon()


@dataclass
class Series:
    """A movie that is sent piece by piece, and what becomes of it."""

    movie: list[Event]
    allowed: int = 0  # frames
    sent: int = 0

    def events(self) -> Iterator[Event]:
        """The movie at a steady pace; a frame comes when it is allowed."""
        for event in self.movie:
            if isinstance(event, Frame):
                while self.sent >= self.allowed:
                    time.sleep(0.02)
                time.sleep(FRAME_TIME_S)
                self.sent += 1
            yield event


def start(uri: str, folder: Path) -> subprocess.Popen[bytes]:
    """`tumble run` that goes on with what is in `folder`."""
    words = [sys.executable, __file__, "program", "run", "--source", uri, "--session", str(folder), "--resume"]
    words += ["--headless", "--series", "1", "--config", str(folder.parent / "tumble.toml")]
    environment = {**os.environ, TAKEN_UP: str(folder.with_suffix(".taken"))}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, env=environment)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], most_s: float = PATIENCE_S) -> None:
    """Wait as long as the process lives, but not for ever."""
    deadline = time.monotonic() + most_s
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def made(path: Path) -> float:
    """When a file was written; 0: never."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def come(folder: Path) -> int:
    """Frames that have come by the newest snapshot, or never will."""
    seen = last_seen(folder)
    return seen.get("recorded", 0) + seen.get("missing", 0)


def kill(uri: str, folder: Path, series: Series, until: int, rng: random.Random, *, whole: bool) -> None:
    """Let frames come up to number `until`, and kill the daemon at a random moment."""
    process, begun = start(uri, folder), time.time()
    before, series.allowed = series.allowed, until
    checkpoint = folder / "particles" / "P001" / "checkpoint.h5"
    way = rng.random()
    if way > 0.15:  # otherwise while it starts
        least = rng.randint(before, until - 1)
        timeline = folder / "timeline.jsonl"
        wait_for(lambda: made(timeline) > begun and come(folder) >= least, process, 60.0)
    if way > 0.3 and (until > 250 or checkpoint.exists()):
        wait_for(lambda: made(checkpoint) > begun, process, 30.0)  # when all it has is in one, there will be none
    time.sleep(rng.uniform(0.0, 2.0))
    if process.poll() is not None:
        raise RuntimeError(f"it ended before it was killed: {folder.with_suffix('.log')}")
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def compared(folder: Path, again: Path) -> tuple[int, bool]:
    """How many files of particles there are, and whether they are those of the other session."""
    files, others = (
        {path.relative_to(place): path for path in sorted((place / "particles").rglob("*")) if path.is_file()}
        for place in (folder, again)
    )
    same = files.keys() == others.keys()
    return len(files), same and all(path.read_bytes() == others[name].read_bytes() for name, path in files.items())


def one_series(seed: int, kills: int, frames: int, work: Path) -> Row:
    """Send a movie, kill its daemon `kills` times, finish, and compare."""
    rng, folder, again = random.Random(seed), work / f"{seed}-killed", work / f"{seed}-again"
    scene = scene_from_options(atoms=147, frames=frames, height_px=112, width_px=112, seed=seed)
    series = Series(list(scene))
    before_map = 0
    with published(series.events()) as uri:
        for number in range(kills):
            kill(uri, folder, series, frames * (number + 1) // (kills + 1), rng, whole=bool(number % 2))
            before_map += not (folder / "particles" / "P001" / "map.mrc").exists()
        series.allowed = frames
        code = start(uri, folder).wait(PATIENCE_S)
    with open_recording(folder / "frames.h5") as recording:
        numbers = [recording.frame(position).index for position in range(len(recording))]
        with published(iter(recording)) as uri:
            code = code or start(uri, again).wait(PATIENCE_S)
    if code:
        raise RuntimeError(f"exit code {code}: see {folder.with_suffix('.log')}")
    books = json.loads((folder / "session.json").read_text(encoding="utf-8"))["accounting"]
    taken = folder.with_suffix(".taken")
    files, same = compared(folder, again)
    return (
        kills,
        before_map,
        kills - before_map,
        len(taken.read_text(encoding="utf-8").split()) if taken.exists() else 0,
        series.sent,
        len(numbers),
        books["received"],
        books["used"],
        series.sent - len(numbers),
        len(numbers) - books["used"],
        len(numbers) - len(set(numbers)),
        files,
        same and numbers == sorted(numbers),
    )


def main() -> int:
    """Run the study; exits with 1 when a frame was lost or doubled, or a file differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=4)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--frames", type=int, default=480)
    parser.add_argument("--first", type=int, default=1, help="seed of the first series")
    parser.add_argument("--work", type=Path, help="keep the sessions here")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as gone:
        work = given.work or Path(gone)
        work.mkdir(parents=True, exist_ok=True)
        (work / "tumble.toml").write_text(SETTINGS, encoding="utf-8")
        seeds = range(given.first, given.first + given.series)
        return told(COLUMNS, (one_series(seed, given.kills, given.frames, work) for seed in seeds), given.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["program"]:
        from tumble.__main__ import main as program

        sys.argv[:] = ["tumble", *sys.argv[2:]]
        sys.exit(program())
    sys.exit(main())
