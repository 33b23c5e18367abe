"""Atoms from a map: peaks, sub-voxel centres, and the lattice constant they imply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from .lattice import FCC_METALS

Floats = NDArray[np.float64]
SMOOTHING_A = 0.18  # about the resolution of the map; quietens single noisy voxels
SEPARATION = 0.55  # of the nearest-neighbour distance: closer peaks are one atom


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Atom candidates: positions (n, 3) ``(x, y, z)`` in A from the map centre, heights (n,) in map units,
    descending.
    """

    positions_A: Floats
    heights: Floats


def upsample(volume: NDArray[np.float32], factor: int, threads: int = 1) -> NDArray[np.float32]:
    """Fourier-interpolated volume, ``factor`` times finer; voxel ``n // 2`` stays the origin."""
    n = volume.shape[0]
    spectrum = scipy.fft.rfftn(scipy.fft.ifftshift(volume), workers=threads)
    fine = factor * n
    out = np.zeros((fine, fine, fine // 2 + 1), np.complex64)
    half = n // 2
    index = np.arange(-half + 1, half)  # the Nyquist planes carry nothing that is solved for
    out[np.ix_(index % fine, index % fine, np.arange(half))] = spectrum[np.ix_(index % n, index % n, np.arange(half))]
    real = scipy.fft.irfftn(out, s=(fine, fine, fine), workers=threads) * factor**3
    return np.asarray(scipy.fft.fftshift(real), np.float32)


def find_peaks(volume: NDArray[np.float32], voxel_A: float, distance_A: float, threads: int = 1) -> Peaks:
    """Local maxima at least SEPARATION nearest-neighbour distances apart, centred to a fraction of a voxel.

    Parameters
    ----------
    volume : (n, n, n) ``[z, y, x]`` map. distance_A : nearest-neighbour distance expected.
    """
    smooth = gaussian_filter(volume, SMOOTHING_A / voxel_A)
    fine = upsample(smooth, 2, threads)
    step = voxel_A / 2
    reach = max(1, round(SEPARATION * distance_A / step))
    crest = (fine == maximum_filter(fine, size=2 * reach + 1)) & (fine > 0)
    edge = 3
    crest[:edge], crest[-edge:], crest[:, :edge], crest[:, -edge:] = False, False, False, False
    crest[:, :, :edge], crest[:, :, -edge:] = False, False
    index = np.argwhere(crest)
    if len(index) == 0:
        return Peaks(np.zeros((0, 3)), np.zeros(0))
    heights = fine[tuple(index.T)].astype(np.float64)
    centre = index + _centroid_offsets(fine, index)
    order = np.argsort(-heights, kind="stable")
    return Peaks(((centre - fine.shape[0] // 2)[:, ::-1] * step)[order], heights[order])


def _centroid_offsets(volume: NDArray[np.float32], index: NDArray[np.intp]) -> Floats:
    """Vertex of the parabola through three points two voxels apart, per axis: (n, 3) in voxels, within +-1."""
    offsets = np.zeros((len(index), 3))
    middle = volume[tuple(index.T)].astype(np.float64)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis] * 2
        left = volume[tuple((index - step).T)].astype(np.float64)
        right = volume[tuple((index + step).T)].astype(np.float64)
        bend = left - 2 * middle + right
        offsets[:, axis] = np.where(bend < 0, np.clip((left - right) / np.where(bend < 0, bend, -1), -1, 1), 0)
    return offsets


def select_atoms(peaks: Peaks, distance_A: float) -> tuple[Floats, Floats]:
    """Peaks that are atoms, (n, 3) A, and a confidence 0..1 for each.

    The threshold is half of the typical height of bulk atoms, moved into the widest gap between 0.3 and 0.6 of it,
    since atoms and noise peaks form two groups; a peak without any neighbour within 1.35 nearest-neighbour distances is
    noise.
    """
    if len(peaks.heights) < 4:
        return np.zeros((0, 3)), np.zeros(0)
    bulk = float(np.median(peaks.heights[: max(4, len(peaks.heights) // 6)]))
    relative = peaks.heights / bulk
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


def nearest_neighbour_constant(positions_A: Floats, distance_A: float) -> float | None:
    """fcc lattice constant (A) from the mean neighbour distance of fully coordinated atoms; None without any."""
    if len(positions_A) < 13:
        return None
    distances = cKDTree(positions_A).query(positions_A, k=13)[0][:, 1:]
    full = distances.max(axis=1) < 1.22 * distance_A
    return float(distances[full].mean() * np.sqrt(2)) if full.any() else None


def guess_element(lattice_constant_A: float) -> str:
    """The fcc metal whose lattice constant is nearest; a label, not a measurement."""
    return min(FCC_METALS, key=lambda element: abs(FCC_METALS[element] - lattice_constant_A))
