"""Plausible snapshots that evolve in time, without a daemon: for tests of the dashboard and for pictures of it."""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth
from tumble.dashboard.app import run
from tumble.dashboard.sphere import directions

CELLS = 400
RATE_HZ = 400.0
FRAMES = 16000
COST_MS = {"index": 2.13, "path": 0.62, "refine": 4.87, "insert": 0.91, "solve": 0.44}
START = 1_800_000_000.0


def snapshot(seconds: float, particles: int = 2, frames: int = FRAMES) -> Snapshot:
    """The daemon `seconds` after the first frame of a movie of `frames` frames with some particles."""
    received = min(frames, int(max(0.0, seconds) * RATE_HZ))
    done = received >= frames
    settled = done and seconds > frames / RATE_HZ + 2
    views = tuple(particle(number, received, settled) for number in range(1, particles + 1) if received > 60 * number)
    rejected = {"crossing": received // 90, "blurred": received // 260} if received else {}
    in_flight = 0 if settled else min(received, 112)
    used = received - sum(rejected.values()) - in_flight
    phase = "WAITING" if received == 0 else "DONE" if settled else "FINISHING" if done else "RUNNING"
    return Snapshot(
        version=SCHEMA_VERSION,
        tumble="0.1.0",
        sequence=int(seconds * 4) + 1,
        time_s=START + seconds,
        uptime_s=seconds,
        phase=phase,
        session="sessions/demo-2026-11-21-012305",
        stream=StreamHealth(
            source="zmq+tcp://127.0.0.1:31001",
            series_id=7,
            frame_width_px=288,
            frame_height_px=288,
            expected=frames,
            received=received,
            used=used,
            rejected=rejected,
            in_flight=in_flight,
            recorded=received,
            rate_hz=0.0 if done else RATE_HZ + 3 * math.sin(seconds),
            lag_s=0.0 if done else 0.24 + 0.05 * math.sin(seconds / 3),
            queue=0 if done else 14 + int(6 * math.sin(seconds / 2)),
            queue_size=512,
            latency_p50_ms=118.0 if received > 800 else None,
            latency_p99_ms=412.0 if received > 800 else None,
        ),
        particles=views,
        step_ms={"background": 0.31, "detect": 0.22, "track": 0.64},
        memory_MiB=612.4,
        disk_free_MiB=834_300.0,
        log=tuple(_log(seconds, views))[-40:],
        verdict=_verdict(views, phase),
    )


def particle(number: int, received: int, done: bool = False) -> ParticleView:
    """One particle after `received` frames of the movie; particles differ in speed, size and luck."""
    seen = max(0, received - 60 * number)
    late = 500 + 150 * (number - 1)
    state = "COLLECTING" if seen < late else "INDEXING" if seen < late + 200 else "DONE" if done else "MAPPING"
    mapped = state in ("MAPPING", "DONE")
    rejected = {"crossing": seen // 90, "branch unsure": seen // (14 * number)} if mapped else {}
    in_flight = 0 if done else min(seen, 100)
    used = seen - sum(rejected.values()) - in_flight if mapped else 0
    resolution = _resolution(used, number) if mapped else None
    steps = range(600, used + 1, max(50, used // 60)) if mapped else ()  # digits below are those of the daemon
    trend = tuple((frames, round(_resolution(frames, number), 4)) for frames in steps)
    curve = tuple(round(_fsc(step * 0.0174, resolution), 4) for step in range(1, 72)) if resolution else ()
    return ParticleView(
        name=f"P{number:03d}",
        state=state,
        centre_px=(60.0 + 37.3 * number % 200, 85.0 + 61.7 * number % 180),
        diameter_A=21.0 + (4.1 * number) % 7,
        frames_seen=seen,
        frames_used=used,
        frames_rejected=rejected,
        frames_in_flight=in_flight if mapped else seen,
        lattice="" if state == "COLLECTING" else "fcc",
        twinned=state != "COLLECTING" and number == 2,
        lattice_constant_A=3.923 + 0.011 * number if state != "COLLECTING" else None,
        step_deg=2.31 + 0.2 * number if state != "COLLECTING" else None,
        resolution_A=resolution,
        resolution_trend=trend,
        fsc_k=tuple(round(step * 0.0174, 5) for step in range(1, 72)) if resolution else (),
        fsc=curve,
        coverage=_coverage(number, used // 200 * 200 if used > 400 else used // 20 * 20) if mapped else (),
        slice_xy=crystal_slice(number, 5 if not resolution else min(5, int(6 - resolution * 2.5))) if mapped else (),
        slice_xz=crystal_slice(number + 10, 3) if mapped else (),
        slice_yz=crystal_slice(number + 20, 3) if mapped else (),
        slice_width_A=34.4 if mapped else 0.0,
        atoms=min(560, 180 + used // 8) + 31 * number if mapped else None,
        ms_per_frame=dict(COST_MS) if mapped else {"index": 2.2},
        note="one side not seen yet: cone of 40 degrees" if mapped and number == 2 else "",
        **(_judged(number, used) if mapped else {}),
    )


def _judged(number: int, used: int) -> dict[str, Any]:
    """What the daemon says of a map: the first particle is on its way, the second sticks and is doubted."""
    known = {
        "efficiency": 0.71,
        "empty_fraction": 0.04 * number,
        "effective_views": 0.6 * used,
        "fresh_views_per_s": 212.0,
        "time_s": used / RATE_HZ,
    }
    if number == 2:
        return {
            "verdict": "STARVED",
            "verdict_reasons": ("it has turned about one axis only for 900 frames",),
            "trusted": False,
            "trust_reasons": ("two independent accounts agree on 61 % of the atoms only",),
            "metrics": known,
            "target_A": 0.8,
            "forecast_low_s": 400.0,
        }
    return {
        "verdict": "CONTINUE",
        "verdict_reasons": ("the resolution still improves", "4 % of the map's directions not measured yet"),
        "trusted": True,
        "metrics": known,
        "target_A": 0.8,
        "forecast_low_s": 6.0,
        "forecast_median_s": 9.5,
        "forecast_high_s": 17.0,
    }


def _resolution(frames: int, number: int) -> float:
    wobble = 0.012 * math.sin(frames / 137 + number)
    return (0.085 * number + 0.115 * math.log(max(50, frames) / 25)) ** -0.5 * 0.9 + wobble


def _fsc(k: float, resolution: float) -> float:
    edge = 1 / resolution
    noise = 0.02 * math.sin(311 * k) + 0.015 * math.sin(97 * k)
    dip = 0.12 * math.exp(-(((k - 0.3) / 0.06) ** 2))
    return 1 / (1 + math.exp((k - edge) / 0.055 + 1.79)) - dip * (k < edge) + noise


@lru_cache(maxsize=256)
def _coverage(number: int, frames: int) -> tuple[int, ...]:
    """Views per cell after so many frames; every step of the walk stands for four frames."""
    counts = [0] * CELLS
    walk = _walk(number)
    for step in range(frames // 4):
        counts[walk[step % len(walk)]] += 4
    return tuple(counts)


@lru_cache(maxsize=32)
def _walk(number: int, steps: int = FRAMES // 4) -> tuple[int, ...]:
    """A rotational random walk over the hemisphere; particle 2 never shows one side."""
    dice = random.Random(number)
    cells = directions(CELLS)
    walk = []
    x, y, z = cells[37 * number % CELLS]
    for _ in range(steps):
        x, y, z = x + dice.gauss(0, 0.09), y + dice.gauss(0, 0.09), z + dice.gauss(0, 0.09)
        if number == 2 and x > 0.55:
            x -= 0.2
        size = math.copysign(math.sqrt(x * x + y * y + z * z), z)
        x, y, z = x / size, y / size, z / size
        near = int(CELLS * (1 - z))  # the cells are sorted by z
        near_cells = range(max(0, near - 35), min(CELLS, near + 35))
        best = max((cells[cell][0] * x + cells[cell][1] * y + cells[cell][2] * z, cell) for cell in near_cells)
        walk.append(best[1])
    return tuple(walk)


@lru_cache(maxsize=32)
def crystal_slice(number: int, sharpness: int, size: int = 64) -> tuple[bytes, ...]:
    """A (110)-like slice of atoms in a round particle, blurred as the resolution says."""
    width_A, radius = 34.4, 10.5 + (2 * number) % 4
    spread = (1.2, 1.0, 0.8, 0.65, 0.55, 0.48)[max(0, min(5, sharpness))]
    step_x, step_y, turn = 3.93, 2.78, 0.35 * number
    dice = random.Random(7)
    rows = []
    for j in range(size):
        line = []
        for i in range(size):
            x, y = (i - size / 2 + 0.5) * width_A / size, (j - size / 2 + 0.5) * width_A / size
            u, v = x * math.cos(turn) + y * math.sin(turn), -x * math.sin(turn) + y * math.cos(turn)
            value = 0.0
            for offset in (0.0, 0.5):
                a = (round(u / step_x - offset) + offset) * step_x
                b = (round(v / step_y - offset) + offset) * step_y
                if math.hypot(a, b) < radius:
                    value += math.exp(-((u - a) ** 2 + (v - b) ** 2) / (2 * spread**2))
            line.append(max(0, min(255, int(235 * value + 18 + dice.gauss(0, 7)))))
        rows.append(bytes(line))
    return tuple(rows)


def _log(seconds: float, views: tuple[ParticleView, ...]) -> list[str]:
    lines = ["waiting for a stream on zmq+tcp://127.0.0.1:31001"]
    if seconds > 0:
        lines.append("series 7 started: 288 x 288 px, uint16, 16000 frames, 2.5 ms each")
    for view in views:
        x, y = view.centre_px
        lines.append(f"particle {view.name} found at ({x:.0f}, {y:.0f}) px, diameter {view.diameter_A:.1f} A")
        if view.lattice_constant_A:
            turn = f"rotation {view.step_deg:.1f} degrees per frame"
            lines.append(f"{view.name}: lattice constant {view.lattice_constant_A:.3f} A, {turn}")
        if view.resolution_trend:
            lines.append(f"{view.name}: first map from 600 frames, {view.resolution_trend[0][1]:.2f} A")
    return lines


def _verdict(views: tuple[ParticleView, ...], phase: str) -> str:
    if not views:
        return "no particle yet" if phase != "DONE" else "no particle in this movie"
    mapped = sum(1 for view in views if view.atoms)
    words = "" if phase == "DONE" else "; go on: the resolution still improves"
    return f"{mapped} of {len(views)} particles mapped{words}"


def bare() -> Snapshot:
    """Every field that may be missing is missing."""
    view = ParticleView(name="P001", state="COLLECTING", centre_px=(0.0, 0.0), diameter_A=0.0)
    views = (view, replace(view, name="P002", state=""))
    return Snapshot(SCHEMA_VERSION, "", 1, START, 0.0, "WAITING", "", StreamHealth(), views)


def huge() -> Snapshot:
    """Numbers as after a week, and texts from a hostile source."""
    big = 987_654_321_012
    stream = StreamHealth(
        source="zmq+tcp://[fe80::1ff:fe23:4567:890a]:31001/" + "x" * 300,
        series_id=2**63,
        expected=big,
        received=big,
        used=big - 987_654_000,
        rejected={f"reason number {number}": 10**number for number in range(9)},
        dropped={"queue full": 123_456_789},
        missing=55_555_555_555,
        in_flight=9_999_999,
        recorded=big,
        rate_hz=123456.7,
        lag_s=98765.4,
        queue=99999,
        queue_size=100000,
    )
    view = replace(
        particle(1, 9000),
        name="P" + "9" * 30,
        state="MAPPING" * 5,
        frames_seen=big,
        frames_used=big - 1,
        atoms=123_456_789,
        diameter_A=12345.6,
        resolution_A=1e9,
        lattice_constant_A=1e7,
        note="\x1b[31mred\x07 " + "long words " * 40 + "漢字かな",
        coverage=tuple(10**9 + cell for cell in range(CELLS)),
        fsc=(float("nan"), float("inf"), -5.0, 7.0, 0.2),
        fsc_k=(0.1, 0.2, 0.3, 0.4, 0.5),
        resolution_trend=((0, 0.0), (1, float("inf")), (10**12, 1e9)),
    )
    base = snapshot(20.0, 1)
    return replace(
        base,
        uptime_s=9e7,
        session="/very/long/" * 40,
        stream=stream,
        particles=(view,),
        memory_MiB=1e9,
        log=("\x1b]0;title\x07 evil", "漢字" * 100, "a" * 500),
        verdict="words " * 100,
        step_ms={f"step {number}": 10.0**number for number in range(12)},
    )


def main(arguments: list[str] | None = None) -> int:
    """Show the dashboard on fake snapshots: to look at it, and as the process behind the pseudo-terminal tests."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of the movie per second")
    parser.add_argument("--begin", type=float, default=0.0, help="second of the movie to begin with")
    parser.add_argument("--particles", type=int, default=2)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--silent-after", type=float, default=math.inf, help="no news from this second on")
    parser.add_argument("--fail-after", type=float, default=math.inf, help="phase FAILED from this second on")
    parser.add_argument("--linger", type=float, default=5.0)
    parser.add_argument("--stay", action="store_true", help="do not leave when the movie is over")
    options = parser.parse_args(arguments)
    started = time.monotonic()

    def poll() -> Snapshot | None:
        seconds = options.begin + (time.monotonic() - started) * options.speed
        if seconds >= options.silent_after:
            return None
        now = snapshot(seconds, options.particles, options.frames)
        return replace(now, phase="FAILED") if seconds >= options.fail_after else now

    return run(poll, endpoint="tcp://127.0.0.1:31101", exit_when_done=not options.stay, linger_s=options.linger)


if __name__ == "__main__":
    sys.exit(main())
