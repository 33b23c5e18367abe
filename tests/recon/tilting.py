"""Dark-field tilt series of a small crystal, with its truth: sums of Gaussians, projected exactly."""

from __future__ import annotations

import numpy as np

from tumble.recon.rotations import to_matrix
from tumble.recon.tilts import lab_poses
from tumble.stream.poses import tilted
from tumble.stream.simulator import wulff_crystal

WIDTH_A = 0.6  # of an atom


def crystal_A(atoms: int = 150) -> np.ndarray:
    """Atoms of a platinum crystal that is turned out of every zone axis."""
    turn = to_matrix(np.array([0.8, 0.36, 0.48, 0.0]))
    return wulff_crystal("Pt", atoms, asymmetry=0.15, seed=1).positions_A @ turn.T


def tilt_images(
    atoms_A, angles_deg, axis_deg=90.0, *, shape=(48, 48), pixel_size_A=0.6, noise=0.0, shifts_px=None, turns_deg=None
):
    """Images (m, h, w) float32, and the poses (m, 4) in the lab frame that a goniometer tells of them.

    `shifts_px` (m, 2) and `turns_deg` (m,), in the plane, are what it does not tell.
    """
    poses = lab_poses([tilted(angle) for angle in angles_deg], axis_deg)
    shifts = np.zeros((len(poses), 2)) if shifts_px is None else np.asarray(shifts_px)
    turns = np.radians(np.zeros(len(poses)) if turns_deg is None else turns_deg)
    rows, columns = (np.arange(size) - size // 2 for size in shape)
    images = []
    for matrix, shift, turn in zip(to_matrix(poses), shifts, turns, strict=True):
        plane = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        x, y = plane @ (matrix @ atoms_A.T)[:2] / pixel_size_A + shift[:, None]
        down = np.exp(-0.5 * ((rows[:, None] - y) * pixel_size_A / WIDTH_A) ** 2)
        across = np.exp(-0.5 * ((columns[:, None] - x) * pixel_size_A / WIDTH_A) ** 2)
        images.append(down @ across.T)
    rng = np.random.default_rng(0)
    return (np.array(images) + noise * rng.normal(size=(len(poses), *shape))).astype(np.float32), poses


def density(atoms_A, edge, pixel_size_A=0.6):
    """(edge,)*3 ``[z, y, x]`` of the same atoms."""
    places = np.arange(edge) - edge // 2
    x, y, z = (np.exp(-0.5 * ((places - a[:, None] / pixel_size_A) * pixel_size_A / WIDTH_A) ** 2) for a in atoms_A.T)
    return np.einsum("az,ay,ax->zyx", z, y, x, optimize=True)


def likeness(first, second):
    """Pearson correlation of two arrays."""
    return float(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1])


def core_in_shell(atoms: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """The same crystal (n, 3), and which of its atoms (n,) are of the heavy shell, not of the light core."""
    places = crystal_A(atoms)
    radius = np.linalg.norm(places - places.mean(axis=0), axis=1)
    return places, radius > np.quantile(radius, 0.4)
