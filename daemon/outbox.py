"""Messages to another process, in order, for a sender that must not wait: what a pipe has no room for waits in memory.

The receiver records what comes off the wire in the thread that also announces it. A daemon that stands still (stopped,
swapped out, at a disk that hangs) reads nothing, and a pipe holds 64 KiB: who waits for it no longer records.
"""

from __future__ import annotations

import pickle
import select
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

AT_ONCE = select.PIPE_BUF - 8  # bytes that a pipe which is said to be writable takes without waiting, less the length


class Outbox:
    """The sending end of a pipe whose other end uses `Connection.recv`.

    What is small goes straight into the pipe while that has room and nothing waits before it. Everything else is sent
    by a thread, which is only begun then. One thread may `send`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._room = select.poll()
        self._room.register(connection.fileno(), select.POLLOUT)
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._put = self._sent = 0  # messages that went to the thread, and those that it has sent
        self._failure: OSError | None = None

    def send(self, message: Any) -> None:
        """Send a message, or let it wait until those before it are sent.

        Raises
        ------
        OSError : nobody reads any more (`BrokenPipeError`); messages before this one may be lost.
        """
        if self._failure is not None:
            raise self._failure
        content = pickle.dumps(message)
        if self._put == self._sent and len(content) <= AT_ONCE and self._room.poll(0):
            self._connection.send_bytes(content)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tumble-outbox", daemon=True)
            self._thread.start()
        self._put += 1
        self._waiting.put(content)

    def close(self) -> None:
        """Wait until everything is sent, or nobody reads any more."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (content := self._waiting.get()) is not None:
            if self._failure is None:
                try:
                    self._connection.send_bytes(content)
                except OSError as error:
                    self._failure = error
            self._sent += 1
