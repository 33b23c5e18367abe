"""Verdicts on simulated streams that are really reconstructed, against the atoms that are known: slow, resumable.

    python tests/benchmarks/stream_verdicts.py [--only wedge] [--out FILE.jsonl] [--print]

Boxes of one small crystal as the front end would cut them (`truth_cases.py`: images of atoms on graphene in water,
counts, errors of the track) go through the whole reconstruction, second map and trust included. After every map the
atoms are compared with the true ones. The truth says *enough* when recall and precision within 0.6 A are both at least
0.95, half of the used frames at least have the right pose, and no more than a twentieth of the directions is empty.
A case that stands in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from truth_cases import Case, Ingredients, about_one_axis, film, ingredients
from truth_study import commit, known, scoring

from tumble.recon.device import cpu
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.rotations import from_rotation_vector, multiply, random_rotations

RESULTS = Path(__file__).parent / "results" / "2026-11-21-stream-verdicts.jsonl"
RIGHT, RIGHT_POSES, VOID = 0.95, 0.5, 0.05
FRAMES, TARGET_A, TURN_FROM = 1200, 1.2, 600
MOVIE = Case("Pt", 200, dose=80.0, frames=FRAMES, linear=True, seed=3)


def _about(axis: list[float], angle_deg: np.ndarray, wobble_deg: np.ndarray) -> np.ndarray:
    """Poses (t, 4) turned by `angle_deg` (t,) about a lab axis, which itself wobbles by (t,) degrees about x."""
    start = random_rotations(1, np.random.default_rng(MOVIE.seed))[0]
    turned = multiply(from_rotation_vector(np.radians(angle_deg)[:, None] * np.array(axis)), start)
    return multiply(from_rotation_vector(np.radians(wobble_deg)[:, None] * np.array([1.0, 0, 0])), turned)


def _slow(size_deg: float, rng: np.random.Generator) -> np.ndarray:
    """(FRAMES,) a slow random wobble of standard deviation `size_deg`."""
    out = np.zeros(FRAMES)
    for frame in range(1, FRAMES):
        out[frame] = 0.99 * out[frame - 1] + 0.141 * size_deg * rng.normal()
    return out


def _tumbling() -> Ingredients:
    return ingredients(MOVIE)


def _side_band() -> Ingredients:
    rng = np.random.default_rng(1)
    return replace(_tumbling(), poses=_about([0, 1.0, 0], np.cumsum(rng.normal(0, 4, FRAMES)), _slow(3, rng)))


def _wedge() -> Ingredients:
    rng = np.random.default_rng(2)
    rocking = 60 * np.sin(np.cumsum(rng.normal(0.02, 0.04, FRAMES)))
    return replace(_tumbling(), poses=_about([0, 1.0, 0], rocking, _slow(1, rng)))


def _sticking() -> Ingredients:
    parts, rng = _tumbling(), np.random.default_rng(3)
    poses = parts.poses.copy()
    still = from_rotation_vector(np.cumsum(np.radians(rng.normal(0, 0.05, (FRAMES - TURN_FROM, 3))), axis=0))
    poses[TURN_FROM:] = multiply(still, poses[TURN_FROM])
    return replace(parts, poses=poses)


def _spinning() -> Ingredients:
    return replace(_tumbling(), poses=about_one_axis(FRAMES, 3.0, np.random.default_rng(4), 40.0))


def _low_dose() -> Ingredients:
    return ingredients(replace(MOVIE, dose=8.0))


def _dissolving() -> Ingredients:
    parts = _tumbling()
    elements, atoms = parts.crystals[0]
    order = np.argsort(np.linalg.norm(atoms, axis=1))
    steps = 12
    kept = [order[: round(len(order) * (1 - 0.04 * step))] for step in range(steps)]
    which = np.clip((np.arange(FRAMES) - TURN_FROM) // 50 + 1, 0, steps - 1)
    return replace(
        parts, crystals=tuple((tuple(elements[i] for i in keep), atoms[keep]) for keep in kept), which=which
    )  # fmt: skip


CASES: dict[str, tuple[Callable[[], Ingredients], tuple[str, ...]]] = {
    "tumbling": (_tumbling, ("ENOUGH",)),
    "wedge of +-60 degrees": (_wedge, ("PLATEAU", "STARVED", "CONTINUE")),
    "spins about one axis": (_spinning, ("PLATEAU", "STARVED", "CONTINUE")),
    "sticks after 600 frames": (_sticking, ("STARVED", "PLATEAU", "CONTINUE")),
    "dissolves from frame 600": (_dissolving, ("CHANGING",)),
    "low dose": (_low_dose, ("PLATEAU", "CONTINUE", "SEARCHING")),
    "side band": (_side_band, ("ENOUGH", "CONTINUE")),
}


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
                "empty": milestone.empty_fraction, "sphericity": milestone.sphericity, "area": milestone.area_ratio,
                "recall": atom_score.recall, "precision": atom_score.precision,
                "poses": float((score.error_deg[used] < scorer.RIGHT_DEG).mean()) if used.any() else 0.0,
            })  # fmt: skip
    last = particle.status()
    return {
        "state": last.state, "note": last.note, "course": course, "cpu_s": time.process_time() - began,
        "ends": last.verdict.word if last.verdict else "", "box_px": particle.box_px,
    }  # fmt: skip


def right(moment: dict[str, Any]) -> bool:
    """Whether the map of this moment is right, whatever was seen of it."""
    return bool(min(moment["recall"], moment["precision"]) >= RIGHT and moment["poses"] >= RIGHT_POSES)


def line(record: dict[str, Any]) -> str:
    """One case in one line of the table."""
    course = record["course"]
    timeline, word = [], None
    for moment in course:
        if moment["word"] != word:
            word = moment["word"]
            timeline.append(f"{moment['frame']}: {word}")
    enough = next((m["frame"] for m in course if right(m) and m["empty"] <= VOID), None)
    said = [m for m in course if m["word"] == "ENOUGH"]
    wrong = any(not right(m) or m["empty"] > 1.5 * VOID for m in said)
    words = {m["word"] for m in course} | {record["ends"]}
    due = enough is None and "ENOUGH" in record["expected"]  # a movie too short to be enough
    good = not wrong and (due or bool(words & set(record["expected"])))
    last = course[-1] if course else None
    numbers = "no map" if last is None else f"{last['recall']:.3f} {last['precision']:.3f} {last['poses']:.2f}"
    return (
        f"{record['name']:26}{enough or '-':>7}{said[0]['frame'] if said else '-':>7}  {'yes' if good else 'NO':4}"
        f"{numbers:18} {', '.join(timeline) or record['note']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--print", action="store_true", help="run nothing, print what is known")
    options = parser.parse_args()
    os.nice(10)
    done = known(options.out)
    for name, (make, expected) in CASES.items():
        if options.print or name in done or options.only not in name:
            continue
        record = {"name": name, "commit": commit(), "expected": expected, **follow(make(), scoring())}
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    print(f"{'case':26}{'truth':>7}{'said':>7}  {'ok':4}{'atoms r, p, poses':18} timeline (frame: word)")
    for text in options.out.read_text(encoding="utf-8").splitlines():
        print(line(json.loads(text)))


if __name__ == "__main__":
    main()
