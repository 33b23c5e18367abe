"""The map that atoms alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH_VOXELS = 1.3  # so wide that what the sampling folds back is below a per cent up to 0.8 of the Nyquist frequency
REACH_VOXELS = 6
BATCH = 500  # atoms at a time, so that memory is bounded


def density_of_atoms(atoms_A: ArrayLike, edge: int, voxel_A: float) -> NDArray[np.float64]:
    """Equal Gaussians at the places of the atoms, `WIDTH_VOXELS` wide (standard deviation).

    Parameters
    ----------
    atoms_A : (n, 3) ``(x, y, z)``, A from the voxel ``edge // 2``; what lies outside comes in on the other side.
    edge : voxels. voxel_A : sampling.

    Returns
    -------
    (edge, edge, edge) float64 ``[z, y, x]``.
    """
    places = np.asarray(atoms_A, np.float64).reshape(-1, 3)[:, ::-1] / voxel_A + edge // 2
    steps = np.arange(-REACH_VOXELS, REACH_VOXELS + 1)
    density = np.zeros(edge**3)
    for begin in range(0, len(places), BATCH):
        batch = places[begin : begin + BATCH]
        near = np.rint(batch)
        along = np.exp(-((near[:, :, None] + steps - batch[:, :, None]) ** 2) / (2 * WIDTH_VOXELS**2))
        index = (near[:, :, None].astype(np.int64) + steps) % edge
        value = along[:, 0, :, None, None] * along[:, 1, None, :, None] * along[:, 2, None, None, :]
        voxel = (index[:, 0, :, None, None] * edge + index[:, 1, None, :, None]) * edge + index[:, 2, None, None, :]
        density += np.bincount(voxel.ravel(), value.ravel(), edge**3)
    return density.reshape(edge, edge, edge)
