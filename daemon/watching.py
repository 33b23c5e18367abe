"""What `tumble watch` polls: whichever daemon there is, now, later, or again after it was started anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from .endpoints import find, is_local
from .errors import Unreachable
from .snapshot import Snapshot
from .viewer import Viewer

RETRY_S = 1.0
HELLO_S = 0.3  # a screen is waiting; a daemon across the world is asked again a second later
SILENT_S = 3.0  # then the daemon may have gone, and another may run at another address


class Watch:
    """Follows a daemon that need not run yet and may come back elsewhere. Use as a context manager.

    Parameters
    ----------
    endpoint : of the daemon; ``None`` for the newest on this machine, whichever that is at the time.
    clock : monotonic time, seconds.

    Raises
    ------
    UsageError : `endpoint` is no address.
    """

    def __init__(self, endpoint: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        if endpoint is not None:
            is_local(endpoint)
        self.endpoint = endpoint or ""
        self._clock = clock
        self._viewer: Viewer | None = None
        self._try_at = self._heard = clock()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._viewer is not None:
            self._viewer.close()

    def poll(self) -> Snapshot | None:
        """The newest snapshot, or ``None`` while there is no news, or no daemon. Returns within `HELLO_S`.

        Raises
        ------
        TumbleError : what answers is no daemon, one of another version, or one that does not let this client in.
        """
        now = self._clock()
        snapshot = None if self._viewer is None else self._viewer.poll(0.0)
        if snapshot is not None:
            self._heard = now
        elif now >= self._try_at and (self._viewer is None or now - self._heard > SILENT_S):
            self._try_at = now + RETRY_S
            self._look()
        return snapshot

    def _look(self) -> None:
        """Connect to the daemon that is there, unless it is the one that is watched: a socket reconnects by itself."""
        try:
            where = find(self.endpoint or None)
            if self._viewer is not None and self._viewer.endpoint == where:
                return
            found = Viewer(where, HELLO_S)
        except Unreachable:
            return
        if self._viewer is not None:
            self._viewer.close()
        self._viewer = found
