"""Tilts that a map has not seen: ours beside a published map that has seen them all, made comparable.

    python tests/benchmarks/ta_film_folds.py FILM.h5 [--way iterative] [--weight 30] [--iterations 40] [--folds 3]

Every fifth tilt is left out, in up to five folds. The published map cannot be made again without them, so three
questions are asked instead, with the same projector and solver:

1. "with surroundings": a film is wider than its images, and the published box leaves out what is beside it. Given the
   box, what is beside is solved for on the tilts that were kept, as it is for ours.
2. "rebuilt": take that for the truth, project it, and reconstruct it from the tilts that were kept. How much worse does
   it explain the *measured* images that were left out? That is what leaving them out costs where the published map is
   right; "with misfit": with what it leaves unexplained of other images added as noise.
3. "free": every image gets a scale, an offset and a shift of its own, whatever the map.

With `--sizes 3x1 2x0.7` the size of the volume is chosen instead, width and thickness in fields: every fifth tilt is
left out, and of the others again every fifth, in turn. What the latter say chooses; the former are looked at last.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import h5py
import numpy as np
from ta_film_study import middle, projector, r_factor

from tumble.recon.solvers.iterative import iterate, total_variation, variation_weight
from tumble.recon.solvers.projector import Projector

WIDE = 3
MOVED = 7  # tilts by which the misfit of one image is carried to another
FREE_ROUNDS = 4  # Gauss-Newton steps for the shift of an image


def free_r(projected: np.ndarray, images: np.ndarray) -> float:
    """R after every image has got its own scale, offset and shift: linear least squares, repeated at the new place."""
    from scipy.ndimage import shift as moved

    rest = 0.0
    for model, image in zip(projected.astype(np.float64), images, strict=True):
        place, fitted = np.zeros(2), model
        for _ in range(FREE_ROUNDS):
            at = moved(model, place, order=3, mode="nearest")
            columns = np.stack([at, np.ones_like(at), *np.gradient(at)], axis=-1).reshape(-1, 4)
            scale, offset, *steps = np.linalg.lstsq(columns, image.ravel().astype(np.float64), rcond=None)[0]
            fitted = scale * at + offset
            place = place + np.clip(-np.array(steps) / scale, -1, 1)
        rest += float(np.abs(fitted - image).sum())
    return rest / float(np.abs(images).sum())


class Film:
    """The images, the published box and what is made of them."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.images = np.ascontiguousarray(file["projections"][:].transpose(0, 2, 1))
            self.published = np.ascontiguousarray(file["published_map"][:].transpose(2, 1, 0))
            self.tilts = file["tilt_deg"][:].astype(np.float64)
        depth, height, self.width = self.published.shape
        self.box, self.whole = self.published.shape, (depth, height, WIDE * self.width)

    def poses(self, shape: tuple[int, int, int], which: np.ndarray) -> Projector:
        """Projector of some tilts."""
        return projector(shape, self.images.shape[1:], self.tilts[which])

    def project(self, volume: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Projections (m, h, w) of a volume at some tilts."""
        return self.poses(volume.shape, which).forward(volume)


def solved(
    way: str, p: Projector, images: np.ndarray, weight: float, iterations: int, **more: np.ndarray
) -> np.ndarray:
    """A volume (nz, ny, nx) by least squares or with total variation."""
    if way == "iterative":
        return iterate(p, images, iterations=iterations, tolerance=0.0, **more).volume
    weight = weight * variation_weight(images)
    return total_variation(p, images, weight=weight, iterations=iterations, tolerance=0.0, **more).volume


def surrounded(film: Film, box: np.ndarray, which: np.ndarray, way: str, weight: float, iterations: int) -> np.ndarray:
    """The box, kept as it is but for one scale, with what is beside it solved for on the images `which`."""
    projected, images = film.project(box, which), film.images[which]
    small = np.abs(film.tilts[which]) < 31.0
    scale = float((projected * images)[small].sum() / (projected * projected)[small].sum())
    first = (film.whole[2] - film.width) // 2
    beside = np.ones(film.whole, np.float32)
    beside[:, :, first : first + film.width] = 0
    rest = (images - scale * projected).astype(np.float32)
    whole = solved(way, film.poses(film.whole, which), rest, weight, iterations, support=beside)
    whole[:, :, first : first + film.width] = scale * box
    return whole


def study(path: Path, way: str, weight: float, iterations: int, folds: int) -> None:
    """One line of JSON per map and set of tilts."""
    film, began = Film(path), time.process_time()
    every, number = np.ones(len(film.tilts), bool), np.arange(len(film.tilts))
    truth = surrounded(film, film.published, every, way, weight, iterations)
    model, own = film.project(truth, every), film.project(film.published, every)
    moved = (film.images - model)[(number + MOVED) % len(number)]

    def made(which: np.ndarray) -> dict[str, np.ndarray]:
        def from_images(images: np.ndarray) -> np.ndarray:
            return solved(way, film.poses(film.whole, which), images[which], weight, iterations)

        return {
            "ours": from_images(film.images),
            "published, with surroundings": surrounded(film, film.published, which, way, weight, iterations),
            "published, rebuilt": from_images(model),
            "published, rebuilt with misfit": from_images(model + moved),
            "published box, rebuilt": solved(way, film.poses(film.box, which), own[which], weight, iterations),
        }

    def line(name: str, used: str, images: np.ndarray, **projected: np.ndarray) -> None:
        values = {f"R_{part}": round(r_factor(seen, images), 4) for part, seen in projected.items()}
        values |= {f"R_{part}_free": round(free_r(seen, images), 4) for part, seen in projected.items()}
        print(json.dumps({"file": path.name, "map": name, "tilts": used} | values), flush=True)

    def parts(volume: np.ndarray, which: np.ndarray) -> dict[str, np.ndarray]:
        shown = {"box": film.project(middle(volume, film.width), which)}
        return shown if volume.shape == film.box else shown | {"whole": film.project(volume, which)}

    line("published", "seen", film.images, box=own)
    for name, volume in made(every).items():
        line(name, "seen", film.images, **parts(volume, every))
    lefts = [number % 5 == (fold + 2) % 5 for fold in range(folds)]
    images = np.concatenate([film.images[left] for left in lefts])
    line("published", "those of the folds, seen", images, box=np.concatenate([own[left] for left in lefts]))
    unseen: dict[str, list[dict[str, np.ndarray]]] = {}
    for left in lefts:
        for name, volume in made(~left).items():
            unseen.setdefault(name, []).append(parts(volume, left))
    for name, each in unseen.items():
        line(name, f"left out, {folds} folds", images, **{p: np.concatenate([e[p] for e in each]) for p in each[0]})
    print(json.dumps({"way": way, "iterations": iterations, "cpu_s": round(time.process_time() - began, 1)}))


def choose(path: Path, sizes: list[tuple[float, float]], way: str, weight: float, iterations: int, folds: int) -> None:
    """One line of JSON per size (width, thickness) and inner fold, then the tilts left out with the best size."""
    film = Film(path)
    number = np.arange(len(film.tilts))
    left = number % 5 == 2
    given = number[~left]
    depth, height, across = film.box

    def r_whole(size: tuple[float, float], used: np.ndarray, unseen: np.ndarray, name: str) -> float:
        shape = (round(size[1] * depth), height, across + 2 * round((size[0] - 1) / 2 * across))
        volume = solved(way, film.poses(shape, used), film.images[used], weight, iterations)
        factor = r_factor(film.project(volume, unseen), film.images[unseen])
        box = r_factor(film.project(middle(volume, film.width), unseen), film.images[unseen])
        values = {
            "wide": size[0],
            "thick": size[1],
            "unseen": name,
            "R_whole": round(factor, 4),
            "R_box": round(box, 4),
        }
        print(json.dumps({"file": path.name} | values), flush=True)
        return factor

    means = {}
    for size in sizes:
        inner = [np.arange(len(given)) % 5 == fold for fold in range(folds)]
        found = [r_whole(size, given[~out], given[out], f"inner fold {n}") for n, out in enumerate(inner)]
        means[size] = np.mean(found)
    r_whole(min(means, key=means.__getitem__), given, number[left], "left out")


def _size(words: str) -> tuple[float, float]:
    wide, thick = words.split("x")
    return float(wide), float(thick)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--way", choices=("iterative", "total variation"), default="iterative")
    parser.add_argument("--weight", type=float, default=30.0)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", type=_size)
    given = parser.parse_args()
    if given.sizes:
        choose(given.file, given.sizes, given.way, given.weight, given.iterations, given.folds)
        return
    study(given.file, given.way, given.weight, given.iterations, given.folds)


if __name__ == "__main__":
    main()
