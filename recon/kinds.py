"""Kinds of crystals that frames are indexed on, and how they differ: cubic lattices, and fcc twinned many times.

Face-centred and body-centred cubic lattices have one atom on every lattice point and the symmetry of the cube. With
atoms equally far apart, the first reflection of both, (111) and (110), lies at the same place: the bands and limits of
body-centred crystals are those of the fcc lattice with the same distance of neighbours. Decahedra and icosahedra are
made of fcc grains; their constant is that of an fcc lattice with the same distance of neighbours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .clusters import HEXAGONAL_AXES, decahedron, hexagonal, icosahedron
from .symmetry import CUBE, DECAHEDRAL, HEXAGONAL, ICOSAHEDRAL, RHOMBOHEDRAL, Symmetry

Floats = NDArray[np.float64]
CONSTANT_ERROR = 0.004  # of lattice constants that were measured, a share


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Kind:
    """A cubic lattice with an atom on every lattice point, or what `cluster` makes; lengths in constants.

    Attributes
    ----------
    name : as in the files.
    sites : lattice points of the cubic cell, in half lattice constants.
    widening : constant of the fcc lattice whose atoms are as far apart.
    neighbours : atoms around one in the bulk; of bcc eight and the six that are 15 per cent farther.
    per_neighbour : lattice constants in their mean distance.
    reach : how far the gap behind them is, relative to that of fcc and in nearest-neighbour distances.
    surface_bonds : neighbours that the surface takes off the mean, times n^(1/3), in compact crystals of n atoms.
    farthest : square of the longest lattice vector by which a site may be mistaken for another.
    metals : lattice constants at room temperature, A (CRC Handbook of Chemistry and Physics).
    search_A : lattice constants tried when nothing is known.
    symmetry : its point group. cluster : of what is no cubic lattice the atoms within a radius, in nearest-neighbour
        distances, and `periods` (n, 3) that repeat it.
    mates : further settings in which the same crystal is seen: how each is turned (quaternion), and a vector from a
        site of the first to one of its own. shifted : the point group of an image that may be shifted, with mates.
    """

    name: str
    sites: tuple[tuple[int, int, int], ...]
    widening: float
    neighbours: int
    per_neighbour: float
    reach: float
    surface_bonds: float
    farthest: float
    metals: dict[str, float]
    search_A: tuple[float, float]
    symmetry: Symmetry = CUBE
    cluster: Callable[[float], Floats] | None = None
    periods: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    mates: tuple[tuple[Floats, Floats], ...] = ()
    shifted: Symmetry | None = None

    def __repr__(self) -> str:
        return self.name

    def has(self, half_steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of (..., 3) points, in half lattice constants, are lattice points."""
        parity = half_steps % 2
        return np.asarray((parity[..., None, :] == np.array(self.sites)).all(axis=-1).any(axis=-1))

    @property
    def vectors(self) -> Floats:
        """Lattice vectors (n, 3) up to `farthest`, zero first."""
        return _vectors(self)

    @property
    def alike(self) -> Symmetry:
        """Poses that give the same image of its ideal crystal, shifted or not."""
        return self.shifted or self.symmetry

    @property
    def bonds(self) -> Floats:
        """Directions (n, 3) in which neighbours may lie, unit vectors."""
        return _bonds(self)


@lru_cache
def _vectors(kind: Kind) -> Floats:
    if kind.cluster is not None:
        steps = np.array(list(itertools.product(range(-2, 3), repeat=len(kind.periods))))
        found = steps @ kind.periods
        square = (found**2).sum(axis=1)
        order = np.argsort(square, kind="stable")
        return np.asarray(found[order[square[order] <= kind.farthest]]).reshape(-1, 3)
    steps = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    short = [tuple(v) for v in steps[kind.has(steps)] / 2 if v @ v <= kind.farthest]
    return np.array(sorted(short, key=lambda v: (sum(x * x for x in v), v)))


@lru_cache
def _bonds(kind: Kind) -> Floats:
    if kind.cluster is None:
        steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        steps = steps[kind.has(steps) & steps.any(axis=1)]
        square = (steps**2).sum(axis=1)
        return np.asarray(steps[square == square.min()] / np.sqrt(square.min()))
    atoms = kind.cluster(2.6)
    pairs = cKDTree(atoms).query_pairs(1.2, output_type="ndarray")
    bonds = atoms[np.concatenate([pairs[:, 0], pairs[:, 1]])] - atoms[np.concatenate([pairs[:, 1], pairs[:, 0]])]
    return np.unique(np.round(bonds / np.linalg.norm(bonds, axis=1)[:, None], 6), axis=0)


