"""CUDA launchers of the kernel bodies: one block of threads a pose, which share its coefficients.

Twins of the launchers in `cpu.py`, with the same arguments; arrays are cupy arrays, or anything else with a CUDA array
interface, and so are the results. Plain numpy arrays are copied to the device and back, which serves tests and the
simulator of numba-cuda (NUMBA_ENABLE_CUDASIM=1). Sums are taken in another order than on the CPU, and `insert_poses`
adds atomically, so that its results differ in the last bits from run to run. Importing needs no GPU: a kernel is
compiled when it is first launched.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numba import cuda, float32

from . import pixels_cuda
from .bodies import Team, build
from .launching import SIMULATED, array_module, launch

pixels = pixels_cuda

# Threads a pose: one warp, whose barriers cost next to nothing. The simulator runs every thread as one of Python's.
THREADS = 4 if SIMULATED else 32
SLICE_THREADS = 4 if SIMULATED else 256  # one coefficient each
SHARED_BYTES = 4 * THREADS  # for the sums over a team
BLOCKS_PER_PROCESSOR = 32  # scratch is per block: no more blocks than fit on the device at once
TOLERANCE = 1e-3  # relative, between this device and the CPU; they differ by the order of sums in float32


@cuda.jit(device=True, inline="always")
def _first():
    return cuda.threadIdx.x


@cuda.jit(device=True, inline="always")
def _stride():
    return cuda.blockDim.x


@cuda.jit(device=True)
def _total(value):
    """Every thread adds up all shares in the same order: the sum is the same number in all of them."""
    shares = cuda.shared.array(0, float32)  # sized at the launch: a fixed one may not be linked along two paths
    shares[cuda.threadIdx.x] = value
    cuda.syncthreads()
    result = np.float32(0)
    for i in range(THREADS):
        result += shares[i]
    cuda.syncthreads()
    return result


@cuda.jit(device=True, inline="always")
def _meet():
    cuda.syncthreads()


@cuda.jit(device=True)
def _add(array, index, value):
    cuda.atomic.add(array, index, value)


_team = Team(first=_first, stride=_stride, total=_total, meet=_meet, add=_add)
_bodies = build(cuda.jit(device=True, fastmath=True), _team)
_score_pair = _bodies.score_pair
_refine_pose = _bodies.refine_pose
_interpolate = _bodies.interpolate
_insert_slice = _bodies.insert_slice


@cuda.jit(fastmath=True)
def _slice_all(volume, half, pad, rotations, kx, ky, count, out):
    centre = np.float32(half)
    for i in range(cuda.grid(1), rotations.shape[0] * count, cuda.gridsize(1)):
        pose, j = i // count, i % count
        r = rotations[pose]
        u, v = np.float32(kx[j]), np.float32(ky[j])
        real, imaginary = _interpolate(
            volume,
            half,
            pad * (r[0, 0] * u + r[1, 0] * v) + centre,
            pad * (r[0, 1] * u + r[1, 1] * v) + centre,
            pad * (r[0, 2] * u + r[1, 2] * v) + centre,
        )
        out[pose, j, 0] = real
        out[pose, j, 1] = imaginary


@cuda.jit(fastmath=True)
def _score_all(
    volume, half, pad, frames, rotations, starts, coefficients, kx, ky, weight, count, limit, step, work, score, shift
):
    poses = rotations.shape[1]
    for i in range(cuda.blockIdx.x, frames.shape[0] * poses, cuda.gridDim.x):
        t, k = i // poses, i % poses
        _score_pair(
            volume, half, pad, rotations[t, k], coefficients[frames[t]], kx, ky, weight, count, limit, step,
            starts[t, k, 0], starts[t, k, 1], work[cuda.blockIdx.x], score[t, k], shift[t, k],
        )  # fmt: skip


@cuda.jit(fastmath=True)
def _refine_all(
    volume, half, pad, frames, rotations, shifts, coefficients, kx, ky, weight, count, limit, step, rounds, tables,
    score,
):  # fmt: skip
    rotation, trial = cuda.local.array((3, 3), np.float32), cuda.local.array((3, 3), np.float32)
    shift = cuda.local.array(2, np.float32)
    normals = cuda.local.array((2, 20), np.float64)
    matrix, delta = cuda.local.array((5, 5), np.float64), cuda.local.array(5, np.float64)
    for i in range(cuda.blockIdx.x, frames.shape[0], cuda.gridDim.x):
        for a in range(3):
            for b in range(3):
                rotation[a, b] = rotations[i, a, b]
        shift[0], shift[1] = shifts[i, 0], shifts[i, 1]
        cuda.syncthreads()  # all have read the start before the first of them writes the end
        score[i] = _refine_pose(
            volume, half, pad, rotation, coefficients[frames[i]], kx, ky, weight, count, limit, step, shift, rounds,
            tables[cuda.blockIdx.x], normals, matrix, delta, trial,
        )  # fmt: skip
        for a in range(3):
            for b in range(3):
                rotations[i, a, b] = rotation[a, b]
        shifts[i, 0], shifts[i, 1] = shift[0], shift[1]


@cuda.jit(fastmath=True)
def _insert_all(
    numerators, denominators, target, half, pad, frames, rotations, shifts, shares, coefficients, kx, ky, weight, count,
    limit, step, tables,
):  # fmt: skip
    block = cuda.blockIdx.x
    for i in range(block, frames.shape[0], cuda.gridDim.x):
        _insert_slice(
            numerators[target[i]], denominators[target[i]], half, pad, rotations[i], coefficients[frames[i]], kx, ky,
            weight, count, limit, step, shifts[i], shares[i], tables[block],
        )  # fmt: skip


def _blocks(poses: int) -> int:
    """Blocks for so many poses: one each, up to what the device holds at once."""
    processors = 2 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT
    return max(1, min(poses, BLOCKS_PER_PROCESSOR * processors))


def _limit(box_px: int) -> int:
    """Largest component that a coefficient of such a box can have; asking the arrays themselves would wait for them."""
    return box_px // 2


def slice_volume(volume: Any, pad: float, rotations: Any, kx: Any, ky: Any, count: int) -> Any:
    """Central slices of a Fourier volume: (m, count, 2) for (m, 3, 3) rotations."""
    xp = array_module(volume)
    out = xp.empty((len(rotations), count, 2), np.float32)
    blocks = _blocks(-(-len(rotations) * count // SLICE_THREADS))
    arguments = (volume.reshape(-1), volume.shape[0] // 2, np.float32(pad), rotations, kx, ky, count, out)
    launch(_slice_all, blocks, SLICE_THREADS, arguments, (out,))
    return out


def score_pairs(
    volume: Any,
    pad: float,
    frames: Any,
    rotations: Any,
    starts: Any,
    coefficients: Any,
    kx: Any,
    ky: Any,
    weight: Any,
    count: int,
    box_px: int,
) -> tuple[Any, Any]:
    """Score k poses of each of t frames, and each pose's half turn about the beam; see `cpu.score_pairs`."""
    xp, limit = array_module(volume), _limit(box_px)
    blocks = _blocks(rotations.shape[0] * rotations.shape[1])
    work = xp.empty((blocks, 4 * count + 8 * limit + 4), np.float32)
    score = xp.empty((*rotations.shape[:2], 2), np.float32)
    shift = xp.empty((*rotations.shape[:2], 2, 2), np.float32)
    arguments = (
        volume.reshape(-1), volume.shape[0] // 2, np.float32(pad), frames, rotations, starts,
        coefficients.reshape(len(coefficients), -1), kx, ky, weight, count,
        limit, np.float32(2 * np.pi / box_px), work, score, shift,
    )  # fmt: skip
    launch(_score_all, blocks, THREADS, arguments, (score, shift), SHARED_BYTES)
    return score, shift


