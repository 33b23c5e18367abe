"""Of one particle: what has been seen of it, how far its map has come, how long it will take, and the verdict.

Fed when a map is made and when frames leave the buffer; depends on frames only, never on the clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from .branches import half_of
from .chain import step_per_axis_deg
from .coverage import view_directions
from .forecast import NEXT_FRAMES, Curve, Likeness, b_factor_A2, debye_power, forecast, needed_views
from .metrics import cones, efficiency
from .metrics.density import density_of_atoms
from .metrics.sampling import FourierSampling, shared_views
from .metrics.shells import shell_correlation
from .outlook import SHRINKING, VOID, Sighting, held_void
from .output import SIGNAL_FROM
from .records import Forecast, Milestone, Trust, Verdict
from .turning import Axis, drift_deg, find_axis
from .verdict import LATELY_FRAMES, SURE, WATCHED_FRAMES, Evidence, lately, update

if TYPE_CHECKING:
    from .mapper import Mapper

Floats = NDArray[np.float64]
Item = TypeVar("Item")

MOST_MILESTONES = 64  # kept; then every other one of the older half is forgotten
LIKELY = 0.5  # probability that the target is reached, from which a map is worth making
DUE_SHARE = 0.05  # of the frames in the map, until the next one out of turn,
HELD_SHARE = 0.1  # or this where the newest showed all that: what else holds ENOUGH back for long costs few maps more
AXES = 128
STEP_FRAMES = 250  # on which the rotation per frame is measured
UNSEEN = np.array([0.0, 0.0, 1.0])  # view of a particle before it was seen
KEPT_VIEWS = 1000  # of the frames that left the buffer, an even sample


@dataclass(frozen=True, slots=True, eq=False)
class NewMap:
    """What `Progress.advance` is told of a new map.

    Attributes
    ----------
    frame, time_s : newest frame in it, and its time.
    views : (n, 3) beam directions in the body frame of the frames in it that have not left the buffer. number : (n,)
        which frames these are, in order.
    step_deg : rotation per frame, rms per axis, lately.
    resolution_A, fsc : half-map FSC, (shells,) one per cycle per box, and where it crosses 0.143.
    first : shell where the lattice begins.
    atoms_A : (n, 3) traced atoms.
    halves : half maps ``[z, y, x]`` for the metrics by direction, which need atoms too; None leaves these out.
    """

    frame: int
    time_s: float
    views: Floats
    number: NDArray[np.int64]
    step_deg: float | None
    resolution_A: float | None
    fsc: Floats
    first: int
    atoms_A: Floats
    halves: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


class Progress:
    """History of one particle.

    Parameters
    ----------
    target_A : resolution that the operator wants. diameter_A : of the particle. box_A : edge of its box.

    Raises
    ------
    ValueError : the target is coarser than the particle.
    """

    def __init__(self, target_A: float, diameter_A: float, box_A: float) -> None:
        self.target_A, self.diameter_A, self.box_A = target_A, diameter_A, box_A
        self.history: tuple[Milestone, ...] = ()
        self.forecast: Forecast | None = None
        self.verdict: Verdict | None = None
        self._left = FourierSampling(diameter_A / target_A)
        self._left_second = FourierSampling(diameter_A / target_A)  # of these, the frames in the second half
        self._sample = np.zeros((0, 3))
        self._sightings: tuple[Sighting, ...] = ()
        self._stride, self._skipped = 1, 0
        self._reached: float | None = None
        self._needed: Floats = np.zeros(0)  # effective views, all as likely, that the target needs
        self._upheld: int | None = None  # frames after which a second map bore this one out
        self._b_factor_A2: float | None = None

    def leave(self, views: Floats, number: NDArray[np.int64]) -> None:
        """Count the (n, 3) views of frames (n,) that leave the buffer for good."""
        self._left.add(views, number)
        self._left_second.add(views[half_of(number) == 1])
        chosen = np.arange(-self._skipped % self._stride, len(views), self._stride)
        self._skipped += len(views)
        self._sample = np.concatenate([self._sample, views[chosen]])
        while len(self._sample) > KEPT_VIEWS:
            self._sample, self._stride = self._sample[::2], 2 * self._stride

    def advance(self, new: NewMap) -> None:
        """A map was made: measure, and look ahead."""
        sampled = self._left.copy()
        sampled.add(new.views, new.number)
        now = sampled.sampling
        before = self.history[-1] if self.history else None
        seconds = new.time_s - before.time_s if before else 0.0
        milestone = Milestone(
            frame=new.frame,
            time_s=new.time_s,
            frames_used=now.views,
            resolution_A=new.resolution_A,
            effective_views=now.effective_views,
            empty_fraction=now.empty_fraction,
            step_deg=new.step_deg,
            drift_deg=drift_deg(*_since(new, new.frame - STEP_FRAMES - LATELY_FRAMES)),
            scf=now.scf,
        )
        if before and seconds > 0:
            milestone = replace(
                milestone,
                novelty_per_s=(before.empty_fraction - now.empty_fraction) / seconds,
                fresh_views_per_s=(now.effective_views - before.effective_views) / seconds,
            )
        view = new.views[-1] if len(new.views) else UNSEEN
        turning = new.step_deg or 0.0 if milestone.drift_deg is None else milestone.drift_deg
        sighting = Sighting(now.views, sampled.counts, sampled.visits, view, turning, self._axis(new, turning))
        milestone = replace(self._even(milestone, new), held_fraction=self._held(milestone, sighting, sampled, new))
        milestone, likeness = self._beside_atoms(milestone, new)
        self.history = _bounded((*self.history, milestone))
        self._sightings = _bounded((*self._sightings, sighting))
        k = np.arange(len(new.fsc)) / self.box_A
        curve = Curve(new.fsc, self.box_A, self.diameter_A, new.first, debye_power(new.atoms_A, k), likeness)
        shared = self._shared(sampled, new)
        needed = needed_views(curve, shared, self.target_A, np.random.default_rng(now.views))
        self._needed = needed
        self._reached = float((needed <= now.effective_views).mean())
        self._b_factor_A2 = b_factor_A2(curve, shared)
        self.forecast = forecast(needed, self.history, self.target_A, self._sightings, sampled)

    @staticmethod
    def _axis(new: NewMap, step_deg: float) -> Axis | None:
        """The axis to which the crystal keeps, of all frames that are still known or of the newest."""
        for begin in (0, new.frame - max(WATCHED_FRAMES, new.frame // 2)):
            axis = find_axis(*_since(new, begin), step_deg, np.random.default_rng(new.frame))
            if axis is not None:
                return axis
        return None

    def _held(self, newest: Milestone, now: Sighting, sampled: FourierSampling, new: NewMap) -> float:
        """`outlook.held_void` since lately, since half the frames, and since the void is hardly larger than now: one
        that is held within limits fills as little in some hundred frames as a free one may, but not in a thousand. A
        free one would have turned as fast as this one has been seen to get on since then.
        """
        half = next((m for m in self.history[::-1] if 2 * m.frames_used <= newest.frames_used), None)
        filled = next((m for m in self.history if SHRINKING * m.empty_fraction <= newest.empty_fraction), None)
        starts = [lately((*self.history, newest)), half, filled]
        begins = {self.history.index(m) for m in starts if m is not None}
        known = []
        for begin in sorted(begins, reverse=True):
            then = self._sightings[begin]
            drift = drift_deg(*_since(new, self.history[begin].frame))
            known.append(then if drift is None else replace(then, step_deg=drift))
        said = bool(self.history) and self.history[-1].held_fraction > VOID
        rng = np.random.default_rng(newest.frames_used)
        return held_void(known, now, sampled, rng, said=said)

    def _shared(self, sampled: FourierSampling, new: NewMap) -> float:
        """Effective views behind the correlation of the halves; `sampled` has all frames."""
        second = self._left_second.copy()
        second.add(new.views[half_of(new.number) == 1])
        first = sampled.counts - second.counts
        return max(shared_views(first.astype(np.float64), second.counts.astype(np.float64), sampled.radius), 1.0)

    def _even(self, milestone: Milestone, new: NewMap) -> Milestone:
        views = np.concatenate([self._sample, new.views[:: self._stride]])
        even = min(1.0, efficiency.orientation_efficiency(views) / efficiency.BEST) if len(views) else None
        return replace(milestone, efficiency=even)

    def _beside_atoms(self, milestone: Milestone, new: NewMap) -> tuple[Milestone, Likeness | None]:
        """How well the map of all frames agrees with its own atoms, by direction and by shell."""
        if new.halves is None or len(new.atoms_A) == 0:
            return milestone, None
        both = new.halves[0] + new.halves[1]
        shells = (new.first, min(math.floor(self.box_A / self.target_A), len(new.fsc) - 1))
        model = density_of_atoms(new.atoms_A, len(both), self.box_A / len(both))
        alike = np.zeros(len(new.fsc))
        correlation = shell_correlation(both, model)[: len(alike)]
        alike[: len(correlation)] = correlation
        milestone = replace(milestone, weakest_cone=cones.weakest_cone(both, model, shells, AXES))
        return milestone, Likeness(alike, milestone.empty_fraction, milestone.effective_views)

    def ahead(self, time_s: float) -> Forecast | None:
        """The forecast counted from `time_s`, the time of the particle's newest frame."""
        if self.forecast is None or self.forecast.low_s is None:
            return self.forecast
        gone = max(0.0, time_s - self.history[-1].time_s)
        low, middle, high = (
            None if s is None else max(0.0, s - gone)
            for s in (self.forecast.low_s, self.forecast.median_s, self.forecast.high_s)
        )
        return replace(self.forecast, low_s=low, median_s=middle, high_s=high)

    def due(self, frame: int, views: Floats) -> bool:
        """Whether by now, at `frame`, all directions have been measured and the target is as likely as not to have been
        reached, so that a map is worth making out of turn.

        Parameters
        ----------
        views : (n, 3) as in `NewMap`, of the frames that would be in the map.
        """
        if not self.history or (self.verdict is not None and self.verdict.word == "ENOUGH"):
            return False
        newest = self.history[-1]
        held = newest.empty_fraction <= VOID and self._reached is not None and self._reached >= SURE
        distance = max(NEXT_FRAMES, (HELD_SHARE if held else DUE_SHARE) * newest.frames_used)
        if frame - newest.frame < distance:
            return False
        sampled = self._left.copy()
        sampled.add(views)
        now = sampled.sampling
        return now.empty_fraction <= VOID and float((self._needed <= now.effective_views).mean()) >= LIKELY

    def _remember(self, trust: Trust) -> None:
        if trust.trusted and not trust.reasons:
            self._upheld = trust.frames
        elif trust.trusted is False and not _unable(trust):
            self._upheld = None

    def standing(self, trust: Trust) -> Trust:
        """`trust`; or that of an earlier second map which bore this one out, where the newest has seen too little to
        judge the poses, and nothing has spoken against the map since. It then says so in its reasons.
        """
        if self._upheld is None or not _unable(trust):
            return trust
        words = f"a second map bore it out after {self._upheld} frames; the newest has not seen enough to tell"
        return replace(trust, trusted=True, reasons=(words,))

    def judge(
        self,
        *,
        state: str,
        frames_seen: int,
        note: str = "",
        tracked: bool = True,
        trust: Trust | None = None,
        unsure_share: float = 0.0,
        changing: str = "",
    ) -> Verdict:
        """The verdict now; see `verdict.Evidence` for what it is told."""
        if trust is not None:
            self._remember(trust)
            trust = self.standing(trust)
        self.verdict = update(
            self.verdict,
            Evidence(
                state=state,
                frames_seen=frames_seen,
                target_A=self.target_A,
                note=note,
                tracked=tracked,
                history=self.history,
                forecast=self.forecast,
                reached=self._reached,
                b_factor_A2=self._b_factor_A2,
                trust=trust,
                unsure_share=unsure_share,
                changing=changing,
            ),
        )
        return self.verdict


