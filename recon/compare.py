"""Whether two reconstructions of the same crystal agree: their atoms and their poses, in one of the lattice's gauges.

Every reconstruction lays the axes of its lattice along x, y and z, which leaves 48 ways to lay one upon the other: the
24 rotations of the cube, in either hand. A twin may be laid along either of its grains: 48 x 4 ways more. Decahedra and
icosahedra have the operations of their own point groups.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.spatial import cKDTree

from .kinds import FCC, Kind
from .rotations import C2Z, CUBIC, angle_deg, conjugate, multiply, normalise, to_matrix
from .symmetry import CUBE

Floats = NDArray[np.float64]
SAME_ATOM_A = 0.6
NEAR_A = 4.5  # shifts to try: the centroids of two maps of one crystal are nearer
BIN_A = 0.4
TRIALS = 6  # most voted shifts that are looked at
NEIGHBOURS = 40  # atoms within NEAR_A of a place, at most
FINALISTS = 8  # gauges that are fitted as rigid bodies
SAME_POSE_DEG = 8.0
CELL_A = 1.0  # of the grid on which shapes are compared
ATOM_RADIUS_A = 2.0


def _cubic_gauges() -> Floats:
    proper = to_matrix(CUBIC)
    return np.concatenate([proper, -proper])


def _twin_gauges() -> Floats:
    normals = normalise(np.array([(1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1)], float))
    turns = 2 * normals[:, :, None] * normals[:, None, :] - np.eye(3)
    return np.einsum("aij,bjk->abik", _cubic_gauges(), turns).reshape(-1, 3, 3)


GAUGES: Floats = np.concatenate([_cubic_gauges(), _twin_gauges()])  # (240, 3, 3), the 48 of the cube first


@lru_cache
def gauges_of(kind: Kind) -> Floats:
    """Ways (g, 3, 3) in which two reconstructions of a crystal of this kind may lie to each other."""
    symmetry = kind.alike
    return GAUGES if symmetry is CUBE else np.concatenate([to_matrix(symmetry.turns), -to_matrix(symmetry.flips)])


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How well two lists of atoms agree.

    Attributes
    ----------
    f1 : 2 x pairs within 0.6 A / (atoms of both), under the best gauge. gap : f1 minus that under the second best.
    rms_A : of the pairs. turn, shift_A : ``first = turn @ second + shift_A``; turn (3, 3) is improper for other hands.
    gauge : number of the best gauge in `gauges_of` the kind, -1 without any.
    ranked : numbers of the best gauges, best first.
    """

    f1: float
    gap: float
    rms_A: float
    turn: Floats
    shift_A: Floats
    gauge: int
    ranked: tuple[int, ...]


def compare_atoms(
    first_A: Floats, second_A: Floats, gauges: tuple[int, ...] | None = None, kind: Kind = FCC
) -> Agreement:
    """Lay the atoms of one map upon those of another.

    Parameters
    ----------
    first_A, second_A : (n, 3) and (m, 3) positions in A, both about their centroids, lattice along the axes.
    gauges : numbers of those to try; all by default. kind : of crystal, which decides what they are.
    """
    ways = gauges_of(kind)
    tried = tuple(range(len(ways))) if gauges is None else gauges
    if min(len(first_A), len(second_A)) < 4:
        return Agreement(0.0, 0.0, np.nan, np.eye(3), np.zeros(3), -1, ())
    tree = cKDTree(first_A)
    rough = [(*_best_shift(tree, second_A @ ways[g].T), g) for g in tried]
    rough.sort(key=lambda item: -item[0])
    fitted = []
    for _, shift, g in rough[:FINALISTS]:
        turn, moved = _rigid(tree, second_A, ways[g], shift)
        f1, rms = _score(tree, second_A @ turn.T + moved)
        fitted.append((f1, rms, turn, moved, g))
    fitted.sort(key=lambda item: -item[0])
    best = fitted[0]
    second = fitted[1][0] if len(fitted) > 1 else 0.0
    ranked = tuple(item[4] for item in fitted)
    return Agreement(best[0], best[0] - second, best[1], best[2], best[3], best[4], ranked)


def _best_shift(tree: cKDTree, points: Floats) -> tuple[float, Floats]:
    """F1 and the shift (3,) of `points` (m, 3) that brings most of them upon atoms of the tree, by votes."""
    _, index = tree.query(points, k=min(NEIGHBOURS, tree.n), distance_upper_bound=NEAR_A)
    row, column = np.nonzero(index < tree.n)
    if len(row) == 0:
        return 0.0, np.zeros(3)
    apart = tree.data[index[row, column]] - points[row]
    edges = int(np.ceil(NEAR_A / BIN_A))
    cell = np.floor(apart / BIN_A).astype(np.int64) + edges
    size = 2 * edges
    flat = np.ravel_multi_index(tuple(np.clip(cell, 0, size - 1).T), (size,) * 3)
    votes = uniform_filter(np.bincount(flat, minlength=size**3).reshape((size,) * 3).astype(float), 3, mode="constant")
    crest = np.argwhere((votes == maximum_filter(votes, 3)) & (votes > 0.5 * votes.max()))
    crest = crest[np.argsort(-votes[tuple(crest.T)], kind="stable")][:TRIALS]
    best = (0.0, np.zeros(3))
    for place in (crest - edges + 0.5) * BIN_A:
        near = np.abs(apart - place).max(axis=1) < SAME_ATOM_A
        if not near.any():
            continue
        shift = apart[near].mean(axis=0)
        f1, _ = _score(tree, points + shift)
        if f1 > best[0]:
            best = (f1, shift)
    return best


