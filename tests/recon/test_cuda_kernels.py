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
