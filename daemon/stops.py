"""Being asked to stop: by a signal, by another thread, or because the process that began this one is gone.

A handler only counts; who works looks at the count.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 2  # requests after which a signal breaks off whatever is running


def when_parent_ends(act: Callable[[], object]) -> None:
    """Call `act`, in a thread, when the process that began this one is gone; never in one that nobody here began."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        act()

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


class StopRequests:
    """How often somebody has asked: once means finish in order, twice at the next opportunity, three times now."""

    def __init__(self) -> None:
        self.count = 0

    def request(self) -> None:
        """Ask."""
        self.count += 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1
        if self.count > PATIENCE:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count SIGINT and SIGTERM, those that are not ignored already; only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
