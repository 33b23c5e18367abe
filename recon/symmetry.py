"""Point groups of ideal crystals: poses that give the same image, and exact means of volumes over them.

A projection of an ideal crystal is unchanged by the proper rotations of its point group acting in the body frame
(``q -> q t``), and, for every improper operation, by a rotation together with half a turn about the beam
(``q -> C2Z q f``, where f times the inversion is that operation): the image of the inverted body is that of the body
after half a turn about the beam. With an inversion centre both sets of rotations are the same.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .rotations import CUBIC, equivalents, from_rotation_vector, multiply, nearest_equivalent, to_matrix

Floats = NDArray[np.float64]
SAME = 1 - 1e-6  # |cosine of half the angle| between rotations that are one


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """A point group as it acts on volumes: `permutations` (p, 3, 3) int of the axes, mirrored or not, which are exact
    on a grid, times the identity or one of `turns` (c, 3, 3) float32.

    `strain` (3, 3), symmetric, is that of the crystal these are the operations of; `everywhere`: about every site of
    its lattice, not about one point alone.
    """

    permutations: NDArray[np.int64]
    turns: NDArray[np.float32]
    strain: Floats | None = None
    everywhere: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Symmetry:
    """The point group of an ideal crystal.

    Attributes
    ----------
    turns : (m, 4) proper rotations, identity first. flips : (m, 4), each with the inversion an operation; `turns`
        itself where there is an inversion centre.
    operations : all of them, on volumes.
    """

    turns: Floats
    flips: Floats
    operations: Operations

    @property
    def order(self) -> int:
        """Poses that give one image."""
        return 2 * len(self.turns)

    @property
    def centred(self) -> bool:
        """Whether there is an inversion centre: the transform about it is real."""
        return self.flips is self.turns

    @property
    def listed(self) -> tuple[Floats, Floats]:
        """`turns` and `flips` for loops over them; nothing for the cube, whose nearest operation has a closed form."""
        return (_NONE, _NONE) if self is CUBE else (self.turns, self.flips)

    def equivalents(self, q: Floats) -> Floats:
        """Poses with the same image, (..., 4) -> (..., order, 4): ``q turns``, then ``C2Z q flips``."""
        return equivalents(q, self.turns, self.flips)

    def nearest(self, reference: Floats, q: Floats) -> Floats:
        """The equivalent of each `q` (..., 4) that lies closest to `reference` (..., 4)."""
        return nearest_equivalent(reference, q, self.turns, self.flips)


_NONE = np.zeros((0, 4))


def _closed(generators: Floats) -> Floats:
    """All products of rotations (n, 4), identity first."""
    group = [np.array([1.0, 0.0, 0.0, 0.0])]
    for known in group:  # grows while it is gone through
        for product in multiply(known, generators):
            if max(abs(product @ other) for other in group) < SAME:
                group.append(product)
    return np.array(group)


def _operations(turns: Floats, flips: Floats, others: Floats) -> Operations:
    """Of a group, whose operations are those that permute the axes times the identity or one of `others` (c, 4)."""
    matrices = np.concatenate([to_matrix(turns), -to_matrix(flips)])
    whole = np.rint(matrices)
    exact = whole[np.abs(matrices - whole).max(axis=(1, 2)) < 1e-9]
    return Operations(exact.astype(np.int64), to_matrix(others).astype(np.float32))


def _about(axis: tuple[float, float, float], degrees: float) -> Floats:
    direction = np.array(axis) / math.hypot(*axis)
    return np.asarray(from_rotation_vector(math.radians(degrees) * direction))


def _fifths(axis: tuple[float, float, float]) -> Floats:
    return np.stack([_about(axis, 72.0 * n) for n in range(1, 5)])


GOLDEN = (1 + math.sqrt(5)) / 2
VERTEX = (0.0, 1.0, GOLDEN)  # of an icosahedron whose twofold axes are x, y and z


def _decahedral() -> Symmetry:
    """D5h: the fivefold axis is z, x is one of the five twofold axes."""
    turns = _closed(np.stack([_about((0, 0, 1), 72.0), _about((1, 0, 0), 180.0)]))
    flips = multiply(_about((0, 0, 1), 180.0), turns)  # the mirror across the axis is that turn and the inversion
    return Symmetry(turns, flips, _operations(turns, flips, _fifths((0, 0, 1))))


def _icosahedral() -> Symmetry:
    """Ih."""
    turns = _closed(np.stack([_about(VERTEX, 72.0), _about((0, 0, 1), 180.0), _about((1, 1, 1), 120.0)]))
    return Symmetry(turns, turns, _operations(turns, turns, _fifths(VERTEX)))


# Of a twin of two fcc grains about [111]: the axis and mirror planes of C3v.
TWIN = Operations(
    np.array([np.eye(3, dtype=np.int64)[list(axes)] for axes in itertools.permutations((2, 1, 0))]),
    np.zeros((0, 3, 3), np.float32),
)


def _hexagonal() -> Symmetry:
    """D6h: the sixfold axis is [111]."""
    turns = _closed(np.stack([_about((1, 1, 1), 60.0), _about((1, -1, 0), 180.0)]))
    return Symmetry(turns, turns, _operations(turns, turns, _about((1, 1, 1), 180.0)[None]))


def _rhombohedral() -> Symmetry:
    """D3d: the threefold axis is [111]."""
    turns = _closed(np.stack([_about((1, 1, 1), 120.0), _about((1, -1, 0), 180.0)]))
    return Symmetry(turns, turns, _operations(turns, turns, np.zeros((0, 4))))


CUBE = Symmetry(CUBIC, CUBIC, replace(_operations(CUBIC, CUBIC, np.zeros((0, 4))), everywhere=True))
DECAHEDRAL = _decahedral()
ICOSAHEDRAL = _icosahedral()
RHOMBOHEDRAL = _rhombohedral()
HEXAGONAL = _hexagonal()
