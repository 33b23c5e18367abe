"""The lattice stage: every frame indexed modulo its lattice's symmetry, on a symmetrised map that sharpens by rounds.

The symmetrised map has full coverage whatever the trajectory, so no frame is favoured by what others happened to
measure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .chain import distinct_modulo, posterior_modulo
from .lattice import LEAST_SHELL, LatticeIndexer, PoseGrid, grid_posterior, shift_grid, top_poses
from .maps import Accumulator
from .symmetry import CUBE, Symmetry
from .volume import (
    Grid,
    as_kernel_volume,
    masked,
    shell_sum,
    shell_values,
    shell_voxels,
    symmetrise,
    symmetrise_by,
    to_real,
)  # fmt: skip
from .whitened import Whitened

Floats = NDArray[np.float64]
GRID_POSES, GRID_CANDIDATES = 24, 8  # of each frame: the most probable ones, and those of them that are kept
GRID_APART_DEG = 3.5
SHARP_SHELL = 0.15  # of the strongest shell, once the map of the crystal itself is the model
INSERTED = 4  # candidates per frame that may enter the symmetrised map


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Lattice poses of frames, most probable first: poses (t, k, 4), shifts (t, k, 2), score and probability (t, k)."""

    poses: Floats
    shifts: Floats
    score: Floats
    probability: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LatticeModel:
    """The symmetrised map as a model: complex volume, its kernel layout, and the indexer built on it."""

    volume: Any
    kernel: Any
    indexer: LatticeIndexer
    grid: Grid
    _real: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def real(self, samples: int) -> Any:
        """Its real twin, (samples,)*3, kept: every map is laid over it to find its centre."""
        if samples not in self._real:
            self._real[samples] = to_real(self.volume, self.grid, self.indexer.device, samples)
        return self._real[samples]

    @property
    def symmetry(self) -> Symmetry:
        """Of the volume and of the poses that are searched."""
        return self.indexer.grid.symmetry


def lattice_model(
    volume: Any,
    grid: Grid,
    data: Whitened,
    poses: PoseGrid,
    band_k: tuple[float, float],
    scale: float = 1.0,
    least_shell: float = LEAST_SHELL,
) -> LatticeModel:
    """Prepare a volume with the symmetry of `poses` for indexing; `scale` < 1 softens an unsure contrast."""
    shifts = shift_grid(2.5, 1.25)
    indexer = LatticeIndexer(
        volume * np.float32(scale), poses, data.plane, data.weight, band_k, shifts, data.shift_sd_px, data.device,
        least_shell=least_shell,
    )  # fmt: skip
    return LatticeModel(volume, as_kernel_volume(volume, data.device), indexer, grid)


