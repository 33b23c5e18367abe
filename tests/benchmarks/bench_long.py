"""Whether a frame costs at 100 000 frames what it cost at 1 000, in time and in memory: one particle, fresh boxes.

Run it by hand: ``python tests/benchmarks/bench_long.py [--frames 100000] [--lines FILE.jsonl] [--summary FILE.md]``.
A line is written for every thousand frames, so that a run that is stopped is not lost; ``--fit FILE.jsonl`` prints the
slopes of what is there. One thread, processor time; making the boxes does not count.

The boxes show a small crystal that goes on tumbling, projected exactly, in fresh white noise. Other work on the machine
changes what a frame costs (caches, clock rate), and does so slowly, as a slope would. So a yardstick, the same kernels
and transforms on the same data, is timed with every thousand frames; slopes are given of the cost, and of the cost at
the same yardstick, from a fit of both at once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tumble.recon.device import Device, cpu
from tumble.recon.geometry import box_size_px, half_plane
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.records import NoiseSpectrum, Observation
from tumble.recon.rotations import from_rotation_vector, multiply, random_rotations, to_matrix
from tumble.recon.spectra import noise_from_boxes
from tumble.recon.volume import PAD, Grid

Floats = NDArray[np.float64]
HERE = Path(__file__).resolve().parent
DIAMETER_A, PIXEL_A, CONTRAST = 19.0, 0.42, 12.0
STEP_DEG, TRACKING_PX = 2.5, 0.6  # per frame and axis; error of the track per axis
ATOM_PX, LENS_PX = 0.45 / PIXEL_A, 1.0 / PIXEL_A
EVERY, CHUNK = 1000, 50  # frames of a line, frames made at once
FIRST, FULL = 1000, 3000  # frames: the first map is made before the one, the buffer is full before the other
COLUMNS = ("cpu_ms", "yardstick_ms", "resident_MiB")
PAGE_MiB = os.sysconf("SC_PAGE_SIZE") / 2**20


def beside(path: Path) -> Any:
    """A module by its path: the tests are no package."""
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tumbler:
    """Boxes of a crystal that tumbles for ever; what was shown is forgotten but for the pose it has now."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.box_px = box_size_px(DIAMETER_A, PIXEL_A)
        synthetic = beside(HERE.parent / "recon" / "synthetic.py")
        self.atoms_px = (synthetic.fcc_crystal(diameter_A=DIAMETER_A) / PIXEL_A).astype(np.float32)
        self.pose = random_rotations(1, self.rng)[0]
        self.frame = 0

    def noise(self) -> NoiseSpectrum:
        """Of boxes without the crystal."""
        return noise_from_boxes(self._white(400))

    def _white(self, count: int) -> NDArray[np.float32]:
        return self.rng.standard_normal((count, self.box_px, self.box_px), np.float32)

    def next(self, count: int) -> tuple[list[Observation], Floats]:
        """The next boxes, and the true poses (count, 4)."""
        poses = np.empty((count, 4))
        for t, turn in enumerate(from_rotation_vector(self.rng.normal(0, math.radians(STEP_DEG), (count, 3)))):
            self.pose = poses[t] = multiply(turn, self.pose)
        at = self.rng.normal(0, TRACKING_PX, (count, 2)).astype(np.float32)
        boxes = self._white(count) + np.float32(CONTRAST) * self._project(poses, at)
        half, first = self.box_px // 2, self.frame
        self.frame += count
        seen = [
            Observation(1, first + t, 0.0025 * (first + t), boxes[t], (100 - half, 100 - half), (100.0, 100.0), 0.6)
            for t in range(count)
        ]
        return seen, poses

    def _project(self, poses: Floats, at: NDArray[np.float32]) -> NDArray[np.float32]:
        """Gaussian atoms seen in `poses`, less a wider Gaussian: a lens passes little of the low frequencies."""
        views = to_matrix(poses)[:, :2].astype(np.float32)
        place = np.einsum("tij,nj->tin", views, self.atoms_px) + at[:, :, None] + self.box_px // 2
        line = np.arange(self.box_px, dtype=np.float32)
        image = np.zeros((len(poses), self.box_px, self.box_px), np.float32)
        for sigma, sign in ((ATOM_PX, 1.0), (LENS_PX, -1.0)):
            x, y = (np.exp(-0.5 * ((line[:, None] - place[:, i, None, :]) / sigma) ** 2) for i in (0, 1))
            image += np.float32(sign / (2 * np.pi * sigma**2)) * (y @ x.swapaxes(1, 2))
        return image


