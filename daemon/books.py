"""Accounting: every frame and every observation is somewhere, and the sums are checked while running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .snapshot import StreamHealth

if TYPE_CHECKING:
    from ..recon.records import ParticleStatus  # loads numpy, which `tumble status` does without


@dataclass(slots=True)
class FrameBooks:
    """Frames handed to the pipeline: stepped = used + rejected(reason) + dropped(reason) + held by the front end."""

    stepped: int = 0
    used: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    held: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def take(self, index: int) -> None:
        """A frame goes to the front end."""
        self.stepped += 1
        self.held.add(index)

    def refuse(self, reason: str) -> None:
        """A frame is rejected before the front end sees it."""
        self.stepped += 1
        self.rejected[reason] += 1

    def settle(self, analysed: Iterable[int], rejected: Iterable[tuple[int, str]]) -> None:
        """The front end is done with these frames."""
        for index in analysed:
            if self._release(index):
                self.used += 1
        for index, reason in rejected:
            if self._release(index):
                self.rejected[reason] += 1

    def _release(self, index: int) -> bool:
        if index not in self.held:
            self.problem(f"the front end gave back frame {index}, which it does not have")
            return False
        self.held.discard(index)
        return True

    def copy(self) -> FrameBooks:
        """These books as they are now."""
        counts = Counter(self.rejected), Counter(self.dropped)
        return FrameBooks(self.stepped, self.used, *counts, set(self.held), list(self.problems))

    def write_off(self, reason: str) -> None:
        """The front end will not be asked for what it holds."""
        if self.held:
            self.dropped[reason] += len(self.held)
            self.held.clear()

    def close(self) -> None:
        """The series is over: nothing may be held back any more."""
        if self.held:
            self.problem(f"the front end kept {len(self.held)} frames, the first is {min(self.held)}")

    def problem(self, words: str) -> None:
        """Note an imbalance; only the first few are kept."""
        if len(self.problems) < 20:
            self.problems.append(words)


def particle_problem(status: ParticleStatus, pushed: int, *, final: bool) -> str:
    """What is wrong with the books of one particle; empty when they are right."""
    rejected = sum(status.frames_rejected.values())
    total = status.frames_used + rejected + status.frames_in_flight
    if status.frames_seen != pushed or total != pushed:
        return (
            f"particle {status.particle}: {pushed} observations given, {status.frames_seen} seen = "
            f"{status.frames_used} used + {rejected} rejected + {status.frames_in_flight} in flight"
        )
    if final and status.frames_in_flight:
        return f"particle {status.particle}: {status.frames_in_flight} observations undecided at the end"
    return ""


@dataclass(frozen=True, slots=True)
class IntakeBooks:
    """What the receiver says: received = handed over + undecodable + dropped + waiting in its queue."""

    series: int = 0  # which of this run, from 1
    received: int = 0
    handed_over: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    missing: int = 0
    recorded: int = 0
    unrecorded: Mapping[str, int] = field(default_factory=dict)  # should have been, by reason
    queue: int = 0
    queue_size: int = 0
    later: int = 0  # frames of later series, which wait until this one is finished
    warnings: tuple[str, ...] = ()
    told_s: float = 0.0  # when, by `time.monotonic`, s; 0: these are the last of their series

    def balance(self) -> int:
        """Zero when the receiver's books are right."""
        left = self.handed_over + sum(self.rejected.values()) + sum(self.dropped.values()) + self.queue
        return self.received - left

    def plain(self) -> dict[str, Any]:
        """The fields by name, nothing copied: the receiver posts them with each frame when frames come one by one."""
        return {name: getattr(self, name) for name in _INTAKE_FIELDS}


_INTAKE_FIELDS = tuple(entry.name for entry in fields(IntakeBooks))


def combine(intake: IntakeBooks, frames: FrameBooks) -> StreamHealth:
    """The frame counts of the daemon as a whole. Frames between receiver and pipeline are in flight."""
    rejected = Counter(frames.rejected)
    rejected.update(intake.rejected)
    dropped = Counter(frames.dropped)
    dropped.update(intake.dropped)
    return StreamHealth(
        received=intake.received,
        used=frames.used,
        rejected=dict(sorted(rejected.items())),
        dropped=dict(sorted(dropped.items())),
        missing=intake.missing,
        in_flight=intake.queue + (intake.handed_over - frames.stepped) + len(frames.held),
        recorded=intake.recorded,
        queue=intake.queue + intake.handed_over - frames.stepped,
        queue_size=intake.queue_size,
    )


def in_words(stream: StreamHealth) -> str:
    """``received 1600 = used 1598 + rejected 2 (blank 2) + dropped 0 + in flight 0``, and what never arrived."""

    def part(name: str, counts: Mapping[str, int]) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items())
        return f"{name} {sum(counts.values())}" + (f" ({reasons})" if reasons else "")

    words = f"received {stream.received} = used {stream.used} + {part('rejected', stream.rejected)} + "
    words += f"{part('dropped', stream.dropped)} + in flight {stream.in_flight}"
    if stream.missing:
        words += f"; {stream.missing} lost before they reached us"
    if stream.balance():
        words += f"; DOES NOT ADD UP: {stream.balance():+d}"
    return words
