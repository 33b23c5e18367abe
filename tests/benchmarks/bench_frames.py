"""Processor time of what the front end does to a large frame and to a particle in it: a table, by hand.

``python tests/benchmarks/bench_frames.py [--rows 1920 --columns 1792]``, one thread, the least of several runs. What a
GPU would take over (`frontend.device`) is told apart from what stays on the host; nothing is measured on a GPU.

``--particles 0 1 4 16`` instead: whole frames with so many crystals through the whole front end, by its steps, with the
longest step of a frame beside the mean, and with ``--threads`` threads. "caller" is the processor time of the thread
that calls the front end: with cores left over nothing is faster than that, nor than the whole divided by the threads.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumble.recon.device import cpu
from tumble.recon.frontend.bands import MapMaker, sampling_for
from tumble.recon.frontend.boxes import contrasts, cut_boxes
from tumble.recon.frontend.correction import Calibration, Corrector
from tumble.recon.frontend.followers import Followers
from tumble.recon.frontend.frontend import FrontEnd
from tumble.recon.frontend.history import History
from tumble.recon.frontend.loops import take
from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.frontend.quality import sample_stride
from tumble.recon.frontend.search import MOST_TILES
from tumble.recon.frontend.tiles import tiles_of
from tumble.recon.frontend.tracking import Background, CropTracker, Track, crop_bins_for
from tumble.recon.lattice import grid_posterior, pose_grid

PIXEL_A, DIAMETER_A, BOX_PX, COUNTS = 0.358, 24.0, 96, 2.0
COUNTS_OF_MOVIE = 10.0


def least_ms(work: Callable[[Any], object], times: int, prepare: Callable[[], Any] = lambda: None) -> float:
    """Processor time of `work` on what `prepare` gives, after a first call that compiles."""
    work(prepare())
    spent = []
    for _ in range(times):
        given, start = prepare(), time.process_time()
        work(given)
        spent.append(time.process_time() - start)
    return 1e3 * min(spent)


def frame_rows(rows: int, columns: int, rng: np.random.Generator) -> list[tuple[str, float, str]]:
    """Name, ms and where it would be done, of a frame."""
    device, shape, sampling = cpu(1), (rows, columns), sampling_for(PIXEL_A)
    data = rng.poisson(COUNTS, shape).astype(np.uint16)
    kept, real = np.empty_like(data), np.empty(shape, np.float32)
    stride, whole = sample_stride(data.size), (0, rows)
    sample = np.empty(-(-data.size // stride), np.uint16)
    tables = Calibration(rng.uniform(0, 1, shape), rng.uniform(0.8, 1.2, shape), rng.random(shape) < 1e-4)
    corrector = Corrector(rows, columns, tables)
    tiles, window = tiles_of(rows, columns, sampling, MOST_TILES)
    maker = MapMaker(*window, sampling)
    field = contrasts(device, data, [(0, 0)], window, [COUNTS])
    looked = least_ms(lambda _: contrasts(device, data, [(0, 0)], window, [COUNTS]), 50)
    looked += least_ms(lambda _: maker.maps(field), 20)
    top = np.uint16(65535)
    return [
        ("copy, to the GPU", least_ms(lambda _: np.copyto(kept, data), 9), "host"),
        ("copy and levels in one", least_ms(lambda _: take(data, top, kept, sample, stride, whole), 9), "GPU"),
        ("dark, gain, bad pixels", least_ms(lambda _: corrector.apply(data, real), 9), "GPU"),
        (f"search, one tile of {len(tiles)}", looked, "GPU"),
    ]


def particle_rows(rows: int, columns: int, rng: np.random.Generator) -> list[tuple[str, float, str]]:
    """The same of a particle in a frame."""
    sampling, options = sampling_for(PIXEL_A), FrontEndOptions()
    tracker, bins = CropTracker(rows, columns, sampling, options), (rows // sampling.bin_px, columns // sampling.bin_px)
    flat = Background(np.full(2, 0.1), np.full(2, 16.0), np.ones(bins, np.float32), COUNTS)
    side = crop_bins_for(DIAMETER_A, rows, columns, sampling)
    middle = np.array(bins) / 2
    track = Track(1, DIAMETER_A, 20.0, middle, np.eye(2), -0.05, np.array([0.3, 0.2]), side)
    tracker.build_template(track, flat)
    data = rng.poisson(COUNTS, (rows, columns)).astype(np.uint16)
    followers = Followers(rows, columns, sampling, options)
    followers.set_background(flat)

    def fresh(states: int = 0) -> None:
        followers.tracks = [copy.copy(track)]
        followers.tracks[0].history = History()
        for number in range(states):
            followers.tracks[0].history.add(number, middle, np.eye(2), 0.02, "")

    whole = least_ms(lambda _: followers.advance(0, data, COUNTS, None), 50, fresh)
    maps = least_ms(lambda _: tracker.maps([track], [tracker.corner(track)], data, COUNTS, None), 50)
    lag = options.lag_frames + 1
    place = least_ms(lambda _: followers.smoothed(followers.tracks[0]), 50, lambda: fresh(lag))
    box = least_ms(lambda _: cut_boxes(cpu(1), data, [(50, 50)], BOX_PX, [COUNTS]), 50)
    return [
        ("maps of its crop", maps, "GPU"),
        ("box", box, "GPU"),
        ("likelihood, posterior, books of a track", whole - maps, "host"),
        ("smoothed place", place, "host"),
    ]


def chain_row(rng: np.random.Generator, spacing_deg: float, frames: int = 50) -> tuple[str, float, str]:
    """The chain on the grid of poses, as a batch of one particle takes it."""
    grid = pose_grid(spacing_deg, 3.0)
    score = rng.normal(0, 5, (frames, len(grid.poses))).astype(np.float32)
    best = grid.poses[0]
    score += 60 * np.exp(-0.5 * (np.degrees(2 * np.arccos(np.minimum(abs(grid.poses @ best), 1))) / 5) ** 2)
    spent = least_ms(lambda _: grid_posterior(score, grid), 3)
    return f"chain on {len(grid.poses)} poses", spent / frames, "host"


def movie(rows: int, columns: int, particles: int, count: int = 20) -> list[NDArray[np.uint16]]:
    """Frames of counting noise with crystals that turn and wander: fringes of four reflections, 24 A across."""
    rng = np.random.default_rng(0)
    noise = [rng.poisson(COUNTS_OF_MOVIE, (rows, columns)).astype(np.uint16) for _ in range(3)]
    across, reach = int(np.ceil(particles**0.5)), 48
    y, x = np.mgrid[-reach:reach, -reach:reach] * PIXEL_A
    thickness = np.sqrt(np.clip(1 - (x * x + y * y) / (DIAMETER_A / 2) ** 2, 0, None))
    frames = []
    for number in range(count):
        frame = np.roll(noise[number % 3], rng.integers(0, rows, 2), (0, 1))
        for particle in range(particles):
            turn = 0.7 * particle + 0.05 * number
            waves = [
                np.cos(2 * np.pi * k * (x * np.cos(turn + a) + y * np.sin(turn + a)))
                for k, a in ((0.44, 0.0), (0.44, 1.23), (0.51, 0.62), (0.72, 2.19))
            ]
            contrast = thickness * (-0.06 + 0.12 * np.sum(waves, axis=0))
            row = round((particle // across + 0.5) * rows / across) + round(3 * np.sin(0.3 * number)) - reach
            column = round((particle % across + 0.5) * columns / across) + round(3 * np.cos(0.3 * number)) - reach
            frame[row : row + 2 * reach, column : column + 2 * reach] = rng.poisson(COUNTS_OF_MOVIE * (1 + contrast))
        frames.append(frame)
    return frames


def whole_frames(rows: int, columns: int, particles: int, threads: int, frames: int) -> str:
    """A line of the table: processor ms a frame by step, and the elapsed time of the mean, the 99th and the last."""
    given, front = movie(rows, columns, particles), FrontEnd(rows, columns, PIXEL_A, threads=threads)
    settle = 70  # the first search, what was held for it, and the noise
    spent = []
    for index in range(settle + frames):
        if index == settle:
            front.clock.cpu.clear()
        processor, own, wall = time.process_time(), time.thread_time(), time.perf_counter()
        front.step(index, index / 400, given[index % len(given)])
        spent.append((time.process_time() - processor, time.thread_time() - own, time.perf_counter() - wall))
    used, caller, elapsed = 1e3 * np.array(spent[settle:]).T
    steps = ", ".join(f"{name} {1e3 * value / frames:.2f}" for name, value in front.clock.cpu.items())
    found = sum(particle.state == "tracked" for particle in front.particles())
    return (
        f"  {particles:3} ({found} followed), {threads} threads: processor {used.mean():6.2f}, least of four parts "
        f"{min(part.mean() for part in np.array_split(used, 4)):6.2f}, most in a frame {used.max():7.1f}; "
        f"caller {caller.mean():6.2f}; elapsed mean {elapsed.mean():6.2f}, p99 "
        f"{np.percentile(elapsed, 99):7.1f}\n      {steps}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1920)
    parser.add_argument("--columns", type=int, default=1792)
    parser.add_argument("--spacing", type=float, default=3.1, help="of the grid of poses, degrees")
    parser.add_argument("--particles", type=int, nargs="+", help="whole frames with so many, instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=256, help="of --particles")
    asked, rng = parser.parse_args(), np.random.default_rng(0)
    if asked.particles:
        print(f"whole frames of {asked.rows} x {asked.columns} px, uint16, through the front end; ms a frame")
        for count in asked.particles:
            print(whole_frames(asked.rows, asked.columns, count, asked.threads, asked.frames), flush=True)
        return
    found = [("a frame", frame_rows(asked.rows, asked.columns, rng))]
    found.append(("a particle in it", [*particle_rows(asked.rows, asked.columns, rng), chain_row(rng, asked.spacing)]))
    print(f"frames of {asked.rows} x {asked.columns} px, uint16; processor ms on the CPU, one thread")
    for title, lines in found:
        print(f"\n{title}")
        for name, spent, where in lines:
            print(f"  {name:42}{spent:9.3f}  {'stays on the host' if where == 'host' else 'to the GPU'}")


if __name__ == "__main__":
    main()
