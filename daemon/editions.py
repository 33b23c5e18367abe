"""What a viewer does not have yet: of a snapshot all but what is as in the one that it was given before.

Pictures, curves and counts of views are nine tenths of a snapshot, and change with a map, not four times a second. The
daemon remembers since when each is as it is (`Editions`); a viewer keeps what it is not told again (`Reader`).
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from .snapshot import LARGE, Snapshot, encoded, fields_of, from_data

KEPT = 8  # editions, about two seconds: whoever has an older one is told everything
_WHOLE = 0  # no edition: nothing is known


class Editions:
    """Every snapshot is an edition; gives the newest as JSON. May be used by several threads.

    Attributes
    ----------
    number : of the newest edition. The first one is a time in nanoseconds, so that no two daemons use the same numbers.
    """

    def __init__(self) -> None:
        self.number = self._none = time.time_ns()
        self._snapshot: Snapshot | None = None
        self._since: dict[str, dict[str, int]] = {}  # by particle and field, the edition that it is the same since
        self._texts: dict[int | None, bytes] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._snapshot is not None

    def add(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the newest."""
        with self._lock:
            before = {} if self._snapshot is None else {view.name: view for view in self._snapshot.particles}
            number, since = self.number + 1, {}
            for view in snapshot.particles:
                old = before.get(view.name)
                since[view.name] = {
                    name: number if old is None or getattr(old, name) != getattr(view, name) else known
                    for name, known in self._since.get(view.name, dict.fromkeys(LARGE, number)).items()
                }
            self._snapshot, self._since, self.number = snapshot, since, number
            self._texts.clear()

    def text(self, known: int | None = None) -> bytes:
        """The newest as JSON: all of it, or for somebody who has edition `known` without what that says.

        Raises
        ------
        ValueError : there is none, or it holds what JSON cannot say.
        """
        with self._lock:
            if known is not None and not max(self._none, self.number - KEPT) < known < self.number:
                known = _WHOLE
            if known not in self._texts:
                self._texts[known] = self._encode(known)
            return self._texts[known]

    def _encode(self, known: int | None) -> bytes:
        if self._snapshot is None:
            raise ValueError("no snapshot yet")
        if known is None:
            return self._snapshot.to_json().encode()
        data: dict[str, Any] = {"edition": self.number}
        if known != _WHOLE:
            data["known"] = known
        data |= fields_of(self._snapshot)
        data["particles"] = [
            {
                name: value
                for name, value in fields_of(view).items()
                if self._since[view.name].get(name, self.number) > known
            }
            for view in self._snapshot.particles
        ]
        return encoded(data).encode()


class Reader:
    """Makes snapshots of the answers of one daemon, in the order in which they come.

    Attributes
    ----------
    edition : that was read last, to be asked for what is newer; 0: none.
    """

    def __init__(self) -> None:
        self.edition = _WHOLE
        self._snapshot: Snapshot | None = None

    def read(self, text: str | bytes) -> Snapshot:
        """The snapshot in an answer, whole again.

        Raises
        ------
        ValueError : it is no snapshot, one of another version, or about an edition that is not known here.
        """
        try:
            data = json.loads(text)
            known = data.get("known")
        except (ValueError, AttributeError) as error:
            raise ValueError(f"not a snapshot: {error}") from None
        if known is not None and not (self._snapshot and isinstance(known, int) and known <= self.edition):
            raise ValueError("not a snapshot: what has changed since another one")
        snapshot, edition = from_data(data, None if known is None else self._snapshot), data.get("edition", _WHOLE)
        if not isinstance(edition, int):
            raise ValueError(f"not a snapshot: edition {edition!r:.20} is no number")  # noqa: TRY004  # it is bad input
        self._snapshot, self.edition = snapshot, edition
        return snapshot
