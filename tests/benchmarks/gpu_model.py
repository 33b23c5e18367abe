"""What the measured work of a bench run would take on a GPU, by a model. Nothing of this was measured on one.

``python tests/benchmarks/gpu_model.py RUN.json`` reads what `tumble bench --json` wrote. For every kernel the longest
of four times counts: machine instructions of the inner loop (from `tests/recon/compile_cuda.py`) at one a clock and
lane; bytes through memory (`daemon/bench_model.py`); values gathered from the second-level cache; atomic additions.
Transforms and matrix products run at the float32 rate or the memory rate. The device is taken to reach half of that.
What the program does on the host stays on the host: its processor time is carried over as it was measured, of frames
and tracks from `bench_frames.py`. Launches are counted by a stand-in for cupy, each operation of an array included.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tumble.daemon.bench_model import GPU, INSERT_FLOPS, REFINE_FLOPS, SCORE_FLOPS, SLICE_FLOPS
from tumble.daemon.bench_report import Report, read_report

# NVIDIA H200 SXM: data sheet (multiprocessors, boost clock); the rates of the cache and of atomics are assumptions
PROCESSORS, LANES, CLOCK_HZ = 132, 128, 1.98e9
CACHE_BYTES = 5.5e12
ATOMICS = PROCESSORS * CLOCK_HZ  # one a clock and multiprocessor
REACHED = 0.5  # share of the rates above that a real kernel comes to
TARGET_HZ, TARGET_PARTICLES = 400.0, 16
# per coefficient on sm_90: machine instructions, bytes gathered, atomics, and the operations of the model
KERNELS = {
    "slice_volume": (272, 64, 0, SLICE_FLOPS),
    "score_pairs": (168 + 4 * 176, 64, 0, SCORE_FLOPS),
    "refine_poses": (337, 64, 0, REFINE_FLOPS),
    "insert_poses": (552, 0, 24, INSERT_FLOPS),
}
# Steps of a particle-frame that are done on the host, whole; of others what is not in a kernel is an upper bound, since
# array arithmetic is in it, which goes to the device.
HOST_PARTICLE = ("decide", "atoms", "change", "metrics", "status", "snapshot")
HOST_PARTS = ("refine lattice", "score", "re-decide", "witness")
# Processor ms of the front end for frames of 1920 x 1792 px, what a frame and what each particle in it costs:
# `bench_frames.py --particles 0 16 --frames 84`, of three rounds, idle (2026-11-21-front-end.md, last part). Of
# `track` the share of the crops, and of everything that in which no second thread can run Python: by a clock around the
# functions that let go of the interpreter, least of six parts; what numpy lets go of is in it, so at most.
COPY_MS, CORRECT_MS, CHAIN_MS = 1.05, 4.65, 0.11
FRAME_MS = {"keep": 1.3, "check": 0.08, "search": 2.3, "box": 0.02}
PARTICLE_MS = {"crop": 0.2, "follow": 0.12, "noise": 0.054, "box": 0.033}
CALLER_MS, CALLER_PARTICLE_MS = 0.9, 0.16  # what the interpreter does one by one, of a frame and of a particle in it
# Of the rate of so many threads that expand frames, what they reach: two on two cores 1.6 of one, the median of 1.45 to
# 1.78 in four rounds (`bench_stream.py --only expand`'s function, beside other work); more were not measured
EXPANDERS, EXPANDERS_REACH = (1, 2, 3, 4), 0.8
# Bytes in and out per particle-frame beside the box, counted by `tests/recon/strict.py`; five bytes a pose of the grid
MOVED_IN, MOVED_OUT, GRID_POSES = 2800, 1500, 10383
LINK_BYTES = 50e9  # per second and direction, PCIe 5 x16 from page-locked memory; assumed
LAUNCH_S, GAP_S = 20e-6, 4e-6  # of the host for each launch from Python, and of the device between two; assumed
# counted by `tests/recon/strict.py`: of a frame with two particles; of a batch of 30 (two pieces of the exhaustive
# search), of a map, of frames decided anew
FRAME_LAUNCHES, BATCH_LAUNCHES, MAP_LAUNCHES, DECISION_LAUNCHES = 25, 59, 616, 447
BATCH_FRAMES = 30
FRAME_BYTES = 2 * 1920 * 1792
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


def host_ms(report: Report) -> dict[str, float]:
    """Processor time of a particle-frame that stays with the host's worker, by step."""
    rows = {row.step: row.cpu_ms for row in report.rows}
    found = {step: rows[step] for step in HOST_PARTICLE if rows.get(step, 0) > 0}
    for step in HOST_PARTS:
        kernels = sum(each.cpu_ms for each in report.launches if each.step == step)
        if step in rows:
            found[f"{step}, at most"] = max(0.0, rows[step] - kernels)
    return found | {"chain on the grid": CHAIN_MS, "launches": 1e3 * LAUNCH_S * launches(report)}


def launches(report: Report) -> float:
    """Of a particle-frame: batches, and the maps of the run with what is decided anew for each."""
    return BATCH_LAUNCHES / BATCH_FRAMES + (MAP_LAUNCHES + DECISION_LAUNCHES) * report.maps / report.streamed


def front_ms(particles: int, *, on_device: bool, threads: int = 1) -> float:
    """Time of a frame of 1920 x 1792 px in the front end's process, were every thread to have a core of its own.

    With several it is the longer of two times that cannot be beaten: everything divided by the threads, and what only
    one of them can do at a time.
    """
    spent = FRAME_MS | {name: FRAME_MS.get(name, 0.0) + particles * each for name, each in PARTICLE_MS.items()}
    if on_device:
        launched = 1e3 * LAUNCH_S * FRAME_LAUNCHES
        return COPY_MS + launched + sum(spent[name] for name in spent if name not in ("keep", "search", "crop"))
    if threads == 1:
        return sum(spent.values())
    return max(sum(spent.values()) / threads, CALLER_MS + particles * CALLER_PARTICLE_MS)


