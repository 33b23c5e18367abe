"""The books of a source, as plain numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SourceCounters:
    """Where the frames are: received = delivered + queued + sum(rejected) + sum(dropped)."""

    messages: int = 0
    received: int = 0
    delivered: int = 0
    queued: int = 0
    missing: int = 0  # gaps in the image numbers: lost before they reached us
    malformed: int = 0  # messages that could not be read at all
    ignored: int = 0  # messages of unknown type, repeated ends
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def balance(self) -> int:
        """Zero when the books are right."""
        lost = sum(self.rejected.values()) + sum(self.dropped.values())
        return self.received - self.delivered - self.queued - lost


@dataclass(frozen=True, slots=True)
class Cut:
    """Frames counted from the beginning to some moment, whatever became of those that were not lost."""

    received: int = 0
    missing: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # of the newest series

    def since(self, earlier: Cut) -> Cut:
        """What was counted after another moment."""
        rejected, dropped = Counter(self.rejected), Counter(self.dropped)
        rejected.subtract(earlier.rejected)
        dropped.subtract(earlier.dropped)
        received, missing = self.received - earlier.received, self.missing - earlier.missing
        return Cut(received, missing, dict(+rejected), dict(+dropped), self.warnings)
