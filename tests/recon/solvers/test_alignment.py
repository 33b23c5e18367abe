"""Alignment: tilts that are off come back to within what noise and the freedom of the whole body leave open."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.rotations import conjugate, from_rotation_vector, multiply, random_rotations, to_matrix
from tumble.recon.solvers.alignment import match, without_common
from tumble.recon.solvers.iterative import iterate
from tumble.recon.solvers.projector import Projector, tilt_quaternions

EDGE, COUNT = 26, 24


@pytest.fixture(scope="module")
def body() -> np.ndarray:
    """Twelve soft balls."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.indices((EDGE,) * 3), axis=-1) - EDGE // 2
    centres = rng.uniform(-6, 6, (12, 3))
    return sum(np.exp(-0.5 * ((grid - c) ** 2).sum(axis=-1) / 1.5**2) for c in centres).astype(np.float32)


def series(device: Device) -> Projector:
    tilts = tilt_quaternions(np.linspace(-70, 70, COUNT))
    return Projector((EDGE,) * 3, (EDGE,) * 2, tilts, np.zeros((COUNT, 2)), device)


def turned(q: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rotation vectors (m, 3) of small turns about lab axes from `reference` to `q`."""
    apart = multiply(q, conjugate(reference))
    return 2 * np.sign(apart[:, :1]) * apart[:, 1:]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def test_shifts_and_turns_are_found_from_a_known_volume(device: Device, body: np.ndarray) -> None:
    projector = series(device)
    images = projector.forward(body)
    images *= np.linspace(0.9, 1.1, COUNT, dtype=np.float32)[:, None, None]  # the beam is not steady
    rng = np.random.default_rng(2)
    shifts, vectors = without_common(
        projector.quaternions, rng.normal(0, 0.5, (COUNT, 2)), rng.normal(0, np.radians(0.7), (COUNT, 3))
    )
    quaternions = multiply(from_rotation_vector(vectors), projector.quaternions)
    off = Projector(projector.volume_shape, projector.image_shape, quaternions, shifts, device)
    for _ in range(3):
        off = match(off, images, body, turns="xyz")
    assert rms(off.shifts_px) < 0.05 * rms(shifts)
    assert rms(turned(off.quaternions, projector.quaternions)) < 0.08 * rms(vectors)


@pytest.mark.parametrize("turns", ["", "yz"])
def test_volume_and_poses_are_found_together(device: Device, body: np.ndarray, turns: str) -> None:
    projector, rng = series(device), np.random.default_rng(3)
    vectors = rng.normal(0, np.radians(1.5), (COUNT, 3)) * [axis in turns for axis in "xyz"]
    shifts, vectors = without_common(projector.quaternions, rng.normal(0, 1.0, (COUNT, 2)), vectors)
    true = Projector(
        projector.volume_shape,
        projector.image_shape,
        multiply(from_rotation_vector(vectors), projector.quaternions),
        shifts,
        device,
    )
    clean = true.forward(body)
    images = clean + rng.normal(0, 0.01 * clean.max(), clean.shape).astype(np.float32)
    found, volume, residuals = projector, None, []
    for _ in range(12 if turns else 8):
        solution = iterate(found, images, start=volume, iterations=10)
        volume = solution.volume
        residuals.append(solution.residuals[-1])
        found = match(found, images, volume, turns=turns)
    left, turns_left = without_common(
        projector.quaternions,
        found.shifts_px - shifts,
        turned(found.quaternions, true.quaternions),
    )
    assert rms(left) < 0.25 * rms(shifts)
    assert residuals[-1] < 0.5 * residuals[0]
    if turns:
        assert rms(turns_left) < 0.5 * rms(vectors)


def test_what_moves_the_whole_body_is_left_out() -> None:
    quaternions = random_rotations(6, np.random.default_rng(4))
    rotations = to_matrix(quaternions)
    shifts, vectors = without_common(quaternions, rotations[:, :2] @ (1.0, -2.0, 0.5), rotations @ (0.1, 0.0, -0.2))
    assert np.abs(shifts).max() < 1e-9
    assert np.abs(vectors).max() < 1e-9
