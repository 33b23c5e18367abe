"""Runs a command and says what it took: exit code, lines, wall time, CPU time of it and its children, peak memory.

While it runs, /proc is read once a second (Linux): memory and CPU time of the process and memory of its children,
beside the number of frames that the session's timeline says are done. That shows whether anything grows.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
TAIL = 400_000  # bytes; the last snapshot is in there
_USED = re.compile(rb'"stream":\{[^{}]*?"used":(\d+)')


@dataclass(frozen=True)
class Sample:
    """One look at a running command. Memory in MiB; anonymous memory leaves out what processes share."""

    time_s: float
    frames: int
    cpu_s: float
    resident: float
    anonymous: float
    children: float  # anonymous, all of them together


@dataclass(frozen=True)
class Run:
    """What a command did."""

    command: tuple[str, ...]
    code: int
    lines: tuple[str, ...]
    wall_s: float
    cpu_s: float
    samples: tuple[Sample, ...] = field(default=(), repr=False)

    @property
    def peak_MiB(self) -> float:
        return max((sample.resident for sample in self.samples), default=0.0)

    def last(self, words: str) -> str:
        """The last line with these words, without its time; empty when there is none."""
        found = [line for line in self.lines if words in line]
        return re.sub(r"^\s*[\d.]+ s\s+", "", found[-1]) if found else ""


def run(command: list[str], *, nice: int = 0, session: Path | None = None, echo: bool = True) -> Run:
    """Run to the end; `session` is the folder whose timeline counts the frames. The load of the machine is not seen."""
    print("$", " ".join(command), flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: os.nice(nice),  # noqa: PLW1509
    )
    samples: list[Sample] = []
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, session, samples, stop), daemon=True)
    watcher.start()
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if echo:
            print("  ", lines[-1], flush=True)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    stop.set()
    watcher.join()
    wall = time.monotonic() - began
    cpu = usage.ru_utime + usage.ru_stime
    return Run(tuple(command), process.returncode, tuple(lines), wall, cpu, tuple(samples))


def _watch(pid: int, session: Path | None, samples: list[Sample], stop: threading.Event) -> None:
    began = time.monotonic()
    while not stop.wait(1.0):
        try:
            memory = _memory(pid)
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (OSError, IndexError):
            return
        below = 0.0
        for child in children:
            try:
                below += _memory(int(child))[1]
            except OSError:
                continue
        cpu = (int(stat[11]) + int(stat[12])) / TICKS
        samples.append(Sample(time.monotonic() - began, _frames(session), cpu, *memory, below))


def _memory(pid: int) -> tuple[float, float]:
    values = dict.fromkeys(("VmRSS", "RssAnon"), 0.0)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key in values:
            values[key] = int(rest.split()[0]) / 1024
    return values["VmRSS"], values["RssAnon"]


def _frames(session: Path | None) -> int:
    if session is None:
        return 0
    try:
        with (session / "timeline.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            found = _USED.findall(file.read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0


@dataclass(frozen=True)
class Stretch:
    """Frames `first` to `last` of a run: CPU milliseconds per frame, and the largest anonymous memory, MiB."""

    first: int
    last: int
    cpu_ms: float
    daemon: float
    children: float


def stretches(run: Run, edges: list[int]) -> list[Stretch]:
    """The run cut at frame numbers `edges`, as far as it was sampled."""
    found = []
    for first, last in itertools.pairwise(edges):
        inside = [sample for sample in run.samples if first <= sample.frames <= last]
        if len(inside) < 2 or inside[-1].frames == inside[0].frames:
            continue
        spent = (inside[-1].cpu_s - inside[0].cpu_s) / (inside[-1].frames - inside[0].frames)
        memory = max(s.anonymous for s in inside), max(s.children for s in inside)
        found.append(Stretch(inside[0].frames, inside[-1].frames, 1e3 * spent, *memory))
    return found
