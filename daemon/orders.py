"""What operators ask of a running daemon, in order, from the control socket to the pipeline."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import UsageError

KINDS = ("pause", "resume", "stop", "mark", "exclude")
MAX_TEXT = 200  # characters of a mark
WAITING = 16  # orders that have not been looked at
_PARTICLE = re.compile(r"[Pp]?0*(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Order:
    """One wish: its kind, the words of a mark or the number of a particle, and who asked."""

    kind: str
    text: str = ""
    particle: int = 0
    who: str = ""


def parse(words: str, who: str = "") -> Order:
    """An order from its words, as in ``exclude P001``.

    Raises
    ------
    UsageError : it is none.
    """
    kind, _, text = words.strip().partition(" ")
    text = "".join(sign if sign.isprintable() else " " for sign in text).strip()
    if kind not in KINDS:
        raise UsageError(f"unknown order {kind[:20]!r}: there are {', '.join(KINDS)}")
    if kind == "mark":
        if not text or len(text) > MAX_TEXT:
            raise UsageError(f"a mark needs words, at most {MAX_TEXT} characters")
        return Order(kind, text, who=who)
    if kind == "exclude":
        match = _PARTICLE.fullmatch(text)
        if match is None or not int(match[1]):
            raise UsageError("say which particle, as in exclude P001")
        return Order(kind, text, int(match[1]), who)
    if text:
        raise UsageError(f"{kind} takes no words")
    return Order(kind, who=who)


class Orders:
    """A short queue between the thread of the control socket and the pipeline."""

    def __init__(self) -> None:
        self._waiting: deque[Order] = deque()

    def put(self, order: Order) -> bool:
        """Queue an order; False: too many wait already."""
        if len(self._waiting) >= WAITING:
            return False
        self._waiting.append(order)
        return True

    def take(self) -> Iterator[Order]:
        """The orders that wait, oldest first."""
        while self._waiting:
            yield self._waiting.popleft()
