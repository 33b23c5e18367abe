"""What the solvers are worth where the truth is known: few tilts, elements of an alloy, and other programs.

    python tests/benchmarks/tilt_study.py particle [--tilts 100 46 23 8] [--limits 90 70 60]
    python tests/benchmarks/tilt_study.py elements ALLOY.xyz [--voxel 0.6] [--diameter 36] [--noise 0.05]
    python tests/benchmarks/tilt_study.py peers     # beside astra-toolbox and scikit-image, where they are installed

Images are linear projections of Gaussian atoms, summed exactly, with white noise. One line of JSON per reconstruction.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from tumble.recon.atoms import find_peaks, select_atoms
from tumble.recon.device import cpu
from tumble.recon.elements import assign_elements, integrated_intensities
from tumble.recon.geometry import half_plane
from tumble.recon.kernels.cpu import insert_poses
from tumble.recon.maps import Accumulator, rough_map
from tumble.recon.rotations import to_matrix
from tumble.recon.solvers.iterative import iterate, noise_sigma, total_variation
from tumble.recon.solvers.projector import Projector, tilt_quaternions
from tumble.recon.volume import PAD, Grid
from tumble.stream.simulator.crystal import read_structure, wulff_crystal

SIGMA_A = 0.5  # of an atom
FOUND_A = 0.7  # an atom is found when a peak lies that near
NOISE = 0.1  # of the brightest pixel of all images
BRIGHTNESS = {"Pd": 46.0**1.7, "Pt": 78.0**1.7}  # annular dark field goes about with Z to the 1.7
THICKNESS = 0.15  # share that the thickest pixel loses


def atom_images(
    atoms_px: np.ndarray, amplitudes: np.ndarray, quaternions: np.ndarray, n: int, sigma: float
) -> np.ndarray:
    """(m, n, n) float32 projections of Gaussian atoms (k, 3) of given mass."""
    line, images = np.arange(n)[:, None], []
    for rotation in to_matrix(quaternions):
        x, y = (np.exp(-0.5 * ((line - s - n // 2) / sigma) ** 2) for s in (atoms_px @ rotation[:2].T).T)
        images.append((y * amplitudes) @ x.T / (2 * np.pi * sigma**2))
    return np.array(images, np.float32)


def series(limit: float, count: int) -> np.ndarray:
    """Poses of evenly spread tilts; +-90 degrees are one view."""
    return tilt_quaternions(np.linspace(-limit, limit, count, endpoint=limit < 90))


def ball(n: int, radius_px: float) -> np.ndarray:
    """(n, n, n) bool."""
    grid = np.indices((n, n, n)) - n // 2
    return (grid**2).sum(axis=0) < radius_px**2


def direct(images: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
    """Fourier slices inserted, divided by their weights with a plain regularisation."""
    count, n = len(images), images.shape[1]
    plane, device = half_plane(n, n // 2 - 1), cpu()
    spectra = np.fft.fft2(np.fft.ifftshift(images, axes=(1, 2)))[:, plane.ky, plane.kx]
    coefficients = np.stack([spectra.real, spectra.imag], axis=-1).astype(np.float32)
    grid, ones = Grid(n, n // 2 - 1), np.ones(len(plane.kx), np.float32)
    sums = Accumulator(grid, 1, device)
    insert_poses(
        sums.numerator, sums.denominator, np.zeros(count, np.int64), PAD, np.arange(count), to_matrix(quaternions),
        np.zeros((count, 2)), np.ones(count), coefficients, plane.kx, plane.ky, ones, len(ones), n,
    )  # fmt: skip
    return np.asarray(rough_map(*sums.sums(0), grid, device), np.float32)


def found_atoms(volume: np.ndarray, truth_A: np.ndarray, voxel_A: float, distance_A: float) -> dict[str, float]:
    """Recall, precision and RMSD of the atoms of a map."""
    atoms, _ = select_atoms(find_peaks(volume, voxel_A, distance_A), distance_A)
    if len(atoms) == 0:
        return {"atoms": 0, "recall": 0.0, "precision": 0.0}
    near = cKDTree(atoms).query(truth_A)[0]
    real = cKDTree(truth_A).query(atoms)[0] < FOUND_A
    rmsd = float(np.sqrt((near[near < FOUND_A] ** 2).mean())) if (near < FOUND_A).any() else float("nan")
    return {
        "atoms": len(atoms), "recall": round(float((near < FOUND_A).mean()), 3),
        "precision": round(float(real.mean()), 3), "rmsd_A": round(rmsd, 3),
    }  # fmt: skip


def particle(tilts: list[int], limits: list[float], n: int = 48, voxel_A: float = 0.5, atoms: int = 150) -> None:
    """Table of recall, precision and RMSD for three ways to a map."""
    crystal = wulff_crystal("Pt", atoms, asymmetry=0.1, missing_surface=0.2, displacement_rms_A=0.05, seed=1)
    truth, distance = crystal.positions_A, 2.775
    support = ball(n, (crystal.radius_A + 2.0) / voxel_A)
    for limit in limits:
        for count in tilts:
            quaternions = series(limit, count)
            clean = atom_images(truth / voxel_A, np.ones(len(truth)), quaternions, n, SIGMA_A / voxel_A)
            noise = NOISE * clean.max() * np.random.default_rng(count).normal(size=clean.shape)
            images = (clean + noise).astype(np.float32)
            p = Projector((n, n, n), (n, n), quaternions, np.zeros((count, 2)), cpu())
            ways = {
                "direct Fourier": lambda i=images, q=quaternions: direct(i, q),
                "iterative": lambda i=images, p=p: iterate(p, i, support=support, noise=noise_sigma(i)).volume,
                "total variation": lambda i=images, p=p: total_variation(p, i, support=support).volume,
            }
            for way, make in ways.items():
                began = time.process_time()
                volume = make()
                values = {
                    "limit_deg": limit,
                    "tilts": count,
                    "way": way,
                    "cpu_s": round(time.process_time() - began, 1),
                }
                print(json.dumps(values | found_atoms(volume, truth, voxel_A, distance)), flush=True)


def elements(path: Path, voxel_A: float, diameter_A: float | None, noise: float = 0.05, ways: int = 2) -> None:
    """Share of elements assigned right, at the true positions and at those found in the map."""
    crystal = read_structure(path, diameter_A=diameter_A)
    truth, heavy = crystal.positions_A, np.array(crystal.elements) == "Pt"
    amplitudes = np.array([BRIGHTNESS[e] for e in crystal.elements]) / BRIGHTNESS["Pt"]
    n = 2 * int(np.ceil((crystal.radius_A + 3.0) / voxel_A))
    support, quaternions = ball(n, (crystal.radius_A + 2.0) / voxel_A), series(70, 46)
    clean = atom_images(truth / voxel_A, amplitudes, quaternions, n, SIGMA_A / voxel_A)
    p = Projector((n, n, n), (n, n), quaternions, np.zeros((len(quaternions), 2)), cpu())
    for thickness in (0.0, THICKNESS):
        seen = clean * (1 - thickness * clean / clean.max())
        images = seen + noise * clean.max() * np.random.default_rng(1).normal(size=clean.shape)
        for way, solver in (("iterative", iterate), ("total variation", total_variation))[:ways]:
            began = time.process_time()
            volume = solver(p, images.astype(np.float32), support=support, iterations=50).volume
            values = {"file": path.name, "box": n, "way": way, "thickness": thickness, "noise": noise}
            values["cpu_s"] = round(time.process_time() - began, 1)
            peaks = find_peaks(volume, voxel_A, 2.7)
            strong = peaks.positions_A[peaks.heights > 0.2 * np.median(peaks.heights[: len(truth) // 6])]
            for name, places, kind in (("true", truth, heavy), ("found", *matched(strong, truth, heavy))):
                found = assign_elements(integrated_intensities(volume, places, voxel_A, 1.2), places)
                right = found.index == kind
                sure = found.confidence > 0.95
                print(json.dumps(values | {
                    "positions": name, "atoms": len(places), "of": len(truth), "candidates": len(strong),
                    "right": round(float(right.mean()), 4),
                    "mean_confidence": round(float(found.confidence.mean()), 4),
                    "light_right": round(float(right[~kind].mean()), 4), "heavy": round(float(kind.mean()), 3),
                    "sure": round(float(sure.mean()), 3), "sure_right": round(float(right[sure].mean()), 4),
                }), flush=True)  # fmt: skip


def matched(atoms: np.ndarray, truth: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms next to a true one, and that one's kind."""
    distance, index = cKDTree(truth).query(atoms)
    near = distance < FOUND_A
    return atoms[near], kind[index[near]]


