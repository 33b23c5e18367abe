"""A device that counts: every kernel and FFT that the reconstruction launches, its time, and its cost by the model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any, cast

import numpy as np

from ..recon.device import Device
from . import bench_model as model
from .bench_model import Cost


@dataclass(slots=True)
class Work:
    """What was done in a step: seconds of wall and processor time, operations, bytes, launches."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    launches: int = 0

    def add(self, other: Work, sign: int = 1) -> None:
        """Add another (or subtract it, with `sign` -1)."""
        self.wall_s += sign * other.wall_s
        self.cpu_s += sign * other.cpu_s
        self.flops += sign * other.flops
        self.bytes += sign * other.bytes
        self.launches += sign * other.launches


@dataclass(slots=True, eq=False)
class Meter:
    """Work of kernels per (step, kernel); `step` says which step is going on."""

    step: Callable[[], str] = lambda: ""
    wait: Callable[[], object] = lambda: None
    done: dict[tuple[str, str], Work] = field(default_factory=dict)

    def run(self, name: str, cost: Cost, launch: Callable[[], Any]) -> Any:
        """Launch, time and book."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = launch()
        self.wait()
        spent = Work(time.perf_counter() - wall, time.process_time() - cpu, cost.flops, cost.bytes, 1)
        self.done.setdefault((self.step(), name), Work()).add(spent)
        return result


def metered(device: Device, meter: Meter) -> Device:
    """The same device, with every kernel and FFT booked in `meter`."""
    values = {item.name: getattr(device, item.name) for item in fields(device)}
    values["kernels"] = cast("ModuleType", _Kernels(device.kernels, meter))
    return _MeteredDevice(**values, device=device, meter=meter)


class _Kernels:
    """Twin of the kernel module."""

    def __init__(self, kernels: ModuleType, meter: Meter) -> None:
        self._kernels, self._meter = kernels, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)  # what has no model passes unseen

    def slice_volume(self, volume: Any, pad: float, rotations: Any, kx: Any, ky: Any, count: int) -> Any:
        return self._meter.run(
            "slice_volume", model.slices(len(rotations), count, volume.nbytes),
            lambda: self._kernels.slice_volume(volume, pad, rotations, kx, ky, count),
        )  # fmt: skip

    def score_pairs(self, volume: Any, pad: float, frames: Any, rotations: Any, *rest: Any) -> Any:
        poses = rotations.shape[0] * rotations.shape[1]
        return self._meter.run(
            "score_pairs", model.scores(poses, len(frames), rest[5], volume.nbytes),
            lambda: self._kernels.score_pairs(volume, pad, frames, rotations, *rest),
        )  # fmt: skip

    def refine_poses(self, volume: Any, pad: int, frames: Any, *rest: Any) -> Any:
        count, rounds, rows = rest[6], rest[8], len(np.unique(_host(frames)))
        return self._meter.run(
            "refine_poses", model.refinements(len(frames), rows, count, rounds, volume.nbytes),
            lambda: self._kernels.refine_poses(volume, pad, frames, *rest),
        )  # fmt: skip

    def insert_poses(self, numerators: Any, denominators: Any, target: Any, pad: int, frames: Any, *rest: Any) -> None:
        self._meter.run(
            "insert_poses", model.insertions(len(frames), rest[7], numerators.nbytes + denominators.nbytes),
            lambda: self._kernels.insert_poses(numerators, denominators, target, pad, frames, *rest),
        )  # fmt: skip


def _host(array: Any) -> Any:
    return array if isinstance(array, np.ndarray) else array.get()


@dataclass(frozen=True, slots=True, eq=False)
class _MeteredDevice(Device):
    """Twin of a device."""

    device: Device | None = None
    meter: Meter = field(default_factory=Meter)

    def rfftn(self, array: Any) -> Any:
        return self._fft(array.shape, 1, lambda: self._inner.rfftn(array))

    def irfftn(self, array: Any, shape: tuple[int, ...]) -> Any:
        return self._fft(shape, 1, lambda: self._inner.irfftn(array, shape))

    def fft2(self, array: Any) -> Any:
        return self._fft(array.shape[-2:], math.prod(array.shape[:-2]), lambda: self._inner.fft2(array))

    def fft(self, array: Any, axis: int) -> Any:
        return self._lines(array.shape, axis, lambda: self._inner.fft(array, axis))

    def ifft(self, array: Any, axis: int) -> Any:
        return self._lines(array.shape, axis, lambda: self._inner.ifft(array, axis))

    def rfft(self, array: Any, axis: int) -> Any:
        return self._lines(array.shape, axis, lambda: self._inner.rfft(array, axis), real=True)

    def irfft(self, array: Any, length: int, axis: int) -> Any:
        shape = list(array.shape)
        shape[axis] = length
        return self._lines(tuple(shape), axis, lambda: self._inner.irfft(array, length, axis), real=True)

    @property
    def _inner(self) -> Device:
        if self.device is None:
            raise TypeError("a metered device needs the device that does the work")
        return self.device

    def _fft(self, shape: tuple[int, ...], howmany: int, launch: Callable[[], Any]) -> Any:
        return self.meter.run("fft", model.transform(shape, howmany), launch)

    def _lines(self, shape: tuple[int, ...], axis: int, launch: Callable[[], Any], *, real: bool = False) -> Any:
        return self.meter.run("fft", model.lines(shape, axis, real=real), launch)
