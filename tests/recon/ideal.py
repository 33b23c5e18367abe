"""Boxes and map of atoms that are known exactly: Gaussians, their transforms in closed form, white noise."""

from __future__ import annotations

import numpy as np

from tumble.recon.branches import Path, half_of
from tumble.recon.claims import Evidence
from tumble.recon.device import Device
from tumble.recon.geometry import half_plane
from tumble.recon.maps import Accumulator, filled_map
from tumble.recon.rotations import to_matrix
from tumble.recon.volume import Grid, as_kernel_volume, to_fourier
from tumble.recon.whitened import Whitened

BOX, K_MAX, SIGMA, LATTICE_PX = 64, 18, 1.4, 9.4
GRID = Grid(BOX, K_MAX)


def crystal(atoms_A: np.ndarray, centre_px: np.ndarray) -> np.ndarray:
    """Atoms (n, 3) of an fcc crystal of 3.95 A in px, that next to the middle moved to `centre_px`."""
    made = atoms_A / 3.95 * LATTICE_PX * 0.95
    return made - made[np.linalg.norm(made, axis=1).argmin()] + centre_px


def render(atoms: np.ndarray, samples: int = BOX) -> np.ndarray:
    """Map of atoms (n, 3), px."""
    axis = np.arange(samples) - samples // 2
    x, y, z = (np.exp(-0.5 * ((axis[:, None] - atoms[:, i]) / SIGMA) ** 2) for i in range(3))
    return np.einsum("zn,yn,xn->zyx", z, y, x, optimize=True).astype(np.float32)


def boxes(
    atoms: np.ndarray,
    poses: np.ndarray,
    shifts: np.ndarray,
    rng: np.random.Generator,
    device: Device,
    noise: float = 20.0,
) -> tuple[Whitened, object]:
    """Boxes at `poses` (t, 4) and `shifts` (t, 2), whitened to unit noise, and the kernel volume of the truth."""
    plane = half_plane(BOX, K_MAX)
    k = np.stack([plane.kx, plane.ky]) / BOX
    shape = (2 * np.pi) ** 1.5 * SIGMA**3 * np.exp(-2 * np.pi**2 * SIGMA**2 * (k**2).sum(axis=0))
    made = np.array(
        [
            shape * np.exp(-2j * np.pi * (atoms @ to_matrix(q)[:2].T + s) @ k).sum(axis=0)
            for q, s in zip(poses, shifts, strict=True)
        ]
    )
    made += noise * np.sqrt(0.5) * (rng.normal(size=made.shape) + 1j * rng.normal(size=made.shape))
    packed = np.stack([made.real, made.imag], axis=-1).astype(np.float32)
    weight = np.full(len(plane.kx), 1 / noise**2, np.float32)
    band = np.where(plane.radius > 8, weight, np.float32(0))
    data = Whitened(packed, plane, weight, band, 1.5, device)
    return data, as_kernel_volume(to_fourier(render(atoms), GRID, device), device)


def evidence(data: Whitened, path: Path, centre_px: np.ndarray) -> Evidence:
    """What all frames of `path` that are used say together."""
    frames, half, device = np.arange(len(path.poses)), half_of(np.arange(len(path.poses))), data.device
    sums, use = Accumulator(GRID, 2, device), np.flatnonzero(path.used)
    data.insert(sums, half[use], use, path.poses[use], path.shifts[use], np.ones(len(use)))

    def solve(halves: list) -> object:
        return as_kernel_volume(filled_map(halves[0], halves[1], GRID, centre_px, device).joint, device)

    return Evidence(data, frames, half, path, sums.halves(), GRID, solve, K_MAX)
