"""Crystals that are no cubic lattice: hexagonal, and fcc grains twinned about one point, as small metals often are.

A decahedron is five grains around a common axis, an icosahedron twenty around a common corner (Ino, J. Phys. Soc. Jpn.
21, 346 (1966)); both are strained a little to close the gaps. There is one such axis or corner in a particle, so that
these are not repeated by translations, but along the axis.

The hexagonal close packing has inversion centres between its atoms, in layers half a period apart that are turned by
60 degrees to each other. About one of them its operations are those of a rhombohedron (D3d); with the long axis along
[111] all of them permute the axes x, y and z.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from .symmetry import GOLDEN

Floats = NDArray[np.float64]
EDGE = 2 / math.sqrt(GOLDEN * math.sqrt(5))  # of an icosahedron, in the distance of its corners from the middle
LONG_AXIS = 1.6  # period along the hexagonal axis in nearest-neighbour distances; 1.58 (Os, Ru) to 1.62 (Co, Mg)
INSIDE = 0.79  # distance of its faces from the middle
MEAN_BOND = (1 + EDGE) / 2  # in its grains: six neighbours in the same shell, six in those beside it


def decahedron(radius: float) -> Floats:
    """Atoms (n, 3) within `radius` of the middle, in nearest-neighbour distances; the fivefold axis is z, a twin plane
    holds x.
    """
    layers, rows = math.ceil(radius) + 1, math.ceil(radius / (math.sqrt(0.75) * math.cos(math.radians(36)))) + 1
    angle = np.radians(72.0 * np.arange(6))
    rays = math.sqrt(0.75) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    places = [(0.0, 0.0, 0)]
    for ray, following in itertools.pairwise(rays):
        for i, j in itertools.product(range(1, rows + 1), range(rows + 1)):
            places.append((*(i * ray + j * following), i + j))
    height = np.arange(-layers, layers + 1)
    atoms = np.array([(x, y, z + shift % 2 / 2) for x, y, shift in places for z in height])
    return np.asarray(atoms[np.linalg.norm(atoms, axis=1) <= radius])


def icosahedron(radius: float) -> Floats:
    """Atoms (n, 3) within `radius` of the middle, in mean nearest-neighbour distances; twofold axes x, y and z (Mackay,
    Acta Cryst. 15, 916 (1962)).
    """
    corner = [(0.0, a, b * GOLDEN) for a, b in itertools.product((1.0, -1.0), repeat=2)]
    corners = np.array([np.roll(v, turn) for v in corner for turn in range(3)]) / math.hypot(1.0, GOLDEN)
    faces = [
        face for face in itertools.combinations(range(12), 3)
        if all(np.linalg.norm(corners[a] - corners[b]) < 1.2 * EDGE for a, b in itertools.combinations(face, 2))
    ]  # fmt: skip
    shells = math.ceil(radius * MEAN_BOND / INSIDE) + 1
    counts = np.array([n for n in itertools.product(range(shells + 1), repeat=3) if sum(n) <= shells])
    atoms = np.concatenate([counts @ corners[list(face)] for face in faces]) / MEAN_BOND
    atoms = np.unique(np.round(atoms, 9), axis=0)
    return np.asarray(atoms[np.linalg.norm(atoms, axis=1) <= radius])


def _hexagonal_axes() -> Floats:
    """Periods (3, 3) of a hexagonal lattice in nearest-neighbour distances, the long one along [111]."""
    first, along = np.array([1.0, -1.0, 0.0]) / math.sqrt(2), np.ones(3) / math.sqrt(3)
    across = np.cross(along, first)
    return np.stack([first, -first / 2 + math.sqrt(0.75) * across, LONG_AXIS * along])


HEXAGONAL_AXES: Floats = _hexagonal_axes()


def hexagonal(radius: float) -> Floats:
    """Atoms (n, 3) of the hexagonal close packing within `radius` of an inversion centre, in nearest-neighbour
    distances.
    """
    reach = np.arange(-math.ceil(radius / math.sqrt(0.75)) - 2, math.ceil(radius / math.sqrt(0.75)) + 3)
    cells = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), axis=-1).reshape(-1, 3)
    basis = np.array([[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]])
    atoms = (cells[:, None] + basis).reshape(-1, 3) @ HEXAGONAL_AXES
    return np.asarray(atoms[np.linalg.norm(atoms, axis=1) <= radius])