def _unable(trust: Trust) -> bool:
    """Whether nothing speaks against the map, but the newest second map has seen too little to judge its poses."""
    return trust.trusted is False and trust.agreement is not None and trust.upheld is None and len(trust.reasons) == 1


def _since(new: NewMap, frame: int) -> tuple[Floats, NDArray[np.int64]]:
    """Views and their frames after `frame`."""
    later = new.number > frame
    return new.views[later], new.number[later]


def new_map(mapper: Mapper) -> NewMap:
    """What the newest map of `mapper` is made of; called when it has just been made."""
    buffer, published = mapper.buffer, mapper.published
    if published is None:
        raise RuntimeError("there is no map yet")
    rows = buffer.rows[buffer.refined[buffer.rows]]  # those that were settled when the map was made
    poses = buffer.poses[rows]
    box_A = mapper.plane.box_px * mapper.pixel_size_A
    return NewMap(
        frame=int(buffer.number[rows[-1]]),
        time_s=float(buffer.time_s[rows[-1]]),
        views=view_directions(poses[buffer.used[rows]]),
        number=buffer.number[rows][buffer.used[rows]].astype(np.int64),
        step_deg=step_per_axis_deg(poses[-STEP_FRAMES:]),
        resolution_A=None if published.resolution_A is None else float(published.resolution_A),
        fsc=np.array(published.fsc),
        first=round(SIGNAL_FROM * np.sqrt(3) / published.lattice.scale_A * box_A),
        atoms_A=np.array([atom.position_A for atom in published.atoms]).reshape(-1, 3),
        halves=(published.half1, published.half2),
    )


def views_placed(mapper: Mapper, lag_frames: int) -> tuple[int, Floats]:
    """Number of the newest frame that a map made now would hold, and the (n, 3) views of those in the buffer; the last
    `lag_frames` are provisional.
    """
    buffer = mapper.buffer
    rows = buffer.rows[: max(buffer.length - lag_frames, 1)]
    return int(buffer.number[rows[-1]]), view_directions(buffer.poses[rows[buffer.used[rows]]])


def _bounded(history: Sequence[Item]) -> tuple[Item, ...]:
    if len(history) <= MOST_MILESTONES:
        return tuple(history)
    half = len(history) // 2
    return (*history[0:half:2], *history[half:])
