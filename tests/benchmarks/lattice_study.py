"""Which kind of lattice is recognised: fcc and bcc crystals, and what is neither, at several doses.

    python tests/benchmarks/lattice_study.py --out search.jsonl [--seeds 6] [--only Fe-bcc ...]
    python tests/benchmarks/lattice_study.py --print search.jsonl

60 frames of each movie, the search for the lattice only, nothing told. One line of JSON per movie; goes on where it was
stopped. What becomes of the maps: `truth_study.py table --only bcc ...`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from truth_cases import Case, film, ingredients
from truth_study import commit, known

from tumble.recon.device import cpu
from tumble.recon.geometry import half_plane
from tumble.recon.kinds import FCC, USUAL, search_ranges
from tumble.recon.lattice import search_grid
from tumble.recon.limits import limits
from tumble.recon.recognition import LATTICE_FRAMES, SPACING_DEG, Boxes, constants, recognise_lattice
from tumble.recon.spectra import box_coefficients, noise_weights
from tumble.recon.symmetry import CUBE
from tumble.recon.volume import Grid

CRYSTALS = (
    "Pt", "Au", "Pd", "Ag", "FePt", "Pt-strained", "Pt-twin", "Fe-bcc", "Mo-bcc", "Ta-bcc", "Au-decahedron",
    "Au-icosahedron", "Ru-hcp", "Pt-amorphous",
)  # fmt: skip
DOSES = (80.0, 40.0, 25.0, 12.0)
SIZES = (160, 300)


def searched(case: Case) -> dict[str, Any]:
    """The lattice that is recognised; the time it takes, and that of an fcc lattice alone."""
    movie = film(ingredients(case))
    box_px = movie.noise.power.shape[0]
    radii = limits(box_px, case.pixel_size_A, USUAL.scale_A)
    plane, grid, poses = half_plane(box_px, radii.largest), Grid(box_px, radii.index), search_grid(SPACING_DEG, CUBE)
    data = box_coefficients(np.stack([o.box for o in movie.observations]), plane, cpu())
    weight = noise_weights(movie.noise, plane)
    boxes = Boxes(data, plane, weight, movie.diameter_A, case.pixel_size_A, grid, cpu())
    start = time.process_time()
    found = recognise_lattice(boxes, search_ranges(None), (1, -1))
    spent = time.process_time() - start
    start = time.process_time()
    alone = None if case.seed or case.crystal != "Pt" else constants(boxes, poses, FCC.search_A, (1, -1))
    return {
        "kind": found.lattice.kind.name, "constant_A": found.lattice.constant_A, "sharpness": found.sharpness,
        "sign": found.sign, "cpu_s": spent, "fcc_cpu_s": time.process_time() - start if alone else None,
    }  # fmt: skip


def print_table(records: list[dict[str, Any]]) -> None:
    """One line per crystal and dose."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["crystal"], record["dose"]), []).append(record)
    print("| crystal | dose | movies | taken for | constants, A | least sharpness |\n|---|---|---|---|---|---|")
    for (crystal, dose), runs in groups.items():
        kinds = [run["kind"] for run in runs]
        counts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
        constants = [run["constant_A"] for run in runs]
        least = min(run["sharpness"] for run in runs)
        print(
            f"| {crystal} | {dose:g} | {len(runs)} | {counts} | {min(constants):.3f} to {max(constants):.3f} "
            f"| {least:.1f} |"
        )
    more = [run["cpu_s"] / run["fcc_cpu_s"] for run in records if run["fcc_cpu_s"]]
    print(f"\ntime of the search over that of fcc alone: {', '.join(f'{m:.2f}' for m in sorted(more))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--print", type=Path, dest="printed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(CRYSTALS))
    parser.add_argument("--doses", nargs="*", type=float, default=list(DOSES))
    arguments = parser.parse_args()
    if arguments.printed is not None:
        print_table([json.loads(line) for line in arguments.printed.read_text(encoding="utf-8").splitlines()])
        return
    if arguments.out is None:
        parser.error("--out FILE.jsonl keeps the results")
    done, version = known(arguments.out), commit()
    for seed in range(arguments.seeds):
        for dose in arguments.doses:
            for crystal in arguments.only:
                case = Case(
                    crystal, SIZES[seed % len(SIZES)], dose=dose, frames=LATTICE_FRAMES, step_deg=12.0, linear=True,
                    seed=seed,
                )  # fmt: skip
                if case.name in done:
                    continue
                record = {"name": case.name, "crystal": crystal, "dose": dose, "seed": seed, "commit": version}
                record |= searched(case)
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                print(
                    record["name"], record["kind"], f"{record['constant_A']:.3f} A {record['cpu_s']:.1f} s", flush=True
                )


if __name__ == "__main__":
    main()
