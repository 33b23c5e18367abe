"""From decided branches to the published map: full-band refinement of each half against its own map, then the solve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .branches import Path, centre_within, find_centre, half_of
from .device import Device
from .maps import Accumulator, SolvedMap, Sums, filled_map, rough_map, solve_halves
from .rotations import angle_deg
from .symmetry import Operations
from .volume import Grid, added, as_kernel_volume
from .whitened import Whitened

Floats = NDArray[np.float64]
MOST_DEG = 3.0  # a refinement that moves a pose further is refused: the branch was decided elsewhere


def _lattice_centre(
    first: Sums,
    second: Sums,
    lattice_real: Any,
    grid: Grid,
    band_k: tuple[float, float],
    device: Device,
    *,
    operations: Operations | None,
) -> Floats:
    """Where the lattice centre of the joint map is, (x, y, z) in pixels."""
    rough = rough_map(added(first[0], second[0], device), added(first[1], second[1], device), grid, device)
    near = centre_within(operations)
    return find_centre(rough, device.asarray(lattice_real), grid, band_k[0] * 0.85, band_k[1], device, near)


def refine_halves(
    data: Whitened,
    sums: Accumulator,
    frames: NDArray[np.int64],
    number: NDArray[np.int64],
    path: Path,
    lattice_real: NDArray[np.float32],
    grid: Grid,
    radii: tuple[float, ...],
    band_k: tuple[float, float],
    *,
    operations: Operations | None = None,
) -> Path:
    """Refine poses against the filled map of their own half, so that the halves stay independent.

    Parameters
    ----------
    sums : of the two halves, on this grid or a larger one. frames : (t,) rows of `data` to refine. number : (t,) frame
        numbers. path : their poses. lattice_real : the symmetrised lattice map on this grid's sampling. radii : the
        growing limits in cycles per box.
    """
    device = data.device
    first, second = sums.halves(grid)
    centre = _lattice_centre(first, second, lattice_real, grid, band_k, device, operations=operations)
    filled = filled_map(first, second, grid, centre, device, with_halves=True, with_joint=False, operations=operations)
    if filled.halves is None:
        raise AssertionError("filled_map was asked for halves")
    poses, shifts, score = path.poses.copy(), path.shifts.copy(), path.score.copy()
    half = half_of(number)
    for h, volume in enumerate(device.each(lambda device, half: as_kernel_volume(half, device), filled.halves)):
        rows = np.flatnonzero(half == h)
        for k_max in radii:
            fresh, moved, likelihood = data.refine(volume, frames[rows], poses[rows], shifts[rows], k_max, rounds=6)
            kept = angle_deg(fresh, path.poses[rows]) < MOST_DEG
            poses[rows[kept]], shifts[rows[kept]], score[rows[kept]] = fresh[kept], moved[kept], likelihood[kept]
    return Path(poses, shifts, score, path.used)


def scoring_map(
    sums: Accumulator,
    lattice_real: NDArray[np.float32],
    grid: Grid,
    band_k: tuple[float, float],
    *,
    operations: Operations | None = None,
) -> tuple[NDArray[np.float32], Floats]:
    """The filled map of two halves in kernel layout, and its lattice centre (x, y, z) in pixels."""
    device = sums.device
    first, second = sums.halves(grid)
    centre = _lattice_centre(first, second, lattice_real, grid, band_k, device, operations=operations)
    filled = filled_map(first, second, grid, centre, device, operations=operations)
    return as_kernel_volume(filled.joint, device), centre


def solve(sums: Accumulator) -> SolvedMap:
    """Final maps from the sums of two halves."""
    return solve_halves(*sums.halves(), sums.grid, sums.device)
