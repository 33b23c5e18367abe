"""Boxes of a small tumbling crystal with known truth: Gaussian atoms, projected exactly, and white noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tumble.recon.geometry import box_size_px
from tumble.recon.kinds import FCC, Kind, Lattice
from tumble.recon.records import NoiseSpectrum, Observation
from tumble.recon.rotations import from_rotation_vector, multiply, normalise, random_rotations, to_matrix
from tumble.recon.spectra import noise_from_boxes

Floats = NDArray[np.float64]


def fcc_crystal(
    lattice_constant_A: float = 3.95,
    diameter_A: float = 19.0,
    site: tuple[float, float, float] = (0.0, 0.0, 0.0),
    kind: Kind = FCC,
) -> Floats:
    """An fcc (or bcc) crystal without any symmetry, a ball cut by three planes: (n, 3) A, centroid at the origin.

    It is moved over the lattice until the centroid comes to `site`, in lattice constants from an atom.
    """
    lattice = Lattice(kind, lattice_constant_A).ball(2 * diameter_A) - np.array(site) * lattice_constant_A
    cuts = normalise(np.array([[1.0, 1.0, 0.2], [-0.7, 0.3, 1.0], [0.1, -1.0, 0.6]])) * 2 / diameter_A
    middle = np.zeros(3)
    best = lattice
    for _ in range(40):
        inside = np.linalg.norm(lattice - middle, axis=1) < diameter_A / 2
        atoms = lattice[inside & ((lattice - middle) @ cuts.T < (0.75, 0.35, 0.8)).all(axis=1)]
        centroid = atoms.mean(axis=0)
        if np.linalg.norm(centroid) < np.linalg.norm(best.mean(axis=0)) or best is lattice:
            best = atoms
        middle = middle - 0.3 * centroid
    return best - best.mean(axis=0)


def twin_crystal(lattice_constant_A: float = 3.95, diameter_A: float = 20.0) -> Floats:
    """Two fcc grains that share a (111) plane off the middle, cut to have no symmetry: (n, 3) A about the centroid."""
    ball = Lattice(FCC, lattice_constant_A).ball(2 * diameter_A)
    normal = np.ones(3) / np.sqrt(3)
    upper = ball[ball @ normal > -0.1]
    mirrored = upper - 2 * np.outer(upper @ normal, normal)
    both = np.concatenate([upper, mirrored[mirrored @ normal < -0.1]]) - 1.5 * normal
    cuts = normalise(np.array([[1.0, 1.0, 0.2], [-0.7, 0.3, 1.0], [0.1, -1.0, 0.6]])) * 2 / diameter_A
    inside = (np.linalg.norm(both, axis=1) < diameter_A / 2) & (both @ cuts.T < (0.75, 0.5, 0.8)).all(axis=1)
    return np.asarray(both[inside] - both[inside].mean(axis=0))


def tumbling(frames: int, step_deg: float, rng: np.random.Generator) -> Floats:
    """Brownian rotation: (frames, 4), `step_deg` per axis and frame, turned about the lab axes."""
    poses = random_rotations(frames, rng)
    for t in range(1, frames):
        poses[t] = multiply(from_rotation_vector(rng.normal(0, np.radians(step_deg), 3)), poses[t - 1])
    return poses


def project(
    atoms_px: Floats, pose: Floats, at_px: Floats, box_px: int, sigma_px: float, wide_px: float = 0.0
) -> Floats:
    """Image (box_px, box_px) of Gaussian atoms of unit mass, the body origin at `at_px` (x, y) from the middle.

    With `wide_px`, a wider Gaussian of the same mass is taken off: a lens passes little of the low frequencies.
    """
    seen = atoms_px @ to_matrix(pose)[:2].T + at_px + box_px // 2
    line = np.arange(box_px)[:, None]
    image = np.zeros((box_px, box_px))
    for sigma, sign in ((sigma_px, 1.0), (wide_px, -1.0)):
        if sigma:
            x, y = (np.exp(-0.5 * ((line - seen[:, axis]) / sigma) ** 2) for axis in (0, 1))
            image += sign * y @ x.T / (2 * np.pi * sigma**2)
    return image


@dataclass(frozen=True, eq=False)
class Movie:
    """Observations of one particle, the noise they carry, and what is true of them."""

    observations: tuple[Observation, ...]
    noise: NoiseSpectrum
    atoms_A: Floats
    poses: Floats
    centres_px: Floats
    pixel_size_A: float
    diameter_A: float


def movie(
    frames: int = 300,
    *,
    contrast: float = 1.0,
    pixel_size_A: float = 0.42,
    diameter_A: float = 19.0,
    lattice_constant_A: float = 3.95,
    site: tuple[float, float, float] = (0.0, 0.0, 0.0),
    step_deg: float = 2.5,
    tracking_px: float = 0.6,
    seed: int = 0,
    atoms_A: Floats | None = None,
) -> Movie:
    """Make boxes of a tumbling crystal in white noise of unit variance; `contrast` 0 leaves the noise alone.

    The crystal is `fcc_crystal` unless `atoms_A` (n, 3) are given.
    """
    rng = np.random.default_rng(seed)
    box_px = box_size_px(diameter_A, pixel_size_A)
    atoms = fcc_crystal(lattice_constant_A, diameter_A, site) if atoms_A is None else atoms_A
    poses = tumbling(frames, step_deg, rng)
    centres = 100 + np.cumsum(rng.normal(0, 0.6, (frames, 2)), axis=0)
    tracked = centres + rng.normal(0, tracking_px, (frames, 2))
    corners = np.rint(tracked).astype(int) - box_px // 2
    observations = []
    for t in range(frames):
        box = rng.normal(size=(box_px, box_px))
        if contrast:
            at = centres[t] - corners[t] - box_px // 2
            box = box + contrast * project(
                atoms / pixel_size_A, poses[t], at, box_px, 0.45 / pixel_size_A, 1.0 / pixel_size_A
            )
        observations.append(
            Observation(
                particle=1,
                frame=t,
                time_s=0.0025 * t,
                box=box.astype(np.float32),
                corner_px=(int(corners[t, 0]), int(corners[t, 1])),
                centre_px=(float(tracked[t, 0]), float(tracked[t, 1])),
                centre_sd_px=tracking_px,
            )
        )
    empty = rng.normal(size=(200, box_px, box_px)).astype(np.float32)
    return Movie(tuple(observations), noise_from_boxes(empty), atoms, poses, centres, pixel_size_A, diameter_A)