def expanded_hz(decode_ms: float, threads: int) -> float:
    """Frames a second that the receiver expands, were every thread to have a core of its own."""
    return 1e3 / decode_ms * threads * (1.0 if threads == 1 else EXPANDERS_REACH)


def most_particles(*, on_device: bool, threads: int = 1) -> int:
    """How many particles the front end's process can follow at the target rate."""
    count = -1
    while front_ms(count + 1, on_device=on_device, threads=threads) <= 1e3 / TARGET_HZ:
        count += 1
    return max(0, count)


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
    into, out = 4 * report.box_px**2 + MOVED_IN, 5 * GRID_POSES + MOVED_OUT
    link = TARGET_HZ * FRAME_BYTES + rate * into
    print(f"\n{TARGET_HZ:g} frames/s with {TARGET_PARTICLES} particles are {rate:g} particle-frames/s:")
    print(f"  device busy                 {100 * busy * 1e-6 * rate:6.1f} % of the time")
    print(f"  into it                     {link / 1e9:6.2f} GB/s, {100 * link / LINK_BYTES:.0f} % of the link")
    print(
        f"  out of it                   {rate * out / 1e9:6.2f} GB/s, {100 * rate * out / LINK_BYTES:.0f} % of the link"
    )
    each = launches(report)
    gaps = 1e6 * GAP_S * each
    print(
        f"\nlaunches: {BATCH_LAUNCHES} a batch of {BATCH_FRAMES} frames, {MAP_LAUNCHES} a map, {DECISION_LAUNCHES} ",
        end="",
    )
    print(f"for frames decided anew; {each:.1f} a particle-frame")
    print(
        f"  of the device, {1e6 * GAP_S:g} us each      {gaps:6.1f} us a particle-frame beside {busy:.1f} of work: ",
        end="",
    )
    print(f"{100 * (gaps + busy) * 1e-6 * rate:.0f} % of the time with both")
    print(f"  of the host, {1e6 * LAUNCH_S:g} us each       {1e6 * LAUNCH_S * each:6.0f} us a particle-frame")
    print(
        f"  front end, if on the device: {FRAME_LAUNCHES} a frame, {1e3 * LAUNCH_S * FRAME_LAUNCHES:.2f} ms of the host"
    )
    print("\nwhat stays with the host's workers, processor ms per particle-frame, measured on the CPU")
    host = host_ms(report)
    for step, spent in sorted(host.items(), key=lambda item: -item[1]):
        print(f"  {step:28}{spent:7.3f} ms {1e-3 * spent * rate:7.2f} cores at {rate:g}/s")
    total = sum(host.values())
    print(f"  {'all':28}{total:7.3f} ms {1e-3 * total * rate:7.2f} cores")
    print("\nthe front end's process, frames of 1920 x 1792 px, no dark and gain; on two slow cores, idle;")
    print("with several threads the longer of two bounds: all of it divided, and what the interpreter does one by one")
    for on_device, threads in ((False, 1), (False, 4), (False, 8), (True, 1)):
        where = "GPU" if on_device else f"CPU, {threads} threads"
        none, all_ms = (front_ms(n, on_device=on_device, threads=threads) for n in (0, TARGET_PARTICLES))
        most = most_particles(on_device=on_device, threads=threads)
        print(
            f"  pixels on the {where:16}{none:6.2f} ms a frame without particles, {all_ms:5.2f} with them all:", end=""
        )
        print(f"{1e3 / all_ms:5.0f} frames/s; {most} particles at {TARGET_HZ:g}/s")
    decode = next(row.cpu_ms for row in report.rows if row.step == "decode") * FRAME_BYTES / (2 * report.size_px**2)
    print(
        f"  decompression, in the receiver's process: {decode:.1f} ms a frame at the counts of that run, by its pixels"
    )
    rates = ", ".join(f"{expanded_hz(decode, threads):.0f} with {threads}" for threads in EXPANDERS)
    print(f"    expanded live, by threads with a core each: {rates} a second; the others wait on disk")
    print(f"  dark, gain and bad pixels: {CORRECT_MS} ms more a frame on the CPU, none on the GPU")
    print(f"\nparticles at {TARGET_HZ:g} frames/s, by what bounds them:")
    print(f"  device{'':24}{int(1e6 / busy / TARGET_HZ):5d}")
    room = (LINK_BYTES - TARGET_HZ * FRAME_BYTES) / into
    print(f"  link{'':26}{int(room / TARGET_HZ):5d}")
    print(f"  following them{'':16}{most_particles(on_device=False, threads=8):5d}  pixels on the CPU, eight threads")
    print(f"  following them{'':16}{most_particles(on_device=True):5d}  pixels on the GPU")
    print(f"  a worker of one thread{'':8}{1e3 / total / TARGET_HZ:7.1f}  each; more workers, or slower poses and maps")
    following = max(
        1e3 / front_ms(TARGET_PARTICLES, on_device=on_device, threads=threads)
        for on_device, threads in ((False, 8), (True, 1))
    )
    tracking = min(following, expanded_hz(decode, EXPANDERS[-1]), 1e6 / busy / TARGET_PARTICLES)
    print(f"\nwith {TARGET_PARTICLES} particles it lags from {tracking:.0f} frames/s on in tracking,")
    for cores in (1, 8, 32):
        rate = 1e3 * cores / total / TARGET_PARTICLES
        print(f"  and in poses and maps, with {cores} cores for workers, from {rate:.0f}")


if __name__ == "__main__":
    main()
