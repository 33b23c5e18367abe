"""How particles and stage move: rotational diffusion, bounded wandering, smooth drifts. Everything follows from a seed.

Quaternions are (w, x, y, z), ``r_lab = R(q) r_body + centre``, increments are in the lab frame: ``q(t+1) = dq q(t)``.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def quaternion_product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Product of quaternions (..., 4): the rotation `right` followed by `left`."""
    lw, lx, ly, lz = np.moveaxis(left, -1, 0)
    rw, rx, ry, rz = np.moveaxis(right, -1, 0)
    return np.stack(
        [
            lw * rw - lx * rx - ly * ry - lz * rz,
            lw * rx + lx * rw + ly * rz - lz * ry,
            lw * ry - lx * rz + ly * rw + lz * rx,
            lw * rz + lx * ry - ly * rx + lz * rw,
        ],
        axis=-1,
    )


def rotation_matrix(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of one unit quaternion (4,)."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_vector_quaternion(vector_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions (..., 4) of rotation vectors (..., 3) in radians."""
    half = 0.5 * np.linalg.norm(vector_rad, axis=-1, keepdims=True)
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * vector_rad], axis=-1)


def between(first: NDArray[np.float64], second: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Orientation a `share` (0 to 1) of the way from quaternion `first` to `second` (4,), along the shorter arc."""
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    angle = np.arccos(min(1.0, cosine))
    if angle < 1e-7:
        return first
    return np.asarray((np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle))


@njit(cache=True)
def _chain(start, steps, out):  # type: ignore[no-untyped-def]
    w, x, y, z = start[0], start[1], start[2], start[3]
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = w, x, y, z
        if i == steps.shape[0]:
            break
        a, b, c, d = steps[i, 0], steps[i, 1], steps[i, 2], steps[i, 3]
        w, x, y, z = (
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        )
        norm = (w * w + x * x + y * y + z * z) ** -0.5
        w, x, y, z = w * norm, x * norm, y * norm, z * norm


def tumbling(frames: int, degrees_per_axis: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rotational diffusion from a uniformly random start: quaternions (frames, 4).

    The increments are independent Gaussian rotation vectors in the lab frame with the standard deviation
    `degrees_per_axis` per axis and frame (Brownian rotation of a sphere).
    """
    start = rng.standard_normal(4)
    steps = rotation_vector_quaternion(np.radians(degrees_per_axis) * rng.standard_normal((max(frames - 1, 0), 3)))
    path = np.empty((frames, 4))
    _chain(start / np.linalg.norm(start), steps, path)
    return path


@njit(cache=True)
def _walk(steps, radius, out):  # type: ignore[no-untyped-def]
    x, y = out[0, 0], out[0, 1]
    for i in range(1, out.shape[0]):
        x += steps[i - 1, 0]
        y += steps[i - 1, 1]
        distance = (x * x + y * y) ** 0.5
        if distance > radius:  # reflect at the wall; a step longer than the disc ends on the wall
            inside = max(2.0 * radius - distance, 0.0) / distance
            x *= inside
            y *= inside
        out[i, 0], out[i, 1] = x, y


def bounded_walk(frames: int, step: float, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Brownian walk (frames, 2) from the origin, standard deviation `step` per axis and frame, within a disc."""
    path = np.zeros((frames, 2))
    if frames > 1 and radius > 0:
        _walk(step * rng.standard_normal((frames - 1, 2)), radius, path)
    return path


def settling(frames: int, spread: float, memory_frames: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Ornstein-Uhlenbeck path (frames,): standard deviation `spread`, correlation time `memory_frames`."""
    keep = np.exp(-1.0 / memory_frames)
    noise = rng.standard_normal(frames)
    path = np.empty(frames)
    value = noise[0] if frames else 0.0
    for i in range(frames):
        if i:
            value = keep * value + np.sqrt(1 - keep**2) * noise[i]
        path[i] = value
    return spread * path


def smooth_wave(
    frames: int, amplitude: float, period_frames: float, rng: np.random.Generator, waves: int = 4
) -> NDArray[np.float64]:
    """Slow, smooth, bounded variation (frames,) within +-`amplitude`: a few sines of periods around `period_frames`."""
    time = np.arange(frames)[:, None]
    period = period_frames * rng.uniform(0.6, 2.0, size=waves)
    phase = rng.uniform(0.0, 2 * np.pi, size=waves)
    weight = rng.uniform(0.5, 1.0, size=waves)
    waves_of_time = np.sin(2 * np.pi * time / period + phase) * (weight / weight.sum())
    wave: NDArray[np.float64] = amplitude * waves_of_time.sum(axis=1)
    return wave
