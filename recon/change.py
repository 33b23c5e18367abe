"""Whether a crystal still is what its map says: what recent frames lack that the oldest had, or have in addition.

What frames show beyond the map (`residual`) is averaged over the recent and over the oldest ones. Where an atom has
gone the difference has a hole, where one has come a peak; what the map gets wrong all the time is in both and drops
out. It needs no second map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .kinds import FCC, Kind
from .residual import Held, Residual

Floats = NDArray[np.float64]
LEAST = 0.2  # of what a typical place shows, which is not its own atom alone but all that are seen through it
SURE = 5.0  # standard errors, and standard deviations of what the vacant places show, on the side where nothing can go
TOGETHER = 3.5  # the same where so many places are beyond it: of crystals that stayed one in a hundred was, of one a
MANY, MANY_SHARE = 6, 0.04  # third of whose atoms had gone one in eight, and hardly any beyond the other
LEAST_FRAMES = 50
RECENT_FRAMES = 200  # that are held against as many of the oldest in the buffer
VACANT_NEIGHBOURS = 3  # atoms beside a place where another could settle
SAME_SITE = 0.4  # of the nearest-neighbour distance
ALARM_ATOMS, ALARM_SHARE = 3, 0.02  # fewer changed atoms are no alarm
ROUNDS = 100  # of the mixture that counts them
GOING_SIGMAS = 4.0  # by which the newest frames must show fewer atoms than those before them, to say that it goes on
SAME_BODY = 0.7  # of a map's atoms lie at places remembered from an earlier one, or it is turned otherwise
AGAINST = 2  # maps in a row that must show no change, against frames from before it, to take an alarm back


@dataclass(frozen=True, slots=True, eq=False)
class Occupation:
    """What frames have more than the map at each place, of what a typical atom's place shows, and its standard error.

    Attributes
    ----------
    atoms, atoms_error : (n,) at the atoms of the map. vacant, vacant_error : (m,) at places beside them.
    """

    atoms: Floats
    atoms_error: Floats
    vacant: Floats
    vacant_error: Floats

    def since(self, before: Occupation) -> Occupation:
        """What has changed since other frames."""
        return Occupation(
            self.atoms - before.atoms, np.hypot(self.atoms_error, before.atoms_error),
            self.vacant - before.vacant, np.hypot(self.vacant_error, before.vacant_error),
        )  # fmt: skip

    @property
    def gone(self) -> NDArray[np.bool_]:
        """(n,) atoms whose places hold less, by more than noise and by more than vacant places change."""
        return self._beyond(-self.atoms, self.atoms_error, SURE)

    @property
    def come(self) -> NDArray[np.bool_]:
        """(m,) vacant places that hold more."""
        return self._beyond(self.vacant, self.vacant_error, SURE)

    @property
    def counts(self) -> tuple[int, int]:
        """How many have gone and come beyond doubt; gone also together: one place may be chance, so many not. Vacant
        places shine together where the map errs and some views come late: each has to tell for itself.
        """
        return int(max(self.gone.sum(), self._gone_together.sum())), int(self.come.sum())

    @property
    def lost(self) -> float:
        """About how many atoms have gone. `gone` names those beyond doubt: of 36 of 180 it was four."""
        return _about(self.atoms, self.gone if self.gone.any() else self._gone_together)

    @property
    def gained(self) -> float:
        """About how many atoms have come."""
        return _about(-self.vacant, self.come)

    @property
    def _gone_together(self) -> NDArray[np.bool_]:
        low = self._beyond(-self.atoms, self.atoms_error, TOGETHER)
        return low & bool(low.sum() >= max(MANY, MANY_SHARE * len(low)))

    def _beyond(self, values: Floats, error: Floats, sigmas: float) -> NDArray[np.bool_]:
        return np.asarray(values > np.maximum(max(LEAST, sigmas * self._spread), sigmas * error))

    @property
    def fewer(self) -> tuple[float, float]:
        """By how many atoms there are fewer, of all places together, and its standard error.

        One place says little within some hundred frames; what all of them lack is known to an atom or two.
        """
        each = np.hypot(self._spread, self.atoms_error)
        return -float(self.atoms.sum()), float(np.sqrt((each**2).sum()))

    @property
    def _spread(self) -> float:
        if len(self.vacant) == 0:
            return 0.0
        low, middle = np.percentile(self.vacant, (15.87, 50))
        return float(middle - low)


def _about(values: Floats, sure: NDArray[np.bool_]) -> float:
    """How many of the values (n,) belong to a group below the others, some of which is `sure` (n,); 0 without these.

    A mixture of two normal distributions of one width, fitted by expectation maximisation (Dempster, Laird & Rubin,
    J. R. Stat. Soc. B 39, 1 (1977)).
    """
    if not sure.any() or sure.all():
        return float(sure.sum())
    low, high, share = float(values[sure].mean()), float(np.percentile(values, 90)), 0.5
    width = max((high - low) / 4, 1e-6)
    belief = np.zeros(len(values))
    for _ in range(ROUNDS):
        odds = ((values - low) ** 2 - (values - high) ** 2) / (2 * width**2) + np.log((1 - share) / share)
        belief = 1 / (1 + np.exp(np.clip(odds, -50, 50)))
        share = float(np.clip(belief.mean(), 1e-3, 1 - 1e-3))
        low, high = float(np.average(values, weights=belief)), float(np.average(values, weights=1 - belief))
        rest = belief * (values - low) ** 2 + (1 - belief) * (values - high) ** 2
        width = max(float(np.sqrt(rest.mean())), 1e-6)
    return max(float(belief.sum()), float(sure.sum()))


def vacant_sites(atoms: Floats, neighbour: float, kind: Kind = FCC) -> Floats:
    """Places (m, 3) beside a crystal of atoms (n, 3), its lattice along the axes, where other atoms could settle.

    `neighbour` is the nearest-neighbour distance, in the unit of the atoms.
    """
    places = (atoms[:, None] + kind.bonds * neighbour).reshape(-1, 3)
    places = places[cKDTree(atoms).query(places)[0] > 0.7 * neighbour]
    found = []
    open_ = np.ones(len(places), np.bool_)
    tree = cKDTree(places)
    for p in range(len(places)):
        if open_[p]:
            near = [q for q in tree.query_ball_point(places[p], SAME_SITE * neighbour) if open_[q]]
            open_[near] = False
            if len(near) >= VACANT_NEIGHBOURS:
                found.append(places[near].mean(axis=0))
    return np.array(found).reshape(-1, 3)


def occupation(found: Residual, n: int) -> Occupation:
    """What frames show at the first `n` places, which are atoms of a map, and at the vacant ones after them."""
    mean = found.values.mean(axis=0) / found.typical
    error = found.values.std(axis=0) / np.sqrt(len(found.values)) / abs(found.typical)
    whole = float(np.median(mean[:n]))  # the map is a little too weak everywhere: its prior
    return Occupation(mean[:n] - whole, error[:n], mean[n:], error[n:])


@dataclass(frozen=True, slots=True)
class Change:
    """Atoms that have gone and come beyond doubt, of so many, in the frames from `since` to `until`, held against those
    up to `before`; `lost` and `gained` say about how many there are in all. `going` says whether the newest frames show
    fewer atoms, or more, than as many just before them, which begin at `middle`; None where that was not asked.
    """

    gone: int
    come: int
    atoms: int
    since: int
    before: int
    until: int
    lost: int = 0
    gained: int = 0
    going: bool | None = None
    middle: int = 0

    @property
    def total(self) -> int:
        """About how many have gone and come."""
        return max(self.gone, self.lost) + max(self.come, self.gained)

    @property
    def words(self) -> str:
        """For the operator; empty where there is no reason for alarm."""
        return self.said("")

    def said(self, how: str) -> str:
        """The same, and `how` it goes on."""
        least = max(ALARM_ATOMS, ALARM_SHARE * self.atoms)
        parts = []
        if self.gone >= least:
            parts.append(f"about {max(self.gone, self.lost)} of {self.atoms} atoms have gone")
        if self.come >= least:
            parts.append(f"about {max(self.come, self.gained)} have come")
        if not parts:
            return ""
        when = f"from frame {self.since} or before to frame {self.until}"
        return f"the crystal changes: {when} {' and '.join(parts)}{how}; the map mixes before and after"


class Alarm:
    """What is said of a change, map after map: since when, how much, and whether it is still going on.

    A map mixes before and after for good: an alarm stays when the change is over, and when the buffer holds no frames
    from before it any more. It is taken back only where frames from before are still there and show none. The count is
    the highest so far, because what is compared with moves on.
    """

    def __init__(self) -> None:
        self.words = ""
        self._since = 0
        self._against = 0
        self._most: Change | None = None
        self._calm: int | None = None  # frame since which nothing changes any more

    def hear(self, change: Change | None) -> str:
        """The words for the operator after the newest map; empty without an alarm."""
        if change is None:
            return self.words
        if change.words:
            self._since = self._since if self.words else change.since
            self._against = 0
            if not self.words or self._most is None or change.total >= self._most.total:
                self._most = change
        elif change.before <= self._since:
            self._against += 1
            if self._against >= AGAINST:
                self.words, self._most, self._calm = "", None, None
        if self._most is not None:
            self.words = replace(self._most, since=self._since).said(self._how(change))
        return self.words

    def _how(self, change: Change) -> str:
        if change.going is None:
            return ""
        if change.going:
            self._calm = None
            return f", still going on at frame {change.until}"
        self._calm = change.middle if self._calm is None else self._calm
        return f", no more since frame {self._calm}"


def find_change(held: Held, known: Floats | None = None) -> Change | None:
    """Hold the newest of the frames against the oldest, at the atoms of their map; None with too few of them.

    `known` (n, 3) A are atoms of an earlier map, from before a change: those that have gone since are in this one no
    longer, and are asked for as well; it is then told whether it goes on.
    """
    atoms, rows, lattice, number = held.atoms_A, held.rows, held.published.lattice, held.buffer.number
    if len(atoms) == 0 or len(rows) < 2 * LEAST_FRAMES:
        return None
    if known is not None and _same_body(known, atoms, lattice.neighbour_A):
        atoms = known
    vacant = vacant_sites(atoms, lattice.neighbour_A, lattice.kind)
    count = min(RECENT_FRAMES, len(rows) // 2)

    def seen(part: NDArray[np.int64]) -> Occupation:
        return occupation(held.beyond(part, atoms, vacant), len(atoms))

    recent, oldest = seen(rows[-count:]), seen(rows[:count])
    found = recent.since(oldest)
    since, before, until = (int(number[rows[place]]) for place in (-count, count - 1, -1))
    counts = *found.counts, len(atoms)
    change = Change(*counts, since, before, until, round(found.lost), round(found.gained))
    if known is None and not change.words:
        return change
    just_before = seen(rows[-2 * count : -count])
    fewer, error = recent.since(just_before).fewer
    least = max(ALARM_ATOMS, ALARM_SHARE * len(atoms), GOING_SIGMAS * error)
    return replace(change, going=abs(fewer) >= least, middle=int(number[rows[-2 * count]]))


def _same_body(known: Floats, atoms: Floats, neighbour: float) -> bool:
    """Whether both are of one crystal in one orientation, atoms that have gone or come aside."""
    return float((cKDTree(known).query(atoms)[0] < SAME_SITE * neighbour).mean()) >= SAME_BODY
