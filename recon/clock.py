"""Where the time of a stage goes: wall and processor seconds per named step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _nothing() -> None:
    """Nothing to wait for."""


class StepClock:
    """Sums of the seconds spent in each step, none inside another; it measures and decides nothing.

    Attributes
    ----------
    wall : elapsed seconds per step.
    cpu : seconds of processor time per step, over all threads of the process.
    step : the step going on; empty between steps.
    wait : called before a step ends; on a device that works asynchronously, give what waits for it.
    """

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.step = ""
        self.wait: Callable[[], object] = _nothing

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        self.step = step
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wait()
            self.wall[step] = self.wall.get(step, 0.0) + time.perf_counter() - wall
            self.cpu[step] = self.cpu.get(step, 0.0) + time.process_time() - cpu
            self.step = ""
