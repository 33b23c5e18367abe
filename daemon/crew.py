"""The reconstruction workers of one series: a process for each GPU, or more. The next series gets new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .config import Settings
from .devices import PROCESSOR, VISIBLE, Found, label, only, own_device, summary
from .dispatch import WorkerDied
from .errors import TumbleError
from .parts import Parts
from .stops import StopRequests
from .threads import VARIABLES, as_begun
from .workers import WorkerProcess


@dataclass(frozen=True, slots=True)
class Hired:
    """Workers that are ready.

    Attributes
    ----------
    workers : at least one.
    device : what they compute on, all together.
    news : lines for the operator: which GPUs these are, and which are not used and why.
    """

    workers: list[WorkerProcess]
    device: str
    news: tuple[str, ...]


class Crew:
    """Workers that are begun before it is known what for.

    Parameters
    ----------
    settings, make_parts : of the run.
    threads : of the reconstruction, all workers together.
    environment : what workers find in theirs: sums depend on the size of thread pools in the last bit.

    Raises
    ------
    TumbleError : there is no shared memory for them, or no such GPU.
    """

    def __init__(
        self, settings: Settings, make_parts: Callable[[Settings], Parts], threads: int, environment: Mapping[str, str]
    ) -> None:
        self._settings, self._make_parts, self._threads = settings, make_parts, threads
        self._environment = {name: environment[name] for name in VARIABLES if name in environment}
        self._visible = environment.get(VISIBLE, "")
        self._stack = ExitStack()
        chosen = settings.reconstruction
        self._least, self._wanted = chosen.workers or 1, chosen.gpus
        self._must = chosen.device == "gpu" or chosen.gpus is not None
        self._first = self._begin(only(self._wanted, environment), max(1, threads // self._least))

    def _begin(self, visible: str | None, threads: int, name: str = "tumble worker 0") -> WorkerProcess:
        with as_begun(self._environment):
            worker = WorkerProcess(visible, threads, self._settings, self._make_parts, name)
        return self._stack.enter_context(worker)

    def ready(self, folder: Path, stops: StopRequests) -> Hired:
        """The workers, at work in `folder`: one for each GPU that works, or for the processor where none does.

        Where more are wanted, they share the GPUs in turn: much of the work is the host's.

        Raises
        ------
        TumbleError : a worker could not begin, GPUs are asked for and none works, or the operator is out of patience.
        """
        first = _ready(self._first, stops)
        numbers = self._wanted or tuple(range(max(1, first.seen)))
        threads = max(1, self._threads // max(len(numbers), self._least))
        begun = {numbers[0]: self._first} | {number: self._on(number, threads) for number in numbers[1:]}
        found = {numbers[0]: first} | {number: _tried(begun[number], stops) for number in numbers[1:]}
        used = [number for number in numbers if found[number].is_gpu]
        unused = [number for number in numbers if number not in used]
        news = [
            f"{label(number)} is not used: {found[number].trouble}" for number in unused if self._must or first.seen
        ]
        if self._must and not used:
            raise TumbleError("; ".join(news))
        for number in unused if used else unused[1:]:
            begun[number].close()
        workers = self._shared(begun, used, threads) if used else [self._first, *self._more(threads)]
        for worker in workers:
            if worker not in begun.values():
                _ready(worker, stops)
        for worker in workers:
            worker.assign(folder)
        if used:
            words = "; ".join(f"{label(number)} ({found[number].name})" for number in used)
            news.insert(0, f"reconstruction on {words}, {len(workers)} worker{'s' * (len(workers) > 1)}")
        return Hired(workers, summary([found[number].name for number in used]) or PROCESSOR, tuple(news))

    def _shared(self, begun: Mapping[int, WorkerProcess], used: list[int], threads: int) -> list[WorkerProcess]:
        """The workers on GPUs that work, and more of them where more are wanted."""
        turns = [used[turn % len(used)] for turn in range(len(used), self._least)]
        workers = [begun[number] for number in used] + [self._on(number, threads) for number in turns]
        for worker, number in zip(workers, used + turns, strict=True):
            worker.where = label(number)
        return workers

    def _more(self, threads: int) -> list[WorkerProcess]:
        """Further workers for the processor."""
        return [self._begin(None, threads) for _ in range(1, self._least)]

    def _on(self, number: int, threads: int) -> WorkerProcess:
        """A worker that sees one GPU only."""
        return self._begin(own_device(number, self._visible), threads, f"tumble worker {label(number)}")

    def close(self) -> None:
        """End the workers; their files are whole at every moment."""
        self._stack.close()


def _ready(worker: WorkerProcess, stops: StopRequests) -> Found:
    while (ready := worker.ready(0.1)) is None:
        if stops.count > 1:
            raise TumbleError("stopped before it had begun")
    return ready


def _tried(worker: WorkerProcess, stops: StopRequests) -> Found:
    """What a further worker has found; one that dies of its GPU has found none."""
    try:
        return _ready(worker, stops)
    except WorkerDied as error:
        return Found(PROCESSOR, 1, str(error))
