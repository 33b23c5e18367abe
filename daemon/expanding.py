"""Frames on their way into shared memory: several are expanded at once, and come out in the order they came in."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from ..stream.encoded import EncodedFrame

WORTH_IT_BYTES = 1 << 20  # expanded; smaller ones cost about as much to hand to another thread


@dataclass(slots=True, eq=False)
class Expanded:
    """A frame that is being expanded.

    Attributes
    ----------
    arrived_s : when it came off the socket, by `time.monotonic`.
    done : the thread that had it is finished with it.
    damage : what is wrong with its payload, in words; empty: nothing.
    """

    frame: EncodedFrame
    slot: NDArray[Any]
    arrived_s: float
    done: bool = False
    damage: str = ""
    problem: BaseException | None = None

    def expand(self) -> None:
        """Expand it into its slot, or note what is wrong with it."""
        try:
            self.frame.decode(self.slot)
        except ValueError as error:
            self.damage = str(error) or "damaged"
        except BaseException as error:  # noqa: BLE001  # it is raised again where it is asked for
            self.problem = error
        self.done = True


class Expansion:
    """Expands frames with `threads` threads of its own; with one, or where they are small, where it is called.

    A frame is expanded as a whole by one thread, without the interpreter lock. The one that calls goes on meanwhile.
    """

    def __init__(self, threads: int) -> None:
        self._wanted = threads if threads > 1 else 0
        self._threads: list[threading.Thread] = []
        self._tasks: SimpleQueue[Expanded | None] = SimpleQueue()
        self._under_way: deque[Expanded] = deque()
        self._news = threading.Event()

    def __len__(self) -> int:
        """Frames that were begun and have not come out."""
        return len(self._under_way)

    def begin(self, frame: EncodedFrame, slot: NDArray[Any], arrived_s: float) -> None:
        """Expand a frame into (height, width) `slot`, which nobody else may touch until it comes out of `finished`."""
        task = Expanded(frame, slot, arrived_s)
        self._under_way.append(task)
        if self._wanted and slot.nbytes >= WORTH_IT_BYTES:
            self._hire()
        if self._threads and slot.nbytes >= WORTH_IT_BYTES:
            self._tasks.put(task)
        else:
            task.expand()

    def finished(self) -> Iterator[Expanded]:
        """Those that are done, in the order in which they were begun: none before all that were begun before it.

        Raises
        ------
        BaseException : what went wrong with one, other than damage.
        """
        self._news.clear()  # before looking: what is done after that is told once more
        while self._under_way and self._under_way[0].done:
            task = self._under_way.popleft()
            if task.problem is not None:
                raise task.problem
            yield task

    def wait(self, timeout_s: float) -> None:
        """Wait until one more is done, or for `timeout_s`."""
        if self._under_way and not self._under_way[0].done:
            self._news.wait(timeout_s)

    def close(self) -> None:
        """Let the threads finish what was begun, and end them."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _hire(self) -> None:
        """Begin the threads, with the first frame that is worth it."""
        wanted, self._wanted = self._wanted, 0
        with contextlib.suppress(RuntimeError):  # the system gives no more: those that there are, or none
            for number in range(wanted):
                thread = threading.Thread(target=self._work, name=f"tumble-expander-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.expand()
            self._news.set()
