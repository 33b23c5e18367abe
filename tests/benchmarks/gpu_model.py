"""What the measured work of a bench run would take on a GPU, by a model. Nothing of this was measured on one.

``python tests/benchmarks/gpu_model.py RUN.json`` reads what `tumble bench --json` wrote. For every kernel the longest
of four times counts: machine instructions of the inner loop (from `tests/recon/compile_cuda.py`) at one a clock and
lane; bytes through memory (`daemon/bench_model.py`); values gathered from the second-level cache; atomic additions.
Transforms and matrix products run at the float32 rate or the memory rate. The device is taken to reach half of that.
What the program does on the host stays on the host: its processor time is carried over as it was measured.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tumble.daemon.bench_model import GPU, INSERT_FLOPS, REFINE_FLOPS, SCORE_FLOPS, SLICE_FLOPS
from tumble.daemon.bench_report import FRAME_STEPS, Report, read_report

# NVIDIA H200 SXM: data sheet (multiprocessors, boost clock); the rates of the cache and of atomics are assumptions
PROCESSORS, LANES, CLOCK_HZ = 132, 128, 1.98e9
CACHE_BYTES = 5.5e12
ATOMICS = PROCESSORS * CLOCK_HZ  # one a clock and multiprocessor
REACHED = 0.5  # share of the rates above that a real kernel comes to
TARGET_HZ, TARGET_PARTICLES = 400.0, 16
# per coefficient on sm_90: machine instructions, bytes gathered, atomics, and the operations of the model
KERNELS = {
    "slice_volume": (318, 64, 0, SLICE_FLOPS),
    "score_pairs": (243 + 4 * 202, 64, 0, SCORE_FLOPS),
    "refine_poses": (384, 64, 0, REFINE_FLOPS),
    "insert_poses": (525, 0, 24, INSERT_FLOPS),
}
HOST_PARTICLE = ("track", "box", "decide", "atoms", "change", "metrics", "status", "snapshot")
BY_DEVICE = {"index": "matrix product"}


@dataclass(frozen=True)
class Line:
    """Microseconds per particle-frame on the device, and what bounds it."""

    step: str
    kernel: str
    micro: float
    bound: str


def kernel_line(step: str, kernel: str, flops: float, moved: float) -> Line:
    """The longest of what a launch has to do."""
    if kernel in KERNELS:
        instructions, gathered, atomics, operations = KERNELS[kernel]
        coefficients = flops / operations
        times = {
            "instructions": coefficients * instructions / (PROCESSORS * LANES * CLOCK_HZ),
            "memory": moved / GPU.bytes,
            "cache": coefficients * gathered / CACHE_BYTES,
            "atomics": coefficients * atomics / ATOMICS,
        }
    else:
        times = {"arithmetic": flops / GPU.flops, "memory": moved / GPU.bytes}
    bound = max(times, key=lambda name: times[name])
    return Line(step, kernel, 1e6 * times[bound] / REACHED, bound)


def lines(report: Report) -> list[Line]:
    """Everything that the device would do for a particle-frame."""
    found = [kernel_line(each.step, each.kernel, each.flops, each.bytes) for each in report.launches]
    rows = {row.step: row for row in report.rows}
    found += [kernel_line(step, name, rows[step].flops, rows[step].bytes) for step, name in BY_DEVICE.items()]
    return found


def main() -> None:
    report = read_report(Path(sys.argv[1]))
    device = lines(report)
    print(f"model of an H200 from the work of {report.commit} ({report.date}); NOT MEASURED, no GPU was at hand")
    print(f"\n{'step':16}{'kernel':16}{'us per particle-frame':>22}  bound")
    for line in sorted(device, key=lambda line: -line.micro):
        print(f"{line.step:16}{line.kernel:16}{line.micro:22.2f}  {line.bound}")
    busy = sum(line.micro for line in device)
    print(f"{'all':32}{busy:22.2f}")
    rate = TARGET_HZ * TARGET_PARTICLES
    print(f"\n{TARGET_HZ:g} frames/s with {TARGET_PARTICLES} particles are {rate:g} particle-frames/s:")
    print(f"  device busy                 {100 * busy * 1e-6 * rate:6.1f} % of the time")
    rows = {row.step: row.cpu_ms for row in report.rows}
    for step in HOST_PARTICLE:
        print(f"  on the host, {step:15}{1e-3 * rows.get(step, 0.0) * rate:6.2f} cores")
    frame = sum(rows[step] for step in FRAME_STEPS)
    share = (1920 * 1792) / report.size_px**2
    print(f"  on the host, each frame    {1e-3 * frame * share * TARGET_HZ:6.2f} cores, at 1920 x 1792 by area")
    print("  with the index, the chain on the pose grid stays on the host too; it is not told apart here")


if __name__ == "__main__":
    main()
