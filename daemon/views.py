"""From the records of the reconstruction to what an operator sees: plain numbers, finite, of bounded size."""

from __future__ import annotations

import math
import resource
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..recon.records import ParticleStatus, Trust, Verdict
from .particles import ParticleEntry, particle_name
from .snapshot import ParticleView, Picture

GONE = {"lost": "the track is lost", "left": "it has left the field"}  # by the state of the track
SLICE_PX = 64  # a slice is thinned to at most this many pixels a side


def particle_view(entry: ParticleEntry, pixel_size_A: float) -> ParticleView:
    """The particle of `entry` for a snapshot. `pixel_size_A` is the sampling of its central slice."""
    status, gone = entry.status(), _gone(entry)
    pictures, width_A = _slices(entry.last or status, pixel_size_A)
    keep = [number for number, value in enumerate(status.fsc) if math.isfinite(value)]
    return ParticleView(
        name=particle_name(status.particle),
        state="LOST" if gone else status.state,
        centre_px=(round(float(entry.tracked.centre_px[0]), 2), round(float(entry.tracked.centre_px[1]), 2)),
        diameter_A=round(float(entry.tracked.diameter_A), 2),
        where=entry.where,
        frames_seen=int(status.frames_seen),
        frames_used=int(status.frames_used),
        frames_rejected={str(reason): int(count) for reason, count in sorted(status.frames_rejected.items())},
        frames_in_flight=int(status.frames_in_flight),
        frames_waiting=entry.waiting,
        lag_s=round(entry.lag_s(time.monotonic()), 3),
        lattice=status.lattice or "",
        twinned=status.twinned,
        lattice_constant_A=finite(status.lattice_constant_A),
        metals=status.metals,
        strain_percent=tuple(round(float(value), 3) for value in status.strain_percent if math.isfinite(value)),
        step_deg=finite(status.step_deg),
        resolution_A=finite(status.resolution_A),
        resolution_trend=tuple((int(used), round(float(resolution), 4)) for used, resolution in entry.trend),
        fsc_k=tuple(round(float(status.fsc_k[number]), 5) for number in keep),
        fsc=tuple(round(float(status.fsc[number]), 4) for number in keep),
        coverage=tuple(int(count) for count in status.coverage),
        slice_xy=pictures[0],
        slice_xz=pictures[1],
        slice_yz=pictures[2],
        slice_width_A=round(width_A, 2),
        atoms=None if status.atoms is None else int(status.atoms),
        elements=dict(status.elements),
        tilts={name: round(float(value), 3) for name, value in status.tilts.items()},
        ms_per_frame={
            str(step): round(float(spent), 3) for step, spent in status.ms_per_frame.items() if math.isfinite(spent)
        },
        note=status.note,
        **_evidence(status.trust),
        **_outlook(status, _how(entry) if gone else ""),
    )


def _gone(entry: ParticleEntry) -> bool:
    """Whether its track is lost while something still was to come."""
    return entry.tracked.state != "tracked" and entry.status().state not in ("DONE", "FAILED", "EXCLUDED")


def _how(entry: ParticleEntry) -> str:
    """In words, how it went."""
    return GONE.get(entry.tracked.state, GONE["lost"])


def judged(entry: ParticleEntry) -> ParticleStatus:
    """Its status with the verdict that it is lost, which only the front end knows."""
    status = entry.status()
    return replace(status, verdict=Verdict("LOST", (_how(entry),))) if _gone(entry) else status


def _evidence(trust: Trust | None) -> dict[str, Any]:
    """What a viewer is told of the trust in a map."""
    if trust is None:
        return {}
    values = {item.name: getattr(trust, item.name) for item in fields(trust)}
    numbers = {name: round(float(value), 4) for name, value in values.items() if type(value) in (int, float)}
    known = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return {"trusted": trust.trusted, "trust_reasons": tuple(trust.reasons), "trust": known}


