"""The projector: what an adjoint is, what a projection is, and that all ways to compute it are one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tumble.recon.device import Device
from tumble.recon.rotations import from_rotation_vector, multiply, random_rotations, to_matrix
from tumble.recon.solvers import cpu
from tumble.recon.solvers.footprint import LENGTH, STEPS, profile_tables
from tumble.recon.solvers.projector import Projector, tilt_quaternions

SHAPE, IMAGE = (14, 12, 16), (18, 20)

IN_SIMULATOR = """
import json
import numpy as np
from tumble.recon import device
from tumble.recon.rotations import random_rotations, to_matrix
from tumble.recon.solvers import cpu, cuda
from tumble.recon.solvers.footprint import profile_tables
from tumble.recon.solvers.iterative import iterate, total_variation
from tumble.recon.solvers.projector import Projector

rng = np.random.default_rng(3)
rotations = to_matrix(random_rotations(2, rng))
axes, tables = rotations[:, :2].astype(np.float32).copy(), profile_tables(rotations)
origins = (4 - rotations[:, :2] @ np.full(3, 3.0)).astype(np.float32)
volume = rng.random((6, 5, 6), dtype=np.float32)
images = rng.random((2, 8, 9), dtype=np.float32)
apart = {}
for name, data in (("forward", (volume, images)), ("adjoint", (volume, images))):
    results = []
    for module in (cpu, cuda):
        v, i = data[0].copy(), data[1].copy()
        getattr(module, name)(v, axes, origins, tables, i)
        results.append(i if name == "forward" else v)
    apart[name] = float(np.abs(results[0] - results[1]).max() / np.abs(results[0]).max())
projector = Projector(volume.shape, (8, 9), random_rotations(2, rng), np.zeros((2, 2)), device.cpu())
for solver in (iterate, total_variation):
    results = []
    for module in (cpu, cuda):
        Projector._kernels = lambda _, module=module: module
        results.append(solver(projector, images, iterations=2, tolerance=0.0).volume)
    apart[solver.__name__] = float(np.abs(results[0] - results[1]).max() / np.abs(results[0]).max())
