"""What is recorded goes to the disk at once and leaves memory soon after.

Left alone, the system collects written pages until they are a tenth of memory, writes them in bursts, and fills all
memory with a recording that nobody reads, at the cost of everything else that was there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from pathlib import Path

STEP_BYTES = 32 << 20  # recorded between two requests
KEPT_BYTES = 64 << 20  # of the newest that stay in memory in any case


class WriteOut:
    """Asks the system to write out one growing file. It only asks: nothing depends on whether that is done.

    Parameters
    ----------
    path : the file; what is new stands at its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asked = 0  # bytes of the file
        self._marks: deque[tuple[int, int]] = deque()  # frames that were in the file, and its bytes at that time
        self._thread: threading.Thread | None = None

    def go_on(self, frames: int, wanted_from: int) -> None:
        """Ask for what has come since; never waits for the disk. While it is behind, nothing more is asked of it.

        Parameters
        ----------
        frames : how many are in the file.
        wanted_from : from this one on they stay in memory, because somebody will read them.
        """
        if not hasattr(os, "posix_fadvise") or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._ask, args=(frames, wanted_from), name="tumble-writeout", daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads to be had: recording goes on without
            thread.start()
            self._thread = thread

    def _ask(self, frames: int, wanted_from: int) -> None:
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_RDONLY)
            try:
                end = os.fstat(file).st_size
                self._marks.append((frames, end))
                if end > self._asked:  # pages that are not on the disk are not dropped by this: their writing begins
                    os.posix_fadvise(file, self._asked, end - self._asked, os.POSIX_FADV_DONTNEED)
                self._asked = max(self._asked, end)
                over = 0
                while self._marks[0][0] <= wanted_from and self._marks[0][1] <= end - KEPT_BYTES:
                    over = self._marks.popleft()[1]
                if over:
                    os.posix_fadvise(file, 0, over, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)
