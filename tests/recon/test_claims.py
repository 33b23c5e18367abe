"""Frames judged together: the right reading of a stretch wins, whichever of the two is in the map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.branches import Path
from tumble.recon.claims import Evidence, Reading
from tumble.recon.device import Device
from tumble.recon.rotations import equivalents, to_matrix

FRAMES, STEP_DEG = 80, 2.5
STRETCH = np.arange(50, 80)
CENTRE = np.array([0.8, -1.3, 0.5])


@pytest.fixture(scope="module")
def told(synthetic, ideal, device: Device):
    """Boxes of a crystal and its true path."""
    rng = np.random.default_rng(8)
    atoms = ideal.crystal(synthetic.fcc_crystal(), CENTRE)
    poses = synthetic.tumbling(FRAMES, STEP_DEG, rng)
    shifts = rng.normal(0, 0.5, (FRAMES, 2))
    data, _ = ideal.boxes(atoms, poses, shifts, rng, device, noise=60.0)
    return data, Path(poses, shifts, np.zeros(FRAMES), np.ones(FRAMES, np.bool_))


def turned(path: Path, branch: int) -> Path:
    """`path` with its last frames on another branch about the lattice centre."""
    poses, shifts = path.poses.copy(), path.shifts.copy()
    poses[STRETCH] = equivalents(path.poses[STRETCH])[:, branch]
    shifts[STRETCH] += (to_matrix(path.poses[STRETCH]) - to_matrix(poses[STRETCH]))[:, :2] @ CENTRE
    return replace(path, poses=poses, shifts=shifts)


def reading(path: Path) -> Reading:
    return Reading(path.poses[STRETCH], path.shifts[STRETCH])


@pytest.mark.parametrize("branch", [5, 14, 23, 41])
@pytest.mark.parametrize("used", [True, False])
def test_the_right_reading_wins_whichever_is_in_the_map(told, ideal, branch: int, used: bool):
    data, path = told
    wrong = turned(path, branch)
    used_now = path.used.copy()
    used_now[STRETCH] = used
    for inside, rival, sign in ((wrong, path, 1), (path, wrong, -1)):
        evidence: Evidence = ideal.evidence(data, replace(inside, used=used_now), CENTRE)
        gains = evidence.gains(STRETCH, reading(inside), reading(rival))
        assert sign * gains.sum() > 10 * np.sqrt(len(STRETCH))
        assert (sign * gains > 0).mean() > 0.6


def test_without_other_frames_all_branches_are_alike(told, ideal):
    data, path = told
    wrong = turned(path, 14)
    alone = replace(path, used=np.zeros(FRAMES, np.bool_))
    gauge, told_apart = (
        ideal.evidence(data, frames, CENTRE).gains(STRETCH, reading(wrong), reading(path)) for frames in (alone, path)
    )
    assert abs(gauge.mean()) < 0.1 * told_apart.mean()
