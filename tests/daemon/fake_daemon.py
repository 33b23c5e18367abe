"""A daemon of stand-ins, as a program: fake_daemon.py SOURCE SESSION DELAY [quit | watch] [OPTIONS].

DELAY is how long the front end takes for a frame, s. With a fourth word the daemon runs behind a dashboard that quits
at the first map, or watches to the end. `--parts` takes keywords of `FakeParts` as JSON, `--timeout` the silence that
ends a series, s; `--series` how many are taken, 0 for no end, `--hung` the patience
with a worker that does nothing, s, `--workers` how many there are, `--gpus` which of the stand-ins for GPUs, as 0,2,
`--device gpu` that there has to be one; `--resume` goes on with what is in the session
folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

KEYWORDS = "TUMBLE_FAKE_PARTS"  # for the worker processes, which see no command line
# What a daemon needs is imported in `main`: each of its processes imports this file again.


def slow_parts(_):
    """The stand-ins, with a front end that takes its time."""
    from stand_ins import FakeParts

    delay_s, keywords = json.loads(os.environ[KEYWORDS])

    class Slow(FakeParts):
        def front_end(self, height, width, pixel_size_A):
            made = super().front_end(height, width, pixel_size_A)
            step = made.step

            def slowly(index, time_s, data):
                time.sleep(delay_s)
                return step(index, time_s, data)

            made.step = slowly
            return made

    return Slow(**keywords)


def scripted_dashboard(words):
    """Looks until the end, or quits as an operator does once there is a map."""

    def run(poll, *, finished, endpoint, exit_when_done):
        while not finished():
            snapshot = poll()
            if snapshot is None:
                time.sleep(0.02)
            elif snapshot.phase in ("DONE", "FAILED"):
                break
            elif words == "quit" and any(view.resolution_A for view in snapshot.particles):
                print("operator quits", flush=True)
                break
        return 0

    return run


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def main() -> int:
    """Run it."""
    from tumble.daemon import workers
    from tumble.daemon.config import load
    from tumble.daemon.errors import TumbleError
    from tumble.daemon.launch import Job, prepare_folder, run_behind, run_here
    from tumble.daemon.options import gpu_settings
    from tumble.daemon.resuming import find_unfinished

    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("session", type=Path)
    parser.add_argument("delay", type=float)
    parser.add_argument("dashboard", nargs="?")
    parser.add_argument("--parts", type=json.loads, default={})
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--series", type=int, default=1)
    parser.add_argument("--hung", type=float)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--gpus")
    parser.add_argument("--device")
    given = parser.parse_args()
    if given.hung is not None:
        workers.HUNG_S = given.hung
    os.environ[KEYWORDS] = json.dumps((given.delay, given.parts))
    stream = {"source": given.source, "when_full": "block", "timeout_s": given.timeout, "ring_MiB": 0.05, "queue": 64}
    stream["series"] = given.series
    session = {"files_every_s": 0.0, "record": given.record}
    reconstruction = {"pixel_size_A": 0.5, "workers": given.workers, "device": given.device}
    reconstruction |= {name: value for name, value in gpu_settings(given.gpus).items() if value is not None}
    settings = load(None, {"stream": stream, "session": session, "reconstruction": reconstruction})
    killed = find_unfinished(given.session, given.session.parent) if given.resume else None
    resume = killed is not None
    job = Job(prepare_folder(settings, killed or given.session, resume=resume), None, "test", slow_parts, resume)
    if given.dashboard:
        return run_behind(job, scripted_dashboard(given.dashboard), say)
    try:
        return run_here(job, say)
    except TumbleError as error:
        say(str(error))
        return error.code


if __name__ == "__main__":
    sys.exit(main())
