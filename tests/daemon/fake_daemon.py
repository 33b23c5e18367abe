"""A daemon with stand-ins for the stages, as a program: fake_daemon.py SOURCE SESSION [seconds per frame]."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

from tumble.daemon.config import load
from tumble.daemon.launch import Job, prepare_folder, run_here


def slow_parts(delay_s: float):
    """The stand-ins of conftest.py, with a front end that takes `delay_s` for each frame."""
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


def main() -> int:
    """Run it."""
    source, folder, delay = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    stream = {"source": source, "when_full": "block", "timeout_s": 3.0, "ring_MiB": 1.0}
    settings = prepare_folder(load(None, {"stream": stream, "session": {"files_every_s": 0.0}}), folder)
    return run_here(
        Job(settings, None, "test"),
        lambda line: print(line, flush=True),
        opened=lambda endpoint: print(f"endpoint {endpoint}", flush=True),
        make_parts=lambda _: slow_parts(delay),
    )


if __name__ == "__main__":
    sys.exit(main())
