"""Atoms that go or come while the frames stream in are seen in the recent frames, and nothing else is."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tumble.recon.branches import Path
from tumble.recon.buffer import FrameBuffer
from tumble.recon.change import LEAST_FRAMES, Alarm, Change, Occupation, find_change, occupation, vacant_sites
from tumble.recon.device import Device
from tumble.recon.geometry import box_size_px, half_plane
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.maps import Accumulator
from tumble.recon.residual import Held, residual
from tumble.recon.rotations import random_rotations
from tumble.recon.spectra import box_coefficients
from tumble.recon.volume import Grid, as_kernel_volume
from tumble.recon.whitened import Whitened

PIXEL_A, DIAMETER_A, K_MAX = 0.42, 17.0, 26
CONSTANT_A = 3.95
NEIGHBOUR_A = CONSTANT_A / np.sqrt(2)
FRAMES, RECENT = 500, 120


@pytest.fixture(scope="module")
def crystal(synthetic: ModuleType) -> np.ndarray:
    return synthetic.fcc_crystal(CONSTANT_A, DIAMETER_A)


def boxes(synthetic: ModuleType, atoms: np.ndarray, poses: np.ndarray, shifts: np.ndarray, seed: int) -> np.ndarray:
    size, rng = box_size_px(DIAMETER_A, PIXEL_A), np.random.default_rng(seed)
    return np.stack([
        20 * synthetic.project(atoms / PIXEL_A, q, s, size, 0.45 / PIXEL_A, 1.0 / PIXEL_A)
        + rng.normal(size=(size, size)) for q, s in zip(poses, shifts, strict=True)
    ]).astype(np.float32)  # fmt: skip


def seen(
    synthetic: ModuleType, device: Device, before: np.ndarray, after: np.ndarray, places: np.ndarray, late: int = 0
) -> Occupation:
    """What the newest frames of a movie in which `before` becomes `after` show; the map holds `late` of
    the newest.
    """
    rng = np.random.default_rng(4)
    poses, shifts = random_rotations(FRAMES, rng), rng.normal(0, 1, (FRAMES, 2))
    old = FRAMES - RECENT
    images = np.concatenate([
        boxes(synthetic, before, poses[:old], shifts[:old], 1), boxes(synthetic, after, poses[old:], shifts[old:], 2)
    ])  # fmt: skip
    size = images.shape[1]
    plane, grid = half_plane(size, K_MAX), Grid(size, K_MAX)
    ones = np.ones(len(plane.kx), np.float32)
    data = Whitened(box_coefficients(images, plane, device), plane, ones, ones, 2.0, device)
    sums = Accumulator(grid, 1, device)
    rows = np.arange(FRAMES)
    kept = old + late
    data.insert(sums, np.zeros(kept, np.int64), rows[:kept], poses[:kept], shifts[:kept], np.ones(kept))
    numerator, denominator = sums.sums(0)
    volume = as_kernel_volume(numerator / (denominator + 0.5), device)

    def at(part: slice) -> Occupation:
        count = len(rows[part])
        path = Path(poses[part], shifts[part], np.zeros(count), np.ones(count, np.bool_))
        places_px = before / PIXEL_A, places / PIXEL_A
        return occupation(residual(data, rows[part], path, volume, *places_px, (3.0, K_MAX)), len(before))

    return at(slice(old, None)).since(at(slice(0, RECENT)))


def test_nothing_changes(synthetic: ModuleType, device: Device, crystal: np.ndarray) -> None:
    found = seen(synthetic, device, crystal, crystal, vacant_sites(crystal, NEIGHBOUR_A))
    assert not found.gone.any()
    assert not found.come.any()
    assert np.abs(found.atoms).max() < 0.3


@pytest.mark.parametrize("late", [0, RECENT])
def test_atoms_that_go_are_those_that_went(
    synthetic: ModuleType, device: Device, crystal: np.ndarray, late: int
) -> None:
    lost = np.zeros(len(crystal), np.bool_)
    lost[np.argsort(crystal[:, 0])[-9:]] = True
    found = seen(synthetic, device, crystal, crystal[~lost], vacant_sites(crystal, NEIGHBOUR_A), late)
    assert (found.gone == lost).all()
    assert not found.come.any()


def test_atoms_that_come(synthetic: ModuleType, device: Device, crystal: np.ndarray) -> None:
    places = vacant_sites(crystal, NEIGHBOUR_A)
    new = np.zeros(len(places), np.bool_)
    new[np.argsort(places[:, 1])[:6]] = True
    found = seen(synthetic, device, crystal, np.concatenate([crystal, places[new]]), places)
    assert (found.come == new).all()
    assert not found.gone.any()


def test_too_few_frames(device: Device) -> None:
    plane = half_plane(64, 20)
    ones = np.ones(len(plane.kx), np.float32)
    data = Whitened(np.zeros((9, len(ones), 2), np.float32), plane, ones, ones, 2.0, device)
    atoms = [SimpleNamespace(position_A=(0.0, 0.0, 3.0 * n)) for n in range(3)]
    for shown, count in ((atoms, 9), (atoms, 2 * LEAST_FRAMES - 1), ([], 500)):
        published: Any = SimpleNamespace(atoms=shown, centre_A=np.zeros(3), lattice=Lattice(FCC, CONSTANT_A))
        buffer = FrameBuffer(500, len(ones), device)
        assert find_change(Held(data, buffer, np.arange(count), None, published, PIXEL_A, 20.0)) is None


def test_vacant_sites(crystal: np.ndarray) -> None:
    places = vacant_sites(crystal, NEIGHBOUR_A)
    apart = np.linalg.norm(places[:, None] - crystal[None], axis=2)
    assert (apart.min(axis=1) > 0.9 * NEIGHBOUR_A).all()
    assert ((apart < 1.1 * NEIGHBOUR_A).sum(axis=1) >= 3).all()


def test_words() -> None:
    assert Change(0, 0, 400, 9, 100, 208).words == ""
    assert Change(7, 2, 400, 9, 100, 208).words == ""
    assert (
        "from frame 900 or before to frame 1099 about 12 of 400 atoms have gone; the map"
        in Change(12, 0, 400, 900, 100, 1099).words
    )
    assert "and about 20 have come" in Change(12, 20, 400, 900, 100, 1099).words
    assert "about 41 of 400 atoms have gone" in Change(12, 0, 400, 900, 100, 1099, lost=41).words


@pytest.mark.parametrize("gone", [5, 20, 60, 120])
def test_atoms_that_have_gone_are_counted_beyond_those_that_are_sure(gone: int) -> None:
    # as measured on a crystal that dissolved: places of atoms that have gone 4.5 standard deviations lower
    values = np.random.default_rng(gone).normal(0.0, 0.075, 180)
    values[:gone] -= 0.34
    vacant = np.random.default_rng(9).normal(0.0, 0.075, 100)
    found = Occupation(values, np.full(180, 0.065), vacant, np.full(100, 0.065))
    assert 0 < found.gone.sum() <= gone
    assert found.lost == pytest.approx(gone, abs=0.1 * gone + 1)
    assert not found.come.any()
    assert found.gained == 0
    assert Occupation(vacant, np.full(100, 0.065), values, np.full(180, 0.065)).lost == 0


def test_many_places_tell_together_what_none_tells_alone() -> None:
    # as measured where 58 of 180 atoms had gone and the crystal had shown one side: a few places beyond doubt
    rng = np.random.default_rng(7)
    error, vacant = np.full(180, 0.054), rng.normal(0.0, 0.085, 105)
    values = np.concatenate([rng.normal(0.05, 0.07, 130), rng.normal(-0.3, 0.05, 50)])
    found = Occupation(values, error, vacant, np.full(105, 0.054))
    assert found.gone.sum() < 6
    assert found.counts[0] > 20
    assert found.counts[1] == 0
    assert found.lost == pytest.approx(50, abs=8)


def test_chance_does_not_make_many() -> None:
    rng = np.random.default_rng(8)
    for _ in range(300):
        atoms, vacant = 0.08 * rng.standard_t(8, 180), 0.08 * rng.standard_t(8, 100)
        assert Occupation(atoms, np.full(180, 0.06), vacant, np.full(100, 0.06)).counts[0] < 4


def test_an_alarm_stays_when_the_change_is_over() -> None:
    alarm = Alarm()
    assert alarm.hear(None) == ""
    assert alarm.hear(Change(0, 0, 400, 700, 400, 899)) == ""
    words = alarm.hear(Change(12, 0, 400, 1000, 600, 1199))
    assert "from frame 1000 or before to frame 1199" in words
    for frame in (1500, 2000, 2500):  # the buffer holds no frames from before any more
        assert alarm.hear(Change(0, 0, 400, frame, frame - 300, frame + 199)) == words
    assert "from frame 1000 or before to frame 3199 about 40 of 400" in alarm.hear(Change(40, 0, 400, 3000, 2400, 3199))


def test_what_all_places_lack_together_is_known_to_an_atom_or_two() -> None:
    rng = np.random.default_rng(5)
    vacant, error = rng.normal(0.0, 0.075, 100), np.full(100, 0.065)
    still = Occupation(rng.normal(0.0, 0.075, 180), np.full(180, 0.065), vacant, error)
    fewer, doubt = still.fewer
    assert abs(fewer) < 3 * doubt < 6
    fading = np.zeros(180)
    fading[:28] = -0.17  # atoms that have gone in the middle of the frames, each too little to be named
    going = Occupation(still.atoms + fading, still.atoms_error, vacant, error)
    assert not going.gone.any()
    assert going.fewer[0] == pytest.approx(fewer + 28 * 0.17)


def test_an_alarm_says_whether_it_still_goes_on() -> None:
    alarm = Alarm()
    first = Change(12, 0, 400, 1000, 600, 1199, lost=30, going=True, middle=800)
    assert "about 30 of 400 atoms have gone, still going on at frame 1199; the map mixes" in alarm.hear(first)
    later = Change(20, 0, 400, 1500, 900, 1699, lost=60, going=True, middle=1300)
    assert "from frame 1000 or before to frame 1699 about 60 of 400" in alarm.hear(later)
    over = Change(9, 0, 400, 2000, 1500, 2199, lost=25, going=False, middle=1800)
    words = alarm.hear(over)
    assert "to frame 1699 about 60 of 400 atoms have gone, no more since frame 1800; the map" in words
    assert alarm.hear(Change(0, 0, 400, 2500, 1900, 2699, going=False, middle=2300)) == words
    again = Change(20, 0, 400, 3000, 2500, 3199, lost=20, going=True, middle=2800)
    assert "about 60 of 400 atoms have gone, still going on at frame 3199" in alarm.hear(again)


def test_an_alarm_that_frames_from_before_deny_twice_was_none() -> None:
    alarm, calm = Alarm(), Change(0, 0, 400, 1400, 600, 1599)
    words = alarm.hear(Change(12, 0, 400, 1000, 500, 1199))
    assert alarm.hear(calm) == words
    assert alarm.hear(Change(11, 0, 400, 1500, 600, 1699)) != ""
    assert alarm.hear(calm) != ""
    assert alarm.hear(calm) == ""
