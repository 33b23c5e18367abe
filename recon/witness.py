"""A second reconstruction of a particle, begun independently on frames of its own: the witness for the first one.

Wrong branches make maps that look as good as right ones by every measure that the map itself offers, its half-map FSC
included. Two maps begun apart agree atom by atom, and pose by pose, when both are right. A witness is a first map like
any other. It is called again when the frames have doubled, so that it costs less and less per frame; sooner, and with
more frames, while it does not confirm the map. Where it contradicts the map, that is begun again from parts of the
movie, which may be right where the first beginning was not; the witness then judges what has come of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .compare import packing
from .crosscheck import Scorer
from .errors import NoLatticeError
from .kinds import Lattice
from .mapper import Mapper
from .output import Published
from .records import NoiseSpectrum, Observation, Trust
from .trust import Account, Thresholds, compare_accounts, judge, no_lattice, unseen_share

Floats = NDArray[np.float64]
LEAST_FRAMES = 200  # a first map of fewer frames is no witness
DISAGREE = 0.9  # share of common frames with the same pose, below which a map is begun again
ONE_SIDED = Thresholds().unseen_share  # of a witness, above which it is not heard where there was another
LEAST_TOLD = 0.5  # of the frames of the map when the witness was called: it must have seen enough to judge as many
MOST_GROWTH = 2  # of the frames of a witness, where a smaller one did not confirm the map


def _account(mapper: Mapper) -> Account:
    rows = [row for row in mapper.poses() if row.used]
    atoms = mapper.published.atoms if mapper.published else ()
    return Account(
        np.array([atom.position_A for atom in atoms]).reshape(-1, 3),
        np.array([row.frame for row in rows], np.int64),
        np.array([row.quaternion for row in rows]).reshape(-1, 4),
    )


class Witness:
    """Gathers frames that come after the first map, makes a map of them alone, and judges the first one by it.

    Parameters
    ----------
    make : a fresh mapper for so many frames, of this lattice.
    frames : of the first witness.
    """

    def __init__(self, make: Callable[[int, Lattice | None], Mapper], frames: int) -> None:
        self._make, self._frames = make, max(frames, LEAST_FRAMES)
        self._wanted = self._frames
        self._called = 0  # frames of the map then
        self._from = 0  # frames seen, those of the first map included, from which the next witness is gathered
        self._gathered: list[Observation] = []
        self._other: Account | None = None
        self._scorer: Scorer | None = None
        self._failure = ""
        self._gauges: tuple[int, ...] | None = None
        self._judged: Published | None = None
        self._trust = Trust(None)

    def take(self, observations: list[Observation], seen: int) -> None:
        """Frames that the first map did not use, as they come; `seen` counts all frames up to them."""
        if seen > self._from and len(self._gathered) < self._wanted:
            self._gathered.extend(observations[: self._wanted - len(self._gathered)])

    def work(self, mapper: Mapper, background: Callable[[], NoiseSpectrum | None], *, last: bool = False) -> bool:
        """One piece of work where there is one: a second map, or a judgement of the newest map of `mapper`.

        `last` : no more frames will come; the first witness then takes what there is.
        """
        if self._other is None and mapper.published is not self._judged:
            self._look(mapper)
        few = last and self._other is None and len(self._gathered) >= LEAST_FRAMES
        ready = len(self._gathered) >= self._wanted or few
        if ready and (noise := background()) is not None:
            with mapper.clock("witness"):
                self._call(mapper, noise)
                self._judge(mapper, branches=True)
            if self._disagrees():  # one of the two is wrong; with more frames than it began with, is it the map?
                mapper.begin_again()
                with mapper.clock("witness"):
                    self._judge(mapper, branches=True)
            self._plan(mapper.frames)
            return True
        if self._other is not None and mapper.published is not self._judged:
            with mapper.clock("witness"):
                self._judge(mapper, branches=last)
            return True
        return False

    def _look(self, mapper: Mapper) -> None:
        """What a first map tells without a second: that the particle has another lattice, or none."""
        self._judged = mapper.published
        if mapper.published is None:
            return
        atoms, found = _account(mapper).atoms_A, mapper.published.lattice
        share = packing(atoms, found.neighbour_A, found.kind)
        seen = replace(self._trust, packing=share, unseen_share=unseen_share(mapper.views))
        words = no_lattice(seen)
        self._trust = replace(seen, trusted=False if words else None, reasons=(words,) if words else ())

    def _call(self, mapper: Mapper, noise: NoiseSpectrum) -> None:
        """A second map of what was gathered. One of a crystal that has stuck since shows a side of it only and is worth
        nothing: the witness from before is heard again.
        """
        gathered, self._gathered = self._gathered, []
        second, failure = self._make(len(gathered), mapper.lattice), ""
        try:
            second.bootstrap(gathered, noise)
        except NoLatticeError as error:
            failure = str(error)
        known = self._other is not None and not self._failure
        if known and not failure and unseen_share(second.views) > ONE_SIDED:
            return
        self._called, self._failure, self._gauges = mapper.frames, failure, None
        self._other, self._scorer = _account(second), second.scorer

    def _judge(self, mapper: Mapper, *, branches: bool) -> None:
        """Bring the numbers up to date; `branches` tries poses on the second map again, which takes the longest."""
        self._judged = mapper.published
        if self._other is None or mapper.published is None:
            return
        numbers = replace(
            self._trust,
            frames=mapper.frames,
            likelihood=mapper.likelihood,
            branch_margin=mapper.margin,
            used_share=mapper.used / max(mapper.frames, 1),
            unseen_share=unseen_share(mapper.views),
            weakest_shell=mapper.published.weakest_shell,
        )
        if self._failure:
            self._trust = replace(numbers, trusted=False, reasons=(f"no second map: {self._failure}",))
            return
        lattice, mine = mapper.published.lattice, _account(mapper)
        numbers, found = compare_accounts(numbers, mine, self._other, lattice.neighbour_A, self._gauges, lattice.kind)
        if branches:
            mixed = mapper.heterogeneity()
            numbers = replace(numbers, mixed_share=mixed.share if mixed else None)
        if branches and found.gauge >= 0 and self._scorer is not None:
            trial = mapper.tried_on(self._scorer, found.turn, found.shift_A)
            tried = mapper.buffer.length
            told = trial if trial and trial.told * tried >= LEAST_TOLD * min(self._called, tried) else None
            numbers = replace(
                numbers, upheld=told.upheld if told else None, second_margin=told.margin if told else None
            )
            if trial and trial.erred:  # a witness of few frames errs in some of its own poses; they are no evidence
                self._other = self._other.without(trial.erred)
                numbers, found = compare_accounts(
                    numbers, mine, self._other, lattice.neighbour_A, found.ranked, lattice.kind
                )
        self._trust = judge(numbers)
        self._gauges = found.ranked if self._trust.trusted else None

    def _disagrees(self) -> bool:
        """Whether the two maps have other poses in so many frames that one of them is wrong."""
        share = self._trust.pose_agreement
        return share is not None and share < DISAGREE

    def _plan(self, seen: int) -> None:
        """When the next witness is called, and of how many frames."""
        if not self._trust.trusted and self._wanted == self._frames:
            self._from, self._wanted = seen, MOST_GROWTH * self._frames
        else:
            self._from = 2 * seen

    @property
    def only_unsure(self) -> bool:
        """Whether nothing speaks against the map, or the share of sure poses alone: those a new map decides anew."""
        return not self._failure and judge(replace(self._trust, used_share=1.0)).trusted is True

    def has_judged(self, published: Published | None) -> bool:
        """Whether `trust` is about this map, not about one before it."""
        return published is self._judged

    @property
    def trust(self) -> Trust:
        """What is known now; None, with what it waits for, before the first judgement."""
        if self._trust.trusted is None:
            awaited = (
                f"{len(self._gathered)} of {self._wanted} frames for the second map that must agree with the first"
            )
            return replace(self._trust, reasons=(awaited,))
        return self._trust
