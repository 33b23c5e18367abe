"""Which directions a particle has been seen from: counts on a grid of the hemisphere, constant cost per frame."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .rotations import to_matrix

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

CELLS = 400
REACH_DEG = 4.0  # 1 / (k D) for a crystal of 20 A at 1.4 A: what lies nearer to a measured plane is known


@lru_cache(maxsize=4)
def view_grid(cells: int = CELLS) -> NDArray[np.float64]:
    """(cells, 3) unit vectors of a Fibonacci hemisphere: ``z = 1 - (i + 1/2) / n``, azimuth ``i`` golden angles."""
    i = np.arange(cells)
    z = 1 - (i + 0.5) / cells
    azimuth = i * math.pi * (3 - math.sqrt(5))
    rho = np.sqrt(1 - z * z)
    return np.stack([rho * np.cos(azimuth), rho * np.sin(azimuth), z], axis=1)


@lru_cache(maxsize=4)
def _tree(cells: int) -> cKDTree:
    from scipy.spatial import cKDTree  # half a second, and processes that only count cells need none of it

    grid = view_grid(cells)
    return cKDTree(np.concatenate([grid, -grid]))


def view_directions(poses: ArrayLike) -> NDArray[np.float64]:
    """Beam direction in the body frame, ``R^T z``, of poses (..., 4): (..., 3). Opposite views give mirrored images."""
    return to_matrix(poses)[..., 2, :]


def view_counts(poses: ArrayLike, cells: int = CELLS) -> NDArray[np.int32]:
    """How many of the poses (n, 4) look along each cell of the hemisphere: (cells,) int32."""
    poses = np.asarray(poses, np.float64)
    if len(poses) == 0:
        return np.zeros(cells, np.int32)
    nearest = _tree(cells).query(view_directions(poses))[1] % cells
    return np.bincount(nearest, minlength=cells).astype(np.int32)
