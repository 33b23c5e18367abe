"""The verdict on a map without knowing the truth: numbers that tell right from wrong, a rule, and words for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .compare import Agreement, compare_atoms, compare_poses, lattice_rms_A, packing, shape_overlap, vacuum_share
from .coverage import REACH_DEG, view_grid
from .kinds import FCC, Kind
from .records import Trust
from .rotations import to_matrix

Floats = NDArray[np.float64]
LEAST_COMMON = 100  # frames that must have a pose in both reconstructions
SAME_GAUGE_DEG = 6.0  # between the gauge of the atoms and that of the poses


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of the rule; the runs they were chosen and tried on: tests/benchmarks/results, made by truth_study.py."""

    agreement: float = 0.97
    gap: float = 0.015
    second_margin: float = 0.5  # instead of the gap: where branches win clearly on the second map, it is no mixture
    pose_agreement: float = 0.93  # 0.90 was seen with a tenth of the poses on another branch
    upheld: float = 0.93
    branch_margin: float = 0.05
    margin_share: float = 0.012  # of the likelihood beyond `loud`, on either map: a strong signal must tell them apart
    loud: float = 100.0
    likelihood: float = 15.0
    used_share: float = 0.85
    shape: float = 0.93
    unseen_share: float = 0.4
    vacuum_share: float = 0.02
    lattice_rms_A: float = 0.25
    packing: float = 0.9
    mixed_share: float = 0.03
    weakest_shell: float = 0.1  # 0.34 and more in seven right maps; below zero where it is turned over


