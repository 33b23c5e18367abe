"""Atoms of an alloy: peaks of elements that are not equally bright, and a name and a confidence for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .atoms import Peaks, bright, highest, select_atoms
from .elements import LEAST_ATOMS, assign_elements, integrated_intensities
from .records import Atom
from .symbols import atomic_number

Floats = NDArray[np.float64]
# With which power of the atomic number a map grows: annular dark field (Pennycook & Jesson, Ultramicroscopy 37, 14
# (1991)), and the projected potential.
DARK_FIELD, PHASE = 1.7, 0.7
CLOSEST = 0.85  # of the distance of neighbours: a weaker peak nearer than that is none
BRIGHTEST = 0.15  # share of the atoms, highest first, whose median tells how high a heavy atom is
BOND, LEAST_NEIGHBOURS = 1.35, 3  # distances of neighbours that a bond is long; bonds that hold an atom
BALL = 0.43  # of the distance of neighbours: radius over which an atom is integrated
LEAST_OF_ONE = 5  # atoms: fewer odd ones are no second element
APART = 0.5  # of what atomic numbers say of the intensities of two groups
UNKNOWN = "X"  # as extended xyz names it


def select(peaks: Peaks, distance_A: float, elements: Sequence[str], power: float) -> tuple[Floats, Floats]:
    """Peaks that are atoms, (n, 3) A, and a confidence 0..1 for each; for fewer than two elements `atoms.select_atoms`.

    A peak of a heavy atom counts no more than one of the lightest element would, so that those are not taken for noise.
    Nearer to a higher peak than any neighbour is none: there the map rings. Nor is one beside the particle, where the
    low threshold lets noise through that has too few neighbours.

    Parameters
    ----------
    elements : lightest first. power : of the atomic number, with which the map grows: `DARK_FIELD` or `PHASE`.
    """
    if len(elements) < 2 or len(peaks.heights) < 4:
        return select_atoms(peaks, distance_A)
    keep = highest(peaks.positions_A, peaks.heights, CLOSEST * distance_A)
    positions, heights = peaks.positions_A[keep], peaks.heights[keep]
    heavy = bright(heights, BRIGHTEST)
    light = heavy * (atomic_number(elements[0]) / atomic_number(elements[-1])) ** power
    positions, confidence = select_atoms(Peaks(positions, np.minimum(heights, light)), distance_A)
    held = _held(positions, BOND * distance_A)
    return positions[held], confidence[held]


def _held(positions_A: Floats, reach_A: float) -> NDArray[np.bool_]:
    """Which of (n, 3) positions have `LEAST_NEIGHBOURS` within reach that have as many themselves, and so on: the core
    of that order of the graph of bonds (Seidman, Soc. Networks 5, 269 (1983)). Noise around a particle has none.
    """
    held = np.ones(len(positions_A), bool)
    pairs = cKDTree(positions_A).query_pairs(reach_A, output_type="ndarray")
    while True:
        among = pairs[held[pairs].all(axis=1)]
        loose = held & (np.bincount(among.ravel(), minlength=len(held)) < LEAST_NEIGHBOURS)
        if not loose.any():
            return held
        held &= ~loose


def named(
    volume: NDArray[np.float32],
    voxel_A: float,
    positions_A: Floats,
    distance_A: float,
    elements: Sequence[str],
    power: float,
) -> tuple[tuple[str, ...], Floats]:
    """Element of each atom and the confidence (n,) in it; NaN where nothing tells: one element, few atoms, one group.

    A mixture is fitted to anything, also to atoms that are all alike. So neighbouring groups count for elements only
    when each has five atoms, and they lie at least half as far apart as their atomic numbers say, in the logarithm of
    the intensity.

    Parameters
    ----------
    volume : (nz, ny, nx) ``[z, y, x]``, in which the atoms (n, 3) lie, from voxel ``n // 2``.
    elements : lightest first, at least one; where nothing tells, all are said to be the only one, or `UNKNOWN`.
    power : as in `select`.
    """
    count = len(positions_A)
    nothing = (elements[0] if len(elements) == 1 else UNKNOWN,) * count, np.full(count, np.nan)
    if len(elements) < 2 or count < LEAST_ATOMS * len(elements):
        return nothing
    values = integrated_intensities(volume, positions_A, voxel_A, BALL * distance_A)
    found = assign_elements(values, positions_A, len(elements))
    numbers = np.array([atomic_number(element) for element in elements])
    apart = np.diff(np.log(np.maximum(found.means, 1e-30)))
    few = np.bincount(found.index, minlength=len(elements)).min() < LEAST_OF_ONE
    if few or (apart < APART * power * np.diff(np.log(numbers))).any():
        return nothing
    return tuple(elements[number] for number in found.index), found.confidence


def counted(atoms: Iterable[Atom]) -> dict[str, int]:
    """Atoms of each element, of those whose element was measured; none when it was not."""
    return dict(sorted(Counter(atom.element for atom in atoms if np.isfinite(atom.element_confidence)).items()))


def untold(atoms: Sequence[Atom], elements: Sequence[str]) -> str:
    """What the operator is told where the elements of an alloy were asked for and cannot be said; else nothing."""
    if len(elements) < 2 or not atoms or counted(atoms):
        return ""
    return f"{' and '.join(elements)} cannot be told apart: atoms are all of one brightness, or too few"
