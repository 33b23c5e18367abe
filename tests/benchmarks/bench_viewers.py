"""What viewers cost a running daemon: processor time a frame of its main process, without and with many of them.

Run it by hand: ``python tests/benchmarks/bench_viewers.py [--viewers 20] [--seconds 15] [--rounds 2]``. `tumble run`
gets a simulated movie of one crystal, forwards and backwards again and again, at a steady rate, and finds and follows
it; its reconstruction is a process of its own and is not counted. In turn there is nobody who looks, and as many
`tumble status --json --follow` as wanted, each a process of its own that reads every snapshot.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from kill_study import last_seen, published

from tumble.daemon.endpoints import running
from tumble.stream.frame import Event, Frame, SeriesEnd
from tumble.stream.simulator import scene_from_options

FRAME_TIME_S = 0.02
SETTLED = 300  # frames; by then the crystal has been found


def events(stop: threading.Event) -> Iterator[Event]:
    """The movie, forwards and backwards until `stop`."""
    movie = list(scene_from_options(atoms=147, frames=200, height_px=192, width_px=192, seed=1))
    frames = [event for event in movie if isinstance(event, Frame)]
    yield replace(movie[0], number_of_images=None)
    for index, frame in enumerate(itertools.cycle(frames + frames[::-1])):
        if stop.wait(FRAME_TIME_S):
            break
        yield replace(frame, index=index, time_s=index * FRAME_TIME_S)
    yield SeriesEnd(frames[0].series_id)


def processor_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_ms(pid: int, folder: Path, seconds: float) -> tuple[float, int]:
    """Processor time a frame that was analysed, ms, and how many were."""
    before, used = processor_s(pid), last_seen(folder)["used"]
    time.sleep(seconds)
    frames = last_seen(folder)["used"] - used
    return 1e3 * (processor_s(pid) - before) / frames, frames


def follow(stack: ExitStack, viewers: int, endpoint: str) -> list[subprocess.Popen[str]]:
    """So many viewers, each of which has been answered."""
    command = [sys.executable, "-m", "tumble", "status", endpoint, "--json", "--follow"]
    every = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(viewers)]
    for viewer in every:
        stack.callback(viewer.terminate)
        assert viewer.stdout is not None
        viewer.stdout.readline()
        threading.Thread(target=viewer.stdout.read, daemon=True).start()
    return every


def main() -> None:
    """Measure, and print a line for each turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as work, published(events(stop)) as uri:
        os.environ["XDG_RUNTIME_DIR"] = work
        folder = Path(work) / "session"
        settings = Path(work) / "tumble.toml"
        settings.write_text("stream.timeout_s = 600.0\n", encoding="utf-8")  # so many processes may starve the sender
        words = ["run", "--source", uri, "--session", str(folder), "--config", str(settings), "--threads", "1"]
        words += ["--headless", "--series", "1"]
        with subprocess.Popen([sys.executable, "-m", "tumble", *words], stdout=subprocess.DEVNULL) as daemon:
            while last_seen(folder).get("used", 0) < SETTLED:
                time.sleep(0.5)
            for viewers in (0, given.viewers) * given.rounds + (0,):
                with ExitStack() as stack:
                    follow(stack, viewers, running()[-1]["endpoint"])
                    each, frames = cost_ms(daemon.pid, folder, given.seconds)
                print(f"{viewers} viewers: {each:.2f} ms a frame, {frames} frames", flush=True)
            stop.set()
            daemon.terminate()


if __name__ == "__main__":
    main()
