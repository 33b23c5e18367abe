"""Two crystals that take turns are told from one, whatever the poses, the noise and the contrast do."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tumble.recon.branches import Path
from tumble.recon.buffer import FrameBuffer
from tumble.recon.device import Device
from tumble.recon.geometry import box_size_px, half_plane
from tumble.recon.heterogeneity import find_heterogeneity, heterogeneity
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.maps import Accumulator
from tumble.recon.residual import Held
from tumble.recon.rotations import random_rotations
from tumble.recon.spectra import box_coefficients
from tumble.recon.volume import Grid, as_kernel_volume
from tumble.recon.whitened import Whitened

FRAMES, ATOMS, VACANT = 400, 150, 80
NOISE = 0.7  # per frame and place, of a typical atom; 80 e/A^2 gave 0.67
LIMIT = 0.03  # of the rule


def shown(period: int, atoms: int, noise: float = NOISE, share: float = 0.5, seed: int = 1) -> np.ndarray:
    """What frames show beyond the map of two crystals, of which each has `atoms` that the other one lacks."""
    rng = np.random.default_rng(seed)
    other = np.arange(FRAMES) % period >= (1 - share) * period
    weight = np.zeros(ATOMS + VACANT)
    weight[rng.permutation(ATOMS)[: 2 * atoms]] = 0.7 * np.repeat((1, -1), atoms)
    return np.where(other, 1 - share, -share)[:, None] * weight + rng.normal(0, noise, (FRAMES, ATOMS + VACANT))


@pytest.mark.parametrize("period", [24, 50, 100, 200, 370])
@pytest.mark.parametrize("noise", [NOISE, 1.2])
def test_two_crystals_that_take_turns_are_seen(period: int, noise: float) -> None:
    found = heterogeneity(shown(period, 20, noise), ATOMS)
    assert found is not None
    assert 0.5 * 40 / ATOMS < found.share < 1.3 * 40 / ATOMS
    assert found.alike > 0.4


def test_a_crystal_that_is_there_for_an_eighth_of_the_time_is_seen() -> None:
    found = heterogeneity(shown(400, 15, share=0.125), ATOMS)
    assert found is not None
    assert found.share > 3 * LIMIT


@pytest.mark.parametrize("noise", [0.4, NOISE, 1.2, 2.0])
def test_one_crystal_is_one(noise: float) -> None:
    for seed in range(10):
        found = heterogeneity(shown(100, 0, noise, seed=seed), ATOMS)
        assert found is not None
        assert found.share == 0
        assert found.alike < 0.3


def test_a_stretch_of_one_view_is_no_other_crystal() -> None:
    # what the map gets wrong in a view all frames of it share: 40 of 920 made a tenth of the atoms come and go
    values = np.tile(shown(FRAMES, 0), (2, 1))
    values[-40:] += 0.8 * np.random.default_rng(5).normal(size=ATOMS + VACANT)
    found = heterogeneity(values, ATOMS)
    assert found is not None
    assert found.share == 0


def test_contrast_that_wanders_is_no_other_crystal() -> None:
    """With the defocus all atoms become weaker and stronger together."""
    values = shown(100, 0)
    values[:, :ATOMS] += 0.5 * np.sin(np.arange(FRAMES) / 40)[:, None]
    found = heterogeneity(values, ATOMS)
    assert found is not None
    assert found.share == 0


def test_a_few_odd_frames_do_not_hide_a_mixture() -> None:
    values = shown(100, 20)
    values[203:210] += np.random.default_rng(2).normal(0, 6, (1, values.shape[1]))  # another particle passed by
    found = heterogeneity(values, ATOMS)
    assert found is not None
    assert found.share > 3 * LIMIT


def test_too_little_to_tell() -> None:
    assert heterogeneity(np.zeros((70, 5)), 5) is None
    assert heterogeneity(np.zeros((400, 5)), 0) is None
    found = heterogeneity(np.zeros((400, 5)), 5)  # nothing is beyond the map
    assert found is not None
    assert found.share == 0


@pytest.mark.parametrize(("differ", "mixed"), [(0, False), (18, True)])
def test_frames_of_two_crystals_with_right_poses(
    synthetic: ModuleType, device: Device, differ: int, *, mixed: bool
) -> None:
    """From images to the verdict: a map is made of both, and held against all frames."""
    pixel_A, diameter_A, constant_A, k_max = 0.42, 17.0, 3.95, 26
    crystal = synthetic.fcc_crystal(constant_A, diameter_A)
    order = np.argsort(crystal[:, 0])
    first, second = crystal[order[: len(crystal) - differ]], crystal[order[differ:]]
    rng, size = np.random.default_rng(6), box_size_px(diameter_A, pixel_A)
    poses, shifts, count = random_rotations(240, rng), rng.normal(0, 1, (240, 2)), 240
    boxes = np.stack([
        20 * synthetic.project((second if t // 40 % 2 else first) / pixel_A, poses[t], shifts[t], size, 0.45 / pixel_A,
                               1.0 / pixel_A) + rng.normal(size=(size, size)) for t in range(count)
    ]).astype(np.float32)  # fmt: skip
    plane, grid, rows = half_plane(size, k_max), Grid(size, k_max), np.arange(count)
    ones = np.ones(len(plane.kx), np.float32)
    coefficients = box_coefficients(boxes, plane, device)
    buffer = FrameBuffer(count, len(plane.kx), device)
    buffer.append(coefficients, rows, rows / 400, np.zeros((count, 2)))
    buffer.accept(rows, Path(poses, shifts, np.zeros(count), np.ones(count, np.bool_)))
    data = Whitened(buffer.coefficients, plane, ones, ones, 2.0, device)
    sums = Accumulator(grid, 1, device)
    data.insert(sums, np.zeros(count, np.int64), rows, poses, shifts, np.ones(count))
    numerator, denominator = sums.sums(0)
    volume = as_kernel_volume(numerator / (denominator + 0.5), device)
    published: Any = SimpleNamespace(
        atoms=[SimpleNamespace(position_A=tuple(p)) for p in crystal], centre_A=np.zeros(3),
        lattice=Lattice(FCC, constant_A),
    )  # fmt: skip
    found = find_heterogeneity(Held(data, buffer, rows, volume, published, pixel_A, k_max))
    assert found is not None
    assert (found.share > 3 * LIMIT) is mixed
    assert mixed or found.share < LIMIT / 2
