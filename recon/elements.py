"""Which element an atom is, from its integrated intensity: a mixture of normal distributions, a confidence per atom.

As for alloys in atomic electron tomography (Yang et al., Nature 542, 75 (2017); Tian et al., Nat. Mater. 19, 867
(2020)): intensities are summed around every atom, sorted into as many groups as there are elements, and compared with
atoms of the neighbourhood, because thickness, the missing wedge and the solver dim some parts of a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
SUM_STEP_A = 0.25
NEIGHBOURS = 40  # atoms that tell how bright a neighbourhood is
LOCAL_ROUNDS = 4
LEAST_ATOMS = 10  # for each element: fewer make no group
MIXTURE_ROUNDS = 200
SETTLED = 1e-6
NARROWEST = 0.02  # of the spread of all intensities: no group shrinks onto one atom


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Elements of n atoms.

    Attributes
    ----------
    index : (n,) int64, which of the elements, dimmest first. confidence : (n,) probability that it is that one.
    brightness : (n,) local brightness by which intensities were divided, 1 on average.
    means, widths, shares : (k,) of each element: mean and standard deviation of corrected intensities, share of atoms.
    """

    index: NDArray[np.int64]
    confidence: Floats
    brightness: Floats
    means: Floats
    widths: Floats
    shares: Floats


def integrated_intensities(volume: NDArray[np.float32], positions_A: Floats, voxel_A: float, radius_A: float) -> Floats:
    """Integral (n,) of a map over a ball around every atom, map units times A^3.

    Parameters
    ----------
    volume : (nz, ny, nx) ``[z, y, x]``. positions_A : (n, 3) ``(x, y, z)`` from voxel ``n // 2``, A.
    radius_A : of the ball; somewhat less than half the distance of neighbours.
    """
    line = np.arange(-radius_A, radius_A + SUM_STEP_A, SUM_STEP_A)
    ball = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    ball = ball[np.linalg.norm(ball, axis=1) <= radius_A]
    middle = np.array(volume.shape) // 2
    total = np.zeros(len(positions_A))
    for offset in ball:
        at = (positions_A + offset)[:, ::-1] / voxel_A + middle
        total += map_coordinates(volume, at.T, order=1, mode="constant", output=np.float64)
    return total * SUM_STEP_A**3


def assign_elements(intensities: Floats, positions_A: Floats, count: int = 2) -> Assignment:
    """Sort atoms into `count` elements by intensity, dimmest (lightest) first.

    In turn a mixture is fitted (expectation maximisation: Dempster, Laird & Rubin, J. R. Stat. Soc. B 39, 1 (1977)) and
    every intensity divided by how bright its neighbourhood is: the median, over the nearest atoms, of their intensity
    over what their own element has on average. So a shell of another element is not taken for a bright neighbourhood.
    Where the groups overlap widely and one of them is rare, the confidence is too high.

    Parameters
    ----------
    intensities : (n,) as `integrated_intensities`. positions_A : (n, 3).

    Raises
    ------
    ValueError : fewer atoms than ten per element, or one element only.
    """
    if count < 2 or len(intensities) < LEAST_ATOMS * count:
        raise ValueError(
            f"{len(intensities)} atoms for {count} elements: at least two elements, and {LEAST_ATOMS} atoms for each"
        )
    near = cKDTree(positions_A).query(positions_A, k=min(NEIGHBOURS, len(positions_A)))[1]
    brightness = np.ones(len(intensities))
    for _ in range(LOCAL_ROUNDS):
        means, widths, shares, belief = _mixture(intensities / brightness, count)
        expected = belief @ means
        brightness = np.median((intensities / np.maximum(expected, 1e-12))[near], axis=1)
        brightness = np.clip(brightness, 0.3, 3.0)
        brightness /= brightness.mean()
    means, widths, shares, belief = _mixture(intensities / brightness, count)
    return Assignment(belief.argmax(axis=1), belief.max(axis=1), brightness, means, widths, shares)


def _mixture(values: Floats, count: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Means, widths and shares (k,) of a mixture, ascending by mean, and the probability (n, k) of each group."""
    means = _k_means(values, count)
    widths = np.full(count, values.std() / count)
    shares = np.full(count, 1 / count)
    floor = NARROWEST * values.std()
    belief = np.zeros((len(values), count))
    for _ in range(MIXTURE_ROUNDS):
        exponent = -0.5 * ((values[:, None] - means) / widths) ** 2 + np.log(shares / widths)
        now = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        now /= now.sum(axis=1, keepdims=True)
        weight = now.sum(axis=0) + 1e-9
        means = (now * values[:, None]).sum(axis=0) / weight
        widths = np.sqrt((now * (values[:, None] - means) ** 2).sum(axis=0) / weight + floor**2)
        shares = weight / weight.sum()
        settled = float(np.abs(now - belief).max()) < SETTLED
        belief = now
        if settled:
            break
    order = np.argsort(means)
    # beyond the outer means the tail of a wide neighbour must not win
    belief = belief[:, order]
    low, high = values < means[order[0]], values > means[order[-1]]
    belief[low], belief[high] = np.eye(count)[0], np.eye(count)[-1]
    return means[order], widths[order], shares[order], belief


def _k_means(values: Floats, count: int) -> Floats:
    """Centres (k,) of groups on a line (Lloyd 1982), from even quantiles."""
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(MIXTURE_ROUNDS):
        group = np.abs(values[:, None] - centres).argmin(axis=1)
        moved = np.array([values[group == k].mean() if (group == k).any() else centres[k] for k in range(count)])
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres
