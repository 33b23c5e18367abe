"""Is total variation worth it where tilts are few? Several seeds, several noises, its weight chosen in three ways.

    python tests/benchmarks/tv_study.py [--tilts 8 23] [--limits 90 70 60] [--noise 0.1] [--seeds 3]

A small crystal (55 atoms), projected exactly. The weights of a scan are multiples of the default, `variation_weight`:

"discrepancy": the one whose misfit is nearest to the noise that the images have (Morozov).
"left out": the one that predicts the tilts best that were left out, every fourth.
"best": the one with the best F1 of the atoms, which needs the truth: nobody can do better by choosing the weight.

One line of JSON per setting and way, means over the seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from tilt_study import NOISE, SIGMA_A, atom_images, ball, direct, found_atoms, series

from tumble.recon.device import cpu
from tumble.recon.solvers.iterative import iterate, noise_sigma, total_variation, variation_weight
from tumble.recon.solvers.projector import Projector
from tumble.stream.simulator.crystal import wulff_crystal

FACTORS = (0.5, 1.0, 2.0, 4.0)  # of the default weight
EDGE, VOXEL_A, ATOMS, DISTANCE_A = 34, 0.5, 55, 2.775
ITERATIONS = 60


def gaussians(places_px: np.ndarray, n: int, sigma: float) -> np.ndarray:
    """The density (n, n, n) of atoms (k, 3) as they are projected."""
    norm = np.sqrt(2 * np.pi) * sigma
    x, y, z = (np.exp(-0.5 * ((np.arange(n) - a[:, None]) / sigma) ** 2) / norm for a in (places_px + n // 2).T)
    return np.einsum("az,ay,ax->zyx", z, y, x, optimize=True)


def f1(values: dict[str, float]) -> float:
    """Of the atoms of a map: harmonic mean of recall and precision."""
    both = values["recall"] + values["precision"]
    return 2 * values["recall"] * values["precision"] / both if both else 0.0


def misfit(projector: Projector, volume: np.ndarray, images: np.ndarray) -> float:
    """Root mean square per pixel."""
    return float(np.sqrt(((projector.forward(volume) - images) ** 2).mean()))


def one(limit: float, count: int, noise: float, seed: int) -> dict[str, dict[str, float]]:
    """All ways for one crystal and one noise: atoms, error of the density, processor time."""
    crystal = wulff_crystal("Pt", ATOMS, asymmetry=0.1, missing_surface=0.2, displacement_rms_A=0.05, seed=seed)
    truth, sigma = crystal.positions_A, SIGMA_A / VOXEL_A
    support, quaternions = ball(EDGE, (crystal.radius_A + 2.0) / VOXEL_A), series(limit, count)
    clean = atom_images(truth / VOXEL_A, np.ones(len(truth)), quaternions, EDGE, sigma)
    rng = np.random.default_rng(1000 * seed + count)
    images = (clean + noise * clean.max() * rng.normal(size=clean.shape)).astype(np.float32)
    density = gaussians(truth / VOXEL_A, EDGE, sigma)
    whole = Projector((EDGE,) * 3, (EDGE,) * 2, quaternions, np.zeros((count, 2)), cpu())
    kept = np.arange(count) % 4 != 2
    sigma_seen, weight = noise_sigma(images), variation_weight(images)

    def scored(make: Any) -> tuple[np.ndarray, dict[str, float]]:
        began = time.process_time()
        volume = np.asarray(make(), np.float32)
        spent = time.process_time() - began
        scale = float((volume * density).sum() / (volume * volume).sum())
        values = found_atoms(volume, truth, VOXEL_A, DISTANCE_A)
        values["f1"] = f1(values)
        values["error"] = float(np.linalg.norm(scale * volume - density) / np.linalg.norm(density))
        return volume, values | {"cpu_s": spent}

    def varied(factor: float, p: Projector, seen: np.ndarray) -> np.ndarray:
        return total_variation(p, seen, weight=factor * weight, support=support, iterations=ITERATIONS).volume

    made = {
        "direct Fourier": scored(lambda: direct(images, quaternions))[1],
        "iterative": scored(lambda: iterate(whole, images, support=support, noise=sigma_seen).volume)[1],
    }
    scan, far, left = {}, {}, {}
    for factor in FACTORS:
        volume, scan[factor] = scored(lambda f=factor: varied(f, whole, images))
        far[factor] = abs(np.log(misfit(whole, volume, images) / sigma_seen))
        unseen = whole.select(~kept)
        left[factor] = misfit(unseen, varied(factor, whole.select(kept), images[kept]), images[~kept])
    chosen = {
        "default": 1.0, "discrepancy": min(far, key=far.__getitem__), "left out": min(left, key=left.__getitem__),
        "best": max(scan, key=lambda factor: scan[factor]["f1"]),
    }  # fmt: skip
    for name, factor in chosen.items():
        made[f"total variation, {name}"] = scan[factor] | {"factor": factor}
    return made


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tilts", type=int, nargs="+", default=[8, 23])
    parser.add_argument("--limits", type=float, nargs="+", default=[90.0, 70.0, 60.0])
    parser.add_argument("--noise", type=float, nargs="+", default=[NOISE])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    for noise in given.noise:
        for limit in given.limits:
            for count in given.tilts:
                runs = [one(limit, count, noise, seed) for seed in range(1, given.seeds + 1)]
                for way in runs[0]:
                    names = ("recall", "precision", "rmsd_A", "f1", "error", "factor", "cpu_s")
                    means = {
                        name: round(float(np.mean([run[way].get(name, np.nan) for run in runs])), 3) for name in names
                    }
                    least = round(min(run[way]["f1"] for run in runs), 3)
                    setting = {"limit_deg": limit, "tilts": count, "noise": noise, "way": way}
                    known = {name: value for name, value in means.items() if np.isfinite(value)}
                    print(json.dumps(setting | known | {"f1_least": least}), flush=True)


if __name__ == "__main__":
    main()
