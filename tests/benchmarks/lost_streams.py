"""What is said of crystals that go away: whole frames through the whole program, verdicts from its timeline.

    python tests/benchmarks/lost_streams.py FOLDER [--only leaves]

The crystal of the demo tumbles, gets its first map from 400 frames, and then, from frame 520 on, drifts out of the
field or loses its atoms from the surface inwards until none is left. The frames are written to FOLDER and replayed
through ``tumble replay`` (receiver, front end, reconstruction in processes of their own) until LOST is said. A table
says from which frame on there was nothing, and the words of the daemon with the frames analysed when each was first
published.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tumble.stream.simulator.options import SceneOptions
from tumble.stream.simulator.presets import demo_crystal
from tumble.stream.simulator.scene import Scene
from tumble.stream.simulator.writer import write_simulation

FRAMES, FROM, LAST = 900, 520, 200  # all; from where on, and during how many, it goes
OPTIONS = SceneOptions(frames=FRAMES, height_px=256, width_px=256, homes_px=((86.0, 118.0),), mode="linear", seed=3)
DRIFT_PX = 0.7  # a frame
AWAY_A = 1e4


class Leaving(Scene):
    """Drifts out of the field towards smaller x."""

    def __init__(self) -> None:
        super().__init__((demo_crystal(3),), OPTIONS)
        crystal = self._particles[0]
        gone = np.maximum(np.arange(FRAMES) - FROM, 0)[:, None] * np.array([-DRIFT_PX, 0.0])
        self._particles = (replace(crystal, centres_px=crystal.centres_px + gone),)

    def gone_at(self) -> int:
        """First frame in which no atom is in the field any more."""
        reach_px = self.crystals[0].radius_A / OPTIONS.pixel_size_A
        return int(np.flatnonzero(self._particles[0].centres_px[:, 0] + reach_px < 0)[0])


class Dissolving(Scene):
    """Loses its atoms from the surface inwards."""

    def __init__(self) -> None:
        super().__init__((demo_crystal(3),), OPTIONS)
        reach = np.linalg.norm(self.crystals[0].positions_A, axis=1)
        self._order = np.argsort(np.argsort(reach))

    def pose(self, particle: int, index: int, offset: float = 0.0) -> NDArray[np.float64]:
        """Atoms that have gone are far outside the field."""
        positions = super().pose(particle, index, offset)
        left = len(positions) * (1 - np.clip((index - FROM) / LAST, 0, 1))
        positions[self._order >= left] += AWAY_A
        return positions

    def gone_at(self) -> int:
        """First frame without an atom."""
        return FROM + LAST


CASES: dict[str, Callable[[], Leaving | Dissolving]] = {"leaves the field": Leaving, "dissolves": Dissolving}


def words(timeline: Path) -> list[tuple[int, str, str]]:
    """(frames of the stream analysed, word, first reason) where the verdict on P001 changes."""
    said: list[tuple[int, str, str]] = []
    for text in timeline.read_text(encoding="utf-8").split("\n")[:-1]:  # the last line may still be written
        snapshot = json.loads(text)
        for particle in snapshot["particles"]:
            if particle["name"] == "P001" and (not said or said[-1][1] != particle["verdict"]):
                reason = (particle["verdict_reasons"] or [""])[0]
                said.append((snapshot["stream"]["used"], particle["verdict"], reason))
    return said


def run(name: str, folder: Path) -> str:
    """One case: the line of the table."""
    scene = CASES[name]()
    recording, session = folder / f"{name.replace(' ', '-')}.h5", folder / name.replace(" ", "-")
    if not recording.exists():
        write_simulation(scene, recording)
    command = [sys.executable, "-m", "tumble", "replay", str(recording), "--speed", "max", "--headless", "--overwrite"]
    timeline = session / "timeline.jsonl"
    timeline.unlink(missing_ok=True)
    program = subprocess.Popen([*command, "--session", str(session)], stdout=subprocess.DEVNULL)
    said: list[tuple[int, str, str]] = []
    while program.poll() is None and not any(word == "LOST" for _, word, _ in said):
        time.sleep(1.0)
        said = words(timeline) if timeline.exists() else []
    while program.poll() is None:  # all is said; the maps of what is lost need not be waited for
        program.terminate()
        time.sleep(1.0)
    course = "; ".join(f"{frame}: {word} ({reason})" for frame, word, reason in said)
    return f"{name}: no atom in the field from frame {scene.gone_at()} on; {course}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    os.nice(10)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        if options.only in name:
            print(run(name, options.folder), flush=True)


if __name__ == "__main__":
    main()
