"""What `tumble bench` found: records, JSON, and a table for 100 columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .bench_model import Roof
from .bench_wire import Latency
from .errors import UsageError

FLOOR_MS, GOAL_MS = 2.5, 10.0  # per particle-frame on two cores
SCHEMA = 2
READABLE = (1, 2)  # 1 had no latency, and called the status metrics
WIDTH = 100
# Steps of a frame that comes after the first map, in the order of the path, and what they are called in the table.
FRAME_STEPS = {
    "decode": "decode bslz4",
    "check": "check frame",
    "keep": "keep frame",
    "detect": "detect newcomers",
    "noise": "background noise",
}
PARTICLE_STEPS = {
    "track": "correct and track",
    "box": "cut box",
    "whiten": "whiten",
    "index": "index on grid",
    "refine lattice": "refine lattice",
    "score": "score 48 branches",
    "decide": "decide",
    "insert": "insert",
    "re-decide": "re-decide *",
    "refine": "refine full band *",
    "solve": "solve *",
    "scoring map": "scoring map *",
    "atoms": "atoms *",
    "strain": "strain *",
    "change": "change *",
    "metrics": "metrics *",
    "witness": "second map *",
    "status": "status +",
    "snapshot": "snapshot +",
}
STREAMING = FRAME_STEPS | PARTICLE_STEPS


@dataclass(frozen=True, slots=True)
class Row:
    """One step, per frame that comes after the first map; floor 0 where there is no model."""

    step: str
    wall_ms: float
    cpu_ms: float
    bytes: float
    flops: float
    floor_ms: float


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel or FFT within a step, per frame; what is left of the step is everything else."""

    step: str
    kernel: str
    launches: float
    wall_ms: float
    cpu_ms: float
    flops: float
    bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """One run. Pairs of seconds are (wall, processor)."""

    date: str
    version: str
    commit: str
    machine: str
    cores: int
    load: tuple[float, float]  # average of the machine over a minute, when it began and ended
    device: str
    threads: int
    roof: Roof
    frames: int
    size_px: int
    box_px: int
    streamed: int  # particle-frames the rows are an average of
    maps: int  # solved in that time
    rows: tuple[Row, ...]
    launches: tuple[Launch, ...]
    first_map_frames: int
    first_map: dict[str, tuple[float, float]]  # per step
    finish_s: tuple[float, float]
    compiled_s: float
    memory_MiB: float
    resolution_A: float | None
    atoms: int | None
    frames_used: int
    latency: Latency | None = None

    def sum(self, name: str, *, frame: bool | None = None) -> Row:
        """Steps together: all, those of a frame, or those of a particle in a frame."""
        chosen = [row for row in self.rows if frame is None or (row.step in FRAME_STEPS) == frame]
        add = {key: sum(getattr(row, key) for row in chosen) for key in ("wall_ms", "cpu_ms", "bytes", "flops")}
        return Row(name, **add, floor_ms=sum(row.floor_ms for row in chosen))

    @property
    def total(self) -> Row:
        """All steps together."""
        return self.sum("total")

    def to_json(self) -> str:
        """For `--json`, and for `--compare` later."""
        sums = {"total": self.total, "a frame": self.sum("", frame=True), "a particle-frame": self.sum("", frame=False)}
        return json.dumps({"schema": SCHEMA, **asdict(self)} | {k: asdict(v) for k, v in sums.items()}, indent=1)


