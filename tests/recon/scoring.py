"""How right a reconstruction is, from known truth: poses in ONE global frame of either hand, atoms one to one.

A projection does not tell a body from its inverse: ``(C2Z R, -r)`` and ``(R, r)`` give the same image. So a whole
reconstruction may come out in the other hand, and in any orientation of the body; both are found once for all frames,
never frame by frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from tumble.recon.records import ParticleResult
from tumble.recon.rotations import C2Z, angle_deg, conjugate, multiply, normalise, to_matrix

Floats = NDArray[np.float64]
RIGHT_DEG = 8.0
SAME_ATOM_A = 0.6


@dataclass(frozen=True, eq=False)
class PoseScore:
    """`error_deg` (t,) against the truth after the global frame; `frame` (4,) and `inverted` describe that frame."""

    error_deg: Floats
    frame: Floats
    inverted: bool

    @property
    def right(self) -> float:
        """Share of poses within 8 degrees."""
        return float((self.error_deg < RIGHT_DEG).mean())


def score_poses(found: Floats, truth: Floats) -> PoseScore:
    """Best single frame g with ``found = truth g`` (or ``C2Z truth g``, the other hand), for poses (t, 4)."""
    scores = []
    for inverted in (False, True):
        known = multiply(C2Z, truth) if inverted else truth
        offsets = multiply(conjugate(known), found)
        votes = (np.abs(offsets @ offsets.T) > np.cos(np.radians(RIGHT_DEG / 2))).sum(axis=1)
        frame = offsets[votes.argmax()]
        for _ in range(3):  # mean of the offsets that agree
            near = offsets[angle_deg(offsets, frame) < RIGHT_DEG]
            frame = normalise((near * np.sign(near @ frame)[:, None]).sum(axis=0))
        scores.append(PoseScore(angle_deg(offsets, frame), frame, inverted))
    return max(scores, key=lambda score: score.right)


@dataclass(frozen=True)
class AtomScore:
    """Atoms matched one to one within 0.6 A, against all true and all found ones."""

    recall: float
    precision: float
    rmsd_A: float


def score_atoms(found_A: Floats, truth_A: Floats, pose: PoseScore) -> AtomScore:
    """Compare atoms (n, 3) with the true ones (m, 3), in the frame of `pose`, improved as a rigid body."""
    moved = found_A @ to_matrix(pose.frame).T * (-1 if pose.inverted else 1)
    if not len(moved):
        return AtomScore(0.0, 1.0, np.nan)
    moved = moved + truth_A.mean(axis=0) - moved.mean(axis=0)
    for _ in range(10):
        distance = cdist(moved, truth_A)
        rows, columns = linear_sum_assignment(np.minimum(distance, 3 * SAME_ATOM_A))
        near = distance[rows, columns] < 2 * SAME_ATOM_A
        a, b = moved[rows[near]], truth_A[columns[near]]
        if len(a) < 3:
            break
        left, _, right = np.linalg.svd((a - a.mean(axis=0)).T @ (b - b.mean(axis=0)))
        turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right  # Kabsch (1976)
        moved = (moved - a.mean(axis=0)) @ turn + b.mean(axis=0)
    distance = cdist(moved, truth_A)
    rows, columns = linear_sum_assignment(np.minimum(distance, 3 * SAME_ATOM_A))
    matched = distance[rows, columns][distance[rows, columns] < SAME_ATOM_A]
    rmsd = float(np.sqrt((matched**2).mean())) if len(matched) else np.nan
    return AtomScore(len(matched) / len(truth_A), len(matched) / len(moved), rmsd)


def assert_right(result: ParticleResult, crystal_A: Floats, poses: Floats) -> None:
    """A reconstruction has most frames, their poses (of all frames: (t, 4)), and the atoms (n, 3) of the crystal."""
    used = np.array([row.used for row in result.poses])
    found = np.array([row.quaternion for row in result.poses])
    score = score_poses(found, poses[np.array([row.frame for row in result.poses])])
    assert used.mean() > 0.85
    assert (score.error_deg[used] < RIGHT_DEG).mean() > 0.95
    atoms = score_atoms(np.array([atom.position_A for atom in result.atoms]), crystal_A, score)
    assert min(atoms.recall, atoms.precision) > 0.95
    assert atoms.rmsd_A < 0.25
