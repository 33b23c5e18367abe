"""Uniform strain of a crystal: noticed on its own map, measured on its lattice, which its poses are then laid on.

Poses begin on an ideal lattice, and a map's own symmetrisation, which fills what is not measured, is an ideal crystal
again. To first order a strained crystal shows in each view what an ideal one shows that is tilted a little and strained
in the plane of the image alone: poses lean towards the ideal lattice. The reflections of a map of such poses have the
right distances and wrong angles, and half of the strain is lost. Refinement against the map itself does not bring it
back, since tilts and angles fit each other. Pt strained by 2, 0 and -1.5 %: atoms 0.059 A rms from the truth, and 0.025
with known poses.

The frames of one half of the movie want little strain against the right map of the other half: of crystals without any
0.1 to 0.3 % at 80 electrons per A^2, of that one 0.5 to 0.6. The lattice tells how much it is, but has no shape of its
own: few views of a rough crystal of 100 atoms without strain looked like 1 % on it. In little light the map may want
0.7 % of a crystal without strain, of which the lattice knows nothing. So both are asked.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import Path, half_of, lattice_position
from .indexing import LatticeModel
from .maps import Accumulator, filled_map
from .rotations import angle_deg
from .site import Site
from .symmetry import CUBE
from .volume import Grid, as_kernel_volume, sampled
from .whitened import Whitened

Floats = NDArray[np.float64]
NOTICED = 0.0035  # largest principal strain, its mean taken out, wanted against a map: from here on there is one
LEAST_FRAMES = 300  # of 200, seen from too few sides, 1.8 % were found that were none
LEAST = 0.006  # the same of the lattice; less than that the poses need not know
SAMPLE = 150  # frames that it is found with
STEP = 0.008  # of the derivatives
ROUNDS, SETTLED = 5, 0.001  # of Newton's method, and the step at which it ends
SOFTEST, LEAST_BEND = 0.15, 0.02  # of the largest curvature: what is hardly measured is followed no faster
FARTHEST_DEG = 3.0  # a pose that moves by more has lost its way


def _symmetric(i: int, j: int) -> Floats:
    unit = np.zeros((3, 3))
    unit[i, j] = unit[j, i] = 1.0 if i == j else math.sqrt(0.5)
    return unit


DIRECTIONS = np.array([_symmetric(i, j) for i, j in itertools.combinations_with_replacement(range(3), 2)])


def deviation(strain: Floats) -> float:
    """Largest principal strain of (3, 3), its mean taken out: that is the lattice constant's."""
    return float(np.abs(np.linalg.eigvalsh(strain - np.trace(strain) / 3 * np.eye(3))).max())


