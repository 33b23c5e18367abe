"""Directions seen: counts of known views, uniform views, the same from before and behind."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.coverage import view_counts, view_directions, view_grid
from tumble.recon.rotations import C2Z, from_rotation_vector, multiply, random_rotations, to_matrix


def test_grid_is_a_uniform_hemisphere() -> None:
    grid = view_grid(400)
    assert grid.shape == (400, 3)
    np.testing.assert_allclose(np.linalg.norm(grid, axis=1), 1)
    assert (grid[:, 2] > 0).all()
    nearest = np.sort(np.degrees(np.arccos(np.clip(abs(grid @ grid.T), -1, 1))), axis=1)[:, 1]
    spacing = np.degrees(np.sqrt(2 * np.pi / 400))
    assert nearest.min() > 0.45 * spacing  # cells on both sides of the equator may lie close
    assert nearest.max() < 1.1 * spacing


def test_direction_of_known_poses() -> None:
    # R^T z: a body turned by +90 degrees about x shows the beam its own +y direction
    about_x = from_rotation_vector([np.pi / 2, 0, 0])
    np.testing.assert_allclose(view_directions(about_x), [0, 1, 0], atol=1e-15)
    about_z = from_rotation_vector([0, 0, 1.0])
    np.testing.assert_allclose(view_directions(about_z), [0, 0, 1], atol=1e-15)


def test_counts_fall_into_the_cell_of_the_direction() -> None:
    grid = view_grid(400)
    rng = np.random.default_rng(0)
    poses = random_rotations(500, rng)
    counts = view_counts(poses)
    assert counts.dtype == np.int32
    assert counts.sum() == 500
    want = np.zeros(400, int)
    for direction in to_matrix(poses)[:, 2]:
        want[np.argmax(abs(grid @ direction))] += 1  # front and back are one view
    np.testing.assert_array_equal(counts, want)


def test_turns_in_the_plane_and_the_half_turn_are_the_same_view() -> None:
    rng = np.random.default_rng(1)
    pose = random_rotations(1, rng)[0]
    spun = [multiply(from_rotation_vector([0, 0, a]), pose) for a in np.linspace(0, 6, 30)]
    behind = [multiply(from_rotation_vector([np.pi, 0, 0]), pose), multiply(C2Z, pose)]
    counts = view_counts(np.array(spun + behind))
    assert (counts > 0).sum() == 1
    assert counts.max() == 32


@pytest.mark.parametrize("views", [400, 2000])
def test_uniform_views_leave_an_exponential_share_empty(views: int) -> None:
    counts = view_counts(random_rotations(views, np.random.default_rng(2)))
    assert (counts == 0).mean() == pytest.approx(np.exp(-views / 400), abs=0.05)


def test_a_tilt_series_leaves_a_wedge_empty() -> None:
    # tilts of +-60 degrees about x, all turns in the plane: views stay within 60 degrees of a great circle's middle
    tilt = np.radians(np.linspace(-60, 60, 4001))
    poses = from_rotation_vector(np.stack([tilt, 0 * tilt, 0 * tilt], axis=1))
    grid, counts = view_grid(), view_counts(poses)
    seen = grid[counts > 0]
    assert np.degrees(np.arcsin(abs(seen[:, 0]))).max() < 10
    assert np.degrees(np.arccos(seen[:, 2])).max() < 66


def test_no_views() -> None:
    np.testing.assert_array_equal(view_counts(np.zeros((0, 4))), np.zeros(400, np.int32))
