"""A small scene with known truth: tumbling lattice balls on a speckled, graphene-covered, counted background."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

LATTICE_A = 3.95


@dataclass
class Twin:
    """Frames (n, rows, columns) uint16 and the true centres (particles, n, 2) as (x, y) px."""

    frames: NDArray[np.uint16]
    centres: NDArray[np.float64]


def reflections() -> NDArray[np.float64]:
    """Vectors of fcc reflections up to 0.88 1/A, one of each Friedel pair, (n, 3) in 1/A."""
    vectors = []
    for hkl in itertools.product(range(-3, 4), repeat=3):
        unmixed = len({index % 2 for index in hkl}) == 1
        if unmixed and hkl > (0, 0, 0) and np.linalg.norm(hkl) / LATTICE_A < 0.88:
            vectors.append(np.array(hkl) / LATTICE_A)
    return np.array(vectors)


def add_ball(
    field: NDArray[np.float64], centre: NDArray[np.float64], rotation: Rotation, diameter_A: float, pixel_A: float
) -> None:
    """Add a crystalline ball to a contrast field (rows, columns): a faint disc and its excited lattice fringes."""
    radius = diameter_A / 2
    reach = int(radius / pixel_A) + 3
    x0, y0 = (int(round(c)) for c in centre)
    rows = np.arange(max(0, y0 - reach), min(field.shape[0], y0 + reach + 1))
    columns = np.arange(max(0, x0 - reach), min(field.shape[1], x0 + reach + 1))
    if not (rows.size and columns.size):
        return
    y = (rows - centre[1])[:, None] * pixel_A
    x = (columns - centre[0])[None] * pixel_A
    thickness = np.sqrt(np.clip(1 - (x * x + y * y) / radius**2, 0, None))
    strength = diameter_A / 24  # a thicker crystal has more contrast
    pattern = np.full(thickness.shape, -0.06 * strength)
    for gx, gy, gz in rotation.apply(reflections()):
        if abs(gz) * radius < 3:
            # Exact projection of a plane wave through the chord of the ball, damped like a transfer function.
            chord = np.sinc(2 * gz * radius * thickness) / (1 + (np.hypot(gx, gy) / 0.5) ** 2)
            pattern += 0.6 * strength * chord * np.cos(2 * np.pi * (gx * x + gy * y))
    field[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += pattern * thickness


def speckle(rng: np.random.Generator, shape: tuple[int, int], pixel_A: float) -> NDArray[np.float64]:
    """Coloured liquid noise of unit variance, strongest near 1/3 1/A, (rows, columns)."""
    ky, kx = np.fft.fftfreq(shape[0], pixel_A)[:, None], np.fft.rfftfreq(shape[1], pixel_A)[None]
    k = np.hypot(ky, kx)
    colour = np.exp(-(((k - 0.33) / 0.12) ** 2)) + 0.3 * np.exp(-((k / 0.1) ** 2))
    field = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal(shape)) * colour, s=shape)
    return field / field.std()


def graphene(
    shape: tuple[int, int], pixel_A: float, angle_deg: float, shift_A: tuple[float, float]
) -> NDArray[np.float64]:
    """Six first-order fringes of graphene, amplitude 1 each, (rows, columns)."""
    y = np.arange(shape[0])[:, None] * pixel_A - shift_A[1]
    x = np.arange(shape[1])[None] * pixel_A - shift_A[0]
    field = np.zeros(shape)
    for turn in (0, 60, 120):
        angle = np.deg2rad(angle_deg + turn)
        field += np.cos(2 * np.pi * 0.4695 * (x * np.cos(angle) + y * np.sin(angle)))
    return field


def make_twin(
    count: int = 120,
    shape: tuple[int, int] = (200, 220),
    starts: tuple[tuple[float, float], ...] = ((62.0, 60.0), (150.0, 130.0)),
    diameters_A: tuple[float, ...] = (20.0, 20.0),
    pixel_A: float = 0.358,
    counts: float = 10.0,
    step_px: float = 0.6,
    turn_deg: float = 2.5,
    velocity: tuple[tuple[float, float], ...] | None = None,
    seed: int = 0,
) -> Twin:
    """Make the scene; `counts` is the dose per pixel, `step_px` and `turn_deg` the random walk per axis and frame."""
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.normal(0, step_px, (len(starts), count, 2)), axis=1)
    walks -= walks[:, :1]
    if velocity is not None:
        walks += np.array(velocity)[:, None] * np.arange(count)[None, :, None]
    centres = np.array(starts, float).reshape(len(starts), 1, 2) + walks
    poses = [Rotation.random(random_state=seed + 10 + number) for number in range(len(starts))]
    frames = np.empty((count, *shape), np.uint16)
    film = graphene(shape, pixel_A, 11.0, (0.0, 0.0))
    gain = 1 + 0.01 * rng.standard_normal(shape)
    for frame in range(count):
        field = 0.01 * film + 0.04 * speckle(rng, shape, pixel_A)
        for number, diameter in enumerate(diameters_A[: len(starts)]):
            add_ball(field, centres[number, frame], poses[number], diameter, pixel_A)
            poses[number] = Rotation.from_rotvec(rng.normal(0, np.deg2rad(turn_deg), 3)) * poses[number]
        beam = counts * (1 + 0.03 * np.sin(frame / 7))
        frames[frame] = rng.poisson(np.clip(beam * (1 + field) * gain, 0, None))
    return Twin(frames, centres)


@pytest.fixture(scope="session")
def twin() -> Twin:
    """Two crystals of 2 nm, 120 frames."""
    return make_twin()


@pytest.fixture(scope="session")
def twin_maker():
    """The factory, for other scenes."""
    return make_twin
