"""A lattice as first model: template, and indexing of every frame on a pose grid.

The image of a cubic lattice has a real transform and repeats 48 times over SO(3); both are used: only the real part of
the moved-back coefficients enters, and only one 48th of the poses is scored, as one matrix product per batch. Other
ideal crystals repeat as often as their point group says; without an inversion centre both parts enter.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .chain import transition_weights
from .device import Device
from .geometry import HalfPlane
from .kinds import Lattice
from .rotations import fundamental_zone_grid, to_matrix
from .symmetry import CUBE, Symmetry
from .volume import PAD, Grid, as_kernel_volume, radius_grid

Floats = NDArray[np.float64]

BAND_LOW, BAND_HIGH = 0.32, 0.872  # 1/A for a = 3.97 A: (111) to beyond (311)
ATOM_SIGMA_A = 0.45
LEAST_SHELL = 0.05  # of the strongest shell: weaker ones are left out of the exhaustive search
GLANCED = 256  # poses that tell which shells are far below that: their mean is within some per cent of that of all
UNLIKELY = 0.25  # of the least shell
NEGLIGIBLE = np.float32(1e-6)  # share of the most probable pose below which a pose does not spread


def band(scale_A: float, box_A: float, k_max: int) -> tuple[float, float]:
    """Radii (cycles per box) between which the first lattice reflections lie: (111) to (311), or (110) to (211) of bcc.

    `scale_A` is the constant of an fcc lattice, see `Lattice.scale_A`.
    """
    scale = 3.97 / scale_A * box_A
    return BAND_LOW * scale, min(BAND_HIGH * scale, k_max)


def lattice_volume(lattice: Lattice, diameter_A: float, grid: Grid, pixel_size_A: float, device: Device) -> Any:
    """Fourier volume (half grid, complex64) of a ball of Gaussian atoms, ready for slicing, real-valued if it has an
    inversion centre.
    """
    atoms = lattice.ball(diameter_A) / pixel_size_A
    # trilinear slicing attenuates by sinc^2 of the position: atoms are weighted up by it
    boost = (np.sinc(atoms / (PAD * grid.box_px)) ** 2).prod(axis=1).astype(np.float32)
    made = _mirrored_sum if lattice.kind.symmetry is CUBE else _sum
    volume = made(2 * np.pi / grid.box_px * atoms, boost, grid.half)
    radius2 = (radius_grid(grid) / (grid.box_px * pixel_size_A)) ** 2
    volume = volume * np.exp(-2 * np.pi**2 * ATOM_SIGMA_A**2 * radius2)
    return device.asarray(volume.astype(np.complex64))


def _mirrored_sum(atoms: Floats, boost: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """Sum of the waves of atoms that have all mirror planes: cosines only, and one octant is enough."""
    k = np.arange(half + 1) / PAD
    z, y, x = (np.cos(np.outer(k, atoms[:, axis])).astype(np.float32) for axis in (2, 1, 0))
    zy = (z[:, None, :] * (y / boost)[None, :, :]).reshape(-1, len(atoms))
    octant = (zy @ x.T).reshape((len(k),) * 3)
    mirror = np.abs(np.arange(-half, half + 1))
    return octant[np.ix_(mirror, mirror, np.arange(half + 1))]


def _sum(atoms: Floats, boost: NDArray[np.float32], half: int) -> NDArray[np.complex64]:
    """Sum of the waves of any atoms (n, 3), in radians per cycle, one plane after the other."""
    k = np.arange(-half, half + 1) / PAD
    z, y, x = (np.exp(-1j * np.outer(k, atoms[:, axis])).astype(np.complex64) for axis in (2, 1, 0))
    x = np.ascontiguousarray(x[half:].T)
    y = y / boost
    return np.stack([(y * plane) @ x for plane in z])


def match_contrast(
    volume: Any,
    excess: Floats,
    plane: HalfPlane,
    grid: Grid,
    pixel_size_A: float,
    band_k: tuple[float, float],
    poses: Floats,
    device: Device,
) -> Any:
    """Scale a lattice volume so that its mean slice power follows the measured one: amplitude and one B-factor.

    `excess` is the power above noise per shell (see `spectra.excess_profile`); `poses` (m, 4) sample SO(3) evenly.
    """
    low, high = round(band_k[0]), int(band_k[1])
    count = plane.count(grid.k_max)
    slices = device.kernels.slice_volume(
        as_kernel_volume(volume, device), PAD, device.asarray(to_matrix(poses).astype(np.float32)),
        device.asarray(plane.kx), device.asarray(plane.ky), count,
    )  # fmt: skip
    shell = np.rint(plane.radius[:count]).astype(int)
    power = np.asarray(device.to_host((slices**2).sum(axis=2).mean(axis=0)))
    model = np.bincount(shell, power) / np.maximum(np.bincount(shell), 1)
    k2 = (np.arange(low, high + 1) / (plane.box_px * pixel_size_A)) ** 2
    measured = np.maximum(excess[low : high + 1], 0)
    # log(measured / model) = log amplitude^2 + 2 B k^2, weighted by the measured power
    ratio = np.log(np.maximum(measured, 1e-3 * measured.max()) / model[low : high + 1])
    growth, level = np.polyfit(k2, ratio, 1, w=np.sqrt(measured))
    radius2 = (radius_grid(grid) / (plane.box_px * pixel_size_A)) ** 2
    return volume * device.asarray(np.exp(0.5 * (level + growth * radius2)).astype(np.float32))


def shift_grid(reach_px: float, step_px: float) -> NDArray[np.float32]:
    """Square grid of shifts (m, 2), the origin first."""
    axis = np.arange(-round(reach_px / step_px), round(reach_px / step_px) + 1) * step_px
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return points[np.argsort((points**2).sum(axis=1), kind="stable")].astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PoseGrid:
    """Poses of the fundamental zone and, in compressed rows, their neighbours modulo `symmetry`, Gaussian weights."""

    poses: Floats  # (g, 4)
    matrices: NDArray[np.float32]  # (g, 3, 3)
    start: NDArray[np.int64]  # (g + 1,)
    neighbour: NDArray[np.int32]
    weight: NDArray[np.float32]
    sigma_deg: float
    symmetry: Symmetry = CUBE


def search_grid(spacing_deg: float, symmetry: Symmetry) -> PoseGrid:
    """Poses alone, for a search without continuity."""
    poses = fundamental_zone_grid(spacing_deg, symmetry.turns, symmetry.flips)
    none = np.zeros(0, np.int32)
    return PoseGrid(
        poses, to_matrix(poses).astype(np.float32), np.zeros(1, np.int64), none, none.astype(np.float32), 0.0, symmetry
    )


def pose_grid(spacing_deg: float, sigma_deg: float, symmetry: Symmetry = CUBE) -> PoseGrid:
    """Build the pose grid; `sigma_deg` is the rotation per frame (rms per axis) of the chain on it."""
    poses = fundamental_zone_grid(spacing_deg, symmetry.turns, symmetry.flips)
    images = symmetry.equivalents(poses).reshape(-1, 4)
    owner = np.repeat(np.arange(len(poses)), symmetry.order)
    tree = cKDTree(np.concatenate([images, -images]))
    reach = 2 * math.sin(math.radians(3.2 * sigma_deg) / 4)
    found = tree.query_ball_point(poses, reach, workers=-1, return_sorted=True)
    start = np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64)
    column = owner[np.fromiter(itertools.chain.from_iterable(found), np.int64, start[-1]) % len(images)].astype(
        np.int32
    )
    weight = transition_weights(poses, start, column, sigma_deg, symmetry)
    return PoseGrid(poses, to_matrix(poses).astype(np.float32), start, column, weight, sigma_deg, symmetry)


@njit(parallel=True, cache=True, fastmath=True)
def _best_shift(cross, shifts, energy, penalty, score, which):  # type: ignore[no-untyped-def]
    frames, poses = score.shape
    for t in prange(frames):
        for g in range(poses):
            best, arg = cross[t * shifts, g] - penalty[0], 0
            for s in range(1, shifts):
                value = cross[t * shifts + s, g] - penalty[s]
                if value > best:
                    best, arg = value, s
            score[t, g] = 2 * best - energy[g]
            which[t, g] = arg


def _informative(power: Floats, radius: NDArray[np.float32], least: float) -> NDArray[np.intp]:
    """Coefficients in shells where the model stands out: between the lattice rings there is little to compare."""
    shell = np.rint(radius).astype(int)
    mean = np.bincount(shell, power) / np.maximum(np.bincount(shell), 1)
    return np.flatnonzero(mean[shell] >= least * mean.max())


class LatticeIndexer:
    """Scores frames against all poses of a grid for one model with the grid's symmetry."""

    def __init__(
        self,
        volume: Any,
        grid: PoseGrid,
        plane: HalfPlane,
        weight: NDArray[np.float32],
        band_k: tuple[float, float],
        shifts: NDArray[np.float32],
        shift_sd_px: float,
        device: Device,
        *,
        stretch: float = 1.0,
        least_shell: float = LEAST_SHELL,
    ) -> None:
        """`volume`, half grid, complex, with an inversion centre real-valued; `band_k` radii used; `shift_sd_px` prior
        of the shift; `stretch` > 1 enlarges the model in real space; shells below `least_shell` of the strongest are
        left out.
        """
        self.grid, self.plane, self.shifts, self.device = grid, plane, shifts, device
        whole = as_kernel_volume(volume, device)

        def sliced(columns: NDArray[np.intp], matrices: NDArray[np.float32]) -> tuple[list[Any], Floats]:
            """Slices (poses, columns), in parts, and their mean power in units of the noise."""
            slices = device.kernels.slice_volume(
                whole, PAD * stretch, device.asarray(matrices), device.asarray(plane.kx[columns]),
                device.asarray(plane.ky[columns]), len(columns),
            )  # fmt: skip
            # with an inversion centre the imaginary part is zero
            parts = [slices[:, :, part] for part in range(1 if grid.symmetry.centred else 2)]
            return parts, device.to_host(sum((part**2).mean(axis=0) for part in parts)) * weight[columns]

        # most shells lie between the lattice rings: a few poses tell which need not be looked at
        columns = np.arange(plane.count(band_k[0]), plane.count(band_k[1]))
        power = sliced(columns, grid.matrices[:: max(1, len(grid.matrices) // GLANCED)].copy())[1]
        columns = columns[_informative(power, plane.radius[columns], UNLIKELY * least_shell)]
        parts, power = sliced(columns, grid.matrices)
        chosen = _informative(power, plane.radius[columns], least_shell)
        columns = columns[chosen]
        self.columns = device.asarray(columns)
        self.model = device.xp.ascontiguousarray(
            device.xp.concatenate([part[:, device.asarray(chosen)] for part in parts], axis=1)
        )
        kx, ky = plane.kx[columns], plane.ky[columns]
        self.weight = device.asarray(weight[columns])
        self.energy = (self.model**2) @ device.xp.concatenate([self.weight] * len(parts))
        angle = 2 * np.pi / plane.box_px * (shifts @ np.stack([kx, ky]).astype(np.float32))
        self.cosine = device.asarray(np.cos(angle).astype(np.float32))
        self.sine = device.asarray(np.sin(angle).astype(np.float32))
        penalty = (0.25 * (shifts.astype(np.float64) ** 2).sum(axis=1) / shift_sd_px**2).astype(np.float32)
        self.penalty = device.asarray(penalty)

    def cross(self, coefficients: Any) -> Any:
        """(t * shifts, g) cross terms of (t, n, 2) coefficients with every pose, one matrix product."""
        real = coefficients[:, self.columns, 0] * self.weight
        imaginary = coefficients[:, self.columns, 1] * self.weight
        moved = real[:, None, :] * self.cosine - imaginary[:, None, :] * self.sine
        if not self.grid.symmetry.centred:
            other = real[:, None, :] * self.sine + imaginary[:, None, :] * self.cosine
            moved = self.device.xp.concatenate([moved, other], axis=2)
        return moved.reshape(-1, moved.shape[2]) @ self.model.T

    def score(self, coefficients: Any, batch: int = 25) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Log-likelihood (t, g), maximised over the shift, and which shift won (t, g)."""
        frames, device = len(coefficients), self.device
        score = np.empty((frames, len(self.grid.poses)), np.float32)
        which = np.empty(score.shape, np.int8)
        for low in range(0, frames, batch):
            cross = self.cross(coefficients[low : low + batch])
            rows = slice(low, low + batch)
            if device.xp is np:
                _best_shift(cross, len(self.shifts), self.energy, self.penalty, score[rows], which[rows])
            else:  # the same in array arithmetic, so that only the best shift of every pose leaves the device
                cross = cross.reshape(-1, len(self.shifts), score.shape[1]) - self.penalty[:, None]
                best = 2 * cross.max(axis=1) - self.energy
                score[rows], which[rows] = device.down(best, cross.argmax(axis=1).astype(np.int8))
        return score, which


@njit(cache=True)
def _spread(start, neighbour, weight, x, least, y):  # type: ignore[no-untyped-def]
    """y = W x for symmetric W, pushed from the entries of x above `least`: a peaked posterior touches few of them."""
    y[:] = np.float32(0)
    for i in range(len(start) - 1):
        share = x[i]
        if share > least:
            for k in range(start[i], start[i + 1]):
                y[neighbour[k]] += weight[k] * share


def grid_posterior(
    score: NDArray[np.float32], grid: PoseGrid, *, exponent: float = 0.3, jump: float = 1e-7
) -> NDArray[np.float32]:
    """Forward-backward probabilities (t, g) of a hidden Markov chain on the pose grid."""
    frames, poses = score.shape
    norm = np.float32(grid.weight.sum() / poses)
    emission = np.exp(np.clip(exponent * (score - score.max(axis=1, keepdims=True)), -60, 0)).astype(np.float32)
    alpha = np.empty((frames, poses), np.float32)
    alpha[0] = emission[0] / emission[0].sum()
    spread = np.empty(poses, np.float32)
    for t in range(1, frames):
        _spread(grid.start, grid.neighbour, grid.weight, alpha[t - 1], NEGLIGIBLE * alpha[t - 1].max(), spread)
        now = (spread / norm + np.float32(jump)) * emission[t]
        alpha[t] = now / now.sum()
    beta = np.ones(poses, np.float32)
    for t in range(frames - 2, -1, -1):
        x = emission[t + 1] * beta
        _spread(grid.start, grid.neighbour, grid.weight, x, NEGLIGIBLE * x.max(), spread)
        beta = spread / norm + np.float32(jump) * x.sum()
        beta /= beta.max()
        alpha[t] *= beta
        alpha[t] /= alpha[t].sum()
    return alpha


def top_poses(
    posterior: NDArray[np.float32], which: NDArray[np.int8], indexer: LatticeIndexer, keep: int
) -> tuple[Floats, NDArray[np.float32]]:
    """The `keep` most probable grid poses of each frame: (t, keep, 4), and their shifts (t, keep, 2)."""
    index = np.argpartition(-posterior, keep, axis=1)[:, :keep]
    order = np.argsort(-np.take_along_axis(posterior, index, axis=1), axis=1, kind="stable")
    index = np.take_along_axis(index, order, axis=1)
    return indexer.grid.poses[index], indexer.shifts[np.take_along_axis(which, index, axis=1)]
