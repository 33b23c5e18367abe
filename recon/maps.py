"""From accumulators to maps: the O_h-filled map that scores poses, and the Wiener-solved halves that are published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device, resident
from .kernels import passes
from .symmetry import Operations
from .volume import (
    Grid,
    added,
    complete,
    in_layers,
    masked,
    masked_real,
    phase_lines,
    phase_ramp,
    power_of,
    shell_correlation,
    shell_index,
    shell_sum,
    shell_values,
    shell_voxels,
    symmetrise,
    symmetrise_by,
    within,
)

Sums = tuple[Any, Any]  # numerator (complex64) and denominator (float32) on the half grid

# Weight of the symmetrised prior in the filled map, as a multiple of 1 / (asymmetric power).
PRIOR_WEIGHT = 0.1


class Accumulator:
    """Sums of weighted coefficients of several disjoint sets of frames (halves, folds) on one grid.

    `numerator` (sets, edge, edge, half + 1, 2) and `denominator` (sets, edge, edge, half + 1), float32, on the device:
    of the half grid, what belongs before it as its mate. At x = 0, where both mates have a place, either may lie.
    """

    def __init__(self, grid: Grid, sets: int, device: Device) -> None:
        self.grid, self.device = grid, device
        shape = (sets, grid.edge, grid.edge, grid.half + 1)
        self.numerator = device.xp.zeros((*shape, 2), np.float32)
        self.denominator = device.xp.zeros(shape, np.float32)

    def sums(self, *sets: int, grid: Grid | None = None) -> Sums:
        """Friedel-completed (numerator, denominator) of the union of `sets`: complex64 and float32, half grid.

        With `grid`, a smaller one, only its part.
        """
        inner = (slice(None), *self._inner(grid or self.grid))
        spectra, weights = self.numerator.view(np.complex64)[..., 0][inner], self.denominator[inner]
        numerator, denominator = spectra[sets[0]].copy(), weights[sets[0]].copy()
        for s in sets[1:]:
            numerator += spectra[s]
            denominator += weights[s]
        complete(numerator)
        complete(denominator)
        return numerator, denominator

    def halves(self, grid: Grid | None = None) -> tuple[Sums, Sums]:
        """`sums` of the first two sets."""
        first, second = self.device.each(lambda _, half: self.sums(half, grid=grid), (0, 1))
        return first, second

    def _inner(self, grid: Grid) -> tuple[slice, slice, slice]:
        """Where a smaller grid lies in this one.

        Raises
        ------
        ValueError : it is larger.
        """
        margin = self.grid.half - grid.half
        if margin < 0:
            raise ValueError(f"grid k_max {self.grid.k_max} is smaller than {grid.k_max}")
        return slice(margin, margin + grid.edge), slice(margin, margin + grid.edge), slice(0, grid.half + 1)

    def add_cropped(self, other: Accumulator, first_set: int = 0) -> None:
        """Add the sums of an accumulator on a larger grid to the sets from `first_set` on."""
        inner = (slice(None), *other._inner(self.grid))
        sets = slice(first_set, first_set + len(other.denominator))
        self.numerator[sets] += other.numerator[inner]
        self.denominator[sets] += other.denominator[inner]


@dataclass(frozen=True, slots=True, eq=False)
class FilledMap:
    """Fourier volumes ready for slicing; `joint` of both halves, `halves` each with its own data.

    `asymmetry` is the asymmetric power per shell, from the cross term of the halves.
    """

    joint: Any
    halves: tuple[Any, Any] | None
    asymmetry: NDArray[np.float64]


def asymmetric_power(
    first: Sums, second: Sums, centre_px: NDArray[np.float64], symmetric: Any, grid: Grid, device: Device
) -> NDArray[np.float64]:
    """Power per shell of what is not symmetric, from the cross term of two independent halves.

    `first` and `second` are (numerator, denominator), `symmetric` is their joint symmetrisation about `centre_px`.
    """
    (a1, w1), (a2, w2) = first, second
    if device.xp is np:
        lines, shell = phase_lines(grid, centre_px), shell_index(grid, device)
        sums = sum(in_layers(device, passes.asymmetry_sums, a1, w1, a2, w2, *lines, symmetric, shell, grid.k_max + 1))
    else:
        ramp = phase_ramp(grid, centre_px, device)
        pairs = w1 * w2
        rest1, rest2 = a1 * ramp - w1 * symmetric, a2 * ramp - w2 * symmetric
        cross = (rest1.real * rest2.real + rest1.imag * rest2.imag) * (pairs > 0)
        sums = [shell_sum(values, grid, device) for values in (pairs, cross, pairs * power_of(symmetric))]
    norm = np.maximum(sums[0], 1e-9)
    asymmetric, reference = sums[1] / norm, sums[2] / norm
    asymmetric = np.convolve(np.pad(asymmetric, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    return np.maximum(asymmetric, np.maximum(0.01 * np.maximum(reference, 0.01 * asymmetric[4:].max()), 1e-12))


def filled_map(
    first: Sums,
    second: Sums,
    grid: Grid,
    centre_px: NDArray[np.float64],
    device: Device,
    *,
    with_halves: bool = False,
    with_joint: bool = True,
    asymmetry: NDArray[np.float64] | None = None,
    operations: Operations | None = None,
) -> FilledMap:
    """Maps in which unmeasured Fourier voxels hold the map's own symmetrisation, of the cube or of a twinned crystal.

    A map of a few hundred views has holes; in them a right pose scores nothing while a wrong one that falls on measured
    lattice spots scores much. With ``V = (A + lambda Vs) / (W + lambda)``, Vs the symmetrisation about the lattice
    centre and ``lambda = PRIOR_WEIGHT / (asymmetric power per shell)`` from the cross term of the two halves, all 48
    branches compete on equal terms.

    Parameters
    ----------
    first, second : (numerator, denominator) of the two halves, Friedel-completed.
    centre_px : (x, y, z) of the lattice centre in pixels from the map centre.
    asymmetry : asymmetric power per shell, when it is known from a larger set of frames.
    operations : of the symmetrisation; all of the cube if not given.
    """
    weight, symmetric = _symmetrised(first, second, grid, centre_px, device, operations)
    if asymmetry is None:
        asymmetry = asymmetric_power(first, second, centre_px, symmetric, grid, device)
    prior = shell_values(PRIOR_WEIGHT / asymmetry, grid, device)
    inside = resident(device, within, grid)

    def solve(device: Device, sums: Sums) -> Any:
        if device.xp is np:
            volume = np.empty(sums[0].shape, np.complex64)
            in_layers(device, passes.fill, *sums, symmetric, *phase_lines(grid, centre_px), prior, inside, volume)
        else:
            moved = symmetric * prior * phase_ramp(grid, centre_px, device).conj()
            volume = (sums[0] + moved) * (inside / (sums[1] + prior))
        return masked(volume, grid, device)

    both = [(added(first[0], second[0], device), weight)] if with_joint else []
    wanted = both + ([first, second] if with_halves else [])
    solved = device.each(solve, wanted)
    return FilledMap(
        joint=solved.pop(0) if with_joint else device.xp.zeros(0),
        halves=(solved[0], solved[1]) if with_halves else None,
        asymmetry=asymmetry,
    )


def _symmetrised(
    first: Sums,
    second: Sums,
    grid: Grid,
    centre_px: NDArray[np.float64],
    device: Device,
    operations: Operations | None,
) -> tuple[Any, Any]:
    """Weight of both halves together, and their mean over the symmetry about `centre_px`."""
    if operations is not None:
        weight = first[1] + second[1]
        total = (first[0] + second[0]) * phase_ramp(grid, centre_px, device)
        symmetric, around = (symmetrise_by(operations, array, device) for array in (total, weight))
    else:  # the real part of the sums about the lattice centre: O_h contains the inversion
        if device.xp is np:
            even, weight = np.empty(first[1].shape, np.float32), np.empty(first[1].shape, np.float32)
            in_layers(device, passes.centred_even, *first, *second, *phase_lines(grid, centre_px), even, weight)
        else:
            weight, total = first[1] + second[1], first[0] + second[0]
            ramp = phase_ramp(grid, centre_px, device)
            even = total.real * ramp.real - total.imag * ramp.imag
        symmetric, around = device.each(lambda _, array: symmetrise(array), (even, weight))
    floor = 1e-3 * float(shell_sum(around, grid, device).sum() / shell_voxels(grid).sum()) + 1e-9
    symmetric /= around + np.float32(floor)
    return weight, symmetric


def rough_map(numerator: Any, denominator: Any, grid: Grid, device: Device) -> Any:
    """Masked real map with a plain regularisation, for finding the lattice centre."""
    measured, total = device.down((denominator > 0).sum(), denominator.sum())
    level = 0.05 * float(total) / max(float(measured), 1.0) + 1e-9
    if device.xp is not np:
        return masked_real(numerator / (denominator + np.float32(level)), grid, device)
    volume = np.empty_like(numerator)
    in_layers(device, passes.damp_evenly, numerator, denominator, np.float32(level), volume)
    return masked_real(volume, grid, device)


@dataclass(frozen=True, slots=True, eq=False)
class SolvedMap:
    """Published maps, real ``[z, y, x]`` float32 on the host, box_px voxels; `fsc` per shell of 1/box."""

    joint: NDArray[np.float32]
    half1: NDArray[np.float32]
    half2: NDArray[np.float32]
    fsc: NDArray[np.float64]


def solve_halves(first: Sums, second: Sums, grid: Grid, device: Device) -> SolvedMap:
    """Wiener-solved maps; the prior power comes from the half-map FSC, never from the map itself.

    ``V = A / (W + reg)``, ``reg = <W> (1 - F) / F`` per shell (Scheres, J. Mol. Biol. 415, 406 (2012)).
    """
    inside = resident(device, within, grid)
    mean_weight = 0.5 * shell_sum(first[1] + second[1], grid, device) / np.maximum(shell_voxels(grid), 1)
    rough = shell_values(0.05 * mean_weight + 1e-9, grid, device)

    def damped(device: Device, sums: Sums, level: Any) -> Any:
        if device.xp is not np:
            return sums[0] * (inside / (sums[1] + level))
        volume = np.empty_like(sums[0])
        in_layers(device, passes.damp, *sums, level, inside, volume)
        return volume

    def confined(device: Device, sums: Sums) -> Any:
        return masked(damped(device, sums, rough), grid, device)

    half1, half2 = device.each(confined, (first, second))
    fsc = shell_correlation(half1, half2, grid, device)
    bounded = np.clip(np.convolve(np.pad(fsc, 1, mode="edge"), [0.25, 0.5, 0.25], "valid"), 0.02, 0.999)
    reg = shell_values(mean_weight * (1 - bounded) / bounded + 1e-9, grid, device)

    def solved(device: Device, sums: Sums) -> NDArray[np.float32]:
        real = masked_real(damped(device, sums, reg), grid, device, grid.box_px)
        return np.asarray(device.to_host(real), np.float32)

    real1, real2 = device.each(solved, (first, second))
    both = added(first[0], second[0], device), added(first[1], second[1], device)
    return SolvedMap(solved(device, both), real1, real2, fsc)
