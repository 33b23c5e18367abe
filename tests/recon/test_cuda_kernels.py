"""The CUDA kernels without a GPU: in the simulator against the CPU, and through the compiler. With a GPU: on it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The two differ by the order of float32 sums over some sixty coefficients: 2e-6 was seen.
TOLERANCE = 2e-5
LAUNCHERS = {"slice_volume", "score_pairs", "refine_poses", "insert_poses"}
PIXELS = {"levels", "correct", "fill", "bin_mean", "bin_energy", "cut"}
SOLVERS = 2  # kernels of projections; their answers are compared in solvers/test_projector.py

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


def run(*arguments: str, **environment: str) -> str:
    """Standard output of a fresh interpreter; every warning is an error there."""
    call = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(
        call, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_importing_the_launchers_needs_no_gpu() -> None:
    assert run("-c", "import tumble.recon.kernels.cuda as kernels; print(kernels.THREADS)").strip() == "32"


def test_launchers_agree_with_the_cpu_in_the_simulator() -> None:
    code = """
import json
import numpy as np
from tumble.recon.kernels import cuda
from tumble.recon.kernels.agreement import differences
cuda.BLOCKS_PER_PROCESSOR = 1  # two blocks: every one of them works on several poses in turn
print(json.dumps(differences(cuda, np, frames=3)))
"""
    apart = json.loads(run("-c", code, NUMBA_ENABLE_CUDASIM="1"))
    assert set(apart) == LAUNCHERS | PIXELS
    assert max(apart.values()) < TOLERANCE


def test_frames_of_any_type_and_calibration_in_the_simulator() -> None:
    code = """
import itertools
import numpy as np
from tumble.recon.kernels import pixels_cpu, pixels_cuda
from tumble.recon.kernels.pixels import Tables
rng, shape = np.random.default_rng(2), (5, 7)
bad = np.zeros(shape, bool)
bad[0, 0] = bad[3, 4] = True
rows, columns = (np.ascontiguousarray(place) for place in np.nonzero(bad))
sources = np.array([[1, 7, -1], [24, 26, 32]])
starts = np.array([0, 1, 1, 1, 2, 2])
nothing = np.zeros((0, 0), np.float32)
for dark, gain, dtype in itertools.product((False, True), (False, True), (np.uint8, np.float32)):
    data = rng.integers(0, 9, shape).astype(dtype)
    tables = [rng.uniform(0.5, 1.5, shape).astype(np.float32) if known else nothing for known in (dark, gain)]
    tables = Tables(*tables, bad, rows, columns, starts, sources)
    outs = [np.zeros(shape, np.float32 if dark or gain else dtype) for _ in range(2)]
    sums = [pixels.correct(data, tables, out) for pixels, out in zip((pixels_cuda, pixels_cpu), outs)]
    assert abs(sums[0] - sums[1]) < 1e-5 * sums[1], (dark, gain, dtype)
    for pixels, out in zip((pixels_cuda, pixels_cpu), outs):
        pixels.fill(out, tables, 2.0)
    np.testing.assert_allclose(*outs, rtol=1e-6, atol=1e-6)
    if dtype is np.uint8:
        assert pixels_cuda.levels(data, 8) == pixels_cpu.levels(data, 8)
    places = np.array([[-9, 0], [2, -1]]), np.array([0.1, 0.2], np.float32), np.zeros((0, 0), bool), (3, 4)
    np.testing.assert_allclose(*(pixels.cut(data, *places) for pixels in (pixels_cuda, pixels_cpu)), atol=1e-7)
print("alike")
"""
    assert run("-c", code, NUMBA_ENABLE_CUDASIM="1").strip() == "alike"


def test_a_wrong_kernel_is_not_believed_in() -> None:
    code = """
from tumble.recon.kernels import agreement, cpu, cuda
for name in ("score_pairs", "refine_poses", "insert_poses"):  # quicker than in the simulator
    setattr(cuda, name, getattr(cpu, name))
right = cuda.slice_volume
cuda.slice_volume = lambda *arguments: 1.01 * right(*arguments)
try:
    cuda.check()
except RuntimeError as error:
    print(error)
"""
    assert "slice_volume" in run("-c", code, NUMBA_ENABLE_CUDASIM="1")


def test_kernels_compile_for_ampere_and_hopper() -> None:
    result = json.loads(run(str(Path(__file__).with_name("compile_cuda.py")), "8.0", "9.0"))
    if "missing" in result:
        pytest.skip(f"{result['missing']}; pip install 'numba-cuda[cu13]'")
    assert len(result) == 2 * (len(LAUNCHERS) + len(PIXELS) - 1 + SOLVERS)  # one kernel makes both kinds of bins
    assert [name for name, numbers in result.items() if numbers.get("spill", 0) > 0] == []


@pytest.mark.gpu
def test_launchers_agree_with_the_cpu_on_a_gpu() -> None:
    cupy = pytest.importorskip("cupy")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    from tumble.recon import device
    from tumble.recon.kernels.agreement import differences

    there = device.gpu()
    assert max(differences(there.kernels, there.xp, frames=40).values()) < TOLERANCE * 5
