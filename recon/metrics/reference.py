"""Values that the metrics must reproduce on known views and a known phantom, and what they give here.

Analytic values carry no tolerance to speak of; those of published definitions were computed by independent programs,
and leave room for what the definitions leave open (grids, and how a surface is found on them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from . import bfactor, cones, efficiency, sampling, shells, surface

Floats = NDArray[np.float64]

VIEWS = 10_000
RADIUS = 50.0
PHANTOM_EDGE = 64
PHANTOM_NOISE = 0.3  # of one view, against a phantom of unit atoms
PHANTOM_VIEWS = 4000


@dataclass(frozen=True, slots=True)
class Reference:
    """One line of the selftest: `value` must be within `tolerance` of `expected`."""

    name: str
    value: float
    expected: float
    tolerance: float

    @property
    def good(self) -> bool:
        return abs(self.value - self.expected) <= self.tolerance


def view_sets(count: int = VIEWS, seed: int = 0) -> dict[str, Floats]:
    """Distributions of (count, 3) views with known metrics: all directions; a band perpendicular to z; within 45 and 30
    degrees of z; tilts about y up to +-70 and +-60 degrees; a single view.
    """
    rng = np.random.default_rng(seed)

    def around_z(z: Floats) -> Floats:
        azimuth = rng.uniform(0, 2 * np.pi, len(z))
        rho = np.sqrt(1 - z * z)
        return np.stack([rho * np.cos(azimuth), rho * np.sin(azimuth), z], axis=1)

    def cone(degrees: float) -> Floats:
        return around_z(rng.uniform(math.cos(math.radians(degrees)), 1, count))

    def tilts(degrees: float) -> Floats:
        angle = np.radians(rng.uniform(-degrees, degrees, count))
        return np.stack([np.sin(angle), np.zeros(count), np.cos(angle)], axis=1)

    return {
        "uniform": around_z(rng.uniform(-1, 1, count)),
        "side band": around_z(np.zeros(count)),
        "cone 45 deg": cone(45),
        "cone 30 deg": cone(30),
        "tilt +-70 deg": tilts(70),
        "tilt +-60 deg": tilts(60),
        "one view": np.array([[0.0, 0.0, 1.0]]),
    }


def _phantom_atoms(rng: np.random.Generator) -> NDArray[np.int64]:
    """(3000, 3) voxels ``[z, y, x]`` from the middle."""
    places = rng.normal(size=(3000, 3))
    places *= 20 * rng.uniform(size=(3000, 1)) ** (1 / 3) / np.linalg.norm(places, axis=1, keepdims=True)
    return np.rint(places).astype(np.int64)


def phantom_atoms(seed: int = 0) -> Floats:
    """Where the atoms of `phantom_halves` are: (3000, 3) ``(x, y, z)``, voxels from the middle."""
    return _phantom_atoms(np.random.default_rng(seed))[:, ::-1].astype(np.float64)


def phantom_halves(views: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Half maps (64, 64, 64) of a phantom of 3000 soft atoms in a ball: each coefficient with the noise of the views
    that measured it, nothing where there was none.
    """
    rng = np.random.default_rng(seed)
    edge = PHANTOM_EDGE
    phantom = np.zeros((edge,) * 3)
    np.add.at(phantom, tuple((_phantom_atoms(rng) + edge // 2).T), 1.0)
    spectrum = scipy.fft.rfftn(gaussian_filter(phantom, 1.0))
    whole = np.fft.fftfreq(edge, 1 / edge)
    z, y, x = np.meshgrid(whole, whole, np.arange(edge // 2 + 1.0), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)

    def half(own: Floats) -> Floats:
        seen = sampling.plane_counts(points, own).reshape(spectrum.shape)
        noise = PHANTOM_NOISE * scipy.fft.rfftn(rng.normal(size=phantom.shape)) / np.sqrt(np.maximum(seen, 1))
        return np.asarray(scipy.fft.irfftn(np.where(seen > 0, spectrum + noise, 0), s=phantom.shape))

    return half(views[0::2]), half(views[1::2])


def references() -> Iterator[Reference]:
    """Recompute all values, in order, each when it is asked for; some seconds in all."""
    for part in (_sampling, _efficiency, _directional, _shells, _tumbling):
        yield from part()


def _sampling() -> Iterator[Reference]:
    sets = view_sets()

    def of(name: str) -> sampling.Sampling:
        counts = sampling.FourierSampling(RADIUS)
        counts.add(sets[name])
        return counts.sampling

    yield Reference("SCF, uniform", of("uniform").scf, 0.990, 0.005)
    yield Reference("SCF, side band (8 / pi^2, sampled)", of("side band").scf, 0.8106, 0.012)
    empty = {
        "uniform": 0.0,
        "tilt +-70 deg": 0.213,
        "tilt +-60 deg": 0.323,
        "cone 45 deg": 0.287,
        "cone 30 deg": 0.492,
        "one view": 0.990,
    }
    for name, expected in empty.items():
        yield Reference(f"empty fraction, {name}", of(name).empty_fraction, expected, 0.005)
    for views, expected in ((100, 0.37), (300, 0.046)):
        several = [sampling.FourierSampling(RADIUS) for _ in range(30)]
        for number, counts in enumerate(several):
            counts.add(view_sets(views, number)["uniform"])
        mean = float(np.mean([counts.sampling.empty_fraction for counts in several]))
        yield Reference(f"empty fraction, {views} random views, D/d = 50", mean, expected, 0.012)


def _efficiency() -> Iterator[Reference]:
    expected = {
        "uniform": 0.805,
        "side band": 0.737,
        "cone 45 deg": 0.509,
        "cone 30 deg": 0.294,
        "tilt +-70 deg": 0.579,
        "tilt +-60 deg": 0.471,
    }
    sets = view_sets()
    for name, value in expected.items():
        yield Reference(f"E_od, {name}", efficiency.orientation_efficiency(sets[name]), value, 0.035)
    # the surface of a needle ends where the grid does, so that this one value hangs on the grid alone
    yield Reference("E_od, one view", efficiency.orientation_efficiency(sets["one view"]), 0.061, 0.07)
    few = [efficiency.orientation_efficiency(view_sets(50, seed)["uniform"]) for seed in range(8)]
    yield Reference("E_od, 50 uniform views", float(np.mean(few)), 0.797, 0.02)


def _directional() -> Iterator[Reference]:
    sets = view_sets(PHANTOM_VIEWS)
    null = np.zeros(0)
    for name, expected in {"uniform": 0.63, "side band": 0.40, "tilt +-70 deg": 0.06, "tilt +-60 deg": 0.03}.items():
        first, second = phantom_halves(sets[name])
        conical = cones.conical_correlation(first, second)
        if name == "uniform":
            null = cones.isotropic_area_ratios(
                shells.shell_correlation(first, second), PHANTOM_EDGE, np.random.default_rng(0)
            )
            yield Reference("cFAR, uniform / isotropic null", conical.area_ratio / float(np.median(null)), 1.0, 0.15)
        yield Reference(f"cFAR, phantom, {name}", conical.area_ratio, expected, 0.08)
    line = np.arange(-20.0, 21.0)
    ball = line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None, :] ** 2 < 14**2
    yield Reference("sphericity of a sphere", surface.sphericity(ball), 1.0, 0.01)


def _shells() -> Iterator[Reference]:
    rng = np.random.default_rng(0)
    edge = 48
    first, second = rng.normal(size=(2, edge, edge, edge))
    yield Reference("FSC of identical maps, least", float(shells.shell_correlation(first, first).min()), 1.0, 1e-9)
    numbers = shells.shell_numbers(edge)
    weight = np.broadcast_to(shells.multiplicity(edge), numbers.shape)
    coefficients = np.bincount(numbers.ravel(), weight.ravel())[5 : edge // 2]
    scores = shells.shell_correlation(first, second)[5 : edge // 2] * np.sqrt(coefficients)
    yield Reference("FSC of noise x sqrt(n), rms", float(np.sqrt((scores**2).mean())), 1.0, 0.3)
    views = np.array([200.0, 400.0, 800.0, 1600.0])
    fit = bfactor.fit_b_factor(views, (0.1 * np.log(views) - 0.2) ** -0.5)
    yield Reference("B-factor of a line of slope 0.1, A^2", fit.b_factor_A2, 20.0, 1e-6)


def _tumbling() -> Iterator[Reference]:
    yield Reference("frames for 99 % coverage / (D/d)", sampling.views_for(0.99, 50.0, 1.0) / 50, 9.2, 0.05)
    yield Reference("elongation, tilt +-60 deg", sampling.tilt_elongation(60), 1.55, 0.005)
    yield Reference("elongation, tilt +-70 deg", sampling.tilt_elongation(70), 1.31, 0.005)
