"""A daemon with stand-ins for the stages, as a program: fake_daemon.py SOURCE SESSION DELAY [quit | watch].

DELAY is how long the front end takes for a frame, s. With a fourth word the daemon runs behind a dashboard that quits
at the first map, or watches to the end.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

from tumble.daemon.config import Settings, load
from tumble.daemon.launch import Job, prepare_folder, run_behind, run_here


def slow_parts(_: Settings):
    """The stand-ins of conftest.py, with a front end that takes its time."""
    delay_s = float(sys.argv[3])
    spec = importlib.util.spec_from_file_location("stand_ins", Path(__file__).with_name("conftest.py"))
    stand_ins = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_ins)

    class Slow(stand_ins.FakeParts):
        def front_end(self, height, width, pixel_size_A):
            made = super().front_end(height, width, pixel_size_A)
            step = made.step

            def slowly(index, time_s, data):
                time.sleep(delay_s)
                return step(index, time_s, data)

            made.step = slowly
            return made

    return Slow()


def scripted_dashboard(poll, *, finished, endpoint, exit_when_done):
    """Looks until the end, or quits as an operator does once there is a map."""
    while not finished():
        snapshot = poll()
        if snapshot is None:
            time.sleep(0.02)
        elif snapshot.phase in ("DONE", "FAILED"):
            break
        elif sys.argv[4] == "quit" and any(view.resolution_A for view in snapshot.particles):
            print("operator quits", flush=True)
            break
    return 0


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def main() -> int:
    """Run it."""
    stream = {"source": sys.argv[1], "when_full": "block", "timeout_s": 3.0, "ring_MiB": 0.05, "queue": 64}
    settings = load(None, {"stream": stream, "session": {"files_every_s": 0.0}})
    job = Job(prepare_folder(settings, Path(sys.argv[2])), None, "test", slow_parts)
    return run_behind(job, scripted_dashboard, say) if len(sys.argv) > 4 else run_here(job, say)


if __name__ == "__main__":
    sys.exit(main())
