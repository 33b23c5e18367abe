"""Crystals that are no lattice: fcc grains twinned about one point, as small metal particles often are.

A decahedron is five grains around a common axis, an icosahedron twenty around a common corner (Ino, J. Phys. Soc. Jpn.
21, 346 (1966)); both are strained a little to close the gaps. There is one such axis or corner in a particle, so that
these are not repeated by translations, but along the axis.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from .symmetry import GOLDEN

Floats = NDArray[np.float64]
EDGE = 2 / math.sqrt(GOLDEN * math.sqrt(5))  # of an icosahedron, in the distance of its corners from the middle
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
