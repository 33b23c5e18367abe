"""From what a bench run measured to the rows of its table."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from ..recon import branches
from ..recon.frontend.bands import sampling_for
from ..recon.frontend.options import FrontEndOptions
from ..recon.frontend.search import Searcher
from ..recon.frontend.tracking import crop_bins_for
from ..recon.mapper import Mapper
from ..recon.particle import ParticleReconstruction
from ..recon.records import TrackedParticle
from ..recon.rotations import GROUP_ORDER
from . import bench_model as model
from .bench_model import Cost, Roof
from .bench_report import FRAME_STEPS, STREAMING, Launch, Row
from .metering import Work

SNAPSHOT_EVERY = 100  # frames: four snapshots a second at 400 frames a second
LOOKS = ("status", "snapshot")
STARTUP = ("lattice constant", "bootstrap", "finish")  # told apart, in seconds
NOISE_SHARE = 0.25  # of the frames give empty boxes once there are plenty of them
Totals = dict[str, Work]


@dataclass(frozen=True, slots=True)
class Mark:
    """Totals of steps and of (step, kernel) at some moment; frames given in, particle-frames taken in by the mapper."""

    totals: Totals
    kernels: dict[tuple[str, str], Work]
    frames: int
    observations: int


@dataclass(frozen=True, slots=True)
class Looks:
    """What viewers got: totals of the steps that serve them, how many snapshots, bytes of the last one."""

    totals: Totals
    number: int
    text_bytes: int


def rows(first: Mark, last: Mark, looks: Looks, costs: dict[str, Cost], roof: Roof) -> Iterator[Row]:
    """One for every step, per frame between two marks; a step that nobody named here comes last."""
    frames, observations = last.frames - first.frames, last.observations - first.observations
    others = [step for step in last.totals if step not in (*STREAMING, *STARTUP)]
    for step in (*STREAMING, *others):
        work = Work()
        if step in LOOKS:  # measured as often as it happened, also after the last map
            work.add(looks.totals.get(step, Work()))
            share = SNAPSHOT_EVERY * max(looks.number, 1)
        else:
            work.add(last.totals.get(step, Work()))
            work.add(first.totals.get(step, Work()), -1)
            share = max(frames if step in (*FRAME_STEPS, "track", "box") else observations, 1)
        if step in others and work.cpu_s <= 0:
            continue
        cost = Cost(work.flops, work.bytes) * (1 / share) + costs.get(step, Cost())
        floor_ms = roof.floor_ms(cost.flops, cost.bytes)
        yield Row(step, 1e3 * work.wall_s / share, 1e3 * work.cpu_s / share, cost.bytes, cost.flops, floor_ms)


def launches(first: Mark, last: Mark) -> Iterator[Launch]:
    """Kernels of the streaming steps, by step."""
    share = max(last.observations - first.observations, 1)
    for (step, kernel), work in sorted(last.kernels.items()):
        work = copy.copy(work)
        work.add(first.kernels.get((step, kernel), Work()), -1)
        if work.launches:
            yield Launch(
                step or "make room", kernel, work.launches / share, 1e3 * work.wall_s / share, 1e3 * work.cpu_s / share,
                work.flops / share, work.bytes / share,
            )  # fmt: skip


def modelled(
    reconstruction: ParticleReconstruction,
    mapper: Mapper,
    tracked: TrackedParticle,
    size_px: int,
    wire_bytes: float,
    maps_per_frame: float,
    looks: Looks,
) -> dict[str, Cost]:
    """Cost per frame of the steps, or parts of them, that launch no kernel of a device."""
    options, box_px = reconstruction.options, reconstruction.box_px
    sampling, front = sampling_for(mapper.pixel_size_A), FrontEndOptions()
    crop_bins = crop_bins_for(tracked.diameter_A, size_px, size_px, sampling)
    costs = model.front_end(
        model.FrontEndSizes(
            frame_px=size_px,
            box_px=box_px,
            crop_px=crop_bins * sampling.bin_px,
            bin_px=sampling.bin_px,
            bands=len(sampling.bands),
            noise_boxes=NOISE_SHARE * front.noise_boxes,
            search_every=Searcher(size_px, size_px, sampling, front).every,
            wire_bytes=wire_bytes,
        )
    )
    poses, shifts, coefficients = mapper.search_size
    turns = 1 + options.lag_frames / options.batch_frames  # how often a frame is decided
    often = 1 / SNAPSHOT_EVERY
    return costs | {
        "index": model.search(poses, shifts, coefficients, options.batch_frames),
        "decide": model.decisions(branches.CANDIDATES * GROUP_ORDER, turns),
        "atoms": model.atoms(box_px) * maps_per_frame,
        "status": model.status(mapper.buffer.length, box_px) * often,
        "snapshot": model.snapshot(looks.text_bytes, box_px) * often,
    }
