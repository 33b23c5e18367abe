"""Elements of an alloy through the program: a tilt series or a movie with a known truth, and what a session says of it.

    python tests/benchmarks/alloy_study.py core core.xyz [--atoms 500]          # a core of Pd in a shell of Pt
    python tests/benchmarks/alloy_study.py tilts ALLOY.xyz tilts.h5 [--voxel 0.8] [--diameter 36] [--noise 0.05]
    tumble replay tilts.h5 --tilts tilt_deg --element Pd,Pt --pixel-size 0.8 --speed max --session S
    python tests/benchmarks/alloy_study.py score S ALLOY.xyz [--diameter 36]

    tumble simulate movie.h5 --structure core.xyz --frames 600 --dose 80
    tumble replay movie.h5 --element Pd,Pt --speed max --session M
    python tests/benchmarks/alloy_study.py score M core.xyz --turned            # poses are unknown: any gauge, any hand

Tilt series are linear projections with intensities of Z^1.7 and white noise, 46 tilts to +-70 degrees.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.io import read, write
from scipy.spatial import cKDTree
from tilt_study import BRIGHTNESS, FOUND_A, SIGMA_A, atom_images

from tumble.recon.compare import compare_atoms
from tumble.recon.solvers.projector import tilt_quaternions
from tumble.stream.simulator.crystal import read_structure, wulff_crystal

LIMIT_DEG, TILTS = 70.0, 46
CORE = 0.4  # of the atoms


def core(path: Path, atoms: int) -> None:
    """Write a crystal whose innermost atoms are Pd and whose others are Pt."""
    crystal = wulff_crystal("Pt", atoms, asymmetry=0.1, missing_surface=0.2, displacement_rms_A=0.05, seed=1)
    radius = np.linalg.norm(crystal.positions_A, axis=1)
    names = np.where(radius < np.quantile(radius, CORE), "Pd", "Pt")
    write(path, Atoms([str(name) for name in names], crystal.positions_A), format="extxyz")


def tilts(alloy: Path, out: Path, voxel_A: float, diameter_A: float | None, noise: float) -> None:
    """Write the images and their angles."""
    crystal = read_structure(alloy, diameter_A=diameter_A)
    n = 2 * int(np.ceil((crystal.radius_A + 3.0) / voxel_A))
    angles = np.linspace(-LIMIT_DEG, LIMIT_DEG, TILTS)
    amplitudes = np.array([BRIGHTNESS[name] for name in crystal.elements]) / BRIGHTNESS["Pt"]
    images = atom_images(crystal.positions_A / voxel_A, amplitudes, tilt_quaternions(angles), n, SIGMA_A / voxel_A)
    images += noise * images.max() * np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    with h5py.File(out, "w") as file:
        file["projections"], file["tilt_deg"] = images, angles


def score(session: Path, alloy: Path, diameter_A: float | None, *, turned: bool) -> None:
    """Print how many atoms of the truth were found, how many of these have the right element, and how sure they are."""
    truth = read_structure(alloy, diameter_A=diameter_A)
    folder = session / "particles" / "P001"
    found = read(folder / "atoms.xyz", format="extxyz")
    places, names = found.get_positions(), np.array(found.get_chemical_symbols())
    if turned:
        agreed = compare_atoms(truth.positions_A, places)
        places = places @ agreed.turn.T + agreed.shift_A
    distance, index = cKDTree(truth.positions_A).query(places)
    near, kinds = distance < FOUND_A, np.array(truth.elements)
    right = names[near] == kinds[index[near]]
    sure = found.arrays.get("element_confidence", np.full(len(found), np.nan))[near]
    summary = json.loads((folder / "summary.json").read_text())
    each = {
        str(kind): round(float(right[kinds[index[near]] == kind].mean()), 4)
        for kind in np.unique(kinds)
        if (kinds[index[near]] == kind).any()
    }
    print(json.dumps({
        "truth": {str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)}, "said": summary["elements"],
        "atoms": len(found), "found": round(len(np.unique(index[near])) / len(kinds), 4),
        "at no atom": round(float((~near).mean()), 4), "right": round(float(right.mean()), 4), "right of each": each,
        "mean confidence": round(float(sure.mean()), 4), "note": summary["note"],
    }))  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("core")
    made.add_argument("out", type=Path)
    made.add_argument("--atoms", type=int, default=500)
    images = commands.add_parser("tilts")
    images.add_argument("alloy", type=Path)
    images.add_argument("out", type=Path)
    images.add_argument("--voxel", type=float, default=0.8)
    images.add_argument("--noise", type=float, default=0.05)
    judged = commands.add_parser("score")
    judged.add_argument("session", type=Path)
    judged.add_argument("alloy", type=Path)
    judged.add_argument("--turned", action="store_true", help="the body frame is another one")
    for command in (images, judged):
        command.add_argument("--diameter", type=float, help="of a ball cut out of the particle, A")
    given = parser.parse_args()
    if given.command == "core":
        core(given.out, given.atoms)
    elif given.command == "tilts":
        tilts(given.alloy, given.out, given.voxel, given.diameter, given.noise)
    else:
        score(given.session, given.alloy, given.diameter, turned=given.turned)


if __name__ == "__main__":
    main()
