"""Where the middle of a particle is to be expected, when its track errs for many frames in a row."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.branches import Path
from tumble.recon.place import LEAST_SD_PX, expected, spread_px, whereabouts
from tumble.recon.rotations import to_matrix
from tumble.recon.site import Site

FRAMES, LATTICE_PX, MOTION_PX, TRACK_PX, LASTING = 400, 11.0, 0.6, 1.1, 0.85
OFFSET = np.array([2.0, -1.2, 1.5])
NUMBER = np.arange(FRAMES)


def wandering(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a particle (t, 2) and a track of it (t, 2), smoothed, so that its error lasts."""
    middle = 100 + np.cumsum(rng.normal(0, MOTION_PX, (FRAMES, 2)), axis=0)
    error = np.zeros((FRAMES, 2))
    for t in range(1, FRAMES):
        error[t] = LASTING * error[t - 1] + rng.normal(0, TRACK_PX * np.sqrt(1 - LASTING**2), 2)
    return middle, middle + error


def test_the_frames_around_know_better_than_the_track() -> None:
    middle, track = wandering(np.random.default_rng(1))
    seen = middle + np.random.default_rng(2).normal(0, 0.2, middle.shape)
    away = expected(seen, np.ones(FRAMES, np.bool_), track, NUMBER) - middle
    assert spread_px(away) < 0.6 * spread_px(track - middle)


def test_of_no_deviations_the_spread_is_the_least() -> None:
    assert spread_px(np.zeros((0, 2))) == spread_px(np.zeros((5, 2))) == LEAST_SD_PX


def test_the_own_place_of_a_frame_does_not_enter() -> None:
    middle, track = wandering(np.random.default_rng(3))
    sure = np.ones(FRAMES, np.bool_)
    before = expected(middle, sure, track, NUMBER)
    moved = middle.copy()
    moved[200] += 4.0  # a lattice vector
    after = expected(moved, sure, track, NUMBER)
    np.testing.assert_allclose(after[200], before[200], atol=0.05)  # the spreads change by a hair
    sure[200] = False
    np.testing.assert_allclose(expected(moved, sure, track, NUMBER)[201], expected(middle, sure, track, NUMBER)[201])


def test_where_nothing_is_sure_the_track_is_believed() -> None:
    middle, track = wandering(np.random.default_rng(4))
    np.testing.assert_array_equal(expected(middle, np.zeros(FRAMES, np.bool_), track, NUMBER), track)


def test_frames_far_from_any_sure_one_fall_back_on_the_track() -> None:
    middle, track = wandering(np.random.default_rng(5))
    sure = NUMBER < 300
    away = expected(middle, sure, track, NUMBER) - track
    assert np.abs(away[:300]).mean() > 2 * np.abs(away[380:]).mean()


@pytest.mark.parametrize("seed", [6, 7, 8])
def test_a_path_tells_where_its_particle_is(synthetic: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    poses = synthetic.tumbling(FRAMES, 2.5, rng)
    middle, track = wandering(rng)
    origin = np.rint(track)
    shifts = middle + to_matrix(poses)[:, :2] @ OFFSET - origin
    path = Path(poses, shifts, np.ones(FRAMES), rng.random(FRAMES) < 0.9)
    path.shifts[~path.used] += 5.0  # what is not sure does not enter
    around, site = whereabouts(path, Site(OFFSET, LATTICE_PX), origin, NUMBER)
    assert spread_px(around - (middle - origin)) < 0.6 * spread_px(origin - middle)
    assert np.linalg.norm(site.offset_px - OFFSET) < 0.2
