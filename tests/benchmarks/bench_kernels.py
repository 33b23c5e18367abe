"""How fast the kernels are on this machine's devices: microseconds a pose, at the size of a crystal of 25 A.

Run it by hand: ``python tests/benchmarks/bench_kernels.py [--repeat 9] [--json FILE]``. Figures are the least of the
repetitions, after one that compiles; on the CPU of process time over all its threads, on a GPU of wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tumble.recon import device as devices
from tumble.recon.device import Device
from tumble.recon.geometry import half_plane
from tumble.recon.kernels.agreement import differences
from tumble.recon.rotations import from_rotation_vector, random_rotations, to_matrix

BOX_PX, K_MAX, PAD = 96, 38, 2
FRAMES, PAIRS, ROUNDS = 50, 72, 8  # a batch: three candidates of 24 pose pairs a frame


def work(device: Device) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Poses and call of every launcher, arrays on the device."""
    rng, xp, kernels = np.random.default_rng(0), device.xp, device.kernels
    plane = half_plane(BOX_PX, K_MAX)
    count, edge = len(plane.kx), 2 * (PAD * K_MAX + 3) + 1
    volume = xp.asarray(rng.normal(size=(edge, edge, edge, 2)).astype(np.float32))
    kx, ky, weight = xp.asarray(plane.kx), xp.asarray(plane.ky), xp.asarray(np.ones(count, np.float32))
    matrices = to_matrix(random_rotations(FRAMES * PAIRS, rng)).astype(np.float32).reshape(FRAMES, PAIRS, 3, 3)
    poses, first = xp.asarray(matrices), xp.asarray(np.ascontiguousarray(matrices[:, 0]))
    boxes = kernels.slice_volume(volume, PAD, first, kx, ky, count)
    near = to_matrix(from_rotation_vector(rng.normal(0, 0.02, (FRAMES, 3)))) @ matrices[:, 0]
    near = xp.asarray(near.astype(np.float32))
    rows, starts = xp.asarray(np.arange(FRAMES)), xp.zeros((FRAMES, PAIRS, 2, 2), np.float32)
    moved, shares = xp.zeros((FRAMES, 2), np.float32), xp.ones(FRAMES, np.float32)
    shape = (2, edge, edge, edge // 2 + 1)
    sums = xp.zeros((*shape, 2), np.float32), xp.zeros(shape, np.float32)
    data = (boxes, kx, ky, weight, count, BOX_PX)
    flat = poses.reshape(-1, 3, 3)
    return {
        "slice": (len(flat), lambda: kernels.slice_volume(volume, PAD, flat, kx, ky, count)),
        "score, pair of poses": (
            FRAMES * PAIRS, lambda: kernels.score_pairs(volume, PAD, rows, poses, starts, *data),
        ),
        "refine": (FRAMES, lambda: kernels.refine_poses(volume, PAD, rows, near, moved, *data, ROUNDS)),
        "insert": (FRAMES, lambda: kernels.insert_poses(*sums, rows % 2, PAD, rows, near, moved, shares, *data)),
    }  # fmt: skip


def timed(device: Device, call: Callable[[], Any], repeat: int) -> float:
    """Least seconds of a call."""
    clock = time.process_time if device.xp is np else time.perf_counter
    seconds = []
    for _ in range(repeat + 1):
        began = clock()
        call()
        if device.xp is not np:
            device.xp.cuda.get_current_stream().synchronize()
        seconds.append(clock() - began)
    return min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", help="write the rows to this file")
    options = parser.parse_args()
    found = [devices.cpu()]
    try:
        found.append(devices.gpu())
    except RuntimeError as error:
        print(error)
    rows = []
    for device in found:
        if device.xp is not np:
            print("off the CPU by", {k: f"{v:.1e}" for k, v in differences(device.kernels, device.xp).items()})
        for name, (poses, call) in work(device).items():
            micro = 1e6 * timed(device, call, options.repeat) / poses
            rows.append({"device": device.name, "kernel": name, "us a pose": round(micro, 2)})
            print(f"{device.name:8} {name:22} {micro:10.2f} us a pose")
    if options.json:
        text = json.dumps({"machine": platform.processor(), "rows": rows}, indent=1)
        Path(options.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
