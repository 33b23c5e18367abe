"""A measured tilt series with a published reconstruction: which of the two explains the images better?

    python tests/benchmarks/ta_film_study.py FILM.h5 [--wide 3] [--weight 30] [--ways iterative] [--png slices.png]
    python tests/benchmarks/ta_film_study.py FILM.h5 --session SESSION [--png slices.png]

The file has `projections` [tilt, x, y], `tilt_deg` and `published_map` [x, y, z] (Yuan et al., Nat. Mater. 21, 95
(2022): an amorphous Ta film; 46 tilts). A film is wider than its images, so the volume solved for is `--wide` times as
wide as they are; only the box that was published is compared. With `--session`, the maps are those that `tumble replay`
has left. R is ``sum |A x - b| / sum |b|``, with the same projector for all maps, each scaled to the images as a whole.
One line of JSON per reconstruction.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
from scipy.ndimage import gaussian_filter

from tumble.recon.device import cpu
from tumble.recon.solvers.iterative import Solution, iterate, total_variation, variation_weight
from tumble.recon.solvers.projector import Projector, tilt_quaternions
from tumble.recon.tilts import mirrored

LEFT_OUT = slice(2, None, 5)
WAYS = ("iterative", "total variation")
SMALL_TILT_DEG = 31.0  # where the published box holds nearly all that the images show


def projector(shape: tuple[int, int, int], image: tuple[int, int], tilts_deg: np.ndarray) -> Projector:
    """The file's tilts turn z towards x; ours, about +y, x towards -z."""
    return Projector(shape, image, tilt_quaternions(-tilts_deg), np.zeros((len(tilts_deg), 2)), cpu())


def r_factor(projected: np.ndarray, images: np.ndarray) -> float:
    """Of a stack, after one common scale."""
    scale = float((projected * images).sum() / (projected * projected).sum())
    return float(np.abs(scale * projected - images).sum() / np.abs(images).sum())


def middle(volume: np.ndarray, width: int) -> np.ndarray:
    """The columns of the published box."""
    first = volume.shape[2] // 2 - width // 2
    return np.ascontiguousarray(volume[:, :, first : first + width])


def factors(volume: np.ndarray, images: np.ndarray, tilts_deg: np.ndarray, left: np.ndarray) -> dict[str, float]:
    """R of the tilts that were used and of those left out, of all angles and of small ones."""
    return factors_of(projector(volume.shape, images.shape[1:], tilts_deg).forward(volume), images, tilts_deg, left)


def factors_of(
    projected: np.ndarray, images: np.ndarray, tilts_deg: np.ndarray, left: np.ndarray, suffix: str = ""
) -> dict[str, float]:
    """The same of projections (m, h, w)."""
    small = np.abs(tilts_deg) < SMALL_TILT_DEG
    sets = {"all": np.ones_like(left), "small": small, "left": left, "small_left": small & left}
    return {f"R_{name}{suffix}": round(r_factor(projected[which], images[which]), 4) for name, which in sets.items()}


def correlations(volume: np.ndarray, published: np.ndarray) -> dict[str, float]:
    """Correlation with the published map, in the box and in the film: where that map, blurred, is above a tenth of its
    maximum.
    """
    blurred = gaussian_filter(published, 4.0)
    film = blurred > 0.1 * blurred.max()
    pairs = {"cc_box": (volume.ravel(), published.ravel()), "cc_film": (volume[film], published[film])}
    return {name: round(float(np.corrcoef(*pair)[0, 1]), 3) for name, pair in pairs.items()}


