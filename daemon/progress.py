"""Whether the daemon gets anywhere: frames that lie there and are not worked off are a stall, an idle stream is not."""

from __future__ import annotations

import time
from collections.abc import Callable

from .snapshot import Snapshot

STALLED_S = 120.0  # longer than any single piece of work of the front end


class Progress:
    """Watches the snapshots.

    Parameters
    ----------
    clock : seconds that only go forwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._settled = -1
        self._phase = ""
        self._moved = clock()

    def see(self, snapshot: Snapshot) -> None:
        """Look at a snapshot that the pipeline has published."""
        stream = snapshot.stream
        settled = stream.received - stream.in_flight
        seen = sum(view.frames_seen - view.frames_in_flight for view in snapshot.particles)
        if not stream.in_flight or settled + seen != self._settled or snapshot.phase != self._phase:
            self._settled, self._phase = settled + seen, snapshot.phase
            self._moved = self._clock()

    @property
    def still_s(self) -> float:
        """For how long nothing has moved although something should."""
        return self._clock() - self._moved
