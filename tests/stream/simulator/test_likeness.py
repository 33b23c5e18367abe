"""Likeness: ring by ring power of simulated frames beside that of the multislice development recording."""

from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers the filter
import numpy as np
import pytest

from tumble.stream.simulator import Crystal, Scene, SceneOptions, demo_scene

BOX = 96
PIXEL_A = 0.358
RINGS = {"111": 0.436, "200": 0.495, "220": 0.727, "311": 0.844}


def ring_power(boxes: np.ndarray) -> np.ndarray:
    """Power per ring of 1/34.4 A of soft-masked boxes (n, 96, 96), in units of the counting noise."""
    row, column = np.mgrid[:BOX, :BOX] - (BOX - 1) / 2
    mask = 0.5 - 0.5 * np.cos(np.pi * np.clip((46 - np.hypot(row, column)) / 8, 0, 1))
    mean = boxes.mean()
    masked = (boxes / mean - 1) * mask
    masked -= masked.sum(axis=(1, 2), keepdims=True) / mask.sum() * mask
    power = (np.abs(np.fft.fft2(masked)) ** 2).mean(axis=0) / (mask**2).sum() * mean
    frequency = np.fft.fftfreq(BOX) * BOX
    ring = np.rint(np.hypot(frequency[:, None], frequency[None, :])).astype(int)
    return np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())


def cut(frames: np.ndarray, centres_px: np.ndarray) -> np.ndarray:
    corners = np.rint(centres_px).astype(int) - BOX // 2
    return np.array([f[y : y + BOX, x : x + BOX] for f, (x, y) in zip(frames, corners, strict=True)], dtype=float)


def at(power: np.ndarray, frequency_per_A: float) -> float:
    return float(power[round(frequency_per_A * BOX * PIXEL_A)])


def test_demo_particle_stands_out_of_the_noise_in_its_lattice_rings_only() -> None:
    scene = demo_scene()
    indices = np.arange(0, 800, 8)
    frames = np.array([scene.counts(int(index)) for index in indices])
    power = ring_power(cut(frames, scene.truth.particles[0].centres_px[indices]))
    assert at(power, RINGS["111"]) > 2.5
    assert at(power, RINGS["200"]) > 2.0
    assert at(power, RINGS["220"]) > 1.5
    assert at(power, RINGS["311"]) > 1.5
    assert at(power, 1.25) == pytest.approx(1.0, abs=0.05)


def test_background_is_a_little_more_than_counting_noise() -> None:
    scene = Scene((), SceneOptions(frames=150))
    frames = np.array([scene.counts(index) for index in range(150)])
    power = ring_power(cut(frames, np.tile([[96.0, 96.0]], (150, 1))))
    assert 1.2 < at(power, 1 / 2.13) < 1.8
    others = [at(power, k) for k in (0.15, 0.3, 0.37, 0.58, 0.7, 0.9, 1.1, 1.25)]
    assert min(others) > 0.97
    assert max(others) < 1.10


@pytest.mark.shared
def test_rings_are_those_of_the_multislice_recording(shared_data: Path) -> None:
    with h5py.File(shared_data / "truth_PQ.h5") as file:
        known = {n: {k: file[n][k][:] for k in ("atoms_xyz_A", "centres_px", "z_A", "quaternions_wxyz")} for n in "PQ"}
    indices = np.arange(0, 1600, 8)
    with h5py.File(shared_data / "scene_PQ.h5") as file:
        recorded = file["frames"][::8]
    crystals = [Crystal(("Pt",) * len(known[n]["atoms_xyz_A"]), known[n]["atoms_xyz_A"]) for n in "PQ"]
    scene = Scene(crystals, SceneOptions(frames=1600, height_px=288, width_px=288))
    scene._particles = tuple(
        replace(p, centres_px=t["centres_px"], heights_A=t["z_A"], quaternions_wxyz=t["quaternions_wxyz"])
        for p, t in zip(scene._particles, known.values(), strict=True)
    )
    simulated = np.array([scene.counts(int(index)) for index in indices])
    for truth in known.values():
        ours, theirs = (ring_power(cut(f, truth["centres_px"][indices])) for f in (simulated, recorded))
        for name, frequency in RINGS.items():
            assert at(ours, frequency) - 1 == pytest.approx(at(theirs, frequency) - 1, rel=0.15), name
        np.testing.assert_allclose(ours[30:44], theirs[30:44], atol=0.15)
    empty = np.tile([[220.0, 60.0]], (len(indices), 1))
    ours, theirs = (ring_power(cut(f, empty)) for f in (simulated, recorded))
    np.testing.assert_allclose(ours[6:15], theirs[6:15], atol=0.05)
    np.testing.assert_allclose(ours[18:44], theirs[18:44], atol=0.05)
