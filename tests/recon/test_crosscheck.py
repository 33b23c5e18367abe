"""Poses tried on a map of another gauge, hand and lattice site: right branches win there, a wrong stretch loses."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.branches import Path
from tumble.recon.compare import GAUGES
from tumble.recon.crosscheck import Scorer, judged, known, leads, refuted, sampled, tried
from tumble.recon.device import Device
from tumble.recon.geometry import box_size_px, half_plane
from tumble.recon.maps import Accumulator
from tumble.recon.rotations import (
    equivalents,
    from_matrix,
    from_rotation_vector,
    multiply,
    random_rotations,
    to_matrix,
)
from tumble.recon.site import Site
from tumble.recon.spectra import box_coefficients
from tumble.recon.volume import Grid, as_kernel_volume
from tumble.recon.whitened import Whitened

PIXEL_A, DIAMETER_A, CONSTANT_A, K_MAX = 0.42, 17.0, 3.95, 24
SIZE = box_size_px(DIAMETER_A, PIXEL_A)
FRAMES = 150


def exposed(
    synthetic: ModuleType, device: Device, atoms: np.ndarray, poses: np.ndarray, shifts: np.ndarray, seed: int
) -> Whitened:
    """Whitened boxes of atoms (A, about the map's origin)."""
    rng = np.random.default_rng(seed)
    boxes = [
        30 * synthetic.project(atoms / PIXEL_A, q, s, SIZE, 0.45 / PIXEL_A, 1.0 / PIXEL_A)
        + rng.normal(size=(SIZE, SIZE)) for q, s in zip(poses, shifts, strict=True)
    ]  # fmt: skip
    plane = half_plane(SIZE, K_MAX)
    ones = np.ones(len(plane.kx), np.float32)
    coefficients = box_coefficients(np.array(boxes, np.float32), plane, device)
    return Whitened(coefficients, plane, ones, ones, 3.0, device)


def about_a_site(atoms: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms about one of those nearest to the centroid, and that one's place."""
    site = atoms[np.argsort(np.linalg.norm(atoms, axis=1), kind="stable")[number]]
    return atoms - site, site


def account(
    device: Device, data: Whitened, poses: np.ndarray, shifts: np.ndarray, place: np.ndarray, start: int
) -> Scorer:
    """The map of all boxes with these poses, its origin at `place` (A, from the centroid of the atoms)."""
    count = len(poses)
    sums = Accumulator(Grid(SIZE, K_MAX), 1, device)
    data.insert(sums, np.zeros(count, np.int64), np.arange(count), poses, shifts, np.ones(count))
    numerator, denominator = sums.sums(0)
    volume = as_kernel_volume(numerator / (denominator + 0.5), device)
    path = Path(poses, shifts, np.zeros(count), np.ones(count, np.bool_))
    site = Site(place / PIXEL_A, CONSTANT_A / PIXEL_A)
    number = np.arange(start, start + count)
    return Scorer(volume, np.zeros(3), -place / PIXEL_A, site, float(K_MAX), number, path)


@pytest.mark.parametrize("gauge", [0, 9, 31])
def test_branches_on_another_map(synthetic: ModuleType, device: Device, gauge: int) -> None:
    rng = np.random.default_rng(gauge)
    crystal, turn = synthetic.fcc_crystal(CONSTANT_A, DIAMETER_A), GAUGES[gauge]
    other, place = about_a_site(crystal @ turn, 2)  # crystal = turn @ other
    poses, shifts = random_rotations(300, rng), rng.normal(0, 1, (300, 2))
    theirs = exposed(synthetic, device, other, poses, shifts, 1)
    scorer = account(device, theirs, poses, shifts, place, 1000)
    own, site = about_a_site(crystal, 0)
    poses = random_rotations(FRAMES, rng)
    middle = rng.normal(0, 0.5, (FRAMES, 2))  # where the crystal is
    shifts = middle + to_matrix(poses)[:, :2] @ site / PIXEL_A
    data = exposed(synthetic, device, own, poses, shifts, 2)
    number = np.arange(FRAMES)
    path = Path(poses, shifts, np.zeros(FRAMES), np.ones(FRAMES, np.bool_))
    lead = leads(data, number, path, -site / PIXEL_A, turn, np.zeros(3), scorer)
    trial = judged(lead, number, np.ones(FRAMES))
    assert trial is not None
    assert trial.upheld == 1.0
    assert trial.margin > 1.0
    assert (lead.min(axis=1) > 0).mean() > 0.9
    wrong = poses.copy()
    wrong[50:100] = equivalents(poses[50:100])[:, 7]  # a third
    path = Path(wrong, middle + to_matrix(wrong)[:, :2] @ site / PIXEL_A, path.score, path.used)
    lead = leads(data, number, path, -site / PIXEL_A, turn, np.zeros(3), scorer)
    trial = judged(lead, number, np.ones(FRAMES))
    assert trial is not None
    assert trial.upheld == pytest.approx(2 / 3)
    assert trial.margin < -1.0


def test_whose_error_it_is(synthetic: ModuleType, device: Device) -> None:
    """Two maps of the same boxes, each with errors of its own: either account is refuted in its own errors alone."""
    rng = np.random.default_rng(5)
    crystal, turn = synthetic.fcc_crystal(CONSTANT_A, DIAMETER_A), GAUGES[9]
    own, site = about_a_site(crystal, 0)
    _, place = about_a_site(crystal @ turn, 2)
    poses, middle = random_rotations(FRAMES, rng), rng.normal(0, 0.5, (FRAMES, 2))
    data = exposed(synthetic, device, own, poses, middle + to_matrix(poses)[:, :2] @ site / PIXEL_A, 3)
    others = multiply(poses, from_matrix(turn))
    poses[:6] = equivalents(poses[:6])[:, 7]  # another branch
    others[20:30] = multiply(from_rotation_vector(np.array([0.0, 0.25, 0.0])), others[20:30])  # off by 14 degrees
    first = account(device, data, poses, middle + to_matrix(poses)[:, :2] @ site / PIXEL_A, site, 0)
    second = account(device, data, others, middle + to_matrix(others)[:, :2] @ place / PIXEL_A, place, 0)
    number = np.arange(FRAMES)
    assert refuted(data, number, first, turn, np.zeros(3), second) == tuple(range(20, 30))
    assert refuted(data, number, second, turn.T, np.zeros(3), first) == tuple(range(6))
    trial = tried(data, number, first, turn, np.zeros(3), second)
    assert trial is not None
    assert trial.erred == tuple(range(20, 30))


def test_no_frames() -> None:
    assert judged(np.zeros((0, 47)), np.zeros(0, np.int64), np.zeros(0)) is None


def test_what_the_other_map_has_not_measured_is_not_judged_by_it() -> None:
    lead, number = np.full((200, 47), 3.0), np.arange(200)
    lead[100:150] = -20.0
    trial = judged(lead, number, np.ones(200))
    assert trial is not None
    assert (trial.told, trial.upheld, trial.margin) == (1.0, 0.75, -20.0)
    share = np.where((number >= 100) & (number < 145), 0.5, 1.0)  # of that stretch five frames are left
    trial = judged(lead, number, share)
    assert trial is not None
    assert (trial.told, trial.upheld, trial.margin) == (0.75, 1.0, 3.0)
    assert judged(lead, number, np.zeros(200)) is None


def test_what_a_map_knows() -> None:
    """Views from everywhere know all; those along one axis the plane across it, and of another plane two ends."""
    rng = np.random.default_rng(8)
    poses = random_rotations(50, rng)
    assert known(poses, random_rotations(2000, rng)).min() == 1.0
    assert known(poses, poses).min() == 1.0
    about_z = from_rotation_vector(np.stack([np.zeros(90), np.zeros(90), np.linspace(0, 6, 90)], axis=1))
    along_x = from_rotation_vector(np.array([[0.0, np.pi / 2, 0.0]]))
    assert known(about_z[:1], about_z)[0] == 1.0  # all of them look along z
    assert known(along_x, about_z)[0] < 0.2


def test_a_sample_is_of_whole_stretches() -> None:
    rows = np.arange(5000)
    picked = sampled(rows, rows)
    assert 700 <= len(picked) <= 900
    assert set(np.unique(picked // 50, return_counts=True)[1]) == {50}
    np.testing.assert_array_equal(sampled(rows[:700], rows[:700]), rows[:700])