def _outlook(status: ParticleStatus, lost: str) -> dict[str, Any]:
    """Verdict, forecast and the metrics of the newest map. Tracks are lost in the front end, which says how; the map
    knows nothing of it.
    """
    said, ahead = status.verdict, status.forecast
    told: dict[str, Any] = {"target_A": finite(status.target_A)}
    if lost:
        told |= {"verdict": "LOST", "verdict_reasons": (lost,)}
    elif said is not None:
        told |= {"verdict": said.word, "verdict_reasons": said.reasons}
        told["verdict_frames"] = max(0, status.frames_seen - said.since_frame)
    if status.milestone is not None:
        values = {item.name: getattr(status.milestone, item.name) for item in fields(status.milestone)}
        known = {name: float(value) for name, value in values.items() if value is not None}
        told["metrics"] = {name: round(value, 5) for name, value in known.items() if math.isfinite(value)}
    if ahead is not None and not lost:
        told |= {
            "forecast_low_s": finite(ahead.low_s),
            "forecast_median_s": finite(ahead.median_s),
            "forecast_high_s": finite(ahead.high_s),
            "forecast_words": ahead.words,
        }
    return told


def finite(value: float | None) -> float | None:
    """A number that JSON can carry, or ``None``."""
    return None if value is None or not math.isfinite(value) else float(value)


@lru_cache(maxsize=64)  # a status lives on until there is a newer one, and is asked for at every snapshot
def _slices(status: ParticleStatus, pixel_size_A: float) -> tuple[tuple[Picture, ...], float]:
    """The three slices in one scale of grey, and the width that they show, A."""
    layers = (status.slice_xy, status.slice_xz, status.slice_yz)
    thinned = [_thinned(layer) for layer in layers]
    brightest = max((float(np.percentile(thin, 99.8)) for thin in thinned if thin.size), default=0.0)
    scale = 255 / max(brightest, 1e-30)  # no density is black, not grey
    pictures = tuple(tuple(row.tobytes() for row in np.clip(thin * scale, 0, 255).astype(np.uint8)) for thin in thinned)
    if layers[0] is None or not thinned[0].size:
        return pictures, 0.0
    return pictures, thinned[0].shape[1] * _stride(layers[0]) * pixel_size_A


def _stride(layer: NDArray[np.float32]) -> int:
    return -(-max(layer.shape) // SLICE_PX)


def _thinned(layer: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """At most `SLICE_PX` pixels a side. Blocks are averaged: leaving pixels out loses atoms."""
    if layer is None or layer.ndim != 2 or not layer.size:
        return np.empty((0, 0))
    stride = _stride(layer)
    height, width = (size // stride for size in layer.shape)
    whole = np.nan_to_num(np.asarray(layer[: height * stride, : width * stride], dtype=np.float64))
    return whole.reshape(height, stride, width, stride).mean(axis=(1, 3))


def verdict(statuses: Iterable[ParticleStatus], analysed: int, *, final: bool) -> str:
    """One line in words: how many particles have enough, what each map resolves, and what to do next.

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
    from ..recon.verdict import MOST_NAMES, session_verdict  # with a compiler; workers look at what is smaller

    lengths_A = {particle_name(s.particle): s.resolution_A for s in found if s.resolution_A is not None}
    judged = {particle_name(s.particle): s.verdict for s in found if s.verdict and s.state != "EXCLUDED"}
    words = session_verdict(judged, final=final)
    if lengths_A:
        reached = ", ".join(f"{name} {length_A:.2f} A" for name, length_A in lengths_A.items())
        if len(lengths_A) > MOST_NAMES:
            reached = f"{len(lengths_A)} maps of {min(lengths_A.values()):.2f} to {max(lengths_A.values()):.2f} A"
        words = f"{words}; {reached}" if words else reached
    return words


def disk_free_MiB(folder: Path) -> float | None:
    """Free space where a session is written, MiB; ``None`` when it cannot be told."""
    try:
        return round(shutil.disk_usage(folder).free / 2**20, 1)
    except OSError:
        return None


def memory_MiB() -> float:
    """Peak resident memory of this process, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)
