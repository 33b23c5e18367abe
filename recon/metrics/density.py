"""The map that atoms alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .shells import Map, shell_correlation

WIDTH_VOXELS = 1.3  # so wide that what the sampling folds back is below a per cent up to 0.8 of the Nyquist frequency
REACH_VOXELS = 6
BATCH = 500  # atoms at a time, so that memory is bounded
SIGNAL = 0.3  # FSC of the halves in a shell that is asked; atoms then agreed by 0.34 and more with seven right maps


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


def agreement_with_atoms(volume: Map, atoms_A: ArrayLike, voxel_A: float) -> NDArray[np.float64]:
    """Correlation of a map (n, n, n) ``[z, y, x]`` with its own atoms, shell by shell: (n // 2 + 1,).

    Parameters
    ----------
    atoms_A : (m, 3) ``(x, y, z)``, A from the voxel ``n // 2``. voxel_A : sampling.
    """
    return shell_correlation(volume, density_of_atoms(atoms_A, len(volume), voxel_A))


def weakest_shell(agreement: NDArray[np.float64], fsc: ArrayLike, first: int) -> float | None:
    """The least agreement with the atoms in a shell from `first` on where two halves of the map share a signal.

    Atoms of a right map show in all of these. Where the lens has turned the contrast over, the map holds their negative
    instead, in both halves alike. None where the halves share nothing.

    Parameters
    ----------
    agreement : (shells,) from `agreement_with_atoms`. fsc : (shells,) of the halves. first : shell.
    """
    shared = np.asarray(fsc, np.float64)[: len(agreement)]
    found = agreement[first : len(shared)][shared[first:] > SIGNAL]
    return float(found.min()) if len(found) else None
