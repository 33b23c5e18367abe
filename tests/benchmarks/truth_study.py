"""How right the reconstruction is, and whether it knows: crystals and conditions against known truth, one table each.

    python tests/benchmarks/truth_study.py table --out table.jsonl [--only Pt-twin ...] [--hours 3]
    python tests/benchmarks/truth_study.py trust --out trust.jsonl [--seeds 100] [--hours 1]
    python tests/benchmarks/truth_study.py spoil --out spoil.jsonl [--seeds 17] [--grains]
    python tests/benchmarks/truth_study.py print table.jsonl trust.jsonl

`table` reconstructs simulated crystals (`truth_cases.py`) at doses, speeds and lengths; `trust` makes runs go wrong
(`truth_ways.py`) beside right ones; `spoil` makes right runs wrong afterwards, six ways, twice (`truth_spoil.py`), at a
quarter of the cost. All append one line of JSON per run and go on where they were stopped. The whole table takes
about an hour and a half of one core; `print` says what share of it was run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from truth_cases import Case, Movie, film, ingredients
from truth_frames import disputed
from truth_print import print_table, print_trust
from truth_spoil import spoilt
from truth_ways import FIRST, WAYS, ForcedMapper, Spoilt, forced, right, right_grains

from tumble.recon.branches import half_of
from tumble.recon.compare import lattice_rms_A
from tumble.recon.device import cpu
from tumble.recon.kinds import USUAL
from tumble.recon.lens import Lens
from tumble.recon.maps import Accumulator, solve_halves
from tumble.recon.output import publish
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.records import PoseRow
from tumble.recon.volume import Grid

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 20  # of ways in turn: 100 right runs, 100 made to go wrong, 20 in little light
RIGHT_PER_ROUND = 5
EASY = ("frames shuffled", "pure noise")  # no map comes of them: every second round will do

CRYSTALS = (
    Case("Pt", 100), Case("Pt", 400), Case("Pt", 1500, pixel_size_A=0.5, frames=600), Case("Au", 300), Case("Pd", 300),
    Case("Ag", 300), Case("FePt", 300), Case("Pt-strained", 300), Case("Pt-regular", 300), Case("Pt-twin", 300),
    Case("Au-decahedron", 200), Case("Au-icosahedron", 200), Case("Fe-bcc", 300), Case("Ru-hcp", 300),
    Case("Pt-fault", 300), Case("Pt-lamella", 300), Case("Pt-two-twins", 300), Case("Pt-bicrystal", 300),
    Case("Pt-amorphous", 200),
)  # fmt: skip
LARGEST = Case("Pt", 4300, pixel_size_A=0.55, frames=600)  # 50 A
IMAGING = (
    Case("Pt", 200, height_A=0.0), Case("Pt", 200, height_A=20.0), Case("Pt", 200, cs_um=10.0, defocus_A=54.0),
    Case("Pt", 200, defocus_A=-150.0), Case("Pt", 200, defocus_A=-150.0, told=True),
)  # fmt: skip
DOSES = (40.0, 25.0, 12.0)
STEPS = (1.0, 4.3, 8.0)
LENGTHS = (600, 1500, 3000)


def cases() -> list[Case]:
    """The table: every crystal at 80 e / A^2 and 2.5 degrees; Pt, Au and a twin at all doses, speeds and lengths."""
    base = [Case("Pt", 300), *CRYSTALS]
    varied = []
    for start in (Case("Pt", 300), Case("Au", 300), Case("Pt-twin", 300)):
        varied += [Case(start.crystal, 300, dose=dose, frames=1000) for dose in DOSES]
        varied += [Case(start.crystal, 300, step_deg=step) for step in STEPS]
        varied += [Case(start.crystal, 300, frames=frames) for frames in LENGTHS]
    return [*base, *IMAGING, *varied, LARGEST]


def scoring() -> ModuleType:
    """The scorer of the tests."""
    spec = importlib.util.spec_from_file_location("scoring", ROOT / "tests" / "recon" / "scoring.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/recon/scoring.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["scoring"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def ceiling_rmsd_A(particle: ParticleReconstruction, movie: Movie, scorer: ModuleType) -> float | None:
    """Rmsd of the atoms that the same pipeline finds in the same frames, given their true poses and centres."""
    mapper = particle.mapper
    if mapper is None or mapper.published is None:
        return None
    buffer = mapper.buffer
    rows, number = buffer.rows, buffer.number[buffer.rows]
    poses = movie.poses[number]
    shifts = movie.centres_px[number] - buffer.origin_px[rows]
    sums = Accumulator(Grid(mapper.plane.box_px, mapper.limits.final), 2, mapper.device)
    mapper._data.insert(sums, half_of(number), rows, poses, shifts, np.ones(len(rows)))
    solved = solve_halves(sums.sums(0), sums.sums(1), sums.grid, mapper.device)
    best = publish(solved, mapper.pixel_size_A, mapper.lattice or USUAL, None, mapper.device)
    atoms = np.array([atom.position_A for atom in best.atoms]).reshape(-1, 3)
    found = scorer.score_atoms(atoms, movie.atoms_A, scorer.score_poses(poses, poses))
    return None if np.isnan(found.rmsd_A) else float(found.rmsd_A)


def follow(movie: Movie, options: ReconstructionOptions) -> tuple[ParticleReconstruction, list[PoseRow], bool | None]:
    """One particle from its first box to its atoms: poses that have left the buffer, and the trust before the end."""
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, lambda: movie.noise, options, cpu())
    rows: list[PoseRow] = []
    for observation in movie.observations:
        particle.push(observation)
        while particle.work():
            rows.extend(particle.drain_poses())
    live = particle.status().trust
    particle.finish()
    rows.extend(particle.drain_poses())
    return particle, rows, live.trusted if live else None


def reconstruct(
    movie: Movie, scorer: ModuleType, options: ReconstructionOptions, made: list[ForcedMapper], *, ceiling: bool
) -> dict[str, Any]:
    """Run one particle and compare it with the truth; `made` gathers its mappers."""
    start = time.process_time()
    particle, rows, live = follow(movie, options)
    spent = time.process_time() - start
    out = compared(particle, rows, movie, scorer) | {"cpu_s": spent, "live_trusted": live}
    if pair := both(particle, made):
        out |= disputed(*pair, movie.poses, scorer)
    if ceiling and particle.result() is not None:
        out["ceiling_A"] = ceiling_rmsd_A(particle, movie, scorer)
    return out


def compared(particle: ParticleReconstruction, left: list[PoseRow], movie: Movie, scorer: ModuleType) -> dict[str, Any]:
    """What has come out, against the truth; `left` are poses that have left the buffer."""
    result, status, rows = particle.result(), particle.status(), list(left)
    out: dict[str, Any] = {
        "state": status.state, "note": status.note, "frames": len(movie.observations),
        "true_atoms": len(movie.atoms_A), "box_px": particle.box_px, "diameter_A": movie.diameter_A,
        "trust": asdict(status.trust) if status.trust else None, "resolution_A": status.resolution_A,
        "lattice": status.lattice, "lattice_constant_A": status.lattice_constant_A, "step_deg": status.step_deg,
    }  # fmt: skip
    mapper = particle.mapper
    if result is None or mapper is None:
        return out
    lattice = mapper.published.lattice if mapper.published else USUAL
    rows.extend(result.poses)
    frames, used = np.array([row.frame for row in rows]), np.array([row.used for row in rows])
    poses = scorer.score_poses(np.array([row.quaternion for row in rows]), movie.poses[frames])
    positions = np.array([atom.position_A for atom in result.atoms]).reshape(-1, 3)
    atoms = scorer.score_atoms(positions, movie.atoms_A, poses)
    out |= {
        "right": poses.right,
        "right_used": float((poses.error_deg[used] < scorer.RIGHT_DEG).mean()) if used.any() else 0.0,
        "used": float(used.mean()), "median_deg": float(np.median(poses.error_deg)),
        "recall": atoms.recall, "precision": atoms.precision,
        "rmsd_A": None if np.isnan(atoms.rmsd_A) else float(atoms.rmsd_A), "atoms": len(positions),
        "lattice_rms_A": lattice_rms_A(positions, lattice.neighbour_A, lattice.kind),
    }  # fmt: skip
    return out


def commit() -> str:
    """Short name of the commit that is measured, with a plus when files have been changed since."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def known(path: Path) -> set[str]:
    """Names of the runs that a file of results holds."""
    if not path.exists():
        return set()
    return {json.loads(line)["name"] for line in path.read_text(encoding="utf-8").splitlines()}