def _pairs(tree: cKDTree, points: Floats, within_A: float) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Mutual nearest neighbours: rows of the tree, rows of `points`, distances."""
    distance, index = tree.query(points, distance_upper_bound=within_A)
    row = np.flatnonzero(np.isfinite(distance))
    row = row[np.lexsort((distance[row], index[row]))]
    atoms, firsts = np.unique(index[row], return_index=True)  # the nearest of those that claim the same atom
    return atoms, row[firsts], distance[row[firsts]]


def _score(tree: cKDTree, points: Floats) -> tuple[float, float]:
    """F1 and rms distance in A of the pairs."""
    _, _, distance = _pairs(tree, points, SAME_ATOM_A)
    rms = float(np.sqrt((distance**2).mean())) if len(distance) else np.nan
    return 2 * len(distance) / (tree.n + len(points)), rms


def _rigid(tree: cKDTree, points: Floats, turn: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Rotation and shift improved on the pairs (Kabsch, Acta Cryst. A32, 922 (1976)); the hand stays."""
    hand = np.sign(np.linalg.det(turn))
    for _ in range(4):
        atoms, rows, _ = _pairs(tree, points @ turn.T + shift, 2 * SAME_ATOM_A)
        if len(atoms) < 4:
            break
        a, b = tree.data[atoms], points[rows]
        left, _, right = np.linalg.svd((a - a.mean(axis=0)).T @ (b - b.mean(axis=0)))
        turn = left @ np.diag([1, 1, hand * np.sign(np.linalg.det(left @ right))]) @ right
        shift = a.mean(axis=0) - turn @ b.mean(axis=0)
    return turn, shift


@dataclass(frozen=True, slots=True, eq=False)
class PoseAgreement:
    """The `share` of frames whose poses agree within 8 degrees: ``first = second frame``, or in the other hand."""

    share: float
    frame: Floats  # (4,)
    inverted: bool


def compare_poses(first: Floats, second: Floats) -> PoseAgreement:
    """Poses (t, 4) of the same frames in two body frames: the one frame and hand in which most of them agree."""
    found = []
    for inverted in (False, True):
        offsets = multiply(conjugate(multiply(C2Z, second) if inverted else second), first)
        votes = (np.abs(offsets @ offsets.T) > np.cos(np.radians(SAME_POSE_DEG / 2))).sum(axis=1)
        frame = offsets[votes.argmax()]
        for _ in range(2):  # mean of the offsets that agree
            near = offsets[angle_deg(offsets, frame) < SAME_POSE_DEG]
            frame = normalise((near * np.sign(near @ frame)[:, None]).sum(axis=0))
        found.append(PoseAgreement(float((angle_deg(offsets, frame) < SAME_POSE_DEG).mean()), frame, inverted))
    return max(found, key=lambda agreement: agreement.share)


def shape_overlap(first_A: Floats, second_A: Floats) -> float:
    """Common volume over joint volume, 0 to 1, of two bodies of atoms (n, 3), (m, 3) in one frame."""
    low = np.minimum(first_A.min(axis=0), second_A.min(axis=0)) - ATOM_RADIUS_A
    high = np.maximum(first_A.max(axis=0), second_A.max(axis=0)) + ATOM_RADIUS_A
    axes = [np.arange(a, b + CELL_A, CELL_A) for a, b in zip(low, high, strict=True)]
    cells = np.array(list(itertools.product(*axes)))
    a, b = (
        cKDTree(atoms).query(cells, distance_upper_bound=ATOM_RADIUS_A)[0] < np.inf for atoms in (first_A, second_A)
    )
    return float((a & b).sum() / max(int((a | b).sum()), 1))


def lattice_rms_A(positions_A: Floats, neighbour_A: float, kind: Kind = FCC) -> float | None:
    """Rms distance per axis of fully coordinated atoms from the middle of their neighbours; None without any.

    In a cubic lattice, strained or twinned, an atom sits in that middle; the error of the middle is taken off.
    """
    count = kind.neighbours
    if len(positions_A) < count + 1:
        return None
    distance, index = cKDTree(positions_A).query(positions_A, k=count + 1)
    full = distance.max(axis=1) < 1.22 * kind.reach * neighbour_A
    if not full.any():
        return None
    away = positions_A[full] - positions_A[index[full, 1:]].mean(axis=1)
    return float(np.sqrt((away**2).mean() * count / (count + 1)))


def packing(positions_A: Floats, neighbour_A: float, kind: Kind = FCC) -> float | None:
    """Mean number of neighbours, relative to that in a compact crystal of this kind of as many atoms.

    Maps of such crystals have 0.97 and more, also where poses are wrong: lattice sites are hit by all of them. What has
    another lattice is forced onto this one and comes out full of holes. None for fewer than 50 atoms (n, 3).
    """
    if len(positions_A) < 50:
        return None
    near = cKDTree(positions_A).query_ball_point(positions_A, 1.25 * kind.reach * neighbour_A, return_length=True) - 1
    return float(near.mean() / (kind.neighbours - kind.surface_bonds * len(positions_A) ** (-1 / 3)))


def vacuum_share(positions_A: Floats, neighbour_A: float, kind: Kind = FCC) -> float:
    """Share of atoms (n, 3) with fewer than three neighbours: no crystal holds them there."""
    if len(positions_A) == 0:
        return 0.0
    tree = cKDTree(positions_A)
    near = tree.query_ball_point(positions_A, 1.25 * kind.reach * neighbour_A, return_length=True) - 1
    return float((near < 3).mean())
