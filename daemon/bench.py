"""`tumble bench`: how long every step of the path takes here, beside the least it could take.

A simulated crystal goes through decompression, front end and reconstruction in this process, without sockets; the
simulator's own time does not count. Processor time is given beside wall time: on a machine that does something else as
well, only that can be trusted.
"""

from __future__ import annotations

import copy
import datetime as dt
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..recon import branches
from ..recon.clock import StepClock
from ..recon.device import Device, cpu, gpu, probe
from ..recon.frontend.frontend import FrontEnd, FrontEndOutput
from ..recon.particle import ParticleReconstruction, ReconstructionOptions
from ..recon.rotations import GROUP_ORDER
from ..stream.compression import prepare
from ..stream.encoded import encode_frame
from ..stream.simulator.crystal import wulff_crystal
from ..stream.simulator.options import SceneOptions
from ..stream.simulator.presets import ROUGH
from ..stream.simulator.scene import Scene
from .bench_report import STREAMING, Launch, Report, Roof, Row
from .errors import TumbleError
from .metering import CHAIN_FLOPS, Meter, Work, metered
from .pipeline import ParticleEntry
from .snapshot import SCHEMA_VERSION, Snapshot, StreamHealth
from .views import memory_MiB, particle_view

SNAPSHOT_EVERY = 100  # frames: four snapshots a second at 400 frames a second
CPU_CORE = Roof(flops=50e9, bytes=10e9)  # 0.25 GFlop in 2.5 ms on two cores
GPU = Roof(flops=67e12, bytes=4.8e12)  # NVIDIA H200 data sheet: float32 without tensor cores, memory
LOOKS = ("metrics", "snapshot")
FRAME_STEPS = ("decode", "check", "keep", "detect", "track", "noise", "box")
Totals = dict[str, Work]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is run: one rough Pt crystal of 2.3 nm, which gets boxes of 96 px."""

    frames: int = 830
    atoms: int = 410
    size_px: int = 256
    bootstrap_frames: int = 400
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class _Mark:
    """Totals of steps and of (step, kernel) at some moment; frames given in, particle-frames taken in by the mapper."""

    totals: Totals
    kernels: dict[tuple[str, str], Work]
    frames: int
    observations: int


def run_bench(options: BenchOptions, say: Callable[[str], None] = lambda _: None) -> Report:
    """Run the built-in scene and measure.

    Raises
    ------
    TumbleError : the device does not work; no crystal was found or no map was made, so there is nothing to measure.
    """
    prepare()
    try:
        device = {"cpu": cpu, "cuda": gpu, "auto": probe}[options.device]()
    except RuntimeError as error:
        raise TumbleError(str(error)) from None
    scene = Scene(
        (wulff_crystal("Pt", options.atoms, **ROUGH, seed=options.seed),),
        SceneOptions(
            frames=options.frames, height_px=options.size_px, width_px=options.size_px,
            homes_px=((0.336 * options.size_px, 0.46 * options.size_px),), seed=options.seed,
        ),
    )  # fmt: skip
    say(f"{options.frames} frames of {options.size_px} x {options.size_px} px on {device.name}")
    load = os.getloadavg()[0]
    with _compiling() as compiled:
        course = _Course(options, scene, device)
        course.run(say)
    return _report(options, course, device, compiled[0], load)


class _Course:
    """One run through the path, with the totals at the first and at the last map of the stream."""

    def __init__(self, options: BenchOptions, scene: Scene, device: Device) -> None:
        self.options, self.scene = options, scene
        self.meter, self.clock = Meter(), StepClock()
        if device.xp is not np:
            self.meter.wait = device.xp.cuda.Device().synchronize
        self.device = metered(device, self.meter)
        self.front = FrontEnd(options.size_px, options.size_px, scene.start.pixel_size_A or 1.0)
        self.reconstruction: ParticleReconstruction | None = None
        self.frames = 0
        self.first: _Mark | None = None
        self.last: _Mark | None = None
        self.maps = self.looks = 0
        self.wire_bytes = 0

    def run(self, say: Callable[[str], None]) -> None:
        """Every frame, then the end of the series."""
        out = np.empty((self.options.size_px,) * 2, np.uint16)
        for index in range(len(self.scene)):
            encoded = encode_frame(self.scene.frame(index), "bslz4")
            self.wire_bytes += len(encoded.blob)
            with self.clock("decode"):
                frame = encoded.decode(out)
            self.frames += 1
            self._digest(self.front.step(index, frame.time_s, frame.data), say)
            if self.first is not None and self.frames % SNAPSHOT_EVERY == 0:
                self._look()
        if self.first is not None and self.last is None:
            self._mark_map(say)  # too short for a second map: what there was of streaming
        self._digest(self.front.flush(), say)
        if self.reconstruction is not None:
            say("end of the series")
            with self.clock("finish"):
                self.reconstruction.finish()
            self._look()

    def _digest(self, output: FrontEndOutput, say: Callable[[str], None]) -> None:
        if self.reconstruction is None and self.front.particles():
            self.reconstruction = self._meet()
        reconstruction = self.reconstruction
        if reconstruction is None:
            return
        for observation in output.observations:
            if observation.particle == reconstruction.particle:
                reconstruction.push(observation)
        before = self._published()
        while reconstruction.work():
            if self._published() is not before:
                before = self._published()
                self._mark_map(say)

    def _meet(self) -> ParticleReconstruction:
        tracked = self.front.particles()[0]
        options = ReconstructionOptions(bootstrap_frames=self.options.bootstrap_frames)
        made = ParticleReconstruction(
            tracked.particle, self.front.pixel_size_A, tracked.diameter_A,
            lambda: self.front.noise(made.box_px), options, self.device,
        )  # fmt: skip
        if made.mapper is not None:
            clock = made.mapper.clock
            self.meter.step = lambda: clock.step
            clock.wait = self.meter.wait
        return made

    def _published(self) -> object:
        mapper = self.reconstruction.mapper if self.reconstruction is not None else None
        return None if mapper is None else mapper.published

    def _mark_map(self, say: Callable[[str], None]) -> None:
        mapper = self.reconstruction.mapper if self.reconstruction is not None else None
        done = copy.deepcopy(self.meter.done)
        mark = _Mark(self.totals(), done, self.frames, mapper.frames if mapper is not None else 0)
        if self.first is None:
            self.first = mark
            say(f"first map after {mark.frames} frames")
        else:
            self.last, self.maps = mark, self.maps + 1
            say(f"map {self.maps + 1} after {mark.frames} frames")

    def _look(self) -> None:
        """What a viewer costs."""
        if self.reconstruction is None:
            return
        self.looks += 1
        with self.clock("metrics"):
            self.reconstruction.status()
        with self.clock("snapshot"):
            entry = ParticleEntry(self.front.particles()[0], self.reconstruction)
            view = particle_view(entry, self.front.pixel_size_A)
            moment = time.time()
            Snapshot(
                SCHEMA_VERSION, __version__, 1, moment, 0.0, "RUNNING", "", StreamHealth(), particles=(view,)
            ).to_json()

    def totals(self) -> Totals:
        """Work of every step so far; insertions count as a step of their own, wherever they were made."""
        out: Totals = {}
        mapper = self.reconstruction.mapper if self.reconstruction is not None else None
        for clock in (self.clock, self.front.clock, *((mapper.clock,) if mapper is not None else ())):
            for step, wall in clock.wall.items():
                out[step] = Work(wall, clock.cpu[step])
        for (step, kernel), work in self.meter.done.items():
            if kernel == "insert_poses":
                out.setdefault("insert", Work()).add(work)
                if step:
                    out[step].add(Work(work.wall_s, work.cpu_s), -1)
            elif step in out:
                out[step].add(Work(0.0, 0.0, work.flops, work.bytes, work.launches))
        return copy.deepcopy(out)


def _report(options: BenchOptions, course: _Course, device: Device, compiled_s: float, load: float) -> Report:
    first, last, reconstruction = course.first, course.last, course.reconstruction
    if reconstruction is None or reconstruction.mapper is None or first is None or last is None:
        note = "no particle was found" if reconstruction is None else reconstruction.status().note
        raise TumbleError(f"nothing to measure, no map was made: {note}; give more frames with --frames")
    roof = GPU if device.name != "cpu" else Roof(CPU_CORE.flops * device.threads, CPU_CORE.bytes * device.threads)
    status, end = reconstruction.status(), course.totals()
    finish = end["finish"]
    startup = {step: work for step, work in first.totals.items() if step not in LOOKS}
    return Report(
        date=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        commit=_commit(),
        machine=_processor(),
        cores=os.cpu_count() or 1,
        load=(round(load, 2), round(os.getloadavg()[0], 2)),
        device=device.name,
        threads=device.threads,
        roof=roof,
        frames=options.frames,
        size_px=options.size_px,
        box_px=reconstruction.box_px,
        streamed=last.observations - first.observations,
        maps=course.maps,
        rows=tuple(_rows(course, first, last, roof)),
        launches=tuple(_launches(first, last)),
        first_map_frames=first.frames,
        first_map={step: (round(work.wall_s, 4), round(work.cpu_s, 4)) for step, work in startup.items()},
        finish_s=(round(finish.wall_s, 3), round(finish.cpu_s, 3)),
        compiled_s=round(compiled_s, 1),
        memory_MiB=memory_MiB(),
        resolution_A=status.resolution_A,
        atoms=status.atoms,
        frames_used=status.frames_used,
    )


def _rows(course: _Course, first: _Mark, last: _Mark, roof: Roof) -> Iterator[Row]:
    frames, observations = last.frames - first.frames, last.observations - first.observations
    models, looks = _modelled(course), course.totals()
    for step in STREAMING:
        work = Work()
        if step in LOOKS:  # measured as often as it happened, also after the last map
            work.add(looks.get(step, Work()))
            share = SNAPSHOT_EVERY * max(course.looks, 1)
        else:
            work.add(last.totals.get(step, Work()))
            work.add(first.totals.get(step, Work()), -1)
            share = max(frames if step in FRAME_STEPS else observations, 1)
        flops, moved = models.get(step, (0.0, 0.0))
        flops, moved = work.flops / share + flops, work.bytes / share + moved
        yield Row(step, 1e3 * work.wall_s / share, 1e3 * work.cpu_s / share, moved, flops, roof.floor_ms(flops, moved))


def _launches(first: _Mark, last: _Mark) -> Iterator[Launch]:
    """Kernels of the streaming steps, by step."""
    share = max(last.observations - first.observations, 1)
    for (step, kernel), work in sorted(last.kernels.items()):
        work = copy.copy(work)
        work.add(first.kernels.get((step, kernel), Work()), -1)
        if work.launches:
            yield Launch(
                step or "make room", kernel, work.launches / share, 1e3 * work.wall_s / share, 1e3 * work.cpu_s / share,
                work.flops / share,
            )  # fmt: skip


def _modelled(course: _Course) -> dict[str, tuple[float, float]]:
    """Operations and bytes per frame of the steps that launch no kernel."""
    raw = 2.0 * course.options.size_px**2
    out = dict.fromkeys(("check", "detect", "track", "noise"), (0.0, raw))  # a frame once through memory per stage
    out["decode"] = (0.0, raw + course.wire_bytes / max(course.frames, 1))
    out["keep"] = (0.0, 2 * raw)
    mapper = course.reconstruction.mapper if course.reconstruction is not None else None
    if mapper is None or mapper.published is None or course.reconstruction is None:
        return out
    out["box"] = (0.0, 6.0 * course.reconstruction.box_px**2)
    poses, shifts, coefficients = mapper.search_size
    options = course.reconstruction.options
    out["index"] = (
        2.0 * poses * shifts * coefficients,
        4.0 * poses * coefficients / options.batch_frames + 5.0 * poses,
    )
    states = branches.CANDIDATES * GROUP_ORDER
    turns = 1 + options.lag_frames / options.batch_frames  # how often a frame is decided
    out["decide"] = (CHAIN_FLOPS * states**2 * turns, 4.0 * states**2 * turns)
    return out


@contextmanager
def _compiling() -> Iterator[list[float]]:
    """Seconds that numba spent on compiling, in the first element: next to nothing when its cache is warm."""
    from numba.core import event

    class Listener(event.Listener):
        depth, began = 0, 0.0

        def on_start(self, event: Any) -> None:
            del event
            self.began = time.perf_counter() if self.depth == 0 else self.began
            self.depth += 1

        def on_end(self, event: Any) -> None:
            del event
            self.depth -= 1
            total[0] += time.perf_counter() - self.began if self.depth == 0 else 0.0

    total = [0.0]
    with event.install_listener("numba:compile", Listener()):
        yield total


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Of the checkout this runs from; empty when it is installed."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
