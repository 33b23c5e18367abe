"""What one frame says about a crystal, from the maps of its crop: one compiled piece, which holds no thread up."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .loops import grid_posterior, inner_and_outer_means, radial_means
from .waves import filtered

GRID_BINS = 6.0  # half width of the posterior grid
GRID_STEP_BINS = 0.25
ENERGY_CAP = 12.0  # of the floor: a single bright bin must not decide
RING_BINS = 0.75
LEAST_FLOOR = 1e-30  # of frames without any noise: a division by zero ends a compiled loop with an error
SYSTEMATIC_VARIANCE_BINS2 = 1e-4


@njit(cache=True, nogil=True)
def measured(
    maps: NDArray[np.float32],
    floors: NDArray[np.float64],
    filters: NDArray[np.complex64],
    wave: NDArray[np.float32],
    mean: NDArray[np.float64],
    corner: tuple[int, int],
    prior: NDArray[np.float64],
    radii: tuple[float, float],
    profile: NDArray[np.float64],
    weight: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    """Posterior of the place of a particle, and what its maps are there.

    Parameters
    ----------
    maps : (bands + 1, size, size) float32, energies and the low map; energies become shares of their floors, in place.
    floors : (bands,) energy where there is no particle.
    filters, wave : the likelihood of a place, see `waves.filtered`.
    mean, prior : (2,) and (2, 2), mean (row, column) and covariance before this frame, bins of the field, bins^2.
    corner : (row, column) of the crop, bins.
    radii : the particle is measured within the first, what is around it beyond the second, bins.
    profile : (rings,) running ring means of the low map, `RING_BINS` wide; changed in place with `weight`.

    Returns
    -------
    mean (2,) and covariance (2, 2) after this frame, log-likelihood at the mean up to a constant, and the means of
    every map within and beyond the radii, (bands + 1,) each.
    """
    for band in range(len(floors)):
        scale = np.float32(1 / max(floors[band], LEAST_FLOOR))
        for i in range(maps.shape[1]):
            for j in range(maps.shape[2]):
                maps[band, i, j] = min(maps[band, i, j] * scale, np.float32(ENERGY_CAP))
    score = filtered(maps, filters, wave)
    row, column = mean[0] - corner[0], mean[1] - corner[1]
    down, right, var_r, cov, var_c, at_mean = grid_posterior(score, row, column, prior, GRID_BINS, GRID_STEP_BINS)
    rings = radial_means(maps[-1], row + down, column + right, RING_BINS, len(profile))
    profile += weight * (rings - profile)
    inside, outside = inner_and_outer_means(maps, row + down, column + right, radii[0], radii[1])
    after = np.array([[var_r + SYSTEMATIC_VARIANCE_BINS2, cov], [cov, var_c + SYSTEMATIC_VARIANCE_BINS2]])
    return np.array([mean[0] + down, mean[1] + right]), after, at_mean, inside, outside
