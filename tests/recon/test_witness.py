"""When a second map is made, of which frames, and what becomes of its verdict; the mapper is a stand-in here."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tumble.recon.clock import StepClock
from tumble.recon.compare import GAUGES
from tumble.recon.coverage import CELLS
from tumble.recon.crosscheck import Trial
from tumble.recon.errors import NoLatticeError
from tumble.recon.heterogeneity import Heterogeneity
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.records import NoiseSpectrum, Observation, PoseRow
from tumble.recon.rotations import from_matrix, multiply, random_rotations
from tumble.recon.witness import Witness

LATTICE = Lattice(FCC, 3.95)
NOISE = NoiseSpectrum(np.ones((4, 4), np.float32), 300)
FIRST = 250  # frames of the first map, and of a witness
POSES = random_rotations(9000, np.random.default_rng(0))


def frames(start: int, count: int) -> list[Observation]:
    box = np.zeros((1, 1), np.float32)
    return [Observation(1, t, 0.0025 * t, box, (0, 0), (0.0, 0.0), 0.5) for t in range(start, start + count)]


@dataclass
class FakeMapper:
    """Knows its crystal at once, in a gauge of its own."""

    atoms: np.ndarray
    gauge: int = 0
    fails: bool = False
    published: Any = None
    lattice: Lattice = LATTICE
    likelihood: float = 200.0
    margin: float = 12.0
    scorer: object = NOISE
    frames: int = 0
    views: np.ndarray = field(default_factory=lambda: np.ones(CELLS, np.int32))
    numbers: list[int] = field(default_factory=list)
    clock: StepClock = field(default_factory=StepClock)
    astray: bool = False  # every other pose is on a wrong branch, until the map is begun again
    begun_again: int = 0
    told: float = 1.0  # share of its frames that another map has seen enough to judge
    mixed: float = 0.0  # share of atoms that only some frames show
    unsure: int = 0  # frames

    @property
    def buffer(self) -> SimpleNamespace:
        return SimpleNamespace(length=self.frames)

    def begin_again(self) -> None:
        self.begun_again += 1
        self.astray = False

    @property
    def used(self) -> int:
        return self.frames - self.unsure

    def tried_on(self, other: object, turn: np.ndarray, shift_A: np.ndarray) -> Trial:
        return Trial(self.told, 1.0, 10.0)

    def heterogeneity(self) -> Heterogeneity:
        return Heterogeneity(self.mixed, 0.9)

    def bootstrap(self, observations: list[Observation], noise: NoiseSpectrum) -> None:
        assert noise is NOISE
        if self.fails:
            raise NoLatticeError("nothing to see")
        self.advance(observations)

    def advance(self, observations: list[Observation]) -> None:
        self.numbers += [o.frame for o in observations]
        self.frames += len(observations)
        if self.published is not None and self.frames % 500:
            return
        turned = self.atoms @ GAUGES[self.gauge].T
        atoms = [SimpleNamespace(position_A=tuple(p)) for p in turned - turned.mean(axis=0)]
        self.published = SimpleNamespace(atoms=atoms, lattice=LATTICE, weakest_shell=0.7)

    def poses(self) -> list[PoseRow]:
        turned = multiply(POSES[self.numbers], from_matrix(GAUGES[self.gauge].T))
        if self.astray:
            turned[::2] = multiply(turned[::2], from_matrix(GAUGES[5]))
        return [
            PoseRow(n, 0.0, tuple(q), (0.0, 0.0), 200.0, used=True) for n, q in zip(self.numbers, turned, strict=True)
        ]


@pytest.fixture
def crystal(synthetic: ModuleType) -> np.ndarray:
    return synthetic.fcc_crystal(3.95, 20.0)


def stream(main: FakeMapper, witness: Witness, start: int, count: int) -> list[int]:
    """Batches of 50 as they come; the frame numbers at which the witness worked."""
    worked = []
    for at in range(start, start + count, 50):
        batch = frames(at, 50)
        main.advance(batch)
        witness.take(batch, main.frames)
        if witness.work(main, lambda: NOISE):
            worked.append(at + 50)
    return worked


def test_a_right_map_is_confirmed_and_asked_again_when_frames_have_doubled(crystal: np.ndarray) -> None:
    made = []

    def make(count: int, lattice: Lattice | None) -> FakeMapper:
        assert lattice == LATTICE
        made.append(FakeMapper(crystal, gauge=7 + 5 * len(made)))
        return made[-1]

    main, witness = FakeMapper(crystal), Witness(make, FIRST)  # type: ignore[arg-type]
    main.advance(frames(0, FIRST))
    assert witness.trust.trusted is None
    assert "0 of 250 frames" in witness.trust.reasons[0]
    stream(main, witness, FIRST, 250)
    assert witness.trust.trusted is True
    assert witness.trust.pose_agreement == 1.0
    assert witness.trust.frames == 500
    stream(main, witness, 500, 1000)
    assert [w.numbers[0] for w in made] == [250, 1000]  # confirmed at 500: again at twice that
    assert [len(w.numbers) for w in made] == [250, 250]
    assert set(made[0].numbers).isdisjoint(range(FIRST))


@pytest.mark.parametrize(("told", "upheld"), [(0.3, 1.0), (0.2, None)])
def test_a_witness_is_asked_about_frames_of_its_time(crystal: np.ndarray, told: float, upheld: float | None) -> None:
    main = FakeMapper(crystal)
    witness = Witness(lambda *_: FakeMapper(crystal, gauge=7), FIRST)  # type: ignore[arg-type, return-value]
    main.advance(frames(0, FIRST))
    stream(main, witness, FIRST, 250)
    assert witness.trust.upheld == 1.0
    stream(main, witness, 500, 450)
    main.told, main.published = told, SimpleNamespace(**vars(main.published))  # of 950 frames; it was called at 500
    assert witness.work(main, lambda: NOISE, last=True)  # type: ignore[arg-type]
    assert witness.trust.upheld == upheld


def test_a_witness_that_saw_one_side_only_is_not_heard_where_there_was_another(
    crystal: np.ndarray, synthetic: ModuleType
) -> None:
    one_side = np.zeros(CELLS, np.int32)
    one_side[0] = FIRST
    all_sides = np.ones(CELLS, np.int32)
    stuck = synthetic.fcc_crystal(3.95, 17.0, site=(0.3, 0.1, 0.2))  # what comes out where the views are too few

    def judged(*views: np.ndarray) -> tuple[Witness, FakeMapper]:
        coming = iter(views)

        def make(*_: object) -> FakeMapper:
            seen = next(coming)
            return FakeMapper(crystal if seen is all_sides else stuck, gauge=7, views=seen)

        main, witness = FakeMapper(crystal), Witness(make, FIRST)  # type: ignore[arg-type]
        main.advance(frames(0, FIRST))
        stream(main, witness, FIRST, 1050)
        assert next(coming, None) is None  # all were called
        return witness, main

    confirmed, _ = judged(all_sides, one_side)
    assert confirmed.trust.trusted is True
    assert confirmed.trust.frames == 1250  # the first witness was heard again then
    alone, main = judged(one_side, one_side)
    assert alone.trust.trusted is False
    assert main.begun_again == 0


def test_too_few_sure_poses_alone_are_told_from_other_reasons(crystal: np.ndarray) -> None:
    def judged(**how: float) -> Witness:
        main = FakeMapper(crystal, **how)  # type: ignore[arg-type]
        witness = Witness(lambda *_: FakeMapper(crystal, gauge=7), FIRST)  # type: ignore[arg-type, return-value]
        main.advance(frames(0, FIRST))
        assert not witness.only_unsure  # nobody has judged
        stream(main, witness, FIRST, 250)
        return witness

    unsure, mixed = judged(unsure=100), judged(unsure=100, mixed=0.2)
    assert (unsure.trust.trusted, mixed.trust.trusted) == (False, False)
    assert (unsure.only_unsure, mixed.only_unsure) == (True, False)


def test_a_mixture_of_two_crystals_is_not_trusted_whatever_the_second_map_says(crystal: np.ndarray) -> None:
    main = FakeMapper(crystal, mixed=0.2)
    witness = Witness(lambda *_: FakeMapper(crystal, gauge=7), FIRST)  # type: ignore[arg-type, return-value]
    main.advance(frames(0, FIRST))
    stream(main, witness, FIRST, 250)
    assert witness.trust.trusted is False
    assert [words for words in witness.trust.reasons if "not all frames show the same crystal: 20 %" in words]


def test_what_has_no_lattice_is_said_with_the_first_map(crystal: np.ndarray) -> None:
    loose = crystal[np.random.default_rng(1).permutation(len(crystal))[: 2 * len(crystal) // 3]]
    main, witness = FakeMapper(loose), Witness(lambda *_: FakeMapper(loose), FIRST)  # type: ignore[arg-type]
    main.advance(frames(0, FIRST))
    assert not witness.work(main, lambda: NOISE)  # type: ignore[arg-type]
    assert witness.trust.trusted is False
    assert "not described by an fcc, bcc or hcp lattice" in witness.trust.reasons[0]


def test_another_crystal_is_refused_and_a_larger_witness_called(crystal: np.ndarray, synthetic: ModuleType) -> None:
    other = synthetic.fcc_crystal(3.95, 17.0, site=(0.3, 0.1, 0.2))
    asked = []

    def make(count: int, constant: float | None) -> FakeMapper:
        asked.append(count)
        return FakeMapper(other)

    main, witness = FakeMapper(crystal), Witness(make, FIRST)  # type: ignore[arg-type]
    main.advance(frames(0, FIRST))
    stream(main, witness, FIRST, 750)
    assert asked == [250, 500]
    assert main.begun_again == 0  # the poses are the same
    assert witness.trust.trusted is False
    assert "of the atoms only" in witness.trust.reasons[0]


def test_a_contradicted_map_is_begun_again_and_judged_by_the_same_witness(crystal: np.ndarray) -> None:
    main, made = FakeMapper(crystal, astray=True), []

    def make(*_: object) -> FakeMapper:
        made.append(FakeMapper(crystal))
        return made[-1]

    witness = Witness(make, FIRST)  # type: ignore[arg-type]
    main.advance(frames(0, FIRST))
    stream(main, witness, FIRST, 250)
    assert (main.begun_again, len(made)) == (1, 1)
    assert witness.trust.trusted is True
    assert witness.trust.pose_agreement == 1.0


def test_a_witness_that_sees_nothing(crystal: np.ndarray) -> None:
    main = FakeMapper(crystal)
    witness = Witness(lambda count, constant: FakeMapper(crystal, fails=True), FIRST)  # type: ignore[arg-type, return-value]
    main.advance(frames(0, FIRST))
    stream(main, witness, FIRST, 250)
    assert witness.trust.trusted is False
    assert witness.trust.reasons == ("no second map: nothing to see",)


def test_a_short_series(crystal: np.ndarray) -> None:
    """At the end a first witness takes what there is, if that is enough for a map."""
    main = FakeMapper(crystal)
    witness = Witness(lambda count, constant: FakeMapper(crystal), 400)  # type: ignore[arg-type, return-value]
    main.advance(frames(0, 400))
    stream(main, witness, 400, 150)
    assert not witness.work(main, lambda: NOISE, last=True)  # type: ignore[arg-type]
    assert witness.trust.trusted is None
    stream(main, witness, 550, 100)
    assert witness.work(main, lambda: NOISE, last=True)  # type: ignore[arg-type]
    assert witness.trust.trusted is True


def test_a_map_that_came_since_has_not_been_judged(crystal: np.ndarray) -> None:
    main = FakeMapper(crystal)
    witness = Witness(lambda *_: FakeMapper(crystal, gauge=7), FIRST)  # type: ignore[arg-type, return-value]
    main.advance(frames(0, FIRST))
    for start in range(FIRST, 1100, 50):
        before = main.published
        main.advance(frames(start, 50))
        assert witness.has_judged(main.published) is (start > FIRST and main.published is before)
        witness.take(frames(start, 50), main.frames)
        witness.work(main, lambda: NOISE)
        assert witness.has_judged(main.published)
