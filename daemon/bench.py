"""`tumble bench`: how long every step of the path takes here, beside the least it could take.

A simulated crystal goes through decompression, front end and reconstruction in this process, without sockets; the
simulator's own time does not count. Processor time is given beside wall time: on a machine that does something else as
well, only that can be trusted. Latency is measured apart, with the whole program on the wire (`bench_wire`).
"""

from __future__ import annotations

import copy
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import __version__
from ..recon.clock import StepClock
from ..recon.device import Device, cpu, gpu, probe
from ..recon.frontend.frontend import FrontEnd, FrontEndOutput
from ..recon.particle import ParticleReconstruction, ReconstructionOptions
from ..stream.compression import prepare
from ..stream.encoded import encode_frame
from ..stream.simulator.scene import Scene
from .bench_model import CPU_CORE, GPU, Roof
from .bench_report import Report
from .bench_rows import LOOKS, SNAPSHOT_EVERY, Looks, Mark, Totals, launches, modelled, rows
from .bench_scene import BenchOptions, commit, load_average, make_scene, processor
from .bench_wire import measure_latency
from .errors import TumbleError
from .heap import keep_freed_memory
from .metering import Meter, Work, metered
from .particles import ParticleEntry
from .snapshot import SCHEMA_VERSION, Snapshot, StreamHealth
from .views import memory_MiB, particle_view


def run_bench(options: BenchOptions, say: Callable[[str], None] = lambda _: None) -> Report:
    """Run the built-in scene and measure.

    Raises
    ------
    TumbleError : the device does not work; no crystal was found or no map was made, so there is nothing to measure.
    """
    prepare()
    keep_freed_memory()  # as a worker does
    try:
        device = {"cpu": cpu, "cuda": gpu, "auto": probe}[options.device]()
    except RuntimeError as error:
        raise TumbleError(str(error)) from None
    load = load_average()
    say(f"{options.frames} frames of {options.size_px} x {options.size_px} px on {device.name}")
    with _compiling() as compiled:
        course = _Course(options, make_scene(options), device)
        course.run(say)
    return _report(options, course, device, compiled[0], load, say)


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
        self.first: Mark | None = None
        self.last: Mark | None = None
        self.maps = self.looks = 0
        self.wire_bytes = self.text_bytes = 0

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
        mark = Mark(self.totals(), done, self.frames, mapper.frames if mapper is not None else 0)
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
        with self.clock("status"):
            self.reconstruction.status()
        with self.clock("snapshot"):
            entry = ParticleEntry(self.front.particles()[0], self.reconstruction.status())
            view = particle_view(entry, self.front.pixel_size_A)
            moment = time.time()
            text = Snapshot(
                SCHEMA_VERSION, __version__, 1, moment, 0.0, "RUNNING", "", StreamHealth(), particles=(view,)
            ).to_json()
        self.text_bytes = len(text)

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


def _report(
    options: BenchOptions, course: _Course, device: Device, compiled_s: float, load: float, say: Callable[[str], None]
) -> Report:
    first, last, reconstruction = course.first, course.last, course.reconstruction
    mapper = None if reconstruction is None else reconstruction.mapper
    if reconstruction is None or mapper is None or first is None or last is None:
        note = "no particle was found" if reconstruction is None else reconstruction.status().note
        raise TumbleError(f"nothing to measure, no map was made: {note}; give more frames with --frames")
    roof = GPU if device.name != "cpu" else Roof(CPU_CORE.flops * device.threads, CPU_CORE.bytes * device.threads)
    status, end = reconstruction.status(), course.totals()
    finish = end["finish"]
    startup = {step: work for step, work in first.totals.items() if step not in LOOKS}
    streamed = last.observations - first.observations
    looks = Looks(end, course.looks, course.text_bytes)
    wire_bytes = course.wire_bytes / max(course.frames, 1)
    costs = modelled(
        reconstruction, mapper, course.front.particles()[0], options.size_px, wire_bytes,
        course.maps / max(streamed, 1), looks,
    )  # fmt: skip
    memory = memory_MiB()
    latency = measure_latency(options, say) if options.rate_hz > 0 else None
    return Report(
        date=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        commit=commit(),
        machine=processor(),
        cores=os.cpu_count() or 1,
        load=(load, load_average()),
        device=device.name,
        threads=device.threads,
        roof=roof,
        frames=options.frames,
        size_px=options.size_px,
        box_px=reconstruction.box_px,
        streamed=streamed,
        maps=course.maps,
        rows=tuple(rows(first, last, looks, costs, roof)),
        launches=tuple(launches(first, last)),
        first_map_frames=first.frames,
        first_map={step: (round(work.wall_s, 4), round(work.cpu_s, 4)) for step, work in startup.items()},
        finish_s=(round(finish.wall_s, 3), round(finish.cpu_s, 3)),
        compiled_s=round(compiled_s, 1),
        memory_MiB=memory,
        resolution_A=status.resolution_A,
        atoms=status.atoms,
        frames_used=status.frames_used,
        latency=latency,
    )


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
