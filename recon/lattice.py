"""A lattice as first model: template, kind and constant, and indexing of every frame on a pose grid.

The image of a centrosymmetric lattice has a real transform and repeats 48 times over SO(3); both are used: only the
real part of the moved-back coefficients enters, and only one 48th of the poses is scored, as one matrix product per
batch.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .chain import transition_weights
from .device import Device
from .geometry import HalfPlane
from .kinds import FCC, Kind, Lattice
from .rotations import equivalents, fundamental_zone_grid, to_matrix
from .spectra import excess_profile
from .volume import PAD, Grid, as_kernel_volume, radius_grid

Floats = NDArray[np.float64]

BAND_LOW, BAND_HIGH = 0.32, 0.872  # 1/A for a = 3.97 A: (111) to beyond (311)
ATOM_SIGMA_A = 0.45
LEAST_SHELL = 0.05  # of the strongest shell: weaker ones are left out of the exhaustive search
FAINT_SHELL = 0.01  # the same where lattices are told apart, which the farther reflections do
NEGLIGIBLE = np.float32(1e-6)  # share of the most probable pose below which a pose does not spread
SEARCH_STEP_A, FINE_STEP_A = 0.05, 0.02  # of the constant of an fcc lattice
GLANCE_STEP_A = 0.1  # where another kind is tried on `FEW` frames
LATTICE_FRAMES, FEW = 60, 15  # frames on which the constant is measured, and another kind tried first
CLOSE = 0.85  # of the score of the first kind, from which another is looked at closely; on fcc crystals bcc had 0.75


def band(scale_A: float, box_A: float, k_max: int) -> tuple[float, float]:
    """Radii (cycles per box) between which the first lattice reflections lie: (111) to (311), or (110) to (211) of bcc.

    `scale_A` is the constant of an fcc lattice, see `Lattice.scale_A`.
    """
    scale = 3.97 / scale_A * box_A
    return BAND_LOW * scale, min(BAND_HIGH * scale, k_max)


def lattice_volume(lattice: Lattice, diameter_A: float, grid: Grid, pixel_size_A: float, device: Device) -> Any:
    """Fourier volume (half grid, complex64) of a ball of Gaussian atoms, ready for slicing, real-valued by symmetry."""
    atoms = lattice.ball(diameter_A) / pixel_size_A
    k = np.arange(grid.half + 1) / PAD
    # trilinear slicing attenuates by sinc^2 of the position: atoms are weighted up by it
    boost = (np.sinc(atoms / (PAD * grid.box_px)) ** 2).prod(axis=1)
    # the ball has all mirror planes: cosines only, and one octant is enough
    z, y, x = (np.cos(2 * np.pi / grid.box_px * np.outer(k, atoms[:, axis])).astype(np.float32) for axis in (2, 1, 0))
    zy = (z[:, None, :] * (y / boost.astype(np.float32))[None, :, :]).reshape(-1, len(atoms))
    octant = (zy @ x.T).reshape((len(k),) * 3)
    mirror = np.abs(np.arange(-grid.half, grid.half + 1))
    radius2 = (radius_grid(grid) / (grid.box_px * pixel_size_A)) ** 2
    volume = octant[np.ix_(mirror, mirror, np.arange(grid.half + 1))] * np.exp(
        -2 * np.pi**2 * ATOM_SIGMA_A**2 * radius2
    )
    return device.asarray(volume.astype(np.complex64))


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
    """Poses of the fundamental zone and, in compressed rows, their neighbours modulo 48 with a Gaussian weight."""

    poses: Floats  # (g, 4)
    matrices: NDArray[np.float32]  # (g, 3, 3)
    start: NDArray[np.int64]  # (g + 1,)
    neighbour: NDArray[np.int32]
    weight: NDArray[np.float32]
    sigma_deg: float


def pose_grid(spacing_deg: float, sigma_deg: float) -> PoseGrid:
    """Build the pose grid; `sigma_deg` is the rotation per frame (rms per axis) of the chain on it."""
    poses = fundamental_zone_grid(spacing_deg)
    images = equivalents(poses).reshape(-1, 4)
    owner = np.repeat(np.arange(len(poses)), 48)
    tree = cKDTree(np.concatenate([images, -images]))
    reach = 2 * math.sin(math.radians(3.2 * sigma_deg) / 4)
    found = tree.query_ball_point(poses, reach, workers=-1, return_sorted=True)
    start = np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64)
    column = owner[np.fromiter(itertools.chain.from_iterable(found), np.int64, start[-1]) % len(images)].astype(
        np.int32
    )
    weight = transition_weights(poses, start, column, sigma_deg)
    return PoseGrid(poses, to_matrix(poses).astype(np.float32), start, column, weight, sigma_deg)


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
    """Scores frames against all poses of a grid for one centrosymmetric, O_h-symmetric model."""

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
        """`volume`, half grid, complex with a real transform; `band_k` radii used; `shift_sd_px` prior of the shift;
        `stretch` > 1 enlarges the model in real space; shells below `least_shell` of the strongest are left out.
        """
        self.grid, self.plane, self.shifts, self.device = grid, plane, shifts, device
        first, last = plane.count(band_k[0]), plane.count(band_k[1])
        slices = device.kernels.slice_volume(
            as_kernel_volume(volume, device), PAD * stretch, device.asarray(grid.matrices),
            device.asarray(plane.kx[first:last]), device.asarray(plane.ky[first:last]), last - first,
        )  # fmt: skip
        model = slices[:, :, 0]  # the imaginary part is zero by symmetry
        power = device.to_host((model**2).mean(axis=0)) * weight[first:last]
        chosen = _informative(power, plane.radius[first:last], least_shell)
        self.columns = device.asarray(first + chosen)
        self.model = device.xp.ascontiguousarray(model[:, device.asarray(chosen)])
        kx, ky = plane.kx[first:last][chosen], plane.ky[first:last][chosen]
        self.weight = device.asarray(weight[first:last][chosen])
        self.energy = (self.model**2) @ self.weight
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


class LatticeFit(NamedTuple):
    """The lattice that fits best, how sharply its constant wins in standard errors, whether atoms are bright (1) or
    dark (-1), and by how many standard errors that sign leads (infinity where no other was tried). `scores` (frames,)
    are those of the best constant tried: twice the log-likelihood that the lattice gains over noise alone.
    """

    lattice: Lattice
    sharpness: float
    sign: int
    lead: float = math.inf
    scores: Floats = np.zeros(0)


def matched_scores(indexer: LatticeIndexer, coefficients: Any, signs: tuple[int, ...]) -> Floats:
    """Best matched-filter score ``S^2 / E`` over poses and shifts, (signs, frames): twice the log-likelihood gained, at
    the amplitude that suits each frame best, of atoms that are bright (1) or dark (-1).
    """
    xp, shifts = indexer.device.xp, len(indexer.shifts)
    best = np.zeros((len(signs), len(coefficients)))
    for low in range(0, len(coefficients), 10):
        cross = indexer.cross(coefficients[low : low + 10])
        ratio = cross * abs(cross) / indexer.energy
        for row, sign in zip(best, signs, strict=True):
            most = ratio.max(axis=1) if sign > 0 else -ratio.min(axis=1)
            row[low : low + 10] = indexer.device.to_host(xp.maximum(most.reshape(-1, shifts).max(axis=1), 0))
    return best


def measure_lattice_constant(
    coefficients: Any,
    plane: HalfPlane,
    weight: NDArray[np.float32],
    diameter_A: float,
    pixel_size_A: float,
    volume_grid: Grid,
    poses: PoseGrid,
    device: Device,
    search_A: tuple[float, float] = FCC.search_A,
    signs: tuple[int, ...] = (1,),
    kind: Kind = FCC,
    step_A: float = SEARCH_STEP_A,
) -> LatticeFit:
    """The lattice constant that indexes a sample of frames best, of atoms that are bright (1) or dark (-1).

    For each trial constant every frame contributes its best matched-filter score over poses and shifts,
    ``S^2 / E`` (independent of the unknown contrast); the maximum of the mean is refined by a parabola. Where three
    reflections are seen together their phases tell bright from dark atoms: `signs` are those that are tried. Trials are
    `step_A` apart on the scale of an fcc lattice.
    """
    shifts = shift_grid(2.5, 1.25)
    box_A = plane.box_px * pixel_size_A
    reference = float(np.mean(search_A))
    # one volume serves all constants: a larger lattice is the same transform at proportionally larger k
    wide = Grid(plane.box_px, math.ceil(volume_grid.k_max * search_A[1] / reference))
    volume = lattice_volume(Lattice(kind, reference), diameter_A, wide, pixel_size_A, device)

    def frame_scores(constant: float) -> Floats:
        """(signs, frames) best score of every frame."""
        band_k = band(kind.widening * constant, box_A, volume_grid.k_max)
        indexer = LatticeIndexer(
            volume, poses, plane, weight, band_k, shifts, 1e3, device, stretch=constant / reference
        )
        return matched_scores(indexer, coefficients, signs)

    coarse = np.arange(search_A[0], search_A[1] + 1e-9, step_A / kind.widening)
    both = np.array([frame_scores(a) for a in coarse]).swapaxes(0, 1)
    chosen = int(both.mean(axis=2).max(axis=1).argmax())
    scores = both[chosen]
    lead = both[chosen, scores.mean(axis=1).argmax()] - both[-1 - chosen, both[-1 - chosen].mean(axis=1).argmax()]
    centre = coarse[scores.mean(axis=1).argmax()]
    fine = centre + np.arange(-2, 3) * (FINE_STEP_A / kind.widening)
    values = np.array([frame_scores(a)[chosen].mean() for a in fine])
    curvature, slope, _ = np.polyfit(fine - centre, values, 2)
    best = centre - slope / (2 * curvature) if curvature < 0 else fine[values.argmax()]
    best = float(np.clip(best, fine[0], fine[-1]))
    winner = scores[scores.mean(axis=1).argmax()]
    others = np.median(scores, axis=0)
    gain = winner - others
    sure = _sureness(lead) if len(signs) > 1 else math.inf
    return LatticeFit(Lattice(kind, best), _sureness(gain), signs[chosen], sure, winner)


def _sureness(gain: Floats) -> float:
    """Mean of a gain (n,) in standard errors."""
    return float(gain.mean() / (gain.std() / math.sqrt(len(gain)) + 1e-12))


def recognise_lattice(
    coefficients: Any,
    plane: HalfPlane,
    weight: NDArray[np.float32],
    diameter_A: float,
    pixel_size_A: float,
    volume_grid: Grid,
    poses: PoseGrid,
    device: Device,
    ranges: tuple[tuple[Kind, tuple[float, float]], ...],
    signs: tuple[int, ...] = (1,),
) -> LatticeFit:
    """The kind of lattice, of those in `ranges`, and its constant, which explain the frames best.

    Constants are measured on a sample. The first reflections of two lattices may lie alike: where a rival comes `CLOSE`
    to the first on a few frames, both get the contrast of the measured power, so that the farther reflections count for
    what they are, and the likelihood of all frames decides; it has one unit, whatever the lattice and its band.
    """
    sample = coefficients[:: max(1, len(coefficients) // LATTICE_FRAMES)]
    every = max(1, len(sample) // FEW)

    def fit(kind: Kind, search_A: tuple[float, float], frames: Any, step_A: float = SEARCH_STEP_A) -> LatticeFit:
        return measure_lattice_constant(
            frames, plane, weight, diameter_A, pixel_size_A, volume_grid, poses, device, search_A, signs, kind, step_A
        )

    def explained(found: LatticeFit) -> float:
        low, high = band_k = band(found.lattice.scale_A, plane.box_px * pixel_size_A, round(float(plane.radius[-1])))
        excess = excess_profile(device.to_host(coefficients), plane, weight)
        if not (excess[round(low) : int(high) + 1] > 0).any():
            return 0.0
        grid = Grid(plane.box_px, int(high))
        ball = lattice_volume(found.lattice, diameter_A, grid, pixel_size_A, device)
        model = match_contrast(ball, excess, plane, grid, pixel_size_A, band_k, poses.poses[::40], device)
        indexer = LatticeIndexer(
            model, poses, plane, weight, band_k, shift_grid(2.5, 1.25), 1e3, device, least_shell=FAINT_SHELL
        )
        return float(matched_scores(indexer, coefficients, signs).mean(axis=1).max())

    best = fit(*ranges[0], sample)
    for kind, search_A in ranges[1:]:
        glance = fit(kind, search_A, sample[::every], GLANCE_STEP_A)
        if glance.scores.mean() > CLOSE * best.scores[::every].mean():
            best = max(best, fit(kind, search_A, sample), key=explained)
    return best
