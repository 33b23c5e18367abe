"""Which crystals are said to stay unmeasured from some sides: true views alone, nothing is reconstructed.

    python tests/benchmarks/void_study.py [--seeds 3] [--first 40]

Crystals that rock by +-60 degrees (slowly, and fast), spin about an axis, turn about one across the beam with a
wobble, stick after 1000 frames, or turn freely at five speeds are seen in 2900 frames, once as they are, once with one
view in a hundred anywhere at random, once with these in runs of 12 frames. Poses are 0.3 degrees off, per axis.
Progress and verdict are the program's own, maps come at the frames where it makes them. PLATEAU is right for those that
rock and spin, STARVED or PLATEAU for those that stick, both are wrong for all others.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import stream_verdicts as streams
from truth_cases import about_one_axis

from tumble.recon import progress
from tumble.recon.chain import step_per_axis_deg
from tumble.recon.coverage import view_directions
from tumble.recon.progress import NewMap, Progress
from tumble.recon.records import Trust
from tumble.recon.rotations import from_rotation_vector, multiply, random_rotations

FRAMES = 2900
MAPS = (400, 600, 700, 1000, 1400, 1900, 2400, 2900)
STEP_FRAMES = 250
STUCK_FROM = 1000
POSES_OFF_DEG = 0.3
SPEEDS_DEG = (0.5, 0.75, 1.0, 1.5, 2.5)
WRONG = ((0.0, 1), (0.01, 1), (0.01, 12))  # share of the views, and how many in a row
OVER = ("PLATEAU", "STARVED")
TARGET_A, DIAMETER_A, BOX_A = 1.2, 17.6, 26.9


def _wobble(size_deg: float, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(FRAMES)
    for frame in range(1, FRAMES):
        out[frame] = 0.99 * out[frame - 1] + 0.141 * size_deg * rng.normal()
    return out


def rocking(mean: float, spread: float, wobble_deg: float) -> Callable[[int], np.ndarray]:
    """Poses (FRAMES, 4) by seed of a crystal that rocks by +-60 degrees, `mean` +- `spread` rad of a cycle a frame."""

    def poses(seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, 2])
        angle = 60 * np.sin(np.cumsum(rng.normal(mean, spread, FRAMES)))
        return streams._about(seed, [0, 1.0, 0], angle, _wobble(wobble_deg, rng))

    return poses


def spinning(seed: int) -> np.ndarray:
    return about_one_axis(FRAMES, 3.0, np.random.default_rng([seed, 4]), 40.0)


def side_band(seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    return streams._about(seed, [0, 1.0, 0], np.cumsum(rng.normal(0, 4, FRAMES)), _wobble(3, rng))


def free(step_deg: float) -> Callable[[int], np.ndarray]:
    """Poses (FRAMES, 4) by seed of a crystal that turns freely, `step_deg` per axis and frame."""

    def poses(seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, round(100 * step_deg)])
        turns = from_rotation_vector(np.radians(rng.normal(0, step_deg, (FRAMES - 1, 3))))
        out = [random_rotations(1, rng)[0]]
        for turn in turns:
            out.append(multiply(turn, out[-1]))
        return np.array(out)

    return poses


def sticking(seed: int) -> np.ndarray:
    poses, rng = free(2.5)(seed), np.random.default_rng([seed, 3])
    still = np.cumsum(np.radians(rng.normal(0, 0.05, (FRAMES - STUCK_FROM, 3))), axis=0)
    poses[STUCK_FROM:] = multiply(from_rotation_vector(still), poses[STUCK_FROM])
    return poses


def blurred(poses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poses (n, 4) with their errors."""
    return multiply(from_rotation_vector(np.radians(rng.normal(0, POSES_OFF_DEG, (len(poses), 3)))), poses)


MOTIONS: dict[str, Callable[[int], np.ndarray]] = {
    "rocks, slowly": rocking(0.02, 0.04, 1.0),
    "rocks": rocking(0.08, 0.08, 3.0),
    "spins": spinning,
    "side band": side_band,
    "sticks": sticking,
    **{f"free, {speed} deg": free(speed) for speed in SPEEDS_DEG},
}


def with_wrong(views: np.ndarray, share: float, run: int, rng: np.random.Generator) -> np.ndarray:
    """Views (n, 3) of which `share`, `run` in a row, are turned anywhere."""
    views = views.copy()
    for start in rng.integers(0, len(views) - run, round(share * len(views) / run)):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        views[start : start + run] = views[start : start + run] @ turn
    return views


def verdicts(views: np.ndarray, poses: np.ndarray) -> list[str]:
    """The words at every map; `poses` (n, 4) tell the rotation per frame."""
    course, words = Progress(TARGET_A, DIAMETER_A, BOX_A), []
    for frame in MAPS:
        course.advance(
            NewMap(
                frame=frame, time_s=frame * 2.5e-3, views=views[:frame], number=np.arange(frame),
                step_deg=step_per_axis_deg(poses[max(0, frame - STEP_FRAMES) : frame]), resolution_A=1.5,
                fsc=np.ones(33), first=6, atoms_A=np.zeros((0, 3)),
            )
        )  # fmt: skip
        words.append(course.judge(state="MAPPING", frames_seen=frame, trust=Trust(None)).word)
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="walks of each motion")
    parser.add_argument("--first", type=int, default=40, help="their first seed")
    parser.add_argument("--only", default="", help="motions whose name holds this")
    options = parser.parse_args()
    progress.efficiency.orientation_efficiency = lambda _: 0.8  # slow, and not asked
    began, found = time.process_time(), defaultdict(list)
    print(f"words at the maps of {', '.join(map(str, MAPS))} frames, by their first letters")
    for name, make in MOTIONS.items():
        if options.only not in name:
            continue
        for seed in range(options.first, options.first + options.seeds):
            poses = blurred(make(seed), np.random.default_rng([seed, 9]))
            for share, run in WRONG:
                views = with_wrong(view_directions(poses), share, run, np.random.default_rng([seed, 33]))
                found[share, run].append(verdicts(views, poses))
        for share, run in WRONG:
            said = found.pop((share, run))
            over, last = sum(bool({*words} & {*OVER}) for words in said), sum(words[-1] in OVER for words in said)
            letters = " ".join("".join(word[0] for word in words) for words in said)
            how = f"{name:15} {100 * share:.0f} % wrong in runs of {run:2}"
            print(f"{how}: {over} of {len(said)}, {last} at the end   {letters}", flush=True)
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
