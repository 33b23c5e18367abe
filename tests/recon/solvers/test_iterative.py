"""The solvers: known volumes come back, few noisy projections are where total variation pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tumble.recon.device import Device, gpu
from tumble.recon.solvers import cpu
from tumble.recon.solvers.iterative import Solution, iterate, noise_sigma, total_variation, variation_weight
from tumble.recon.solvers.projector import Projector, tilt_quaternions
from tumble.recon.solvers.variation import VariationProx, gradient, gradient_adjoint

EDGE = 24


def ball(radius: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    z, y, x = np.indices((EDGE,) * 3) - EDGE // 2
    return ((x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2 < radius**2).astype(np.float32)


@pytest.fixture(scope="module")
def body() -> np.ndarray:
    """A ball with a denser core off its centre and a hole."""
    return ball(9.0) + ball(4.0, (2.0, -1.0, 1.5)) - ball(2.5, (-4.0, 3.0, -2.0))


def tilts(limit_deg: float, count: int, device: Device) -> Projector:
    quaternions = tilt_quaternions(np.linspace(-limit_deg, limit_deg, count, endpoint=limit_deg < 90))
    return Projector((EDGE,) * 3, (EDGE,) * 2, quaternions, np.zeros((count, 2)), device)


def error(volume: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(volume - truth) / np.linalg.norm(truth))


def test_a_body_comes_back_from_many_projections(device: Device, body: np.ndarray) -> None:
    projector = tilts(90, 40, device)
    solution = iterate(projector, projector.forward(body), iterations=100)
    assert error(solution.volume, body) < 0.06
    assert solution.residuals[0] == pytest.approx(1.0, rel=1e-5)
    assert solution.residuals[-1] < 0.01
    assert solution.volume.min() >= 0


def test_it_stops_when_the_volume_no_longer_changes(device: Device, body: np.ndarray) -> None:
    projector = tilts(90, 20, device)
    images = projector.forward(body)
    solution = iterate(projector, images, iterations=200, tolerance=5e-3)
    assert solution.converged
    assert len(solution.residuals) < 100
    assert not iterate(projector, images, iterations=3).converged


def test_it_stops_before_it_explains_the_noise(device: Device, body: np.ndarray) -> None:
    projector = tilts(70, 20, device)
    clean = projector.forward(body)
    images = clean + np.random.default_rng(4).normal(0, 0.1 * clean.max(), clean.shape).astype(np.float32)
    early, late = (iterate(projector, images, noise=s, tolerance=0.0) for s in (noise_sigma(images), 0.0))
    assert early.converged
    assert len(early.residuals) < len(late.residuals)
    assert error(early.volume, body) < 0.8 * error(late.volume, body)


def test_a_start_near_the_end_saves_iterations(device: Device, body: np.ndarray) -> None:
    projector = tilts(70, 20, device)
    images = projector.forward(body)
    early = iterate(projector.select(slice(0, 19)), images[:19], iterations=60).volume
    cold, warm = (iterate(projector, images, iterations=60, start=s, tolerance=5e-3) for s in (None, early))
    assert warm.residuals[0] < 0.1 * cold.residuals[0]
    assert len(warm.residuals) < len(cold.residuals) / 2
    assert error(warm.volume, body) < error(cold.volume, body) + 0.01


def test_nothing_lies_outside_the_support(device: Device, body: np.ndarray) -> None:
    projector, support = tilts(60, 8, device), ball(9.5) > 0
    images = projector.forward(body)
    for solver in (iterate, total_variation):
        inside = solver(projector, images, support=support, iterations=20).volume
        assert (inside[~support] == 0).all()
    free, held = (iterate(projector, images, support=s, iterations=40).volume for s in (None, support))
    assert error(held, body) < error(free, body)


def test_pixels_of_weight_zero_do_not_count(device: Device, body: np.ndarray) -> None:
    projector = tilts(90, 20, device)
    images, weights = projector.forward(body), np.ones((20, EDGE, EDGE), np.float32)
    spoiled = images.copy()
    spoiled[:, 10:12, 8:11], weights[:, 10:12, 8:11] = 1e3, 0
    solution = iterate(projector, spoiled, weights=weights, iterations=60)
    assert error(solution.volume, body) < error(iterate(projector, images, iterations=60).volume, body) + 0.05
    assert solution.residuals[-1] < 0.02


def test_total_variation_wins_where_projections_are_few_and_noisy(device: Device, body: np.ndarray) -> None:
    projector = tilts(70, 9, device)
    clean = projector.forward(body)
    images = clean + np.random.default_rng(1).normal(0, 0.05 * clean.max(), clean.shape).astype(np.float32)
    plain = error(iterate(projector, images).volume, body)
    varied = error(total_variation(projector, images).volume, body)
    assert varied < 0.75 * plain
    assert varied < 0.25


def test_the_noise_is_measured(device: Device, body: np.ndarray) -> None:
    smooth = tilts(90, 20, device).forward(body)
    images = smooth + np.random.default_rng(2).normal(0, 3.0, smooth.shape).astype(np.float32)
    assert noise_sigma(images) == pytest.approx(3.0, rel=0.08)
    assert variation_weight(images) == pytest.approx(0.5 * 3.0 * np.sqrt(20), rel=0.08)
    assert noise_sigma(np.zeros((2, 8, 8), np.float32)) == 0


def test_the_nearest_volume_of_small_variation(device: Device) -> None:
    """Of a step, the proximal operator takes the weight off one side per area and adds it to the other."""
    given = np.zeros((4, 4, 40), np.float32) + 1
    given[..., 20:] = 3.0
    near = VariationProx(0.5, None, np)(given, rounds=300)
    assert np.abs(near[..., :20] - (1 + 0.5 / 20)).max() < 2e-3
    assert np.abs(near[..., 20:] - (3 - 0.5 / 20)).max() < 2e-3


def test_differences_and_their_adjoint() -> None:
    rng = np.random.default_rng(3)
    volume, field = rng.normal(size=(5, 6, 7)), rng.normal(size=(3, 5, 6, 7))
    there = (gradient(volume, np) * field).sum()
    assert there == pytest.approx((volume * gradient_adjoint(field, np)).sum(), abs=1e-4)


def test_images_without_anything_are_refused(device: Device) -> None:
    with pytest.raises(ValueError, match="nothing but zeros"):
        iterate(tilts(60, 3, device), np.zeros((3, EDGE, EDGE), np.float32))


def test_host_and_device_arrays_never_mix(
    strict: ModuleType, device: Device, body: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in for cupy the same volumes come out."""

    def launcher(function: object) -> object:
        return lambda *arguments: function(*(a.inner for a in arguments))

    launchers = SimpleNamespace(forward=launcher(cpu.forward), adjoint=launcher(cpu.adjoint))
    here, images = tilts(60, 3, device), tilts(60, 3, device).forward(body)
    there = replace(here, device=strict.device())
    expected = [s(here, images, support=ball(9.5), iterations=3).volume for s in (iterate, total_variation)]
    monkeypatch.setattr(Projector, "_kernels", lambda _: launchers)
    for solver, volume in zip((iterate, total_variation), expected, strict=True):
        found = solver(there, there.device.asarray(images), support=ball(9.5), iterations=3).volume
        assert isinstance(found, strict.StrictArray)
        assert np.abs(found.get() - volume).max() < 1e-4 * volume.max()


@pytest.mark.gpu
@pytest.mark.parametrize("solver", [iterate, total_variation])
def test_the_same_volumes_on_a_gpu(device: Device, body: np.ndarray, solver: Callable[..., Solution]) -> None:
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    here = tilts(60, 9, device)
    images = here.forward(body)
    expected = solver(here, images, iterations=20, tolerance=0.0).volume
    there = replace(here, device=gpu())
    found = there.device.to_host(solver(there, images, iterations=20, tolerance=0.0).volume)
    assert np.abs(found - expected).max() < 1e-3 * expected.max()
