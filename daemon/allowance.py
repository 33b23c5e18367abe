"""What one client may ask of the daemon in a second, so that none takes its time from the others."""

from __future__ import annotations

import time

MOST_CLIENTS = 1024  # in a second that are counted; more get no answer until it is over


class Allowance:
    """Counts requests of clients, second by second.

    Parameters
    ----------
    each : requests of a client that are answered in a second.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._since_s = time.monotonic()
        self._spent: dict[bytes, int] = {}

    def spend(self, client: bytes) -> bool:
        """Count one request; False: the client has had its answers for now, and this one gets none."""
        now = time.monotonic()
        if now - self._since_s >= 1.0:
            self._since_s = now
            self._spent.clear()
        spent = self._spent.get(client, 0)
        if spent >= self._each or (not spent and len(self._spent) >= MOST_CLIENTS):
            return False
        self._spent[client] = spent + 1
        return True