def read_report(path: Path) -> Report:
    """A saved run.

    Raises
    ------
    UsageError : it cannot be read or is no such file.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] not in READABLE:
            raise UsageError(f"{path} is of schema {raw['schema']}, this program reads {SCHEMA}: run the bench again")
        values = {item.name: raw[item.name] for item in fields(Report) if item.name != "latency"}
        names = {"metrics": "status"} if raw["schema"] == 1 else {}
        values["rows"] = tuple(Row(**row | {"step": names.get(row["step"], row["step"])}) for row in values["rows"])
        values["launches"] = tuple(Launch(**launch) for launch in values["launches"])
        values["roof"] = Roof(**values["roof"])
        values["latency"] = None if raw.get("latency") is None else Latency(**raw["latency"])
        return Report(**values)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no saved run of tumble bench ({type(error).__name__}: {error})") from None


def table(report: Report, before: Report | None = None, *, detail: bool = False) -> str:
    """The table, `WIDTH` columns wide; with a saved run, the ratios to it as well; with `detail`, the kernels."""
    lines = [*_head(report), "", *_steps(report), "", *_rest(report)]
    if report.latency is not None:
        lines += ["", *_wire(report.latency)]
    if detail:
        lines += ["", *_kernels(report)]
    if before is not None:
        lines += ["", *_comparison(report, before)]
    return "\n".join(line.rstrip() for line in lines)


def _head(report: Report) -> Iterator[str]:
    yield f"tumble {report.version} {report.commit}  {report.date}"
    yield f"{report.machine}, {report.cores} cores"
    yield f"device {report.device}, {report.threads} threads (n); load average {report.load[0]}, then {report.load[1]}"
    if report.load[0] > 0.5 * report.cores:
        yield "the machine was busy with something else: trust CPU, not wall"
    yield f"{report.frames} frames of {report.size_px} x {report.size_px} px, one particle, boxes of {report.box_px} px"
    yield f"means per frame over {report.streamed} frames after the first map"


def _steps(report: Report) -> Iterator[str]:
    yield f"{'kB':>56}{'MFlop':>10}{'floor':>10}{'':7}{'wall':>7}{'CPU/n':>9}"
    columns = f"{'share':>7}{'at least':>10}{'':10}{'ms':>10}{'bound':>7}{'/floor':>7}{'/floor':>9}"
    yield f"{'step':21}{'wall ms':>9}{'CPU ms':>9}{columns}"
    whole = report.total
    for row in report.rows:
        if row.step == next(iter(PARTICLE_STEPS)):
            yield _step(report, report.sum("a frame", frame=True), whole, rule=True)
            yield ""
        yield _step(report, row, whole)
    yield _step(report, report.sum("a particle-frame", frame=False), whole, rule=True)
    yield ""
    yield _step(report, report.sum("frame, one particle"), whole)


def _step(report: Report, row: Row, whole: Row, *, rule: bool = False) -> str:
    byte = row.bytes / report.roof.bytes
    bound = "-" if row.floor_ms <= 0 else "byte" if byte > row.flops / report.roof.flops else "flop"
    ratios = (_ratio(row.wall_ms, row.floor_ms), _ratio(row.cpu_ms / report.threads, row.floor_ms))
    words = (
        f"{STREAMING.get(row.step, row.step):21}{row.wall_ms:9.3f}{row.cpu_ms:9.3f}"
        f"{100 * row.cpu_ms / max(whole.cpu_ms, 1e-9):6.1f}%{_number(row.bytes / 1e3):>10}"
        f"{_number(row.flops / 1e6):>10}{_floor(row.floor_ms):>10}{'' if rule else bound:>7}"
        f"{ratios[0]:>7}{ratios[1]:>9}"
    )
    return "-" * (WIDTH - 1) + "\n" + words if rule else words


def _rest(report: Report) -> Iterator[str]:
    total = report.total
    ideal = total.cpu_ms / report.threads
    roof = f"{report.roof.flops / 1e9:.0f} GFlop/s or {report.roof.bytes / 1e9:.0f} GB/s"
    yield f"* {report.maps} maps, spread over these frames   + once in 100 frames"
    yield f"floor of a step: at {roof}, whichever takes longer; sums add them up"
    yield f"streaming        wall {total.wall_ms:.2f} ms, CPU/n {ideal:.2f} ms per frame with one particle"
    yield f"to the floor     wall x {total.wall_ms / FLOOR_MS:.1f}, CPU/n x {ideal / FLOOR_MS:.1f} of {FLOOR_MS} ms"
    met = "met" if total.wall_ms <= GOAL_MS else "met by CPU/n, not by wall" if ideal <= GOAL_MS else "not met"
    yield f"goal             {GOAL_MS:g} ms on 2 cores: {met}"
    wall, cpu = (sum(pair[i] for pair in report.first_map.values()) for i in (0, 1))
    yield f"first map        wall {wall:.1f} s, CPU {cpu:.1f} s for {report.first_map_frames} frames; most of it:"
    worst = sorted(report.first_map.items(), key=lambda item: -item[1][1])[:6]
    for step, pair in worst:
        yield f"  {STREAMING.get(step, step).rstrip(' *'):19}{pair[0]:6.1f} s{pair[1]:9.1f} s CPU"
    yield f"  compiling        {report.compiled_s:8.1f} s in the whole run, next to nothing next time"
    yield f"end of series    wall {report.finish_s[0]:.1f} s, CPU {report.finish_s[1]:.1f} s"
    yield f"peak memory      {report.memory_MiB:.0f} MiB, simulator included"
    resolution = "no resolution" if report.resolution_A is None else f"{report.resolution_A:.2f} A"
    yield f"result           {resolution}, {report.atoms} atoms, {report.frames_used} frames used"


def _wire(wire: Latency) -> Iterator[str]:
    """Latency, of the whole program over loopback."""
    yield (
        f"over the wire    {wire.frames} frames at {wire.rate_hz:g}/s (sent {wire.sent_hz:g}/s), "
        f"a snapshot every {wire.snapshot_ms:.0f} ms"
    )
    lost = ", ".join(f"{count} {reason}" for reason, count in wire.lost.items()) or "none"
    first = "none" if wire.first_map_s is None else f"{wire.first_map_s:.1f} s after the first frame"
    behind = "not reached" if wire.behind_s is None else f"{wire.behind_s:.1f} s after the last frame"
    yield "frame to snapshot that counts it as          p50 ms    p99 ms      said by the daemon: p50, p99"
    for name, pair, told in (
        ("tracked", wire.seen, wire.told[0]),
        ("posed", wire.posed, wire.told[1]),
        ("posed, when sent after the first map", wire.followed, None),
    ):
        here = "         -         -" if pair is None else f"{pair[0]:10.0f}{pair[1]:10.0f}"
        there = "-" if told is None else f"{told[0]:.0f}, {told[1]:.0f}"
        yield f"  {name:41}{here}{there:>34}"
    yield f"first map        {first}; all poses {behind}"
    yield f"dropped          {lost}; memory of the daemon {wire.memory_MiB:.0f} MiB"


def _kernels(report: Report) -> Iterator[str]:
    yield "within the steps: kernel   launches  wall ms   CPU ms       kB    MFlop  GFlop/s of CPU"
    for launch in report.launches:
        rate = launch.flops / max(launch.cpu_ms * 1e6, 1e-9)
        yield (
            f"{launch.step:15}{launch.kernel:13}{launch.launches:8.3f}{launch.wall_ms:9.3f}{launch.cpu_ms:9.3f}"
            f"{_number(launch.bytes / 1e3):>9}{_number(launch.flops / 1e6):>9}{rate:12.1f}"
        )


def _comparison(report: Report, before: Report) -> Iterator[str]:
    yield f"against {before.version} {before.commit} {before.date}, {before.device}, {before.threads} threads"
    yield "step                  CPU before     now  ratio   wall before     now  ratio"
    old = {row.step: row for row in (*before.rows, before.total)}
    for row in (*report.rows, report.total):
        was = old.get(row.step)
        if was is not None:
            name = STREAMING.get(row.step, row.step)
            cpu = f"{was.cpu_ms:11.3f}{row.cpu_ms:8.3f}{_ratio(row.cpu_ms, was.cpu_ms):>7}"
            wall = f"{was.wall_ms:14.3f}{row.wall_ms:8.3f}{_ratio(row.wall_ms, was.wall_ms):>7}"
            yield f"{name:21}{cpu}{wall}"
        else:
            yield f"{STREAMING.get(row.step, row.step):21}{'-':>11}{row.cpu_ms:8.3f}"


def _ratio(value: float, floor: float) -> str:
    if floor <= 0:
        return "-"
    ratio = value / floor
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _floor(value: float) -> str:
    return "-" if value <= 0 else f"{value:.4f}" if value < 0.1 else f"{value:.3f}"


def _number(value: float) -> str:
    return "-" if value <= 0 else f"{value:.2f}" if value < 100 else f"{value:.0f}"
