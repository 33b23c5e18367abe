"""Which Fourier coefficients have been measured, and how often: counts on a hemisphere of directions, constant cost a
frame.

By the projection-slice theorem a view measures the central plane across its direction. A direction k of the shell of
radius R Fourier voxels lies in the plane of view v when ``|k.v| R < 1/2``; `s(k)` counts these views (Baldwin &
Lyumkis, Prog. Biophys. Mol. Biol. 150, 160 (2020)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray
from scipy.special import pdtr

from ..coverage import view_grid

POINTS = 2000
VISIT_FRAMES = 10  # that count as one visit of what they see: neither frames in a row nor their errors are independent
STRAYS = 0.01  # share of the poses that may be wrong: what so many measure anywhere at random,
STRAYS_SURE = 0.95  # in this share of the directions, is no proof that a direction was seen
RESERVE = 0.05  # of the mean count, added to each before dividing: see `maps.solve_halves`


@njit(cache=True)
def _count(
    points: NDArray[np.float64],
    half_width: float,
    views: NDArray[np.float64],
    visit: NDArray[np.int64],
    counts: NDArray[np.int32],
    visits: NDArray[np.int32],
    last: NDArray[np.int64],
    fresh: NDArray[np.float64],
) -> tuple[int, float]:
    """Count `views` on `points` (3, n), and of the `visit` (n,) of each those that are not the point's `last`.

    Returns how many points became seen, and the change of the sum of 1/s over the points seen.
    """
    seen, inverse = 0, 0.0
    measured = np.empty(points.shape[1], np.uint8)
    for number in range(views.shape[0]):
        x, y, z = views[number, 0], views[number, 1], views[number, 2]
        for point in range(points.shape[1]):  # no branch and no stride: several at a time
            along = points[0, point] * x + points[1, point] * y + points[2, point] * z
            measured[point] = abs(along) < half_width
        new = touched = 0
        for point in range(points.shape[1]):
            if measured[point]:
                before = counts[point]
                counts[point] = before + 1
                touched += 1
                if last[point] != visit[number]:
                    last[point] = visit[number]
                    visits[point] += 1
                if before == 0:
                    new += 1
                    inverse += 1.0
                else:
                    inverse -= 1.0 / (before * (before + 1.0))
        seen += new
        fresh[number] = new / max(touched, 1)
    return seen, inverse


@njit(cache=True)
def _sums(counts: NDArray[np.int32], reserve: float) -> tuple[float, float, float]:
    """Of counts (points,): their sum, and the sums behind `effective_views` with their mean times `reserve` added."""
    total = 0
    for point in range(counts.shape[0]):
        total += counts[point]
    added = reserve * total / counts.shape[0] + 1e-9
    signal = noise = 0.0
    for point in range(counts.shape[0]):
        inverse = 1.0 / (counts[point] + added)
        kept = counts[point] * inverse
        signal += kept * kept
        noise += kept * inverse
    return float(total), signal, noise


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the counts of a `FourierSampling` amount to at one moment.

    Attributes
    ----------
    views : how many were counted.
    empty_fraction : share of the directions that no view has measured.
    scf : sampling compensation factor, 1 / (<s> <1/s>) over the directions that were measured. It ignores what was not
        and may exceed what looks sensible: never show it without `empty_fraction`.
    effective_views : how many views, spread evenly, would give a map of the same signal-to-noise ratio, see
        `effective_views`. More of the same plane hardly raises it.
    """

    views: int
    empty_fraction: float
    scf: float
    effective_views: float


@lru_cache(maxsize=4)
def _columns(points: int) -> NDArray[np.float64]:
    """The directions (3, points), so that several go at a time."""
    return np.ascontiguousarray(view_grid(points).T)