def principal_percent(strain: Floats | None) -> tuple[float, ...]:
    """Principal strains of (3, 3) in per cent, the largest first, less their mean; empty without any."""
    if strain is None:
        return ()
    along = np.linalg.eigvalsh(strain)[::-1]
    return tuple(100 * float(value) for value in along - along.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """Frames and the volumes that their poses are laid on.

    Attributes
    ----------
    rows : (t,) of `data`. volumes : on the half grid, ready for slicing. which : (t,) the volume of each frame.
    centre_px : (x, y, z) in the map's frame of what is the middle of the volumes. k_max : in cycles per box.
    band : whether the lattice band alone counts.
    """

    data: Whitened
    rows: NDArray[np.int64]
    volumes: tuple[Any, ...]
    which: NDArray[np.int64]
    centre_px: Floats
    k_max: float
    band: bool

    def refined(self, path: Path, strain: Floats, rounds: int = 8) -> Path:
        """Poses (t,) at their optimum on the volumes strained by (3, 3); `score` is the likelihood there."""
        device = self.data.device
        seen = lattice_position(path.poses, path.shifts, self.centre_px)
        poses, moved, score = path.poses.copy(), seen.copy(), path.score.copy()
        for v, volume in enumerate(self.volumes):
            mine = np.flatnonzero(self.which == v)
            strained = as_kernel_volume(sampled(volume, np.eye(3) + strain, device), device)
            poses[mine], moved[mine], score[mine] = self.data.refine(
                strained, self.rows[mine], path.poses[mine], seen[mine], self.k_max, rounds=rounds, band=self.band
            )
        shifts = moved - lattice_position(poses, np.zeros_like(moved), self.centre_px)
        near = (angle_deg(poses, path.poses) < FARTHEST_DEG)[:, None]
        return Path(np.where(near, poses, path.poses), np.where(near, shifts, path.shifts), score, path.used)

    def sample(self, path: Path) -> tuple[Laid, Path]:
        """Some of the used frames, evenly, and their poses."""
        used = np.flatnonzero(path.used)
        some = used[np.unique(np.linspace(0, len(used) - 1, min(SAMPLE, len(used))).astype(np.int64))]
        fewer = Laid(self.data, self.rows[some], self.volumes, self.which[some], self.centre_px, self.k_max, self.band)
        return fewer, Path(path.poses[some], path.shifts[some], path.score[some], path.used[some])


def find_strain(on: Laid, path: Path, start: Floats | None = None, rounds: int = ROUNDS) -> Floats:
    """The uniform strain (3, 3) of the volumes with which they explain the frames best, each at its own best pose.

    Newton's method by differences: the second derivatives along the directions, and between them as the derivatives of
    single frames are correlated (Berndt, Hall, Hall & Hausman, Ann. Econ. Soc. Meas. 3, 653 (1974)).

    Parameters
    ----------
    path : (t,) poses of the frames. start : (3, 3) symmetric, none if not given.
    """
    on, path = on.sample(path)
    strain = np.zeros((3, 3)) if start is None else start
    for _ in range(rounds):
        path = on.refined(path, strain)
        more, less = (
            np.array([on.refined(path, strain + step * to, rounds=2).score for to in DIRECTIONS])
            for step in (STEP, -STEP)
        )
        slope = (more - less) / (2 * STEP)
        bend = (2 * path.score - more - less).mean(axis=1) / STEP**2
        if not bend.max() > 0:
            break
        scale = np.sqrt(np.maximum(bend, SOFTEST * bend.max()))
        curvature = np.corrcoef(slope) * np.outer(scale, scale) + LEAST_BEND * bend.max() * np.eye(len(DIRECTIONS))
        step = np.tensordot(np.linalg.solve(curvature, slope.mean(axis=1)), DIRECTIONS, 1)
        strain = strain + step
        if deviation(step) < SETTLED:
            break
    return np.asarray(strain)


def strained(
    model: LatticeModel,
    data: Whitened,
    sums: Accumulator,
    rows: NDArray[np.int64],
    number: NDArray[np.int64],
    path: Path,
    centre_px: Floats,
    grid: Grid,
    k_max: float,
    site: Site,
) -> tuple[Site, Path] | None:
    """The site with its lattice strained as the crystal is, and poses laid on that; None where there is no strain.

    Parameters
    ----------
    model : the lattice. sums : of the two halves, of which the maps are made that the frames of the other half are laid
        on. rows : (t,) of `data`. number : (t,) frame numbers. path : (t,) poses. centre_px : (x, y, z) of the lattice
        centre in the map. grid, k_max : of those maps, and in cycles per box.
    """
    if site.twinned or site.kind.symmetry is not CUBE or path.used.sum() < LEAST_FRAMES:
        return None
    if site.strain is None:
        filled = filled_map(*sums.halves(grid), grid, centre_px, data.device, with_halves=True, with_joint=False)
        others = (filled.halves or ())[::-1]
        wanted = find_strain(Laid(data, rows, others, half_of(number), np.zeros(3), k_max, band=False), path, rounds=1)
        if deviation(wanted) < NOTICED:
            return None
    lattice = Laid(data, rows, (model.volume,), np.zeros_like(rows), centre_px, model.grid.k_max, band=True)
    strain = find_strain(lattice, path, site.strain)
    if site.strain is None and deviation(strain) < LEAST:
        return None
    return replace(site, strain=strain), lattice.refined(path, strain)
