"""Ways to make a reconstruction go wrong, each seed another run: spoilt movies, mappers forced to wrong branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from truth_cases import Case, Movie, about_one_axis, film, ingredients, make_crystal, shuffled

from tumble.recon import branches, particle
from tumble.recon.mapper import Mapper
from tumble.recon.rotations import C2Z, conjugate, multiply

Frames = NDArray[np.int64]
Forcing = Callable[[Frames], NDArray[np.bool_]]
FRAMES, FIRST = 600, 300  # of a run, and of its first map
RIGHT_CRYSTALS = ("Pt", "Au", "Pd", "Ag", "FePt", "Pt-strained", "Pt-twin")
RIGHT_DOSES = (80.0, 60.0, 80.0, 40.0, 80.0)
RIGHT_STEPS = (2.5, 3.0, 4.0)
RIGHT_ATOMS = (160, 200, 160, 240)
GRAINED = ("Au-decahedron", "Au-icosahedron", "Ru-hcp")
ATOMS, TWIN_ATOMS = 160, 260  # a twin needs a piece of both grains
TWIN_FRAMES = 1000  # of a twin: 600 for its first map, 400 for the witness


@dataclass(frozen=True)
class Wrong:
    """Frames that are put on another branch after every decision; `branch` counts as `Symmetry.equivalents` does."""

    frames: Forcing
    branch: int


class ForcedMapper(Mapper):
    """A mapper that decides as usual and is then overruled: in some frames its map is built on a wrong branch."""

    wrong: ClassVar[Wrong | None] = None

    def _turn(self, rows: Frames, undo: bool) -> None:
        buffer, branch = self.buffer, self.wrong.branch  # type: ignore[union-attr]
        poses, shifts = buffer.poses[rows], buffer.shifts[rows]
        seen = branches.lattice_position(poses, shifts, self._centre)
        symmetry = self._site.kind.symmetry
        half = symmetry.order // 2
        if undo:  # the inverse of equivalents(q)[branch]
            back = multiply(C2Z, poses) if branch >= half else poses
            turned = multiply(back, conjugate((symmetry.turns if branch < half else symmetry.flips)[branch % half]))
        else:
            turned = symmetry.equivalents(poses)[:, branch]
        buffer.poses[rows] = turned
        buffer.shifts[rows] = seen - branches.lattice_position(turned, np.zeros_like(seen), self._centre)

    def redecide(self, rounds: int, *, thorough: bool = False) -> None:
        buffer = self.buffer
        forced = getattr(self, "_forced", np.zeros(0, np.int64))
        rows = buffer.rows
        if len(forced):
            self._turn(rows[np.isin(buffer.number[rows], forced)], undo=True)
        super().redecide(rounds, thorough=thorough)
        if self.wrong is not None:
            chosen = rows[self.wrong.frames(buffer.number[rows])]
            self._turn(chosen, undo=False)
            self._forced = buffer.number[chosen].copy()
            if thorough:
                self.measure()

    def measure(self) -> None:
        """Likelihood and margin of the poses as they are: those of the last decision belong to what was overruled."""
        numbers = self._decide(self.buffer.path(), self._site, 1, thorough=False).numbers
        self.likelihood, self.margin = numbers.likelihood, numbers.margin


@contextmanager
def forced(first: Wrong | None, second: Wrong | None) -> Iterator[list[ForcedMapper]]:
    """The first mapper made inside, the particle's, goes wrong as `first`; later ones, witnesses, as `second`.

    Gives the list of those that were made.
    """
    made: list[ForcedMapper] = []

    def make(*arguments: Any, **named: Any) -> Mapper:
        kind = type("Forced", (ForcedMapper,), {"wrong": second if made else first})
        made.append(kind(*arguments, **named))
        return made[-1]

    with mock.patch.object(particle, "Mapper", make):
        yield made


@dataclass(frozen=True)
class Spoilt:
    """A movie, and how the mappers of the particle and of its witness are overruled."""

    case: Case
    movie: Movie
    first: Wrong | None = None
    second: Wrong | None = None


def _between(start: int, stop: int) -> Forcing:
    return lambda number: (number >= start) & (number < stop)


def _alternate(block: int) -> Forcing:
    return lambda number: (number // block) % 2 == 1


def _case(seed: int, crystal: str = "Pt", atoms: int = ATOMS, frames: int = FRAMES, **more: float) -> Case:
    return Case(crystal, atoms, frames=frames, linear=True, seed=seed, **more)


def right(seed: int) -> Spoilt:
    """Nothing wrong: crystals, sizes, doses and speeds take turns."""
    crystal = RIGHT_CRYSTALS[seed % 7]
    twin = crystal == "Pt-twin"
    atoms, frames = (TWIN_ATOMS, TWIN_FRAMES) if twin else (RIGHT_ATOMS[seed % 4], FRAMES)
    case = _case(seed, crystal, atoms, frames, dose=RIGHT_DOSES[seed % 5], step_deg=RIGHT_STEPS[seed % 3])
    return Spoilt(case, film(ingredients(case)))


def right_grains(seed: int) -> Spoilt:
    """Nothing wrong: crystals that are no cubic lattice, doses and speeds take turns."""
    case = _case(
        seed, GRAINED[seed % 3], (200, 240)[seed % 2], dose=(80.0, 60.0, 40.0)[seed // 3 % 3],
        step_deg=RIGHT_STEPS[seed // 2 % 3],
    )  # fmt: skip
    return Spoilt(case, film(ingredients(case)))


def low_dose(seed: int) -> Spoilt:
    """Nothing wrong but the light: some of these come out right, some do not, and nobody forced them."""
    case = _case(seed + 500, RIGHT_CRYSTALS[seed % 6], dose=(25.0, 18.0, 12.0)[seed % 3], step_deg=(3.0, 2.5)[seed % 2])
    return Spoilt(case, film(ingredients(case)))


def forced_part(seed: int) -> Spoilt:
    """A stretch of frames on a wrong branch; in two of three runs in the witness too, on the same branch or another."""
    rng = np.random.default_rng([seed, 9])
    length = (100, 60, 200, 150)[seed % 4]
    branch, start = int(rng.integers(1, 24)), int(rng.integers(0, FRAMES - length))
    other = branch if seed % 3 == 1 else (branch + 7) % 23 + 1
    later = int(rng.integers(FIRST, FRAMES - length * 3 // 4))
    second = Wrong(_between(later, later + length * 3 // 4), other) if seed % 3 else None
    case = _case(seed)
    return Spoilt(case, film(ingredients(case)), Wrong(_between(start, start + length), branch), second)


def mirror(seed: int) -> Spoilt:
    """Half of the frames on a mirror-related branch; in two of three runs in the witness too."""
    rng = np.random.default_rng([seed, 9])
    wrong = Wrong(_alternate((25, 50, 100, 150)[seed % 4]), 24 + (0 if seed % 2 else int(rng.integers(1, 24))))
    case = _case(seed)
    return Spoilt(case, film(ingredients(case)), wrong, wrong if seed % 3 else None)


def joined(seed: int) -> Spoilt:
    """Two crystals take turns: every 25 to 300 frames, or one fifth of the frames in a block shows the other one."""
    case = _case(seed)
    block = (50, 100, 200, 300, 25)[seed % 5]
    turns = np.arange(FRAMES) // block % 2
    if seed % 3 == 2:
        turns = (np.arange(FRAMES) % (2 * block) >= 2 * block - block // 2).astype(np.int64)
    parts = ingredients(case)
    return Spoilt(case, film(replace(
        parts, crystals=(parts.crystals[0], make_crystal("Pt", ATOMS, seed + 1000)), which=turns
    )))  # fmt: skip


def one_axis(seed: int) -> Spoilt:
    """The crystal turns about one axis near the beam: it is never seen from the side."""
    case = _case(seed)
    poses = about_one_axis(FRAMES, case.step_deg, np.random.default_rng([seed, 1]), (3, 8, 15, 20)[seed % 4])
    return Spoilt(case, film(replace(ingredients(case), poses=poses)))


def out_of_order(seed: int) -> Spoilt:
    """Frames in random order."""
    case = _case(seed)
    return Spoilt(case, shuffled(film(ingredients(case)), np.random.default_rng([seed, 9])))


def noise(seed: int) -> Spoilt:
    """No crystal at all."""
    case = _case(seed)
    return Spoilt(case, film(replace(ingredients(case), visible=False)))


WRONG: dict[str, Callable[[int], Spoilt]] = {
    "wrong branch in a part": forced_part,
    "half on a mirror branch": mirror,
    "two crystals joined": joined,
    "turning about one axis": one_axis,
    "frames shuffled": out_of_order,
    "pure noise": noise,
    "little dose": low_dose,
}
WAYS: dict[str, Callable[[int], Spoilt]] = {"right": right, **WRONG}