class FourierSampling:
    """Counts of measured directions on one shell.

    Parameters
    ----------
    radius : of the shell in Fourier voxels, diameter of the particle / resolution.
    points : directions on the hemisphere.

    Raises
    ------
    ValueError : `radius` is below 1/2, where every view measures everything.
    """

    def __init__(self, radius: float, points: int = POINTS) -> None:
        if not radius >= 0.5:
            raise ValueError(f"a shell of radius {radius} Fourier voxels: it must be at least 1/2")
        self.radius = float(radius)
        self.points = view_grid(points)
        self._layout = _columns(points)
        self.counts = np.zeros(points, np.int32)
        self.visits = np.zeros(points, np.int32)
        self._last = np.full(points, -1, np.int64)
        self.views = 0
        self._seen, self._inverse = 0, 0.0

    def add(self, views: ArrayLike, frame: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Count views.

        Parameters
        ----------
        views : (n, 3) unit vectors, directions of the beam in the body frame (`coverage.view_directions`).
        frame : (n,) that they come from, in order, which says what is one visit; by default one after the other.

        Returns
        -------
        (n,) share of the directions measured by each view that no view before it had measured.
        """
        views = np.ascontiguousarray(views, np.float64).reshape(-1, 3)
        fresh = np.zeros(len(views))
        visit = (np.arange(self.views, self.views + len(views)) if frame is None else frame) // VISIT_FRAMES
        seen, inverse = _count(
            self._layout, 0.5 / self.radius, views, visit, self.counts, self.visits, self._last, fresh
        )  # fmt: skip
        self._seen += seen
        self._inverse += inverse
        self.views += len(views)
        return fresh

    def copy(self) -> FourierSampling:
        """Independent counts that begin as these."""
        other = FourierSampling(self.radius, len(self.points))
        other.counts[:], other.visits[:], other._last[:] = self.counts, self.visits, self._last
        other.views, other._seen, other._inverse = self.views, self._seen, self._inverse
        return other

    @property
    def sampling(self) -> Sampling:
        """What the counts amount to; constant cost."""
        empty = 1 - self._seen / len(self.points)
        if not self._seen:
            return Sampling(self.views, empty, 0.0, 0.0)
        total, signal, noise = _sums(self.counts, RESERVE)
        worth = 2 * self.radius * signal / max(noise, 1e-12 * len(self.points))  # as `effective_views`, in one pass
        return Sampling(self.views, empty, self._seen**2 / (total * self._inverse), min(worth, self.views))


def stray_visits(views: int, radius: float) -> int:
    """Visits of a direction that wrong poses among so many views explain, were they turned anywhere at random.

    A direction is measured by one view in ``2 radius``; visits of one by `STRAYS` of the views are Poisson distributed.
    """
    expected, most = STRAYS * views / (2 * radius), 0
    while pdtr(most, expected) < STRAYS_SURE:
        most += 1
    return most


def effective_views(counts: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Evenly spread views that give a map of the same signal-to-noise ratio.

    Where s views measured a coefficient, the map holds ``s / (s + r)`` of its signal and noise of variance
    ``s / (s + r)^2``, r being a twentieth of the mean count: the halves are solved like that before their FSC is
    known. Even views count every direction ``views / (2 radius)`` times.

    Parameters
    ----------
    counts : (..., points) how often each direction was measured. radius : of the shell, Fourier voxels.

    Returns
    -------
    (...,) float64.
    """
    with_reserve = counts + RESERVE * counts.mean(axis=-1, keepdims=True) + 1e-9
    kept = counts / with_reserve
    signal, noise = (kept**2).mean(axis=-1), (kept / with_reserve).mean(axis=-1)
    return np.asarray(2 * radius * signal / np.maximum(noise, 1e-12), np.float64)


def shared_views(first: NDArray[np.float64], second: NDArray[np.float64], radius: float) -> float:
    """Evenly spread views, of both halves together, that give half maps of the same correlation.

    What one half alone has measured cannot correlate: halves that were seen from different sides agree less than the
    map of all frames agrees with the crystal. Of equal halves it is `effective_views` of their sum.

    Parameters
    ----------
    first, second : (points,) how often each direction was measured by the frames of either half. radius : of the shell,
        Fourier voxels.
    """
    counts = np.stack([first, second])
    with_reserve = counts + RESERVE * counts.mean(axis=1, keepdims=True) + 1e-9
    kept = counts / with_reserve
    noise = (kept / with_reserve).mean(axis=1)
    return float(4 * radius * kept.prod(axis=0).mean() / max(math.sqrt(noise.prod()), 1e-12))


@njit(cache=True, parallel=True)
def _planes(points: NDArray[np.float64], views: NDArray[np.float64], counts: NDArray[np.float64]) -> None:
    for point in prange(points.shape[0]):
        x, y, z = points[point, 0], points[point, 1], points[point, 2]
        number = 0
        for view in range(views.shape[1]):
            number += abs(views[0, view] * x + views[1, view] * y + views[2, view] * z) < 0.5
        counts[point] = number


def plane_counts(points: ArrayLike, views: ArrayLike) -> NDArray[np.float64]:
    """How many of the views (n, 3) measure each of the points (p, 3), in Fourier voxels: (p,) float64.

    A view measures what lies within half a voxel of its central plane.
    """
    counts = np.zeros(len(np.asarray(points)))
    along = np.ascontiguousarray(np.asarray(views, np.float64).reshape(-1, 3).T)  # so that several go at a time
    _planes(np.ascontiguousarray(points, np.float64), along, counts)
    return counts


def expected_empty(views: float, diameter_A: float, resolution_A: float) -> float:
    """Share of the Fourier voxels at the edge that `views` views of a crystal tumbling at random leave empty, about
    ``exp(-m)`` with ``m = views * resolution / (2 diameter)`` samples a voxel.
    """
    return math.exp(-views * resolution_A / (2 * diameter_A))


def views_for(covered: float, diameter_A: float, resolution_A: float) -> float:
    """Views of a crystal tumbling at random that measure the share `covered` of the Fourier voxels at the edge.

    Raises
    ------
    ValueError : `covered` is not below 1, which no number of random views reaches.
    """
    if not 0 <= covered < 1:
        raise ValueError(f"random views never cover {covered} of the sphere: ask for less than 1")
    return -math.log(1 - covered) * 2 * diameter_A / resolution_A


def tilt_elongation(tilt_deg: float) -> float:
    """Elongation along the beam of a tomogram tilted about one axis up to ``+-tilt_deg`` (Radermacher 1988)."""
    angle = math.radians(tilt_deg)
    product = math.sin(angle) * math.cos(angle)
    return math.sqrt((angle + product) / (angle - product))