class Yardstick:
    """The same work every time; its processor time says how fast the machine is at the moment."""

    def __init__(self, device: Device, box_px: int) -> None:
        rng = np.random.default_rng(1)
        plane, grid = half_plane(box_px, 24), Grid(box_px, 24)
        volume = rng.standard_normal((*(grid.edge,) * 3, 2)).astype(np.float32)
        turns = to_matrix(random_rotations(300, rng)).astype(np.float32)
        cube = rng.standard_normal((96, 96, 96)).astype(np.float32)

        def work() -> None:
            for _ in range(4):
                device.kernels.slice_volume(volume, PAD, turns, plane.kx, plane.ky, len(plane.kx))
                device.rfftn(cube)

        self._work: Callable[[], None] = work
        work()

    def ms(self) -> float:
        """Processor time, ms."""
        began = time.process_time()
        self._work()
        return 1e3 * (time.process_time() - began)


def resident_MiB() -> float:
    """Memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MiB


@dataclass
class Course:
    """One particle fed for as long as it takes; `line` tells of the frames since the last one."""

    options: ReconstructionOptions
    seed: int = 0
    cpu_s: float = 0.0
    truth: dict[int, Floats] = field(default_factory=dict)  # of frames that have not left the buffer
    offsets: list[Floats] = field(default_factory=list)  # found against true, of frames that have

    def __post_init__(self) -> None:
        self.tumbler, self.device = Tumbler(self.seed), cpu(1)
        spectrum = self.tumbler.noise()
        self.particle = ParticleReconstruction(
            1, PIXEL_A, DIAMETER_A, lambda: spectrum, self.options, self.device
        )  # fmt: skip
        self.yardstick = Yardstick(self.device, self.tumbler.box_px)
        self.steps: dict[str, float] = {}

    def feed(self, count: int) -> None:
        """Make `count` boxes, push them and do all work that is due, and look at the state as a viewer would."""
        boxes, poses = self.tumbler.next(count)
        self.truth |= {box.frame: pose for box, pose in zip(boxes, poses, strict=True)}
        began = time.process_time()
        for box in boxes:
            self.particle.push(box)
        while self.particle.work():
            pass
        self.particle.status()
        rows = self.particle.drain_poses()
        self.cpu_s += time.process_time() - began
        for row in rows:
            true = self.truth.pop(row.frame)
            if row.used:
                found = np.array(row.quaternion)
                self.offsets.append(multiply(true * np.array([1, -1, -1, -1]), found))

    def line(self, before_s: float, frames: int) -> dict[str, Any]:
        """What the last `frames` cost, and how things stand."""
        status, mapper = self.particle.status(), self.particle.mapper
        assert mapper is not None
        now = dict(mapper.clock.cpu)
        steps = {step: round(1e3 * (spent - self.steps.get(step, 0.0)) / frames, 4) for step, spent in now.items()}
        self.steps = now
        offsets, self.offsets = np.array(self.offsets).reshape(-1, 4), []
        return {
            "frame": self.tumbler.frame,
            "cpu_ms": round(1e3 * (self.cpu_s - before_s) / frames, 4),
            "yardstick_ms": round(float(np.median([self.yardstick.ms() for _ in range(3)])), 3),
            "resident_MiB": round(resident_MiB(), 2),
            "buffer": mapper.buffer.length,
            "used": round(status.frames_used / max(status.frames_seen, 1), 4),
            "resolution_A": None if status.resolution_A is None else round(status.resolution_A, 3),
            "atoms": status.atoms,
            "together": together(offsets),
            "steps": steps,
        }


def together(offsets: Floats) -> float | None:
    """Share of poses that are off the truth by one and the same rotation, within 8 degrees."""
    if len(offsets) == 0:
        return None
    near = np.abs(offsets @ offsets[:: max(1, len(offsets) // 200)].T) > math.cos(math.radians(4.0))
    return round(float(near.mean(axis=0).max()), 4)


def run(frames: int, options: ReconstructionOptions, every: int = EVERY, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Feed `frames`; a line for `every` of them."""
    course = Course(options, seed)
    while course.tumbler.frame < frames:
        before = course.cpu_s
        for _ in range(every // CHUNK):
            course.feed(CHUNK)
        yield course.line(before, every)


@dataclass(frozen=True)
class Slope:
    """A straight line through values: `mean`, change over 100 000 frames and the standard error of that change."""

    mean: float
    change: float
    error: float

    @property
    def words(self) -> str:
        """As it is printed."""
        share = 100 / self.mean
        relative = f"({share * self.change:+.2f} +- {share * self.error:.2f} %)"
        return f"{self.mean:9.3f}{self.change:12.3f} +- {self.error:.3f} {relative}"


def slope(frame: Any, values: Any, beside: Any = None) -> Slope:
    """Least squares; with `beside` the change at the same value of it, from a fit of both at once.

    The error allows for neighbours that resemble each other (lag-one correlation of what is left).
    """
    x, y = np.asarray(frame, float) / 1e5, np.asarray(values, float)
    known = [np.ones(len(x))] + ([] if beside is None else [np.asarray(beside, float)])
    basis = np.linalg.qr(np.stack(known, axis=1))[0]
    offset, rise = x - basis @ (basis.T @ x), y - basis @ (basis.T @ y)
    spread = float(offset @ offset)
    change = float(offset @ rise) / spread
    left = rise - change * offset
    alike = max(0.0, float(left[1:] @ left[:-1]) / max(float(left @ left), 1e-30))
    error = math.sqrt(float(left @ left) / (len(x) - 1 - len(known)) / spread * (1 + alike) / (1 - alike))
    return Slope(float(y.mean()), change, error)


def slopes(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Straight lines through cost and memory."""
    frame = [line["frame"] for line in lines]
    cost, stick, memory = (np.array([line[key] for line in lines]) for key in COLUMNS)
    yield f"{f'frames {frame[0] - EVERY} to {frame[-1]}':28}{'mean':>9}    change over 100 000 frames"
    yield f"{'CPU ms per frame':28}{slope(frame, cost).words}"
    yield f"{'yardstick, ms (the machine)':28}{slope(frame, stick).words}"
    yield f"{'CPU, at the same yardstick':28}{slope(frame, cost, stick).words}"
    yield f"{'resident memory, MiB':28}{slope(frame, memory).words}"


def report(lines: list[dict[str, Any]]) -> str:
    """Slopes from `FIRST` and from `FULL` frames on, and a table of ten stretches.

    Raises
    ------
    ValueError : too few lines for a slope.
    """
    kept = [line for line in lines if line["frame"] - EVERY >= FIRST]
    if len(kept) < 4:
        raise ValueError(
            f"{len(kept)} lines after frame {FIRST}: a slope needs 4, run at least {FIRST + 4 * EVERY} frames"
        )
    cost, stick, memory = (np.array([line[key] for line in kept]) for key in COLUMNS)
    words = [*slopes(kept), ""]
    if len(full := [line for line in kept if line["frame"] - EVERY >= FULL]) >= 4:
        words += [*slopes(full), ""]
    words.append("frames              CPU ms  yardstick   memory, MiB   used  together  resolution  atoms")
    for part in np.array_split(np.arange(len(kept)), min(10, len(kept))):
        some, last = [kept[i] for i in part], kept[part[-1]]
        alike = [line["together"] for line in some if line["together"] is not None]
        words.append(
            f"{some[0]['frame'] - EVERY:6d} to {last['frame']:6d} {cost[part].mean():9.3f}{stick[part].mean():11.2f}"
            f"{memory[part].max():14.1f}{last['used']:7.3f}"
            f"{np.mean(alike) if alike else math.nan:10.3f}{last['resolution_A'] or math.nan:12.3f}"
            f"{last['atoms'] or 0:7d}"
        )
    steps = sorted({step for line in kept for step in line["steps"]})
    early, late = kept[: max(1, len(kept) // 5)], kept[-max(1, len(kept) // 5) :]
    words += ["", f"CPU ms per frame    first fifth  last fifth   ({len(early)} lines each)"]
    for step in steps:
        a, b = (float(np.mean([line["steps"].get(step, 0.0) for line in some])) for some in (early, late))
        if max(a, b) > 0.0005:
            words.append(f"  {step:18}{a:11.3f}{b:12.3f}")
    return "\n".join(words)


def head(options: ReconstructionOptions) -> str:
    """On what and when."""
    call = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    machine = model[0].split(":")[1].strip() if model else platform.machine()
    return (
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, commit {commit}, Python {platform.python_version()}\n"
        f"{machine}, one thread, load {os.getloadavg()[0]:.1f}\n"
        f"crystal of {DIAMETER_A:g} A, boxes of {box_size_px(DIAMETER_A, PIXEL_A)} px, {STEP_DEG:g} deg per frame and "
        f"axis; buffer of {options.buffer_frames} frames"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--buffer", type=int, default=ReconstructionOptions().buffer_frames, help="frames")
    parser.add_argument("--lines", type=Path, default=Path("long-run.jsonl"), help="a line for every thousand frames")
    parser.add_argument("--summary", type=Path, help="write what is printed at the end to this file too")
    parser.add_argument("--fit", type=Path, help="only print the slopes of the lines of an earlier run")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.fit:
        print(report([json.loads(line) for line in given.fit.read_text().splitlines()]))
        return
    numba.set_num_threads(1)
    threadpool_limits(1)
    options = ReconstructionOptions(buffer_frames=given.buffer)
    words, lines = head(options), []
    print(words, flush=True)
    with given.lines.open("w", encoding="utf-8") as file:
        for line in run(given.frames, options, seed=given.seed):
            lines.append(line)
            print(json.dumps(line), file=file, flush=True)
            print(
                f"{line['frame']:7d}  {line['cpu_ms']:8.3f} ms  yardstick {line['yardstick_ms']:6.1f} ms  "
                f"{line['resident_MiB']:7.1f} MiB  {line['resolution_A']} A  {line['atoms']} atoms  "
                f"used {line['used']}",
                flush=True,
            )
    text = f"{words}\n\n{report(lines)}"
    print(f"\n{text}")
    if given.summary:
        given.summary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
