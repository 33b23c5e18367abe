"""The reconstruction workers of one series: a process for each device, or more. The next series gets new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from .config import Settings
from .errors import TumbleError
from .parts import Parts
from .stops import StopRequests
from .threads import VARIABLES, as_begun
from .workers import WorkerProcess


class Crew:
    """Workers that are begun before it is known what for.

    Parameters
    ----------
    settings, make_parts : of the run.
    threads : of the reconstruction, all workers together.
    environment : what workers find in theirs: sums depend on the size of thread pools in the last bit.

    Raises
    ------
    TumbleError : there is no shared memory for them.
    """

    def __init__(
        self, settings: Settings, make_parts: Callable[[Settings], Parts], threads: int, environment: Mapping[str, str]
    ) -> None:
        self._settings, self._make_parts, self._threads = settings, make_parts, threads
        self._environment = {name: environment[name] for name in VARIABLES if name in environment}
        self._stack = ExitStack()
        self._least = settings.reconstruction.workers or 1
        self._workers = [self._begin(0, max(1, threads // self._least))]

    def _begin(self, number: int, threads: int) -> WorkerProcess:
        with as_begun(self._environment):
            worker = WorkerProcess(number, threads, self._settings, self._make_parts)
        return self._stack.enter_context(worker)

    def ready(self, folder: Path, stops: StopRequests) -> tuple[list[WorkerProcess], str]:
        """The workers, at work in `folder`, and the devices of the kind that the first has found, dealt out in turn.

        One for each device, or as many as are wanted, which then share them: much of the work is the host's.

        Raises
        ------
        TumbleError : a worker could not begin, or the operator is out of patience.
        """
        name, devices = _ready(self._workers[0], stops)
        count = max(devices, self._least)
        threads = max(1, self._threads // count)
        self._workers += [self._begin(number % devices, threads) for number in range(1, count)]
        for worker in self._workers[1:]:
            _ready(worker, stops)
        for worker in self._workers:
            worker.assign(folder)
        return self._workers, name if devices == 1 else f"{devices} x {name}"

    def close(self) -> None:
        """End the workers; their files are whole at every moment."""
        self._stack.close()


def _ready(worker: WorkerProcess, stops: StopRequests) -> tuple[str, int]:
    while (ready := worker.ready(0.1)) is None:
        if stops.count > 1:
            raise TumbleError("stopped before it had begun")
    return ready
