"""From the records of the reconstruction to what an operator sees: plain numbers, finite, of bounded size."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..recon.records import ParticleStatus
from .pipeline import ParticleEntry, particle_name
from .snapshot import ParticleView

SLICE_PX = 64  # a slice is thinned to at most this many pixels a side


def particle_view(entry: ParticleEntry, pixel_size_A: float) -> ParticleView:
    """The particle of `entry` for a snapshot. `pixel_size_A` is the sampling of its central slice."""
    status = entry.status()
    gone = entry.tracked.state != "tracked" and status.state not in ("DONE", "FAILED")
    picture, width_A = _slice(status.slice_xy, pixel_size_A)
    keep = [number for number, value in enumerate(status.fsc) if math.isfinite(value)]
    return ParticleView(
        name=particle_name(status.particle),
        state="LOST" if gone else status.state,
        centre_px=(round(float(entry.tracked.centre_px[0]), 2), round(float(entry.tracked.centre_px[1]), 2)),
        diameter_A=round(float(entry.tracked.diameter_A), 2),
        frames_seen=int(status.frames_seen),
        frames_used=int(status.frames_used),
        frames_rejected={str(reason): int(count) for reason, count in sorted(status.frames_rejected.items())},
        frames_in_flight=int(status.frames_in_flight),
        lattice_constant_A=finite(status.lattice_constant_A),
        step_deg=finite(status.step_deg),
        resolution_A=finite(status.resolution_A),
        resolution_trend=tuple((int(used), float(resolution)) for used, resolution in entry.trend),
        fsc_k=tuple(round(float(status.fsc_k[number]), 5) for number in keep),
        fsc=tuple(round(float(status.fsc[number]), 4) for number in keep),
        coverage=tuple(int(count) for count in status.coverage),
        slice_xy=picture,
        slice_width_A=round(width_A, 2),
        atoms=None if status.atoms is None else int(status.atoms),
        ms_per_frame={
            str(step): round(float(spent), 3) for step, spent in status.ms_per_frame.items() if math.isfinite(spent)
        },
        note=status.note,
    )


def finite(value: float | None) -> float | None:
    """A number that JSON can carry, or ``None``."""
    return None if value is None or not math.isfinite(value) else float(value)


def _slice(values: NDArray[np.float32] | None, pixel_size_A: float) -> tuple[tuple[tuple[int, ...], ...], float]:
    if values is None or values.ndim != 2 or not values.size:
        return (), 0.0
    stride = -(-max(values.shape) // SLICE_PX)
    height, width = (size // stride for size in values.shape)  # blocks are averaged: leaving pixels out loses atoms
    whole = np.nan_to_num(np.asarray(values[: height * stride, : width * stride], dtype=np.float64))
    thin = whole.reshape(height, stride, width, stride).mean(axis=(1, 3))
    high = np.percentile(thin, 99.8)
    grey = np.clip(thin * (255 / max(high, 1e-30)), 0, 255).astype(np.uint8)  # no density is black, not grey
    return tuple(tuple(int(value) for value in row) for row in grey), width * stride * pixel_size_A


def verdict(statuses: Iterable[ParticleStatus], analysed: int, *, final: bool) -> str:
    """One line in words on what there is to see. It never says that there is enough: nothing here can know that yet.

    Parameters
    ----------
    analysed : frames that were looked at; without any there is nothing to say about the movie.
    final : nothing will come any more.
    """
    found = list(statuses)
    if not found and not analysed and final:
        return "no frame was analysed"
    if not found:
        return "no particle in this movie" if final else "no particle yet"
    mapped = [status for status in found if status.resolution_A is not None]
    words = f"{len(found)} particle{'s' if len(found) > 1 else ''}, {len(mapped)} with a map"
    if mapped:
        words += ": " + ", ".join(f"{particle_name(status.particle)} {status.resolution_A:.2f} A" for status in mapped)
    return words


def memory_MiB() -> float:
    """Peak resident memory of this process, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)
