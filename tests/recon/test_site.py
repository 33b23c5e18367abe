"""Lattice translations: frames that index different sites are brought to one."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.rotations import random_rotations, to_matrix
from tumble.recon.site import VECTORS, Site

LATTICE_PX = 11.1  # Pt at 0.358 A
TRACKING_PX = 0.8


def seen(offset_px, frames=500, seed=0):
    """Poses, shifts of the site that lies nearest to the tracked centre, and of the one at `offset_px`."""
    rng = np.random.default_rng(seed)
    poses = random_rotations(frames, rng)
    plane = to_matrix(poses)[:, :2]
    noise = rng.normal(0, TRACKING_PX, (frames, 2))
    right = plane @ offset_px + noise
    every = right[:, None] + np.einsum("tij,vj->tvi", plane, VECTORS * LATTICE_PX)
    deep = np.abs(np.einsum("tj,vj->tv", to_matrix(poses)[:, 2], VECTORS * LATTICE_PX + offset_px)) < LATTICE_PX / 2
    away = np.where(deep, (every**2).sum(axis=2), np.inf)
    return poses, every[np.arange(frames), away.argmin(axis=1)], right


def test_there_are_43_vectors_up_to_the_third_shell():
    lengths, counts = np.unique((VECTORS**2).sum(axis=1), return_counts=True)
    assert lengths.tolist() == [0, 0.5, 1, 1.5]
    assert counts.tolist() == [1, 12, 6, 24]
    assert not VECTORS[0].any()


@pytest.mark.parametrize("site", [(0, 0, 0), (0.25, 0.25, 0), (0.5, 0, 0), (0.25, 0.25, 0.25), (0.11, -0.2, 0.05)])
def test_the_site_is_found_up_to_a_lattice_vector(site):
    offset = np.array(site) * LATTICE_PX
    poses, shifts, _ = seen(offset)
    found = Site.find(poses, shifts, LATTICE_PX)
    away = np.linalg.norm(found.offset_px - offset + VECTORS * LATTICE_PX, axis=1)
    assert away.min() < 0.3  # px; the tracking errs by more in every frame


def test_between_two_sites_all_frames_come_to_one():
    offset = np.array([0.25, 0.25, 0]) * LATTICE_PX  # halfway between two atoms
    poses, shifts, right = seen(offset)
    mixed = np.linalg.norm(shifts - right, axis=1) < 3 * TRACKING_PX
    assert 0.3 < mixed.mean() < 0.8
    together = Site(offset, LATTICE_PX).nearest(poses, shifts)
    assert (np.linalg.norm(together - right, axis=1) < 3 * TRACKING_PX).mean() > 0.95


def test_refining_keeps_the_site():
    offset = np.array([0.25, 0.25, 0]) * LATTICE_PX
    poses, shifts, _ = seen(offset)
    refined = Site(offset + 0.5, LATTICE_PX).refined(poses, shifts)
    assert np.linalg.norm(refined.offset_px - offset) < 0.4


def test_nearest_moves_by_lattice_vectors_only():
    poses, shifts, _ = seen(np.array([1.0, 2.0, 3.0]), frames=50)
    moved = Site(np.array([1.0, 2.0, 3.0]), LATTICE_PX).nearest(poses, shifts) - shifts
    steps = np.einsum("tij,vj->tvi", to_matrix(poses)[:, :2], VECTORS * LATTICE_PX)
    assert np.linalg.norm(steps - moved[:, None], axis=2).min(axis=1).max() < 1e-9
