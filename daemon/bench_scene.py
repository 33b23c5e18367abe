"""The movie of `tumble bench`, and the machine it runs on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..stream.simulator.crystal import wulff_crystal
from ..stream.simulator.options import SceneOptions
from ..stream.simulator.presets import ROUGH
from ..stream.simulator.scene import Scene


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is run: one rough Pt crystal of 2.3 nm, which gets boxes of 96 px.

    Attributes
    ----------
    rate_hz : frames per second over the wire, for the latency; 0 leaves that part out.
    wire_s : how long frames come over the wire; some of them have to come after the first map.
    threads : of the daemon on the wire; None for all cores.
    """

    frames: int = 830
    atoms: int = 410
    size_px: int = 256
    bootstrap_frames: int = 400
    seed: int = 0
    device: str = "auto"
    rate_hz: float = 0.0
    wire_s: float = 30.0
    threads: int | None = None


def make_scene(options: BenchOptions) -> Scene:
    """One crystal left of the middle of the field."""
    crystal = wulff_crystal("Pt", options.atoms, **ROUGH, seed=options.seed)
    home = (0.336 * options.size_px, 0.46 * options.size_px)
    size = options.size_px
    return Scene(
        (crystal,),
        SceneOptions(frames=options.frames, height_px=size, width_px=size, homes_px=(home,), seed=options.seed),
    )


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load_average() -> float:
    """Processes that wanted to run, averaged over a minute."""
    return round(os.getloadavg()[0], 2)


def commit() -> str:
    """Of the checkout this runs from; empty when it is installed."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