def peers(n: int = 49, voxel_A: float = 0.5, count: int = 46, iterations: int = 30) -> None:
    """Same images, same iterations, one thread: ours, ASTRA's SIRT and scikit-image's SART; error of the density."""
    crystal = wulff_crystal("Pt", 150, asymmetry=0.1, missing_surface=0.2, displacement_rms_A=0.05, seed=1)
    angles, truth = np.linspace(-70, 70, count), crystal.positions_A
    quaternions = tilt_quaternions(angles)
    clean = atom_images(truth / voxel_A, np.ones(len(truth)), quaternions, n, SIGMA_A / voxel_A)
    noise = NOISE / 2 * clean.max() * np.random.default_rng(1).normal(size=clean.shape)
    images = (clean + noise).astype(np.float32)
    density, sigma = np.zeros((n, n, n)), SIGMA_A / voxel_A
    for atom in truth / voxel_A + n // 2:
        x, y, z = (np.exp(-0.5 * ((np.arange(n) - a) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma) for a in atom)
        density += z[:, None, None] * y[None, :, None] * x[None, None, :]
    p = Projector((n, n, n), (n, n), quaternions, np.zeros((count, 2)), cpu())

    def ours() -> np.ndarray:
        return iterate(p, images, iterations=iterations, tolerance=0.0).volume

    def stopped() -> np.ndarray:
        return iterate(p, images, iterations=iterations, noise=noise_sigma(images)).volume

    def varied() -> np.ndarray:
        return total_variation(p, images, iterations=iterations, tolerance=0.0).volume

    ways: dict[str, Any] = {
        "ours, iterative": ours,
        "ours, stopped at the noise": stopped,
        "ours, total variation": varied,
    }
    if importlib.util.find_spec("astra"):
        ways["ASTRA SIRT, linear, positive"] = lambda: astra_sirt(images, angles, iterations)
    if importlib.util.find_spec("skimage"):
        ways["scikit-image SART, positive"] = lambda: skimage_sart(images, angles, iterations)
        ways["scikit-image filtered back-projection"] = lambda: skimage_fbp(images, angles)
    ours()  # compiled before the clock runs
    for way, make in ways.items():
        began = time.process_time()
        volume = make()
        seconds = time.process_time() - began
        scale = float((volume * density).sum() / (volume * volume).sum())
        error = float(np.linalg.norm(scale * volume - density) / np.linalg.norm(density))
        misfit = np.linalg.norm(p.forward(volume.astype(np.float32)) - images) / np.linalg.norm(images)
        print(json.dumps({
            "way": way, "iterations": iterations, "cpu_s": round(seconds, 2), "error": round(error, 4),
            "correlation": round(float(np.corrcoef(volume.ravel(), density.ravel())[0, 1]), 4),
            "misfit": round(float(misfit), 4),
        } | found_atoms(volume.astype(np.float32), truth, voxel_A, 2.775)), flush=True)  # fmt: skip


def astra_sirt(images: np.ndarray, angles_deg: np.ndarray, iterations: int) -> np.ndarray:
    """Slice by slice on the processor; its slices are [-z, x]: our turn about +y takes x towards -z."""
    import astra

    n = images.shape[1]
    geometry = astra.create_vol_geom(n, n)
    rays = astra.create_proj_geom("parallel", 1.0, n, np.radians(angles_deg))
    projector_id = astra.create_projector("linear", rays, geometry)
    out = np.zeros((n, n, n), np.float32)
    for y in range(n):
        sinogram, volume = astra.data2d.create("-sino", rays, images[:, y]), astra.data2d.create("-vol", geometry, 0)
        options = astra.astra_dict("SIRT")
        options |= {"ProjectorId": projector_id, "ProjectionDataId": sinogram, "ReconstructionDataId": volume}
        options["option"] = {"MinConstraint": 0.0}
        algorithm = astra.algorithm.create(options)
        astra.algorithm.run(algorithm, iterations)
        out[:, y] = astra.data2d.get(volume)[::-1]  # rows run down, y up
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([sinogram, volume])
    return out


def skimage_sart(images: np.ndarray, angles_deg: np.ndarray, iterations: int) -> np.ndarray:
    """Slice by slice, begun again from the last image."""
    from skimage.transform import iradon_sart

    out = np.zeros((len(images[0]),) * 3, np.float32)
    for y in range(images.shape[1]):
        image = None
        for _ in range(iterations):
            image = iradon_sart(images[:, y].T.astype(np.float64), theta=angles_deg, image=image, clip=(0, np.inf))
        out[:, y] = image[::-1]  # its rows are -z
    return out


def skimage_fbp(images: np.ndarray, angles_deg: np.ndarray) -> np.ndarray:
    """Ramp filter, linear interpolation."""
    from skimage.transform import iradon

    slices = [iradon(images[:, y].T.astype(np.float64), theta=angles_deg, circle=True) for y in range(images.shape[1])]
    return np.ascontiguousarray(np.stack(slices, axis=1)[::-1], np.float32)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("particle")
    table.add_argument("--tilts", type=int, nargs="+", default=[100, 46, 23, 8])
    table.add_argument("--limits", type=float, nargs="+", default=[90.0, 70.0, 60.0])
    alloy = commands.add_parser("elements")
    alloy.add_argument("file", type=Path)
    alloy.add_argument("--voxel", type=float, default=0.6)
    alloy.add_argument("--diameter", type=float, help="of a ball cut out of the particle, A")
    alloy.add_argument("--noise", type=float, default=0.05, help="share of the brightest pixel")
    alloy.add_argument("--ways", type=int, choices=(1, 2), default=2, help="1: without total variation")
    commands.add_parser("peers")
    options = parser.parse_args()
    if options.command == "particle":
        particle(options.tilts, options.limits)
    elif options.command == "elements":
        elements(options.file, options.voxel, options.diameter, options.noise, options.ways)
    else:
        peers()


if __name__ == "__main__":
    main()
