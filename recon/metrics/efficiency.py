"""How evenly the views spread: the efficiency of the orientation distribution E_od, from its point spread function.

Naydenova & Russo, Nat. Commun. 8, 629 (2017). It hardly depends on how many views there are. On this grid perfectly
even views give `BEST`, not 1: a gauge is scaled to that.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation

from .sampling import plane_counts

Floats = NDArray[np.float64]

EDGE = 64  # voxels of the grid; the paper's b
B_FACTOR = 160.0  # of the envelope, in the units of the paper
BEST = 0.80  # of views spread evenly over the sphere
REACH = 28  # Fourier voxels; beyond, the envelope has left less than a thousandth
MOST_VIEWS = 1000  # more of them are thinned out evenly: they change nothing


@lru_cache(maxsize=1)
def _ball() -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Which Fourier voxels ``[z, y, x]`` with z >= 0 lie within REACH; of these (n, 3) places and (n,) envelope."""
    line = np.arange(-REACH, REACH + 1, dtype=np.float64)
    z, y, x = np.meshgrid(line[REACH:], line, line, indexing="ij")
    squared = x * x + y * y + z * z
    inside = squared <= REACH**2
    points = np.stack([x[inside], y[inside], z[inside]], axis=1)
    return inside, points, np.exp(-B_FACTOR * squared[inside] / (2 * EDGE**2))


def point_spread(views: ArrayLike) -> Floats:
    """Point spread function of a set of views (n, 3): (64, 64, 64) float64 ``[z, y, x]``, its peak in the middle.

    ``abs FT sqrt(sampling exp(-B r^2 / 2 b^2))``, with the number of views that measure a Fourier voxel as sampling.
    """
    middle = EDGE // 2
    inside, points, envelope = _ball()
    counts = plane_counts(points, views)
    transfer = np.zeros((EDGE, EDGE, EDGE))
    upper = np.zeros(inside.shape)
    upper[inside] = np.sqrt(counts * envelope)
    near = slice(middle - REACH, middle + REACH + 1)
    transfer[middle : middle + REACH + 1, near, near] = upper
    transfer[middle - REACH : middle, near, near] = upper[:0:-1, ::-1, ::-1]
    spread = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(transfer)))
    return np.asarray(abs(spread), np.float64)


def surface_radii(spread: Floats) -> tuple[Floats, Floats]:
    """Distances (voxels) of the points just outside the surface at peak / e^2, and the solid angles they stand for."""
    middle = EDGE // 2
    body = spread >= spread.max() / math.e**2
    outside = np.argwhere(binary_dilation(body, np.ones((3, 3, 3))) & ~body) - middle
    squared = (outside**2).sum(axis=1).astype(np.float64)
    return np.sqrt(squared), 1 / squared


def orientation_efficiency(views: ArrayLike) -> float:
    """E_od = 1 - 2 sd(R) / mean(R), R the distance of the surface of the point spread function in every direction.

    Parameters
    ----------
    views : (n, 3) unit vectors, directions of the beam in the body frame.

    Returns
    -------
    0 (all from one side) to about `BEST` (even).

    Raises
    ------
    ValueError : no views.
    """
    views = np.asarray(views, np.float64).reshape(-1, 3)
    if not len(views):
        raise ValueError("no views, no point spread function")
    thinned = views[:: -(-len(views) // MOST_VIEWS)]
    radius, weight = surface_radii(point_spread(thinned))
    weight = weight / weight.sum()
    mean = float((weight * radius).sum())
    deviation = math.sqrt(float((weight * (radius - mean) ** 2).sum()))
    return max(0.0, 1 - 2 * deviation / mean)