def solve(way: str, p: Projector, images: np.ndarray, weight: float, **more: Any) -> Solution:
    """By least squares or with total variation, its weight in units of what the noise asks for."""
    if way == "iterative":
        return iterate(p, images, **more)
    return total_variation(p, images, weight=weight * variation_weight(images), **({"iterations": 60} | more))


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images (m, h, w), the published map (nz, ny, nx), tilts (m,) in degrees, and which are left out (m,)."""
    with h5py.File(path) as file:
        images = np.ascontiguousarray(file["projections"][:].transpose(0, 2, 1))
        published = np.ascontiguousarray(file["published_map"][:].transpose(2, 1, 0))
        tilts = file["tilt_deg"][:].astype(np.float64)
    left = np.zeros(len(tilts), bool)
    left[LEFT_OUT] = True
    return images, published, tilts, left


def own_poses(folder: Path, image: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Poses (m, 4) and shifts (m, 2) in pixels that a session found, x and y exchanged as in `read`."""
    with (folder / "poses.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    poses = np.array([[float(row[name]) for name in ("qw", "qx", "qy", "qz")] for row in rows])
    places = np.array([[float(row["y_px"]), float(row["x_px"])] for row in rows])
    return mirrored(poses), places - np.array(image[::-1]) // 2


def compare(path: Path, session: Path) -> dict[str, np.ndarray]:
    """Print a line for each map of a session, made with `--tilt-axis 0`: R with the poses as given, and with those that
    the session found ("own"). Give the slices to look at.
    """
    images, published, tilts, left = read(path)
    poses, shifts = own_poses(session / "particles" / "P001", images.shape[1:])
    pictures = {"published": published}
    print(json.dumps({"map": "published"} | factors(published, images, tilts, left)))
    for name in ("map", "unfiltered", "half1", "half2"):
        cube = mrcfile.read(session / "particles" / "P001" / f"{name}.mrc").transpose(0, 2, 1)  # y and x as in the file
        first = (cube.shape[0] // 2 - size // 2 for size in published.shape)
        box = cube[tuple(slice(a, a + size) for a, size in zip(first, published.shape, strict=True))]
        box = np.ascontiguousarray(box, np.float32)
        own = Projector(box.shape, images.shape[1:], poses, shifts, cpu()).forward(box)
        found = factors(box, images, tilts, left) | factors_of(own, images, tilts, left, "_own")
        print(json.dumps({"map": name} | found | correlations(box, published)), flush=True)
        if name in ("map", "unfiltered"):
            pictures[name] = box
    return pictures


def study(path: Path, wide: int, weight: float, ways: tuple[str, ...] = WAYS) -> dict[str, np.ndarray]:
    """Print the table; give the slices to look at."""
    images, published, tilts, left = read(path)
    depth, height, width = published.shape
    pictures = {"published": published}

    def line(**values: Any) -> None:
        print(json.dumps({"file": path.name} | values), flush=True)

    line(way="published", used="all", cropped=factors(published, images, tilts, left))
    shape = (depth, height, wide * width)
    for way in ways:
        for used, which in (("four of five", ~left), ("all", np.ones_like(left))):
            began = time.process_time()
            solution = solve(way, projector(shape, images.shape[1:], tilts[which]), images[which], weight)
            seconds = time.process_time() - began
            crop = middle(solution.volume, width)
            line(
                way=way, used=used, iterations=len(solution.residuals), residual=round(solution.residuals[-1], 4),
                cpu_s=round(seconds, 1), cpu_s_per_tilt=round(seconds / which.sum(), 2),
                whole=factors(solution.volume, images, tilts, left), cropped=factors(crop, images, tilts, left),
                **correlations(crop, published),
            )  # fmt: skip
        pictures[way] = crop
        began = time.process_time()
        last = projector(shape, images.shape[1:], tilts)
        more = solve(way, last, images, weight, start=solution.volume, iterations=5, tolerance=0.0)
        line(way=way, one_more_tilt_cpu_s=round(time.process_time() - began, 2), residual=round(more.residuals[-1], 4))
    return pictures


def save_png(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """Slices across and along the tilt axis, and the sum along the beam, one column a reconstruction."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, len(pictures), figsize=(4 * len(pictures), 9), layout="constrained")
    for column, (name, volume) in zip(axes.T, pictures.items(), strict=True):
        depth, height, _ = volume.shape
        for axis, (label, picture) in zip(column, {
            f"{name}: across the tilt axis, y = {height // 2}": volume[:, height // 2],
            f"{name}: layer z = {2 * depth // 5}": volume[2 * depth // 5],
            f"{name}: sum along the beam": volume.sum(axis=0),
        }.items(), strict=True):  # fmt: skip
            axis.imshow(picture, cmap="gray", vmin=0, vmax=np.percentile(picture, 99.5), origin="lower")
            axis.set_title(label, fontsize=9)
            axis.set_axis_off()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--wide", type=int, default=3)
    parser.add_argument("--weight", type=float, default=30.0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--session", type=Path)
    options = parser.parse_args()
    if options.session:
        pictures = compare(options.file, options.session)
    else:
        pictures = study(options.file, options.wide, options.weight, tuple(options.ways))
    if options.png:
        save_png(options.png, pictures)


if __name__ == "__main__":
    main()
