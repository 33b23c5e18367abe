"""A small session folder as the daemon leaves it: a crystal of 63 atoms, seen from one half of the sphere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tumble.daemon.particle_files import atoms_text, coverage_text, table_text, write_map
from tumble.recon.coverage import view_grid
from tumble.recon.records import Atom

VOXEL_A = 0.5
SIZE = 48
LATTICE_A = 3.92


def crystal() -> np.ndarray:
    """Positions (m, 3) x, y, z of a small fcc sphere, A."""
    corner = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    sites = corner[corner.sum(axis=1) % 2 == 0] * LATTICE_A / 2
    return sites[np.linalg.norm(sites, axis=1) < 5.6]


def density(positions: np.ndarray) -> np.ndarray:
    """Gaussian atoms on the grid of a map: (n, n, n) float32 [z, y, x]."""
    line = (np.arange(SIZE) - SIZE // 2) * VOXEL_A
    volume = np.zeros((SIZE,) * 3, np.float32)
    for x, y, z in positions:
        gx, gy, gz = (np.exp(-((line - at) ** 2) / (2 * 0.45**2)) for at in (x, y, z))
        volume += (gz[:, None, None] * gy[:, None] * gx).astype(np.float32)
    return volume


def write_particle(folder: Path) -> None:
    """The files of one particle."""
    folder.mkdir(parents=True)
    positions = crystal()
    write_map(folder / "map.mrc", density(positions), VOXEL_A, "test")
    atoms = [Atom("Pt", (float(x), float(y), float(z)), 0.2 + 0.01 * i) for i, (x, y, z) in enumerate(positions)]
    (folder / "atoms.xyz").write_text(atoms_text(atoms))
    axes = view_grid()
    (folder / "coverage.csv").write_text(coverage_text((axes[:, 0] > 0).astype(np.int32) * 7, axes))
    k = np.arange(1, 25) / 24.0
    fsc = [(f"{a:.6f}", f"{1 / (1 + np.exp(14 * (a - 0.8))):.6f}") for a in k]
    (folder / "fsc.csv").write_text(table_text(("k_per_A", "fsc"), fsc))
    rows = []
    for frame in range(120):
        half = np.radians(1.5 * frame)  # three degrees a frame about z
        place = (30 + 0.1 * frame, 40.0)
        rows.append((frame, 0.0025 * frame, np.cos(half), 0, 0, np.sin(half), *place, 900.0 - frame, frame % 10 != 0))
    header = ("frame", "time_s", "qw", "qx", "qy", "qz", "x_px", "y_px", "score", "used")
    (folder / "poses.csv").write_text(table_text(header, [[f"{float(v):.6f}" for v in row] for row in rows]))
    summary = {"particle": 1, "state": "DONE", "resolution_A": 1.07, "atoms": len(positions), "note": "<b>note</b>"}
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def session(tmp_path: Path, fakes: ModuleType) -> Path:
    """A finished session with one particle on disk."""
    folder = tmp_path / "night <1>"
    write_particle(folder / "particles" / "P001")
    moments = [replace(fakes.snapshot(seconds, 1), sequence=i) for i, seconds in enumerate((0.5, 2.0, 5.0, 44.0))]
    (folder / "timeline.jsonl").write_text("".join(moment.to_json() + "\n" for moment in moments))
    accounting = json.loads(moments[-1].to_json())["stream"]
    facts = {
        "tumble": "0.1.0",
        "command": "replay",
        "begun": "2026-11-21T01:00:00+0000",
        "ended": "2026-11-21T01:01:00+0000",
        "phase": "DONE",
        "series": {"width_px": 128, "height_px": 96, "pixel_size_A": 0.358, "frame_time_s": 0.0025},
        "accounting": accounting,
        "config": {"stream": {"source": "zmq+tcp://127.0.0.1:31001", "queue": 512}},
        "versions": {"numpy": "2.0"},
        "verdict": "1 particle, 1 with a map: P001 1.07 A",
        "log": ["first line", "</pre><script>alert(1)</script>"],
    }
    (folder / "session.json").write_text(json.dumps(facts))
    return folder
