"""Atoms from a map: peaks, sub-voxel centres, and the lattice constant they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter, spline_filter
from scipy.spatial import cKDTree

from .kinds import Lattice

Floats = NDArray[np.float64]
SMOOTHING_A = 0.18  # about the resolution of the map; quietens single noisy voxels
BULK = 0.3  # of the atoms, the highest: they are not at the surface
BESIDE, RINGING = 0.55, 0.5  # of the nearest-neighbour distance, and of the density there: below that a map rings
SEPARATION = 0.75  # of the nearest-neighbour distance: of two closer peaks the lower one is none


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Atom candidates: positions (n, 3) ``(x, y, z)`` in A from the map centre, heights (n,) in map units,
    descending.
    """

    positions_A: Floats
    heights: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Smooth:
    """A map (n, n, n) ``[z, y, x]``, a little smoothed, and the coefficients of the cubic spline through it."""

    values: NDArray[np.float32]
    spline: NDArray[np.float32]

    @staticmethod
    def of(volume: NDArray[np.float32], voxel_A: float) -> Smooth:
        """Smoothed by `SMOOTHING_A`."""
        values = gaussian_filter(volume, SMOOTHING_A / voxel_A)
        return Smooth(values, spline_filter(values, order=3, output=np.float32))


def find_peaks(volume: NDArray[np.float32], voxel_A: float, distance_A: float) -> Peaks:
    """Local maxima at least SEPARATION nearest-neighbour distances apart, and no ringing beside higher density, centred
    to a fraction of a voxel.

    Parameters
    ----------
    volume : (n, n, n) ``[z, y, x]`` map. distance_A : nearest-neighbour distance expected in fcc; for another lattice
        that of an fcc crystal with the same constant.
    """
    smoothed = Smooth.of(volume, voxel_A)
    smooth = smoothed.values
    beside = maximum_filter(smooth, size=2 * max(1, int(BESIDE * distance_A / voxel_A)) + 1)
    crest = (smooth == maximum_filter(smooth, size=3)) & (smooth > 0) & (smooth > RINGING * beside)
    inner = np.zeros_like(crest)
    inner[2:-2, 2:-2, 2:-2] = True
    index = np.argwhere(crest & inner)
    if len(index) == 0:
        return Peaks(np.zeros((0, 3)), np.zeros(0))
    index = index[highest(index, smooth[tuple(index.T)], SEPARATION * distance_A / voxel_A)]
    centre = _centred(smoothed.spline, index.astype(np.float64))
    heights = map_coordinates(smoothed.spline, centre.T, order=3, prefilter=False).astype(np.float64)
    order = np.argsort(-heights, kind="stable")
    return Peaks(((centre - volume.shape[0] // 2)[:, ::-1] * voxel_A)[order], heights[order])


def highest(places: NDArray[Any], heights: NDArray[Any], apart: float) -> NDArray[np.bool_]:
    """Which maxima (n, 3) of heights (n,) have no higher one, nor an equal one before them, nearer than `apart`.

    Maxima are compared with maxima. The flank of a heavy neighbour, which a box about a light atom reaches with its
    corners, would be higher than that atom.
    """
    first, second = cKDTree(places).query_pairs(apart, output_type="ndarray").T
    kept = np.ones(len(places), np.bool_)
    kept[np.where(heights[first] < heights[second], first, second)] = False
    return kept


def _centred(spline: NDArray[np.float32], places: Floats) -> Floats:
    """Maxima (n, 3) ``[z, y, x]`` of a cubic spline next to `places`: vertices of parabolas through points half a voxel
    apart, three times; nothing moves farther than a voxel.
    """
    centre = places.copy()
    for _ in range(3):
        middle = map_coordinates(spline, centre.T, order=3, prefilter=False)
        for axis in range(3):
            step = np.zeros(3)
            step[axis] = 0.5
            left, right = (
                map_coordinates(spline, (centre + s * step).T, order=3, prefilter=False) for s in (-1.0, 1.0)
            )
            bend = np.minimum(left - 2 * middle + right, -1e-9 * np.abs(middle) - 1e-30)
            centre[:, axis] += np.clip(0.25 * (left - right) / bend, -0.5, 0.5)
        centre = np.clip(centre, places - 1, places + 1)
    return centre


def position_errors(halves: tuple[Smooth, Smooth], positions_A: Floats, voxel_A: float) -> Floats:
    """Standard error (n,) per axis, A, of atom positions (n, 3), from where two independent half maps have them.

    Half of the difference is the error of their mean. Three differences say little about one atom, so its variance is
    averaged with the typical one. What the halves share (the image model, the mask) is not in it.
    """
    if len(positions_A) == 0:
        return np.zeros(0)
    places = positions_A[:, ::-1] / voxel_A + halves[0].values.shape[0] // 2
    first, second = (_centred(half.spline, places) for half in halves)
    variance = ((first - second) ** 2).mean(axis=1) / 4
    return np.asarray(np.sqrt(0.5 * (variance + np.median(variance))) * voxel_A)


def bright(heights: Floats, share: float) -> float:
    """Median of that share of the atoms that is highest, of peaks (n,), descending; atoms are those more than half as
    high as the fourth. How many peaks the noise has does not matter.
    """
    atoms = int((heights > heights[3] / 2).sum())
    return float(np.median(heights[: max(4, round(share * atoms))]))


def select_atoms(peaks: Peaks, distance_A: float) -> tuple[Floats, Floats]:
    """Peaks that are atoms, (n, 3) A, and a confidence 0..1 for each.

    The threshold is half of the typical height of bulk atoms (`bright`), moved into the widest gap between 0.3 and 0.6
    of it, since atoms and noise peaks form two groups; a peak without any neighbour within 1.35 nearest-neighbour
    distances is noise.
    """
    if len(peaks.heights) < 4:
        return np.zeros((0, 3)), np.zeros(0)
    relative = peaks.heights / bright(peaks.heights, BULK)
    window = np.concatenate([[0.6], relative[(relative > 0.3) & (relative < 0.6)], [0.3]])
    widths = -np.diff(window) * np.exp(-0.5 * (((window[1:] + window[:-1]) / 2 - 0.42) / 0.1) ** 2)
    gap = int(np.argmax(widths))
    threshold = 0.5 * (window[gap] + window[gap + 1])
    keep = relative > threshold
    positions, strength = peaks.positions_A[keep], relative[keep]
    if len(positions) > 1:
        nearest = cKDTree(positions).query(positions, k=2)[0][:, 1]
        bonded = nearest < 1.35 * distance_A
        positions, strength = positions[bonded], strength[bonded]
    return positions, np.clip((strength - threshold) / (1 - threshold) * 0.5 + 0.5, 0, 1)


def nearest_neighbour_constant(positions_A: Floats, lattice: Lattice) -> float | None:
    """Lattice constant (A) from the mean neighbour distance of fully coordinated atoms (n, 3); None without any.

    `lattice` : its kind, and about how far neighbours are apart.
    """
    kind = lattice.kind
    if len(positions_A) < kind.neighbours + 1:
        return None
    distances = cKDTree(positions_A).query(positions_A, k=kind.neighbours + 1)[0][:, 1:]
    full = distances.max(axis=1) < 1.22 * kind.reach * lattice.neighbour_A
    return float(distances[full].mean() * kind.per_neighbour) if full.any() else None