FCC = Kind(
    name="fcc",
    sites=((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)),
    widening=1.0,
    neighbours=12,
    per_neighbour=math.sqrt(2),
    reach=1.0,
    surface_bonds=16.8,
    farthest=1.5,
    metals={
        "Ni": 3.524, "Cu": 3.615, "Rh": 3.803, "Ir": 3.839, "Pd": 3.891, "Pt": 3.924, "Al": 4.050, "Au": 4.078,
        "Ag": 4.086,
    },
    search_A=(3.45, 4.25),
)  # fmt: skip
BCC = Kind(
    name="bcc",
    sites=((0, 0, 0), (1, 1, 1)),
    widening=math.sqrt(1.5),
    neighbours=14,
    per_neighbour=14 / (8 * math.sqrt(0.75) + 6),
    reach=1.15,
    surface_bonds=21.0,
    farthest=2.0,
    metals={"Fe": 2.866, "Cr": 2.885, "V": 3.024, "Mo": 3.147, "W": 3.165, "Nb": 3.301, "Ta": 3.303},
    search_A=(2.75, 3.45),
)
KINDS = (FCC, BCC)
DECAHEDRON = replace(
    FCC, name="decahedral", symmetry=DECAHEDRAL, cluster=decahedron, periods=np.array([[0.0, 0.0, math.sqrt(0.5)]])
)
ICOSAHEDRON = replace(FCC, name="icosahedral", symmetry=ICOSAHEDRAL, cluster=icosahedron)
HCP = Kind(
    name="hcp",
    sites=(),
    widening=math.sqrt(2),
    neighbours=12,
    per_neighbour=1.0,
    reach=1.0,
    surface_bonds=16.8,
    farthest=3.7,
    metals={
        "Co": 2.507, "Ru": 2.706, "Os": 2.734, "Tc": 2.735, "Re": 2.761, "Ti": 2.951, "Mg": 3.209,
        "Zr": 3.232,
    },
    search_A=(2.44, 3.3),
    symmetry=RHOMBOHEDRAL,
    cluster=hexagonal,
    periods=HEXAGONAL_AXES,
    mates=((np.array([0.0, 1.0, 1.0, 1.0]) / math.sqrt(3), HEXAGONAL_AXES[2] / 2),),
    shifted=HEXAGONAL,
)  # fmt: skip
CLUSTERS = (DECAHEDRON, ICOSAHEDRON, HCP)  # tried where no cubic lattice explains the frames well


@dataclass(frozen=True, slots=True)
class Lattice:
    """A kind of lattice, or of crystal made of fcc grains, and its constant in A."""

    kind: Kind
    constant_A: float

    @property
    def scale_A(self) -> float:
        """Constant of the fcc lattice whose atoms are as far apart; limits and bands follow it."""
        return self.kind.widening * self.constant_A

    @property
    def neighbour_A(self) -> float:
        """Nearest-neighbour distance."""
        return float(self.scale_A / np.sqrt(2))

    def ball(self, diameter_A: float) -> Floats:
        """Atoms (n, 3) of a ball centred on one of them, A."""
        if self.kind.cluster is not None:
            return self.kind.cluster(diameter_A / 2 / self.neighbour_A) * self.neighbour_A
        reach = math.ceil(diameter_A / self.constant_A) + 1
        index = np.arange(-2 * reach, 2 * reach + 1)
        half_steps = np.stack(np.meshgrid(index, index, index, indexing="ij"), axis=-1).reshape(-1, 3)
        atoms = half_steps[self.kind.has(half_steps)] * (self.constant_A / 2)
        return np.asarray(atoms[np.linalg.norm(atoms, axis=1) <= diameter_A / 2])


USUAL = Lattice(FCC, 3.97)  # what sizes are chosen for until a lattice has been seen


def known_lattice(constant_A: float, element: str | None = None) -> Lattice:
    """The lattice that a known constant, A, is most likely one of: that of the element, else what metals have."""
    for kind in (*KINDS, HCP):
        if element in kind.metals:
            return Lattice(kind, constant_A)
    low, high = BCC.search_A
    return Lattice(BCC if low <= constant_A <= high else FCC, constant_A)


def search_ranges(element: str | None, known: Lattice | None = None) -> tuple[tuple[Kind, tuple[float, float]], ...]:
    """Kinds to try and their lattice constants in A: the one known, 5 per cent about that of the element, or all."""
    if known is not None:
        return ((known.kind, (known.constant_A, known.constant_A)),)
    for kind in (*KINDS, HCP):
        if element in kind.metals:
            start = kind.metals[element or ""]
            return ((kind, (start * 0.95, start * 1.05)),)
    return tuple((kind, kind.search_A) for kind in KINDS)


def guess_element(lattice: Lattice) -> str:
    """The metal of this kind whose lattice constant is nearest; a label, not a measurement: see `metals_that_fit`."""
    return min(lattice.kind.metals, key=lambda element: _off(element, lattice))


def metals_that_fit(lattice: Lattice) -> tuple[str, ...]:
    """Metals of this kind that have a measured lattice constant within its error, nearest first; perhaps none.

    As good as the pixel size is known: constants came out to 0.3 per cent with one that was right.
    """
    fitting = [metal for metal in lattice.kind.metals if _off(metal, lattice) <= CONSTANT_ERROR]
    return tuple(sorted(fitting, key=lambda element: _off(element, lattice)))


def _off(element: str, lattice: Lattice) -> float:
    """By what share a lattice constant differs from that of a metal."""
    return abs(lattice.constant_A / lattice.kind.metals[element] - 1)
