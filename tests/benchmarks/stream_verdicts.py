"""Verdicts on simulated streams that are really reconstructed, against the atoms that are known: slow, resumable.

    python tests/benchmarks/stream_verdicts.py [--only wedge] [--seeds 3,4] [--out FILE.jsonl] [--print]

Boxes of one small crystal as the front end would cut them (`truth_cases.py`: images of atoms on graphene in water,
counts, errors of the track) go through the whole reconstruction, second map and trust included. After every map the
atoms are compared with the true ones. A map is right when recall and precision within 0.6 A are both at least 0.95, it
resolves the target, and half of the used frames at least have the right pose. The truth says *enough* at the first
frame at which the true views leave no more than a twentieth of the directions empty and at or before which a right map
was made: the void is known to the frame, the map only where the program makes one. A case that stands in the file is
not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from truth_cases import Case, Ingredients, Movie, about_one_axis, film, ingredients
from truth_study import commit, known, scoring

from tumble.recon.coverage import view_directions
from tumble.recon.device import cpu
from tumble.recon.metrics.sampling import FourierSampling
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.rotations import from_rotation_vector, multiply, random_rotations

RESULTS = Path(__file__).parent / "results" / "2026-11-21-stream-verdicts-long.jsonl"
RIGHT, RIGHT_POSES, VOID = 0.95, 0.5, 0.05
EARLY, LATE = 0.05, 0.20  # of ENOUGH against the truth
FRAMES, TARGET_A, TURN_FROM = 2400, 1.2, 1000
MOVIE = Case("Pt", 180, dose=80.0, frames=FRAMES, linear=True)


def _about(seed: int, axis: list[float], angle_deg: np.ndarray, wobble_deg: np.ndarray) -> np.ndarray:
    """Poses (t, 4) turned by `angle_deg` (t,) about a lab axis, which itself wobbles by (t,) degrees about x."""
    start = random_rotations(1, np.random.default_rng(seed))[0]
    turned = multiply(from_rotation_vector(np.radians(angle_deg)[:, None] * np.array(axis)), start)
    return multiply(from_rotation_vector(np.radians(wobble_deg)[:, None] * np.array([1.0, 0, 0])), turned)


def _slow(size_deg: float, rng: np.random.Generator) -> np.ndarray:
    """(FRAMES,) a slow random wobble of standard deviation `size_deg`."""
    out = np.zeros(FRAMES)
    for frame in range(1, FRAMES):
        out[frame] = 0.99 * out[frame - 1] + 0.141 * size_deg * rng.normal()
    return out


def _tumbling(seed: int) -> Ingredients:
    return ingredients(replace(MOVIE, seed=seed))


def _twin(seed: int) -> Ingredients:
    return ingredients(replace(MOVIE, crystal="Pt-twin", seed=seed))


def _side_band(seed: int) -> Ingredients:
    rng = np.random.default_rng([seed, 1])
    poses = _about(seed, [0, 1.0, 0], np.cumsum(rng.normal(0, 4, FRAMES)), _slow(3, rng))
    return replace(_tumbling(seed), poses=poses)


def _wedge(seed: int) -> Ingredients:
    rng = np.random.default_rng([seed, 2])
    rocking = 60 * np.sin(np.cumsum(rng.normal(0.02, 0.04, FRAMES)))
    return replace(_tumbling(seed), poses=_about(seed, [0, 1.0, 0], rocking, _slow(1, rng)))


def _sticking(seed: int) -> Ingredients:
    parts, rng = _tumbling(seed), np.random.default_rng([seed, 3])
    poses = parts.poses.copy()
    still = from_rotation_vector(np.cumsum(np.radians(rng.normal(0, 0.05, (FRAMES - TURN_FROM, 3))), axis=0))
    poses[TURN_FROM:] = multiply(still, poses[TURN_FROM])
    return replace(parts, poses=poses)


def _spinning(seed: int) -> Ingredients:
    return replace(_tumbling(seed), poses=about_one_axis(FRAMES, 3.0, np.random.default_rng([seed, 4]), 40.0))


def _low_dose(seed: int) -> Ingredients:
    return ingredients(replace(MOVIE, dose=8.0, seed=seed))


def _dissolving(seed: int) -> Ingredients:
    parts = _tumbling(seed)
    elements, atoms = parts.crystals[0]
    order = np.argsort(np.linalg.norm(atoms, axis=1))
    steps = 12
    kept = [order[: round(len(order) * (1 - 0.04 * step))] for step in range(steps)]
    which = np.clip((np.arange(FRAMES) - TURN_FROM) // 50 + 1, 0, steps - 1)
    return replace(
        parts, crystals=tuple((tuple(elements[i] for i in keep), atoms[keep]) for keep in kept), which=which
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[int], Ingredients], tuple[str, ...]]] = {
    "dissolves from frame 1000": (_dissolving, ("CHANGING",)),
    "tumbling": (_tumbling, ("ENOUGH",)),
    "side band": (_side_band, ("ENOUGH",)),
    "sticks after 1000 frames": (_sticking, ("STARVED", "PLATEAU")),
    "wedge of +-60 degrees": (_wedge, ("PLATEAU", "STARVED")),
    "spins about one axis": (_spinning, ("PLATEAU", "STARVED")),
    "twin, tumbling": (_twin, ("ENOUGH",)),
    "low dose": (_low_dose, ("PLATEAU", "CONTINUE", "SEARCHING")),
}  # those that may also become ENOUGH, because the truth says so before, may say that as well


def seen_from(movie: Movie) -> int | None:
    """First frame at which the true views leave no more than `VOID` of the directions empty."""
    sampling = FourierSampling(movie.diameter_A / TARGET_A)
    views = view_directions(movie.poses)
    for frame in range(len(views)):
        sampling.add(views[frame : frame + 1])
        if sampling.sampling.empty_fraction <= VOID:
            return frame
    return None


def follow(parts: Ingredients, scorer: Any) -> dict[str, Any]:
    """Feed one movie frame by frame; after every map and verdict, how far it is from the truth."""
    movie = film(parts)
    options = ReconstructionOptions(target_resolution_A=TARGET_A)
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, lambda: movie.noise, options, cpu())
    rows, course, seen = [], [], (0, "")
    began = time.process_time()
    for observation in movie.observations:
        particle.push(observation)
        while particle.work():
            rows.extend(particle.drain_poses())
            status = particle.status()
            verdict, milestone = status.verdict, status.milestone
            now = (milestone.frames_used if milestone else 0, verdict.word if verdict else "")
            result = particle.result() if now != seen else None
            seen = now
            if verdict is None or milestone is None or result is None:
                continue
            known_poses = [*rows, *result.poses]
            found = np.array([row.quaternion for row in known_poses])
            score = scorer.score_poses(found, movie.poses[[row.frame for row in known_poses]])
            used = np.array([row.used for row in known_poses])
            _, truth = parts.crystals[int(parts.which[milestone.frame])]
            atoms = np.array([atom.position_A for atom in result.atoms]).reshape(-1, 3)
            atom_score = scorer.score_atoms(atoms, truth, score)
            course.append({
                "frame": milestone.frame, "word": verdict.word, "reasons": verdict.reasons,
                "trusted": status.trust.trusted if status.trust else None, "resolution_A": milestone.resolution_A,
                "empty": milestone.empty_fraction, "cone": milestone.weakest_cone,
                "recall": atom_score.recall, "precision": atom_score.precision,
                "poses": float((score.error_deg[used] < scorer.RIGHT_DEG).mean()) if used.any() else 0.0,
            })  # fmt: skip
    last = particle.status()
    return {
        "state": last.state, "note": last.note, "seen_from": seen_from(movie), "course": course,
        "cpu_s": time.process_time() - began, "ends": last.verdict.word if last.verdict else "",
        "box_px": particle.box_px,
    }  # fmt: skip


def right(moment: dict[str, Any]) -> bool:
    """Whether the map of this moment is right, whatever was seen of it."""
    resolved = moment["resolution_A"] is not None and moment["resolution_A"] <= 1.05 * TARGET_A
    return bool(min(moment["recall"], moment["precision"]) >= RIGHT and moment["poses"] >= RIGHT_POSES and resolved)


def enough_from(record: dict[str, Any]) -> int | None:
    """The frame from which on the truth says *enough*; None when it never does."""
    first = next((moment["frame"] for moment in record["course"] if right(moment)), None)
    return None if first is None or record["seen_from"] is None else max(first, record["seen_from"])


def judge(record: dict[str, Any]) -> tuple[bool, str]:
    """Whether the verdicts were right, and by how much ENOUGH was off where it was due."""
    course, expected, true = record["course"], record["expected"], enough_from(record)
    if "ENOUGH" in expected and not course:
        return False, "missed"
    said = [moment for moment in course if moment["word"] == "ENOUGH"]
    if any(not right(moment) for moment in said):
        return False, "wrong map"
    late = ""
    if said and true is None:
        return False, "not due"
    if said and true is not None:
        share = said[0]["frame"] / true - 1
        late = f"{100 * share:+.0f} %"
        if not -EARLY <= share <= LATE:
            return False, late
    words = {moment["word"] for moment in course} | {record["ends"]}
    if "ENOUGH" in expected:
        due = true is not None and course[-1]["frame"] > (1 + LATE) * true
        return bool(said) or not due, late
    return bool(words & set(expected)) or (bool(said) and "CHANGING" not in expected), late


def line(record: dict[str, Any]) -> str:
    """One case in one line of the table."""
    course = record["course"]
    timeline, word = [], None
    for moment in course:
        if moment["word"] != word:
            word = moment["word"]
            timeline.append(f"{moment['frame']}: {word}")
    said = next((moment["frame"] for moment in course if moment["word"] == "ENOUGH"), None)
    good, late = judge(record)
    last = course[-1] if course else None
    numbers = "no map" if last is None else f"{last['recall']:.3f} {last['precision']:.3f} {last['poses']:.2f}"
    return (
        f"{record['name']:32}{enough_from(record) or '-':>6}{said or '-':>6} {late:>6}  {'yes' if good else 'NO':4}"
        f"{numbers:17} {', '.join(timeline) or record['note']}"
    )


def run(names: Sequence[str], seeds: Sequence[int], out: Path) -> None:
    """Run what is not in the file yet, one seed of all cases after the other."""
    done = known(out)
    for seed in seeds:
        for case in names:
            make, expected = CASES[case]
            name = f"{case}, seed {seed}"
            if name in done:
                continue
            record = {"name": name, "commit": commit(), "expected": expected, **follow(make(seed), scoring())}
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--seeds", default="3", help="of crystal, motion and noise, with commas between them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--print", action="store_true", help="run nothing, print what is known")
    options = parser.parse_args()
    os.nice(10)
    if not options.print:
        run([name for name in CASES if options.only in name], [int(s) for s in options.seeds.split(",")], options.out)
    print(f"{'case':32}{'truth':>6}{'said':>6} {'':6}  {'ok':4}{'atoms r, p, poses':17} timeline (frame: word)")
    for text in options.out.read_text(encoding="utf-8").splitlines():
        print(line(json.loads(text)))


if __name__ == "__main__":
    main()
