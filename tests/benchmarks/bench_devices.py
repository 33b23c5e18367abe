"""How far the answers of the other devices are from those of the CPU: a table, one row for each result of a kernel.

Run it by hand, without a GPU in the simulator of numba-cuda, which runs every thread of a block as one of Python's:
``NUMBA_ENABLE_CUDASIM=1 python tests/benchmarks/bench_devices.py``; with a GPU without that variable. Columns: the
largest value, the largest difference, and the second over the first. Boxes of 32 px, small enough for the simulator.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from tumble.recon.geometry import half_plane
from tumble.recon.kernels import cpu, cuda
from tumble.recon.rotations import from_rotation_vector, random_rotations, to_matrix
from tumble.recon.volume import PAD, Grid

BOX_PX, K_MAX, ROUNDS = 32, 12, 3
Result = tuple[str, Any, Any]  # of what, on the CPU, there


def results(xp: Any, frames: int, seed: int = 0) -> Iterator[Result]:
    """Every result of every launcher on the same random problem."""
    rng, plane = np.random.default_rng(seed), half_plane(BOX_PX, K_MAX)
    count, edge = len(plane.kx), Grid(BOX_PX, K_MAX).edge

    def both(name: str, *arguments: Any) -> tuple[Any, Any]:
        there = [xp.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        return getattr(cpu, name)(*arguments), getattr(cuda, name)(*there)

    volume = rng.normal(size=(edge, edge, edge, 2)).astype(np.float32)
    poses = to_matrix(random_rotations(2 * frames, rng)).astype(np.float32).reshape(frames, 2, 3, 3)
    first = np.ascontiguousarray(poses[:, 0])
    boxes, there = both("slice_volume", volume, PAD, first, plane.kx, plane.ky, count)
    yield "slice_volume: coefficients", boxes, there
    boxes = (boxes + rng.normal(0, 0.3, boxes.shape)).astype(np.float32)
    weight = rng.uniform(0.5, 1.5, count).astype(np.float32)
    data, rows = (boxes, plane.kx, plane.ky, weight, count, BOX_PX), np.arange(frames)
    starts = rng.normal(0, 0.3, (frames, 2, 2, 2)).astype(np.float32)
    here, there = both("score_pairs", volume, PAD, rows, poses, starts, *data)
    yield "score_pairs: log-likelihood", here[0], there[0]
    yield "score_pairs: shift, px", here[1], there[1]
    near = (to_matrix(from_rotation_vector(rng.normal(0, 0.02, (frames, 3)))) @ first).astype(np.float32)
    moved = rng.normal(0, 0.2, (frames, 2)).astype(np.float32)
    here, there = both("refine_poses", volume, PAD, rows, near, moved, *data, ROUNDS)
    yield "refine_poses: rotation", here[0], there[0]
    yield "refine_poses: shift, px", here[1], there[1]
    yield "refine_poses: log-likelihood", here[2], there[2]
    shares = rng.uniform(-1, 1, frames).astype(np.float32)
    shapes = (2, edge, edge, edge // 2 + 1, 2), (2, edge, edge, edge // 2 + 1)
    here = tuple(np.zeros(shape, np.float32) for shape in shapes)
    there = tuple(xp.zeros(shape, np.float32) for shape in shapes)
    arguments = (rows % 2, PAD, rows, first, moved, shares, *data)
    cpu.insert_poses(*here, *arguments)
    cuda.insert_poses(*there, *(xp.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments))
    yield "insert_poses: numerator", here[0], there[0]
    yield "insert_poses: weights", here[1], there[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=6)
    frames = parser.parse_args().frames
    xp: Any = np
    if not cuda.SIMULATED:
        import cupy

        xp = cupy
    print("CPU against", "numba-cuda's simulator" if cuda.SIMULATED else "cuda:0", f"- {frames} boxes of {BOX_PX} px")
    print(f"{'result':32}{'largest':>12}{'difference':>12}{'relative':>12}")
    for name, here, there in results(xp, frames):
        apart = float(np.abs(here - (there if isinstance(there, np.ndarray) else there.get())).max())
        largest = float(np.abs(here).max())
        print(f"{name:32}{largest:12.4g}{apart:12.2e}{apart / largest:12.2e}")


if __name__ == "__main__":
    main()
