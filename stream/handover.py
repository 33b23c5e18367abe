"""A bounded queue of events between two threads that seldom wait for each other: one puts, the other takes.

Neither needs the lock while there is something to take and room for more: a deque is safe by itself, and every counter
is written by one side only. Who has to wait says so first and then looks once more, so that no wake-up is missed.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from .encoded import EncodedFrame
from .series import WireEvent

_POLL_S = 0.05
_CONTROL_ROOM = 16  # starts and ends that still fit into a full queue: they are never dropped


class Handover:
    """Events with the time of their arrival, in order.

    Parameters
    ----------
    capacity : events. capacity_bytes : of the payloads of frames; one frame always fits.

    Attributes
    ----------
    placed, taken : frames put into it and taken out of it so far.
    """

    def __init__(self, capacity: int, capacity_bytes: int) -> None:
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._events: deque[tuple[WireEvent, float]] = deque()
        self._changed = threading.Condition()
        self._hungry = self._crowded = False  # somebody waits for an event, or for room
        self._closed = False
        self.placed = self.taken = 0
        self._placed_bytes = self._taken_bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def finished(self) -> bool:
        """Whether it was closed and everything has been taken."""
        return self._closed and not self._events

    # ---------------------------------------------------------------- who puts

    def full(self, event: WireEvent) -> bool:
        """Whether there is no room for an event."""
        if not isinstance(event, EncodedFrame):
            return len(self._events) >= self._capacity + _CONTROL_ROOM
        if len(self._events) >= self._capacity:
            return True
        waiting = self._placed_bytes - self._taken_bytes
        return waiting + len(event.blob) > self._capacity_bytes and self.placed > self.taken

    def await_room(self, event: WireEvent, stopping: threading.Event) -> None:
        """Wait until there is room, or until `stopping` is set."""
        with self._changed:
            self._changed.notify_all()  # the other may wait for what is in the queue by now
            self._crowded = True
            while self.full(event) and not stopping.is_set():
                self._changed.wait(_POLL_S)
            self._crowded = False

    def put(self, event: WireEvent, arrived_s: float) -> None:
        """Append an event, room or not. The other hears of it with `announce`."""
        if isinstance(event, EncodedFrame):
            self.placed += 1
            self._placed_bytes += len(event.blob)
        self._events.append((event, arrived_s))

    def announce(self) -> None:
        """Wake up whoever waits for what was put."""
        if self._hungry:
            self.wake()

    def close(self) -> None:
        """Nothing more will be put."""
        self._closed = True
        self.wake()

    # ---------------------------------------------------------------- who takes

    def take(self, deadline: float | None) -> tuple[WireEvent, float] | None:
        """The next event and its arrival; ``None``: none came until `deadline`, or none will come."""
        if not self._events and not self._await_event(deadline):
            return None
        event, arrived_s = self._events.popleft()
        if isinstance(event, EncodedFrame):
            self.taken += 1
            self._taken_bytes += len(event.blob)
        if self._crowded and self._roomy():
            self.wake()
        return event, arrived_s

    def _await_event(self, deadline: float | None) -> bool:
        with self._changed:
            self._hungry = True
            while not self._events and not self._closed:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    break
                self._changed.wait(remaining)
            self._hungry = False
        return bool(self._events)

    def _roomy(self) -> bool:
        """Whether it is worth waking the other up: there is room for many frames, not for one."""
        waiting = self._placed_bytes - self._taken_bytes
        return len(self._events) <= self._capacity // 2 and waiting <= self._capacity_bytes // 2

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()