def _take(array: Floats, order: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(array, order if array.ndim == 2 else order[..., None], axis=1)


def exchanged(
    model: LatticeModel, data: Whitened, frames: NDArray[np.int64], found: Candidates, sigma_deg: float, rounds: int
) -> Candidates:
    """Candidates refined before, ranked anew together with the best of the neighbouring frames, refined here."""
    poses, shifts, score = data.refine(
        model.kernel, frames, neighbours_of(found.poses, 2), neighbours_of(found.shifts, 2), model.grid.k_max,
        rounds=rounds, band=True,
    )  # fmt: skip
    return _ranked(
        np.concatenate([found.poses, poses], axis=1), np.concatenate([found.shifts, shifts], axis=1),
        np.concatenate([found.score, score], axis=1), sigma_deg, found.poses.shape[1], model.symmetry,
    )  # fmt: skip


def _ranked(
    poses: Floats, shifts: Floats, score: Floats, sigma_deg: float, keep: int, symmetry: Symmetry
) -> Candidates:
    probability = posterior_modulo(poses, score, sigma_deg, symmetry=symmetry)
    # ties of vanishing probability are ordered by likelihood
    order = np.lexsort((-score, -probability), axis=1)[:, :keep]
    return Candidates(_take(poses, order), _take(shifts, order), _take(score, order), _take(probability, order))


def grid_candidates(model: LatticeModel, data: Whitened, frames: NDArray[np.int64]) -> Candidates:
    """Exhaustive search on the pose grid with continuity, without local refinement."""
    score, which = model.indexer.score(data.coefficients[frames[0] : frames[-1] + 1])
    probability = grid_posterior(score, model.indexer.grid)
    poses, shifts = top_poses(probability, which, model.indexer, GRID_POSES)
    # neighbours on the grid climb to the same pose
    apart = distinct_modulo(poses, GRID_CANDIDATES, GRID_APART_DEG, model.symmetry)
    flat = np.zeros(apart.shape)
    return Candidates(_take(poses, apart), _take(shifts.astype(np.float64), apart), flat, flat)


def neighbours_of(poses: Floats, count: int) -> Floats:
    """The first `count` candidates of the frames before and after: (t, 2 count, ...)."""
    before = np.concatenate([poses[:1, :count], poses[:-1, :count]])
    after = np.concatenate([poses[1:, :count], poses[-1:, :count]])
    return np.concatenate([before, after], axis=1)


def local_candidates(
    model: LatticeModel,
    data: Whitened,
    frames: NDArray[np.int64],
    start: Candidates,
    sigma_deg: float,
    *,
    neighbours: int = 2,
    keep: int = 12,
    rounds: int = 8,
) -> Candidates:
    """Refine candidates and those of the neighbouring frames in the lattice band; rank them by the chain."""
    poses = np.concatenate([start.poses, neighbours_of(start.poses, neighbours)], axis=1)
    shifts = np.concatenate([start.shifts, neighbours_of(start.shifts, neighbours)], axis=1)
    poses, shifts, score = data.refine(model.kernel, frames, poses, shifts, model.grid.k_max, rounds=rounds, band=True)
    return _ranked(poses, shifts, score, sigma_deg, keep, model.symmetry)


def symmetrised_volume(
    data: Whitened, frames: NDArray[np.int64], found: Candidates, grid: Grid, symmetry: Symmetry = CUBE
) -> Any:
    """Symmetrised map of the lattice band from the weighted candidates of every frame."""
    device = data.device
    share = found.probability[:, :INSERTED]
    share = np.where(share > 0.03, share, 0.0)
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
    row, column = np.nonzero(share)
    accumulator = Accumulator(grid, 1, device)
    data.insert(
        accumulator, np.zeros(len(row), np.int64), frames[row], found.poses[row, column], found.shifts[row, column],
        share[row, column], band=True,
    )  # fmt: skip
    numerator, denominator = accumulator.sums(0)
    if symmetry is CUBE:
        numerator, denominator = symmetrise(numerator.real), symmetrise(denominator)
    else:
        numerator, denominator = (symmetrise_by(symmetry.operations, s, device) for s in (numerator, denominator))
    mean = shell_sum(denominator, grid, device) / np.maximum(shell_voxels(grid), 1)
    level = shell_values(0.02 * mean + 1e-6 * mean.max(), grid, device)
    volume = masked((numerator / (denominator + level)).astype(np.complex64), grid, device)
    # with an inversion centre the transform is real
    return volume.real.astype(np.complex64) if symmetry.centred else volume


def index_lattice(
    data: Whitened,
    frames: NDArray[np.int64],
    template: Any,
    grid: Grid,
    poses: PoseGrid,
    band_k: tuple[float, float],
    sigma_deg: float,
    *,
    symmetry: Symmetry = CUBE,
    rounds: int = 3,
    template_scale: float = 0.6,
) -> tuple[Candidates, LatticeModel]:
    """Index frames from scratch: template on the grid, then `rounds` of local refinement and symmetrised maps.

    `symmetry` : of the template about its centre; shifted it may look alike in more `poses`. `template_scale` softens
    the model energy of the ideal ball, which is not the particle's shape.
    """
    model = lattice_model(template, grid, data, poses, band_k, template_scale)
    start = grid_candidates(model, data, frames)
    found = local_candidates(model, data, frames, start, max(sigma_deg, 3.0), neighbours=2)
    for _ in range(rounds):
        volume = symmetrised_volume(data, frames, found, grid, symmetry)
        model = LatticeModel(volume, as_kernel_volume(volume, data.device), model.indexer, grid)
        found = local_candidates(model, data, frames, found, sigma_deg, neighbours=2)
    return found, lattice_model(model.volume, grid, data, poses, band_k, least_shell=SHARP_SHELL)


def contrast_sign(
    data: Whitened,
    frames: NDArray[np.int64],
    template: Any,
    grid: Grid,
    poses: PoseGrid,
    band_k: tuple[float, float],
    sigma_deg: float,
    symmetry: Symmetry = CUBE,
) -> int:
    """Whether atoms are bright (1) or dark (-1): the sign of the template on which frames are indexed better.

    Poses that are refined tell far better than the search for the lattice constant on its coarse grid, and take longer:
    at 25 e/A^2 30 +- 2 units of log-likelihood per frame where that found 0.3 +- 1.1.
    """
    bright, dark = (
        index_lattice(data, frames, template * np.float32(sign), grid, poses, band_k, sigma_deg, symmetry=symmetry)[0]
        .score[:, 0]
        .mean()
        for sign in (1, -1)
    )
    return 1 if bright >= dark else -1