def table_runs(only: list[str]) -> Iterator[tuple[str, Any]]:
    for case in cases():
        if not only or any(word in case.name for word in only):
            yield case.name, lambda case=case: (asdict(case), film(ingredients(case)), None, None)


def trust_runs(seeds: range, only: list[str]) -> Iterator[tuple[str, Any]]:
    """Right and wrong runs in turn, as many of the one as of the others, so that what was run by then is balanced."""

    def one(way: str, seed: int) -> tuple[str, Any]:
        def make() -> tuple[dict[str, Any], Movie, Any, Any]:
            spoilt = WAYS[way](seed)
            return {"way": way, "seed": seed, "case": spoilt.case.name}, spoilt.movie, spoilt.first, spoilt.second

        return f"{way} {seed}", make

    wrong = [way for way in WAYS if way != "right"]
    for seed in seeds:
        for n, way in enumerate(wrong):
            if way in only or (not only and (way not in EASY or seed % 2 == 0)):
                yield one(way, seed)
            if n < RIGHT_PER_ROUND and (not only or "right" in only):
                yield one("right", RIGHT_PER_ROUND * seed + n)


def both(particle: ParticleReconstruction, made: list[ForcedMapper]) -> tuple[ForcedMapper, ForcedMapper] | None:
    """The mapper of a particle and the last of its witnesses; None unless both have a map."""
    first = next((m for m in made if m is particle.mapper), None)
    if first is None or made[-1] is first or first.published is None or made[-1].published is None:
        return None
    return first, made[-1]


