"""What the operator's side costs: the count of views per frame, and a dashboard that watches a daemon; processor time.

    python tests/benchmarks/bench_operator.py [--seconds 30] [--viewers 20]

Coverage: microseconds a view on one core, counted one at a time as a frame would bring it, with everything that is
shown of it, and in batches as the program counts. Dashboard: `tumble watch` as its own process on a pseudo-terminal
of the given size, while a status socket publishes four new snapshots a second; its user and system time after it has
settled, for each redraw that came, and what that is of a core at four a second (on a busy machine fewer may come).
The snapshots are those of `tests/dashboard/fakes.py`, each unlike the one before. With `--viewers` the process that
makes and serves them is measured beside so many.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from tumble.daemon.control import ControlServer
from tumble.recon.metrics.sampling import FourierSampling

RATE_HZ = 4.0
SETTLED = 8  # redraws that do not count
REDRAW = b"\x1b[?2026h"  # begins each
SIZES = ((80, 24, 1), (120, 36, 2), (160, 48, 8))  # columns, rows, particles
RADII = (16.0, 25.0, 50.0)  # Fourier voxels
VIEWS = 2000


def fakes() -> ModuleType:
    """The made-up snapshots of the dashboard's tests."""
    path = Path(__file__).parents[1] / "dashboard" / "fakes.py"
    spec = importlib.util.spec_from_file_location("fakes", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def coverage_lines() -> list[str]:
    """Microseconds a view, for shells of several radii."""
    rng = np.random.default_rng(0)
    views = rng.normal(size=(VIEWS, 3))
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    FourierSampling(25.0).add(views[:10])  # compiles
    lines = []
    for radius in RADII:
        single, whole, batch = FourierSampling(radius), FourierSampling(radius), FourierSampling(radius)
        times = []
        for sampling, size, read in ((single, 1, False), (whole, 1, True), (batch, 50, False)):
            began = time.process_time()
            for start in range(0, VIEWS, size):
                sampling.add(views[start : start + size])
                if read:
                    _ = sampling.sampling
            times.append(1e6 * (time.process_time() - began) / VIEWS)
        lines.append(
            f"radius {radius:.0f} Fourier voxels: {times[0]:.1f} us one at a time, {times[1]:.1f} us with empty share, "
            f"SCF and effective views read each time, {times[2]:.1f} us in batches of 50"
        )
    return lines


def _seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watching(endpoint: str, columns: int, rows: int) -> Iterator[tuple[int, list[int]]]:
    """`tumble watch` on a pseudo-terminal that somebody reads; gives its process id, and a list that grows by one with
    each redraw.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tumble", "watch", endpoint], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    os.close(theirs)
    redraws: list[int] = []
    threading.Thread(target=_drain, args=(ours, redraws), daemon=True).start()
    try:
        yield process.pid, redraws
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours)


def _drain(descriptor: int, redraws: list[int]) -> None:
    try:
        while data := os.read(descriptor, 1 << 16):
            redraws.extend([1] * data.count(REDRAW))
    except OSError:
        return


def dashboard_lines(seconds: float, viewers: int) -> Iterator[str]:
    """Share of a core that a viewer takes, size by size; then what many take from the daemon."""
    moments = fakes()
    with tempfile.TemporaryDirectory() as folder, ControlServer("tcp://127.0.0.1:0", folder) as server:
        playing = {"particles": 1}
        stop = threading.Event()

        def play() -> None:
            number, at = 0, 5.0
            while not stop.wait(1 / RATE_HZ):
                number, at = number + 1, at + 1 / RATE_HZ
                snapshot = moments.snapshot(at % 38.0 + 1, playing["particles"])
                server.publish(snapshot)

        thread = threading.Thread(target=play)
        thread.start()
        try:
            for columns, rows, particles in SIZES:
                playing["particles"] = particles
                with watching(server.endpoint, columns, rows) as (pid, redraws):
                    while len(redraws) < SETTLED:
                        time.sleep(0.1)
                    before, drawn = _seconds(pid), len(redraws)
                    time.sleep(seconds)
                    each, number = (_seconds(pid) - before) / (len(redraws) - drawn), len(redraws) - drawn
                size = f"{columns} x {rows}, {particles} particles, {number} redraws in {seconds:.0f} s"
                share = 100 * RATE_HZ * each
                yield f"{size}: {1e3 * each:.1f} ms each, {share:.1f} % of a core at {RATE_HZ:g} a second"
            if viewers:
                yield from _many(server.endpoint, viewers, seconds)
        finally:
            stop.set()
            thread.join()


def _many(endpoint: str, viewers: int, seconds: float) -> Iterator[str]:
    """Processor time of this process, which makes and serves the snapshots, alone and with so many viewers."""
    shares = []
    for number in (0, viewers):
        script = f"""
import time
from tumble.daemon.viewer import Viewer
every = [Viewer({endpoint!r}, timeout_s=30) for _ in range({number})]
until = time.monotonic() + {seconds + 4}
while time.monotonic() < until:
    for one in every:
        one.poll(0.01)
    time.sleep(0.05)
"""
        process = subprocess.Popen([sys.executable, "-c", script])
        time.sleep(4)
        before, began = time.process_time(), time.monotonic()
        time.sleep(seconds)
        shares.append((time.process_time() - before) / (time.monotonic() - began))
        process.terminate()
        process.wait(20)
    yield (
        f"making and serving 8 particles: {100 * shares[0]:.1f} % of a core without viewers, "
        f"{100 * shares[1]:.1f} % with {viewers}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="measured for each size")
    parser.add_argument("--viewers", type=int, default=20)
    options = parser.parse_args()
    for line in coverage_lines():
        print(line, flush=True)
    for line in dashboard_lines(options.seconds, options.viewers):
        print(line, flush=True)


if __name__ == "__main__":
    main()
