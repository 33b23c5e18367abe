"""Carries out what operators ask for, between two frames, and keeps a journal of it.

The journal, ``operator.jsonl`` in the session folder, says after which frame something was asked for, so that a run
that is continued after a crash does the same at the same places.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .orders import Order, Orders
from .particles import particle_name
from .pipeline import Pipeline
from .session import append
from .stops import StopRequests

JOURNAL = "operator.jsonl"
PAUSED = "paused by the operator"
EXCLUDED = "excluded by the operator"


class Operator:
    """The operator's hand in one run.

    Parameters
    ----------
    orders : where they come in.
    stops : who is told of a stop.
    say : receives words for the operator's log.
    folder : of the session; ``None``: no journal is kept.
    repeat : (after which frame, order): what a journal says of an earlier part of this run.

    Attributes
    ----------
    paused : no frame is analysed. mark : the newest mark, and after which frame it came; empty before the first.
    """

    def __init__(
        self,
        orders: Orders,
        stops: StopRequests,
        say: Callable[[str], None],
        folder: Path | None = None,
        repeat: tuple[tuple[int, Order], ...] = (),
    ) -> None:
        self._orders, self._stops, self._say = orders, stops, say
        self._journal = None if folder is None else folder / JOURNAL
        self._repeat = deque(repeat)
        self._due: deque[Order] = deque()
        self._last = -1  # number of the newest frame
        self.paused = False
        self.mark = ""

    def listen(self) -> None:
        """Hear what was asked; called at any time. Only a stop is passed on at once."""
        for order in self._orders.take():
            if order.kind == "stop":
                self._say(f"{order.who} asks to stop")
                self._stops.request()
            else:
                self._due.append(order)

    def act(self, pipeline: Pipeline | None) -> None:
        """Carry out what is due; called between two frames."""
        while self._due:
            order = self._due.popleft()
            self._note(order)
            self._carry_out(order, pipeline)

    def admits(self, index: int, pipeline: Pipeline) -> bool:
        """Whether frame `index`, which comes next, is to be analysed; otherwise it has been booked."""
        while self._repeat and self._repeat[0][0] < index:
            self._carry_out(self._repeat.popleft()[1], pipeline)
        self.act(pipeline)
        self._last = index
        if self.paused:
            pipeline.books.refuse(PAUSED)
        return not self.paused

    def _carry_out(self, order: Order, pipeline: Pipeline | None) -> None:
        if order.kind == "mark":
            self.mark = f"{order.text} (after frame {self._last})"
            self._say(f"mark ({order.who}): {order.text}")
        elif order.kind in ("pause", "resume"):
            self.paused = order.kind == "pause"
            what = "paused: frames are received and recorded, not analysed" if self.paused else "goes on"
            self._say(f"{what} ({order.who})")
        elif pipeline is not None and pipeline.exclude(order.particle, EXCLUDED):
            self._say(f"{particle_name(order.particle)} {EXCLUDED} ({order.who})")

    def _note(self, order: Order) -> None:
        if self._journal is None:
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        words = f"{order.kind} {order.text}".strip()
        line = json.dumps({"after_frame": self._last, "time": time, "order": words, "who": order.who})
        try:
            with self._journal.open("ab", buffering=0) as file:
                append(file, line.encode() + b"\n")
        except OSError as error:
            self._say(
                f"cannot write to {self._journal} ({error.strerror or error}): {words!r} is not repeated after a crash"
            )
