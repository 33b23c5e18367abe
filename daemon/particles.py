"""One particle as the pipeline keeps it: what its reconstruction last said, what waits, what the operator was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..recon.coverage import CELLS
from ..recon.records import ParticleStatus, TrackedParticle

TREND_POINTS = 64
LONG_LAG_S = 5.0
CALM_S = 10.0  # with nothing waiting, until a lag is over: bursts of frames would be told again and again
WORTH_SAYING = 0.95  # of the resolution that was last said
_STATE_WORDS = {
    "INDEXING": "indexing: {seen} frames gathered, looking for the lattice",
    "LOST": "lost",
    "FAILED": "failed: {note}",
}


def particle_name(number: int) -> str:
    """``P001``: the name of a particle for people and folders."""
    return f"P{number:03d}"


def no_status(number: int) -> ParticleStatus:
    """Of a particle of which nothing is known yet."""
    return ParticleStatus(
        number, "COLLECTING", 0, 0, {}, 0, None, None, None, (), (), np.zeros(CELLS, np.int32), None, None, {}
    )


@dataclass(slots=True)
class ParticleEntry:
    """One particle: tracked here, reconstructed elsewhere.

    Attributes
    ----------
    last : what its reconstruction last said.
    given, applied : observations that were made for it, and those the reconstruction has come to.
    lost : observations it will never come to, by reason.
    first_s, reached_s : arrival of the first observation and of the newest it has come to, `time.monotonic`.
    failure : why nothing more comes of it; empty while all is well.
    ended : it has come to its final result, or never will.
    over : why observations that still come are lost; empty while they are wanted.
    where : the GPU that its reconstruction computes on; empty for the processor.
    trend : (frames used, resolution in A), bounded.
    """

    tracked: TrackedParticle
    last: ParticleStatus | None = None
    given: int = 0
    applied: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    first_s: float = 0.0
    reached_s: float = 0.0
    failure: str = ""
    ended: bool = False
    over: str = ""
    where: str = ""
    trend: list[tuple[int, float]] = field(default_factory=list)
    _state: str = ""  # what the operator was last told
    _verdict: str = ""
    _resolution_A: float | None = None
    _lag_s: float = 0.0
    _calm_from_s: float | None = None

    @property
    def waiting(self) -> int:
        """Observations that the reconstruction has not come to."""
        return self.given - self.applied - self.lost.total()

    def lag_s(self, now_s: float) -> float:
        """Age of the newest observation that the reconstruction has come to, while others wait."""
        return now_s - (self.reached_s or self.first_s) if self.waiting else 0.0

    def status(self) -> ParticleStatus:
        """What is known now; what waits is in flight. seen = used + rejected + in flight."""
        last = self.last or no_status(self.tracked.particle)
        if not self.waiting and not self.lost:
            return last
        return replace(
            last,
            frames_seen=last.frames_seen + self.waiting + self.lost.total(),
            frames_rejected=dict(Counter(last.frames_rejected) + self.lost),
            frames_in_flight=last.frames_in_flight + self.waiting,
        )

    def abandon(self, reason: str, failure: str = "") -> None:
        """Nothing more will be heard of it: what is undecided is lost for `reason`."""
        last = self.last or no_status(self.tracked.particle)
        undecided = last.frames_in_flight
        self.lost[reason] += self.waiting + undecided
        self.applied = self.given - self.lost.total()
        state = "FAILED" if failure else last.state
        note = failure or (f"{self.lost[reason]} frames were not worked off: {reason}" if self.lost[reason] else "")
        self.last = replace(
            last, frames_seen=last.frames_seen - undecided, frames_in_flight=0, state=state, note=note or last.note
        )
        self.failure = self.failure or failure
        self.ended = True

    def lag_news(self, now_s: float) -> str:
        """What the operator should hear of the lag: when it has become long, has doubled since, or is over."""
        name, lag_s = particle_name(self.tracked.particle), self.lag_s(now_s)
        if not self.waiting:
            self._calm_from_s = now_s if self._calm_from_s is None else self._calm_from_s
            if not self._lag_s or now_s - self._calm_from_s < CALM_S:
                return ""
            self._lag_s = 0.0
            return f"{name} has caught up"
        self._calm_from_s = None
        if self.ended or lag_s < max(LONG_LAG_S, 2 * self._lag_s):
            return ""
        self._lag_s = lag_s
        return f"{name} is {lag_s:.0f} s behind: {self.waiting} frames wait for the reconstruction"

    def exclude(self, reason: str) -> None:
        """No more work on it: what is undecided and whatever comes is rejected for `reason`."""
        self.abandon(reason)
        self.last = replace(self.last or no_status(self.tracked.particle), state="EXCLUDED", note=reason)
        self.over = reason

    def news(self) -> Iterator[str]:
        """What has changed since the last call and is worth saying; remembers the course of the resolution."""
        status = self.last or no_status(self.tracked.particle)  # without those that wait: it is of those it has seen
        name, resolution_A = particle_name(status.particle), status.resolution_A
        if self._state != status.state:
            self._state = status.state
            if status.state in _STATE_WORDS:
                note = status.note or f"no lattice found in {status.frames_seen} frames"
                yield f"{name} {_STATE_WORDS[status.state].format(seen=status.frames_seen, note=note)}"
        word = status.verdict.word if status.verdict else ""
        if word != self._verdict:
            if status.verdict and word not in ("", "SEARCHING"):
                yield f"{name} {word}: {'; '.join(status.verdict.reasons)}"
            self._verdict = word
        if resolution_A is None:
            return
        if self._resolution_A is None or resolution_A <= WORTH_SAYING * self._resolution_A:
            yield f"{name} {'first map: ' if self._resolution_A is None else ''}{describe(status)}"
            self._resolution_A = resolution_A
        if not self.trend or self.trend[-1][0] != status.frames_used:
            self.trend.append((status.frames_used, resolution_A))
            if len(self.trend) > TREND_POINTS:
                del self.trend[1:-1:2]


def describe(status: ParticleStatus) -> str:
    """``resolution 1.02 A, 478 atoms, lattice constant 3.981 A, 512 of 530 frames used``."""
    words = []
    if status.resolution_A is not None:
        words.append(f"resolution {status.resolution_A:.2f} A")
    if status.atoms is not None:
        words.append(f"{status.atoms} atoms" + "".join(f", {count} {name}" for name, count in status.elements.items()))
    if status.lattice_constant_A is not None:
        kind = "twinned " * status.twinned + (f"{status.lattice} " if status.lattice else "")
        metals = f" as of {' or '.join(status.metals)}" if status.metals else ""
        words.append(f"{kind}lattice constant {status.lattice_constant_A:.3f} A{metals}")
    if status.strain_percent:
        words.append(f"strained by {', '.join(f'{value:+.1f}' for value in status.strain_percent)} %")
    words.append(f"{status.frames_used} of {status.frames_seen} frames used")
    if "next_deg" in status.tilts:
        words.append(f"next tilt {status.tilts['next_deg']:+.1f} deg")
    return ", ".join(words)