print(json.dumps(apart))
"""


def poses(kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "any":
        return random_rotations(4, rng)
    return tilt_quaternions([-63.0, -30.0, 0.0, 45.0], 90.0 if kind == "about y" else 87.0)


@pytest.mark.parametrize("kind", ["any", "about y", "about nearly y"])
def test_the_adjoint_is_the_adjoint(device: Device, kind: str) -> None:
    rng = np.random.default_rng(1)
    projector = Projector(SHAPE, IMAGE, poses(kind, rng), rng.normal(size=(4, 2)), device)
    volume = rng.normal(size=SHAPE).astype(np.float32)
    images = rng.normal(size=(4, *IMAGE)).astype(np.float32)
    there = float((projector.forward(volume).astype(np.float64) * images).sum())
    back = float((projector.adjoint(images).astype(np.float64) * volume).sum())
    assert there == pytest.approx(back, rel=1e-5)


def test_slices_are_a_faster_way_to_the_same(device: Device) -> None:
    rng = np.random.default_rng(2)
    projector = Projector(SHAPE, IMAGE, poses("about y", rng), rng.normal(size=(4, 2)), device)
    volume = rng.normal(size=SHAPE).astype(np.float32)
    images = rng.normal(size=(4, *IMAGE)).astype(np.float32)
    axes, origins, tables = projector._geometry()
    projected, spread = np.zeros_like(images), np.zeros_like(volume)
    cpu.forward(volume, axes, origins, tables, projected)
    cpu.adjoint(spread, axes, origins, tables, images)
    assert np.abs(projector.forward(volume) - projected).max() < 2e-5 * np.abs(projected).max()
    assert np.abs(projector.adjoint(images) - spread).max() < 2e-5 * np.abs(spread).max()


def test_an_untilted_projection_is_the_sum_along_the_beam(device: Device) -> None:
    volume = np.random.default_rng(3).random(SHAPE, dtype=np.float32)
    projector = Projector(SHAPE, SHAPE[1:], tilt_quaternions(0.0), np.zeros((1, 2)), device)
    assert np.abs(projector.forward(volume)[0] - volume.sum(axis=0)).max() < 1e-3


def test_a_quarter_turn_about_y_shows_the_volume_from_the_side(device: Device) -> None:
    volume = np.zeros((15, 15, 15), np.float32)
    volume[7, 9, 10] = 1.0  # body (3, 2, 0); R about y by 90 degrees takes x to -z and z to x
    volume[10, 5, 7] = 2.0  # body (0, -2, 3)
    image = Projector((15, 15, 15), (15, 15), tilt_quaternions(90.0), np.zeros((1, 2)), device).forward(volume)[0]
    assert image[9, 7] == pytest.approx(1.0, abs=2e-3)
    assert image[5, 10] == pytest.approx(2.0, abs=2e-3)


def test_mass_and_centre_of_mass_are_kept_at_any_pose(device: Device) -> None:
    rng = np.random.default_rng(4)
    volume = np.zeros((21, 21, 21), np.float32)
    volume[7:14, 7:14, 7:14] = rng.random((7, 7, 7))
    quaternions, shifts = random_rotations(6, rng), rng.normal(size=(6, 2))
    images = Projector(volume.shape, (31, 31), quaternions, shifts, device).forward(volume).astype(np.float64)
    z, y, x = (np.average(i - 10, weights=volume) for i in np.indices(volume.shape))
    expected = (to_matrix(quaternions) @ (x, y, z))[:, :2] + shifts + 15
    mass = images.sum(axis=(1, 2))
    rows, columns = np.mgrid[:31, :31]
    seen = np.stack([(images * columns).sum(axis=(1, 2)), (images * rows).sum(axis=(1, 2))], axis=1) / mass[:, None]
    assert mass == pytest.approx(volume.sum(), rel=1e-5)
    assert np.abs(seen - expected).max() < 2e-3


def test_projections_of_a_gaussian_are_gaussians(device: Device) -> None:
    sigma = 2.0
    z, y, x = np.indices((41, 41, 41)) - 20
    volume = np.exp(-0.5 * (x**2 + y**2 + z**2) / sigma**2).astype(np.float32)
    quaternions = random_rotations(3, np.random.default_rng(5))
    images = Projector(volume.shape, (41, 41), quaternions, np.zeros((3, 2)), device).forward(volume)
    wider = sigma**2 + 1 / 6  # voxel and pixel are square, each with a variance of 1/12
    expected = volume.sum() / (2 * np.pi * wider) * np.exp(-0.5 * (x[0] ** 2 + y[0] ** 2) / wider)
    assert np.abs(images - expected).max() < 0.015 * expected.max()  # the separable shadow of a cube seen askew
    tilted = Projector(volume.shape, (41, 41), tilt_quaternions([20.0, 45.0]), np.zeros((2, 2)), device).forward(volume)
    narrower = volume.sum() / (2 * np.pi * sigma * np.sqrt(wider))  # pixel rows are voxel rows: no blur along them
    assert tilted.max(axis=(1, 2)) == pytest.approx(narrower, rel=2e-3)


def test_a_uniform_block_casts_a_uniform_shadow_when_it_turns_about_the_tilt_axis(device: Device) -> None:
    tilts = [0.0, 26.565, 45.0, 60.0]
    projector = Projector((12, 10, 40), (10, 40), tilt_quaternions(tilts), np.zeros((4, 2)), device)
    middle = projector.forward(np.ones((12, 10, 40), np.float32))[:, 3:7, 17:23]
    assert (middle.std(axis=(1, 2)) < 1e-4 * middle.mean(axis=(1, 2))).all()


def test_pixels_share_the_whole_voxel() -> None:
    tables = profile_tables(to_matrix(random_rotations(20, np.random.default_rng(6))))
    pixels = np.arange(-3, 4)
    for offset in range(STEPS):
        at = np.abs(pixels * STEPS - offset)
        assert np.abs(tables[:, :, at[at < LENGTH]].sum(axis=2) - 1).max() < 1e-5


def test_turning_object_and_pose_together_changes_nothing_but_the_footprint(device: Device) -> None:
    turn = from_rotation_vector([0.0, 0.0, np.pi / 2])  # a quarter about z permutes voxels: x to y, y to -x
    volume = np.random.default_rng(7).random((11, 11, 11), dtype=np.float32)
    turned = volume.transpose(0, 2, 1)[:, :, ::-1].copy()
    q = random_rotations(3, np.random.default_rng(8))
    first = Projector(volume.shape, (21, 21), multiply(q, turn), np.zeros((3, 2)), device).forward(volume)
    second = Projector(volume.shape, (21, 21), q, np.zeros((3, 2)), device).forward(turned)
    assert np.abs(first - second).max() < 1e-4 * first.max()


def test_some_of_the_poses(device: Device) -> None:
    rng = np.random.default_rng(9)
    projector = Projector(SHAPE, IMAGE, random_rotations(5, rng), rng.normal(size=(5, 2)), device)
    volume = rng.random(SHAPE, dtype=np.float32)
    chosen = np.array([True, False, True, False, True])
    assert np.array_equal(projector.select(chosen).forward(volume), projector.forward(volume)[chosen])


def test_shapes_that_do_not_fit_are_named(device: Device) -> None:
    projector = Projector(SHAPE, IMAGE, tilt_quaternions([0.0, 1.0]), np.zeros((2, 2)), device)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\), expected \(14, 12, 16\)"):
        projector.forward(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"expected \(2, 18, 20\)"):
        projector.adjoint(np.zeros((2, 20, 18), np.float32))
    with pytest.raises(ValueError, match="quaternions"):
        Projector(SHAPE, IMAGE, tilt_quaternions([0.0, 1.0]), np.zeros((3, 2)), device)


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_the_cuda_launchers_and_the_solvers_on_them_agree_with_the_cpu_in_the_simulator() -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    call = [sys.executable, "-W", "error", "-c", IN_SIMULATOR]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    apart = json.loads(done.stdout)
    assert set(apart) == {"forward", "adjoint", "iterate", "total_variation"}
    assert max(apart.values()) < 1e-5