def unseen_share(views: NDArray[np.int32], reach_deg: float = REACH_DEG) -> float:
    """Share of the directions of Fourier space that no view has measured, within `reach_deg`.

    A view measures the plane across its direction. What none has measured two maps of the same views lack alike: their
    agreement does not speak for it.

    Parameters
    ----------
    views : (cells,) counts per cell of `coverage.view_grid`.
    """
    grid = view_grid(len(views))
    seen = grid[views > 0]
    if len(seen) == 0:
        return 1.0
    nearest = np.abs(grid @ seen.T).min(axis=1)
    return float((nearest > np.sin(np.radians(reach_deg))).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """One reconstruction of a crystal: atoms (n, 3) A about their centroid, and sure poses (t, 4) of frames (t,)."""

    atoms_A: Floats
    number: NDArray[np.int64]
    poses: Floats

    def without(self, number: tuple[int, ...]) -> Account:
        """The same but for the poses of some frames."""
        kept = ~np.isin(self.number, number)
        return Account(self.atoms_A, self.number[kept], self.poses[kept])


def _gauge_angle_deg(turn: Floats, frame: Floats, *, inverted: bool) -> float:
    """Angle between the gauge of the atoms, ``first = turn second``, and of the poses, ``first = second frame``."""
    body = to_matrix(frame).T * (-1 if inverted else 1)
    apart = body @ turn.T
    if np.linalg.det(apart) < 0:
        return 180.0
    return float(np.degrees(np.arccos(np.clip((np.trace(apart) - 1) / 2, -1, 1))))


def compare_accounts(
    known: Trust,
    mine: Account,
    other: Account,
    neighbour_A: float,
    gauges: tuple[int, ...] | None = None,
    kind: Kind = FCC,
) -> tuple[Trust, Agreement]:
    """`known` with the numbers that two independent accounts give, and how their atoms lie upon each other.

    Parameters
    ----------
    known : what was measured before; poses stay as they were where too few frames are common to both.
    neighbour_A : nearest-neighbour distance.
    gauges : those to try, all by default. kind : of the lattice.
    """
    found = compare_atoms(mine.atoms_A, other.atoms_A, gauges, kind)
    if found.gauge < 0:
        return replace(known, agreement=0.0, gap=0.0), found
    laid = other.atoms_A @ found.turn.T + found.shift_A
    result = replace(
        known,
        agreement=found.f1,
        gap=found.gap,
        agreement_rms_A=found.rms_A if np.isfinite(found.rms_A) else None,
        shape=shape_overlap(mine.atoms_A, laid),
        lattice_rms_A=lattice_rms_A(mine.atoms_A, neighbour_A, kind),
        packing=packing(mine.atoms_A, neighbour_A, kind),
        vacuum_share=vacuum_share(mine.atoms_A, neighbour_A, kind),
    )
    _, first, second = np.intersect1d(mine.number, other.number, return_indices=True)
    if len(first) >= LEAST_COMMON:
        poses = compare_poses(mine.poses[first], other.poses[second])
        same = _gauge_angle_deg(found.turn, poses.frame, inverted=poses.inverted) < SAME_GAUGE_DEG
        result = replace(result, pose_agreement=poses.share if same else 0.0)
    return result, found


def no_lattice(numbers: Trust, limits: Thresholds | None = None) -> str:
    """In words, that the particle has no lattice of a known kind; "" where it has one, or too little was seen of it.

    A map that lacks many directions has holes of its own.
    """
    limits = limits or Thresholds()
    if numbers.packing is None or numbers.packing >= limits.packing:
        return ""
    if numbers.unseen_share is None or numbers.unseen_share > limits.unseen_share:
        return ""
    return (
        "not described by an fcc, bcc or hcp lattice, with a twin plane or without, nor as decahedron or icosahedron: "
        "no map of it can be trusted "
        f"(atoms have {100 * numbers.packing:.0f} % of the neighbours they should have)"
    )


def judge(numbers: Trust, limits: Thresholds | None = None) -> Trust:
    """The rule: every number that could be had is within its limit, and both maps agree.

    A number that is missing is a reason against trust, except those of the lattice, amorphous matter has none, and of a
    shell that both halves share: where there is none, other numbers say so.
    """
    limits = limits or Thresholds()
    against = []

    def short(name: str) -> bool:
        value = getattr(numbers, name)
        return value is None or value < getattr(limits, name)

    def beyond(name: str) -> bool:
        value = getattr(numbers, name)
        return value is None or value > getattr(limits, name)

    def percent(value: float | None) -> str:
        return "an unknown share" if value is None else f"{100 * value:.0f} %"

    if words := no_lattice(numbers, limits):
        against.append(words)
    if short("likelihood"):
        against.append(f"the frames hardly show this crystal: likelihood {numbers.likelihood or 0:.0f} per frame")
    least = limits.margin_share * ((numbers.likelihood or 0.0) - limits.loud)
    clearest = max(numbers.branch_margin or 0.0, numbers.second_margin or 0.0)
    if short("branch_margin") or clearest < least:
        against.append("in some stretch of frames another branch fits as well as the one taken")
    if short("used_share"):
        against.append(f"poses are sure in {percent(numbers.used_share)} of the frames only")
    if short("agreement"):
        against.append(f"a second map from other frames agrees in {percent(numbers.agreement)} of the atoms only")
    elif short("gap") and short("second_margin"):
        against.append("the map looks the same from several sides: it cannot be told from a mixture")
    if short("pose_agreement"):
        against.append(f"two reconstructions agree on the pose in {percent(numbers.pose_agreement)} of the frames only")
    if numbers.upheld is None:
        against.append("no second map has seen enough of the same directions to judge the poses")
    elif short("upheld"):
        against.append(f"on a second map the branch taken wins in {percent(numbers.upheld)} of the time only")
    if short("shape"):
        against.append(f"the shapes of two maps overlap in {percent(numbers.shape)} only")
    if beyond("unseen_share"):
        against.append(f"{percent(numbers.unseen_share)} of the directions were never seen")
    if beyond("mixed_share"):
        against.append(
            f"not all frames show the same crystal: {percent(numbers.mixed_share)} of the atoms come and go together"
        )
    if beyond("vacuum_share"):
        against.append(f"{percent(numbers.vacuum_share)} of the atoms lie in the vacuum")
    if numbers.lattice_rms_A is not None and numbers.lattice_rms_A > limits.lattice_rms_A:
        against.append(f"atoms scatter by {numbers.lattice_rms_A:.2f} A about their lattice")
    if numbers.weakest_shell is not None and numbers.weakest_shell < limits.weakest_shell:
        against.append(
            "at some spatial frequencies the map does not show its own atoms, or their negative: where the lens turns "
            "the contrast over, optics.cs_um and optics.defocus_A would undo it"
        )
    return replace(numbers, trusted=not against, reasons=tuple(against))