def run_spoilt(seeds: range, out: Path, hours: float, every: int, make: Callable[[int], Spoilt]) -> None:
    """Right runs, one in `every` of single crystals spoilt in twelve ways afterwards; what the rule says of them."""
    scorer, done, version = scoring(), known(out), commit()
    until = time.monotonic() + 3600 * hours
    for seed in seeds:
        if f"right {seed}" in done or time.monotonic() > until:
            continue
        start = time.process_time()
        case, movie = (run := make(seed)).case, run.movie
        with forced(None, None) as made:
            particle, rows, live = follow(movie, ReconstructionOptions(bootstrap_frames=FIRST))
        common = {
            "seed": seed, "case": case.name, "commit": version, "date": time.strftime("%Y-%m-%d"), "live_trusted": live,
        }  # fmt: skip
        found = compared(particle, rows, movie, scorer)
        pair = both(particle, made)
        found |= disputed(*pair, movie.poses, scorer) if pair else {}
        records = [{"name": f"right {seed}", "way": "right", **common, **found, "cpu_s": time.process_time() - start}]
        if pair and seed % every == 0 and case.crystal != "Pt-twin":
            for way, trust in spoilt(particle, *pair, seed):
                found = compared(particle, rows, movie, scorer) | {"trust": asdict(trust)}
                records.append({"name": f"{way} {seed}", "way": way, **common, **found})
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, default=float) + "\n" for record in records)
        print(
            *(f"{r['name']}: {r.get('right_used', 0):.2f} {r['trust']['trusted']}" for r in records),
            sep="\n",
            flush=True,
        )


def run(runs: Iterator[tuple[str, Any]], out: Path, hours: float, *, ceiling: bool) -> None:
    """Do what is not in the file yet, until the time is up."""
    scorer, done, version = scoring(), known(out), commit()
    until = time.monotonic() + 3600 * hours
    for name, make in runs:
        if name in done:
            continue
        if time.monotonic() > until:
            print("time is up; the next call goes on from here")
            return
        more, movie, first, second = make()
        if ceiling:
            lens = Lens(cs_um=more["cs_um"], defocus_A=more["defocus_A"]) if more["told"] else Lens()
            options = ReconstructionOptions(lens=lens)
        else:
            options = ReconstructionOptions(bootstrap_frames=FIRST)
        with forced(first, second) as made:
            found = reconstruct(movie, scorer, options, made, ceiling=ceiling)
        record = {"name": name, "commit": version, "date": time.strftime("%Y-%m-%d"), **more, **found}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, default=float) + "\n")
        trust = found["trust"] or {}
        print(
            name, found["state"], "trusted" if trust.get("trusted") else "; ".join(trust.get("reasons", ())),
            f"{found['cpu_s']:.0f} s", flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "trust", "spoil", "print"])
    parser.add_argument("files", nargs="*", type=Path, help="of results, for print")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=ROUNDS)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--grains", action="store_true", help="spoil: decahedra, icosahedra, hexagonal crystals")
    parser.add_argument("--every", type=int, default=1, help="spoil: one seed of so many is spoilt")
    arguments = parser.parse_args()
    if arguments.what == "print":
        lines = [line for path in arguments.files for line in path.read_text(encoding="utf-8").splitlines()]
        records = [json.loads(line) for line in lines]
        trust, table = ([r for r in records if ("way" in r) == way] for way in (True, False))
        if trust:
            print_trust(trust)
        if table:
            print_table(table, [case.name for case in cases()])
        return
    if arguments.out is None:
        parser.error("--out FILE.jsonl keeps the results")
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.what == "spoil":
        make = right_grains if arguments.grains else right
        run_spoilt(seeds, arguments.out, arguments.hours, arguments.every, make)
        return
    runs = table_runs(arguments.only) if arguments.what == "table" else trust_runs(seeds, arguments.only)
    run(runs, arguments.out, arguments.hours, ceiling=arguments.what == "table")


if __name__ == "__main__":
    main()