def refine_poses(
    volume: Any,
    pad: float,
    frames: Any,
    rotations: Any,
    shifts: Any,
    coefficients: Any,
    kx: Any,
    ky: Any,
    weight: Any,
    count: int,
    box_px: int,
    rounds: int,
) -> tuple[Any, Any, Any]:
    """Levenberg-Marquardt refinement of (m,) poses: returns rotations (m, 3, 3), shifts (m, 2) and scores (m,)."""
    xp, limit = array_module(volume), _limit(box_px)
    blocks = _blocks(len(frames))
    rotations, shifts = xp.array(rotations, np.float32), xp.array(shifts, np.float32)  # copies: refined in place
    score = xp.empty(len(frames), np.float32)
    arguments = (
        volume.reshape(-1), volume.shape[0] // 2, np.float32(pad), frames, rotations, shifts,
        coefficients.reshape(len(coefficients), -1), kx, ky, weight, count,
        limit, np.float32(2 * np.pi / box_px), rounds, xp.empty((blocks, 8 * limit + 4), np.float32), score,
    )  # fmt: skip
    launch(_refine_all, blocks, THREADS, arguments, (rotations, shifts, score), SHARED_BYTES)
    return rotations, shifts, score


def insert_poses(
    numerators: Any,
    denominators: Any,
    target: Any,
    pad: float,
    frames: Any,
    rotations: Any,
    shifts: Any,
    shares: Any,
    coefficients: Any,
    kx: Any,
    ky: Any,
    weight: Any,
    count: int,
    box_px: int,
) -> None:
    """Insert (m,) boxes into accumulators, in place and in any order; see `cpu.insert_poses`."""
    xp, limit = array_module(numerators), _limit(box_px)
    blocks = _blocks(len(frames))
    rotations, shifts, shares = (xp.asarray(a, dtype=np.float32) for a in (rotations, shifts, shares))
    arguments = (
        numerators, denominators, target, numerators.shape[1] // 2, np.float32(pad), frames, rotations, shifts, shares,
        coefficients.reshape(len(coefficients), -1), kx, ky, weight, count, limit, np.float32(2 * np.pi / box_px),
        xp.empty((blocks, 8 * limit + 4), np.float32),
    )  # fmt: skip
    launch(_insert_all, blocks, THREADS, arguments, (numerators, denominators), SHARED_BYTES)


def check() -> None:
    """Run every launcher on a small problem and compare with the CPU.

    Raises
    ------
    RuntimeError : a wrong answer. Whatever the driver or the compiler raises comes through as it is.
    """
    from .agreement import differences

    xp: Any = np
    if not SIMULATED:
        import cupy

        xp = cupy
    wrong = {name: apart for name, apart in differences(sys.modules[__name__], xp).items() if not apart < TOLERANCE}
    if wrong:
        raise RuntimeError(f"kernels disagree with the CPU by {wrong}: keep to it with TUMBLE_DEVICE=cpu")
