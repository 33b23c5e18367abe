"""Processor time of what the front end does to a large frame and to a particle in it: a table, by hand.

``python tests/benchmarks/bench_frames.py [--rows 1920 --columns 1792]``, one thread, the least of several runs. What a
GPU would take over (`frontend.device`) is told apart from what stays on the host; nothing is measured on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tumble.recon.device import cpu
from tumble.recon.frontend.bands import MapMaker, sampling_for
from tumble.recon.frontend.boxes import contrasts, cut_boxes
from tumble.recon.frontend.correction import Calibration, Corrector
from tumble.recon.frontend.followers import Followers
from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.frontend.search import Searcher
from tumble.recon.frontend.tracking import Background, CropTracker, State, Track, crop_bins_for
from tumble.recon.kernels import pixels_cpu
from tumble.recon.lattice import grid_posterior, pose_grid

PIXEL_A, DIAMETER_A, BOX_PX, COUNTS = 0.358, 24.0, 96, 2.0


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
    tables = Calibration(rng.uniform(0, 1, shape), rng.uniform(0.8, 1.2, shape), rng.random(shape) < 1e-4)
    corrector, maker = Corrector(rows, columns, tables), MapMaker(rows, columns, sampling)
    every = Searcher(rows, columns, sampling, FrontEndOptions()).every
    field = contrasts(device, data, [(0, 0)], shape, [COUNTS])
    looked = least_ms(lambda _: contrasts(device, data, [(0, 0)], shape, [COUNTS]), 5)
    looked += least_ms(lambda _: maker.maps(field), 2)
    return [
        ("copy, kept or to the GPU", least_ms(lambda _: np.copyto(kept, data), 9), "host"),
        ("levels", least_ms(lambda _: pixels_cpu.levels(data, 65535), 9), "GPU"),
        ("dark, gain, bad pixels", least_ms(lambda _: corrector.apply(data, real), 9), "GPU"),
        (f"search, one frame in {every}", looked / every, "GPU"),
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
        followers.tracks[0].history = [State(i, middle, np.eye(2), 0.02) for i in range(states)]

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1920)
    parser.add_argument("--columns", type=int, default=1792)
    parser.add_argument("--spacing", type=float, default=3.1, help="of the grid of poses, degrees")
    asked, rng = parser.parse_args(), np.random.default_rng(0)
    found = [("a frame", frame_rows(asked.rows, asked.columns, rng))]
    found.append(("a particle in it", [*particle_rows(asked.rows, asked.columns, rng), chain_row(rng, asked.spacing)]))
    print(f"frames of {asked.rows} x {asked.columns} px, uint16; processor ms on the CPU, one thread")
    for title, lines in found:
        print(f"\n{title}")
        for name, spent, where in lines:
            print(f"  {name:42}{spent:9.3f}  {'stays on the host' if where == 'host' else 'to the GPU'}")


if __name__ == "__main__":
    main()
