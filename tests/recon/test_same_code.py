"""The process that compiles a kernel and those that load it from the cache must compute the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import hashlib
import numpy as np
from scipy.ndimage import gaussian_filter
from tumble.recon.kernels import cpu

rng = np.random.default_rng(7)
box, pad, limit, boxes, poses = 64, 2, 20, 6, 96
ky, kx = (a.ravel().astype(np.int16) for a in np.mgrid[0 : limit + 1, -limit : limit + 1])
inside = kx.astype(int) ** 2 + ky.astype(int) ** 2 <= limit**2
kx, ky = kx[inside], ky[inside]
edge = 2 * (pad * (limit + 2)) + 1
volume = gaussian_filter(rng.normal(size=(edge, edge, edge, 2)), (1.5, 1.5, 1.5, 0)).astype(np.float32) * 10
weight = rng.uniform(0.5, 2, len(kx)).astype(np.float32)
turns = np.linalg.qr(rng.normal(size=(poses, 3, 3)))[0]
turns *= np.linalg.det(turns)[:, None, None]
turns = turns.astype(np.float32)
rows = np.arange(poses) % boxes
coefficients = cpu.slice_volume(volume, pad, turns[:boxes], kx, ky, len(kx))
coefficients += 0.1 * rng.normal(size=coefficients.shape).astype(np.float32)
turns = turns[rows] + 0.02 * rng.normal(size=turns.shape).astype(np.float32)
shifts = rng.normal(size=(poses, 2)).astype(np.float32)
arrays = (coefficients, kx, ky, weight, len(kx), box)
results = [
    *cpu.score_pairs(volume, pad, np.arange(boxes), turns.reshape(boxes, -1, 3, 3),
                     np.zeros((boxes, poses // boxes, 2, 2), np.float32), *arrays),
    *cpu.refine_poses(volume, pad, rows, turns, shifts, *arrays, 8),
]
numerators = np.zeros((2, edge, edge, edge // 2 + 1, 2), np.float32)
denominators = np.zeros((2, edge, edge, edge // 2 + 1), np.float32)
cpu.insert_poses(numerators, denominators, rows % 2, pad, rows, turns, shifts, np.ones(poses, np.float32), *arrays)
for array in (*results, numerators, denominators):
    assert np.isfinite(array).all()
    print(hashlib.sha256(array.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_freshly_compiled_kernels_and_cached_ones_agree_to_the_last_bit(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "1"}

    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True
        ).stdout

    fresh = run()
    assert any(tmp_path.rglob("*.nbc"))
    assert run() == fresh
    assert len(fresh.split()) == 7
