"""Which lattice a particle has, and its constant: both are found from the first frames, on the pose grid.

A few frames of little dose tell neither for sure. The second reflection of an fcc lattice lies where the first of one
with a constant 14 % smaller lies, and of a bcc lattice: of a movie of silver at 40 e/A^2 60 frames liked 3.51 A (dark
atoms, 42.7 per frame), 4.05 A (42.7), and a bcc lattice of 2.90 A (45.9). What comes close is therefore kept,
gets the contrast of the measured power, and all frames decide: 43.7, 56.6 and 48.8.

A lattice that explains little of the power above the noise may be that of one grain of many. Decahedra and icosahedra
are then tried as a whole: on crystals of 200 atoms they explained 171 and 156 per frame, a ball of fcc lattice 84 and
50; on fcc crystals, twinned or not, never two thirds of what the lattice did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .device import Device
from .errors import NoLatticeError
from .geometry import HalfPlane
from .kinds import CLUSTERS, FCC, Kind, Lattice, search_ranges
from .lattice import LatticeIndexer, PoseGrid, band, lattice_volume, match_contrast, search_grid, shift_grid
from .spectra import excess_profile
from .volume import Grid

Floats = NDArray[np.float64]
Range = tuple[float, float]
FAINT_SHELL = 0.01  # of the strongest shell, where lattices are told apart: the farther reflections do that
SEARCH_STEP_A, FINE_STEP_A = 0.05, 0.02  # of the constant of an fcc lattice
GLANCE_STEP_A = 0.1  # where another kind is tried on `FEW` frames
LATTICE_FRAMES, FEW = 60, 15  # frames on which the constant is measured, and another kind tried first
CLOSE = 0.85  # of the score of the first kind, from which another is looked at closely; on fcc crystals bcc had 0.75
RIVAL = 0.9  # of the best score, from which another constant of the same kind is
NO_LATTICE = 2.0  # standard errors by which a lattice constant must win to be tried
LEAST_SHELLS = 3  # with power above the noise, to fit an amplitude and a B-factor to
EXPLAINED = 0.45  # share of the power above the noise, below which other kinds are tried; fcc had 0.48 to 0.8
CHANCE = 15.0  # score per frame that the best of so many poses has in noise alone
CLUSTER_LEAD = 1.1  # times the score of the best lattice, from which they are believed
SPACING_DEG = 4.2  # of the poses that are tried


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of one particle in which a lattice is looked for.

    Attributes
    ----------
    coefficients : (t, n, 2) float32 on the device, in the order of `plane`. weight : (n,) inverse noise power.
    grid : of the volumes.
    """

    coefficients: Any
    plane: HalfPlane
    weight: NDArray[np.float32]
    diameter_A: float
    pixel_size_A: float
    grid: Grid
    device: Device

    @property
    def box_A(self) -> float:
        """Edge of a box."""
        return self.plane.box_px * self.pixel_size_A

    def about(self, count: int) -> Boxes:
        """Some `count` of the frames, evenly in time."""
        return replace(self, coefficients=self.coefficients[:: max(1, len(self.coefficients) // count)])


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
    boxes: Boxes,
    poses: PoseGrid,
    search_A: Range = FCC.search_A,
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
    reference = float(np.mean(search_A))
    # one volume serves all constants: a larger lattice is the same transform at proportionally larger k
    wide = Grid(boxes.plane.box_px, math.ceil(boxes.grid.k_max * search_A[1] / reference))
    volume = lattice_volume(Lattice(kind, reference), boxes.diameter_A, wide, boxes.pixel_size_A, boxes.device)

    def frame_scores(constant: float) -> Floats:
        """(signs, frames) best score of every frame."""
        band_k = band(kind.widening * constant, boxes.box_A, boxes.grid.k_max)
        indexer = LatticeIndexer(
            volume, poses, boxes.plane, boxes.weight, band_k, shifts, 1e3, boxes.device, stretch=constant / reference
        )
        return matched_scores(indexer, boxes.coefficients, signs)

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


def contrasted(lattice: Lattice, boxes: Boxes, band_k: tuple[float, float], poses: PoseGrid) -> Any:
    """Volume of a ball of this lattice, on the grid of the boxes, with the contrast of the power that was measured.

    Raises
    ------
    NoLatticeError : there is none between the radii `band_k`.
    """
    excess = excess_profile(boxes.device.to_host(boxes.coefficients), boxes.plane, boxes.weight)
    if (excess[round(band_k[0]) : int(band_k[1]) + 1] > 0).sum() < LEAST_SHELLS:
        raise NoLatticeError("nothing stands out of the noise where a lattice would scatter")
    ball = lattice_volume(lattice, boxes.diameter_A, boxes.grid, boxes.pixel_size_A, boxes.device)
    return match_contrast(
        ball, excess, boxes.plane, boxes.grid, boxes.pixel_size_A, band_k, poses.poses[::40], boxes.device
    )


def explained(found: LatticeFit, boxes: Boxes, poses: PoseGrid, signs: tuple[int, ...]) -> tuple[float, int]:
    """Score per frame of a lattice with the contrast of the measured power, and the sign that has it."""
    plane = boxes.plane
    band_k = band(found.lattice.scale_A, boxes.box_A, round(float(plane.radius[-1])))
    try:
        model = contrasted(found.lattice, replace(boxes, grid=Grid(plane.box_px, int(band_k[1]))), band_k, poses)
    except NoLatticeError:
        return 0.0, found.sign
    indexer = LatticeIndexer(
        model, poses, plane, boxes.weight, band_k, shift_grid(2.5, 1.25), 1e3, boxes.device, least_shell=FAINT_SHELL
    )
    scores = matched_scores(indexer, boxes.coefficients, signs).mean(axis=1)
    return float(scores.max()), signs[int(scores.argmax())]


def above_noise(boxes: Boxes, lattice: Lattice) -> float:
    """Power per frame above that of the noise, in its unit, in the band of a lattice: what a perfect model explains."""
    low, high = band(lattice.scale_A, boxes.box_A, round(float(boxes.plane.radius[-1])))
    excess = excess_profile(boxes.device.to_host(boxes.coefficients), boxes.plane, boxes.weight)
    first, last = boxes.plane.count(low), boxes.plane.count(high)
    shell = np.rint(boxes.plane.radius[first:last]).astype(int)
    return float((excess[shell] * boxes.weight[first:last]).sum())


def recognised(boxes: Boxes, element: str | None, known: Lattice | None, signs: tuple[int, ...]) -> LatticeFit:
    """The lattice of the boxes, as far as it is not `known`, and whether atoms are bright or dark.

    Raises
    ------
    NoLatticeError : none stands out.
    """
    if known is not None and len(signs) == 1:
        return LatticeFit(known, math.inf, 1)
    found = recognise_lattice(boxes, search_ranges(element, known), signs)
    if found.sharpness < NO_LATTICE and known is None:
        raise NoLatticeError("no lattice of a known kind stands out of the noise")
    return found if known is None else found._replace(lattice=replace(found.lattice, constant_A=known.constant_A))


def recognise_lattice(
    boxes: Boxes,
    ranges: tuple[tuple[Kind, Range], ...],
    signs: tuple[int, ...] = (1,),
    spacing_deg: float = SPACING_DEG,
) -> LatticeFit:
    """The kind of lattice, of those in `ranges`, and its constant, which explain the frames best.

    Constants are measured on a sample. Reflections of two lattices may lie alike: those that come close to the best get
    the contrast of the measured power, so that the farther reflections count for what they are, and the likelihood of
    all frames decides; it has one unit, whatever the lattice and its band. Poses are tried `spacing_deg` apart.
    """
    poses = search_grid(spacing_deg, ranges[0][0].alike)
    sample = boxes.about(LATTICE_FRAMES)
    every = max(1, len(sample.coefficients) // FEW)
    found = constants(sample, poses, ranges[0][1], signs, ranges[0][0])
    for kind, search_A in ranges[1:]:
        glance = constants(sample.about(FEW), poses, search_A, signs, kind, GLANCE_STEP_A)[0]
        if glance.scores.mean() > CLOSE * found[0].scores[::every].mean():
            found += constants(sample, poses, search_A, signs, kind)
    best = found[0] if len(found) == 1 else max(found, key=lambda fit: explained(fit, boxes, poses, signs)[0])
    return _of_grains(best, sample, poses, dict(ranges), signs, spacing_deg)


def _of_grains(
    best: LatticeFit,
    sample: Boxes,
    poses: PoseGrid,
    ranges: dict[Kind, Range],
    signs: tuple[int, ...],
    spacing_deg: float,
) -> LatticeFit:
    """`best`, or the decahedron or icosahedron that explains far more where that explains little."""
    most = explained(best, sample, poses, signs)[0]
    if FCC not in ranges or most == 0.0 or most - CHANCE > EXPLAINED * above_noise(sample, best.lattice):
        return best
    most *= CLUSTER_LEAD
    for kind in CLUSTERS:
        of_fcc = kind.search_A == FCC.search_A
        if not of_fcc and ranges[FCC] != FCC.search_A:
            continue  # the metal is known, or its constant
        grid, search_A = search_grid(spacing_deg, kind.alike), ranges[FCC] if of_fcc else kind.search_A
        found = constants(sample.about(FEW), grid, search_A, signs, kind, GLANCE_STEP_A)[0]
        score, sign = explained(found, sample, grid, signs)
        if score > most:
            best, most = found._replace(sign=sign), score
    return best
