"""Which lattice a particle has, and its constant: both are found from the first frames, on the pose grid.

A few frames of little dose tell neither for sure. The second reflection of an fcc lattice lies where the first of one
with a constant 14 % smaller lies, and of a bcc lattice: of a movie of silver at 40 e/A^2 60 frames liked 3.51 A (dark
atoms, 42.7 per frame), 4.05 A (42.7), and a bcc lattice of 2.90 A (45.9). What comes close is therefore kept,
gets the contrast of the measured power, and all frames decide: 43.7, 56.6 and 48.8.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .device import Device
from .geometry import HalfPlane
from .kinds import FCC, Kind, Lattice
from .lattice import LatticeIndexer, PoseGrid, band, lattice_volume, match_contrast, shift_grid
from .spectra import excess_profile
from .volume import Grid

Floats = NDArray[np.float64]
FAINT_SHELL = 0.01  # of the strongest shell, where lattices are told apart: the farther reflections do that
SEARCH_STEP_A, FINE_STEP_A = 0.05, 0.02  # of the constant of an fcc lattice
GLANCE_STEP_A = 0.1  # where another kind is tried on `FEW` frames
LATTICE_FRAMES, FEW = 60, 15  # frames on which the constant is measured, and another kind tried first
CLOSE = 0.85  # of the score of the first kind, from which another is looked at closely; on fcc crystals bcc had 0.75
RIVAL = 0.9  # of the best score, from which another constant of the same kind is


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


def constants(
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
) -> list[LatticeFit]:
    """The lattice constants that index a sample of frames, of atoms that are bright (1) or dark (-1): the best one, and
    those farther away that come close to it.

    For each trial constant every frame contributes its best matched-filter score over poses and shifts,
    ``S^2 / E`` (independent of the unknown contrast); a maximum of the mean is refined by a parabola. Where three
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
    mean = both.mean(axis=2)

    def refined(peak: int) -> LatticeFit:
        chosen = int(mean[:, peak].argmax())
        fine = coarse[peak] + np.arange(-2, 3) * (FINE_STEP_A / kind.widening)
        values = np.array([frame_scores(a)[chosen].mean() for a in fine])
        curvature, slope, _ = np.polyfit(fine - coarse[peak], values, 2)
        best = coarse[peak] - slope / (2 * curvature) if curvature < 0 else fine[values.argmax()]
        best = float(np.clip(best, fine[0], fine[-1]))
        winner, other = both[chosen, peak], both[-1 - chosen, mean[-1 - chosen].argmax()]
        sure = _sureness(winner - other) if len(signs) > 1 else math.inf
        sharpness = _sureness(winner - np.median(both[chosen], axis=0))
        return LatticeFit(Lattice(kind, best), sharpness, signs[chosen], sure, winner)

    return [refined(peak) for peak in _peaks(mean.max(axis=0))]


def _peaks(values: Floats) -> list[int]:
    """Local maxima of a curve (n,) that come close to the highest one, which is the first of them."""
    padded = np.concatenate([[-np.inf], values, [-np.inf]])
    high = (values >= padded[:-2]) & (values > padded[2:]) & (values >= RIVAL * values.max())
    high[values.argmax()] = True
    found = np.flatnonzero(high)
    return found[np.argsort(-values[found], kind="stable")].tolist()


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

    Constants are measured on a sample. Reflections of two lattices may lie alike: those that come close to the best get
    the contrast of the measured power, so that the farther reflections count for what they are, and the likelihood of
    all frames decides; it has one unit, whatever the lattice and its band.
    """
    sample = coefficients[:: max(1, len(coefficients) // LATTICE_FRAMES)]
    every = max(1, len(sample) // FEW)

    def fits(kind: Kind, search_A: tuple[float, float], frames: Any, step_A: float = SEARCH_STEP_A) -> list[LatticeFit]:
        return constants(
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

    found = fits(*ranges[0], sample)
    for kind, search_A in ranges[1:]:
        glance = fits(kind, search_A, sample[::every], GLANCE_STEP_A)[0]
        if glance.scores.mean() > CLOSE * found[0].scores[::every].mean():
            found += fits(kind, search_A, sample)
    return found[0] if len(found) == 1 else max(found, key=explained)
