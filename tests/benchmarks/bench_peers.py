"""Ours beside what one would otherwise use for the same step, in one run: time and accuracy, on one thread.

Run it by hand: ``python tests/benchmarks/bench_peers.py [--json FILE]``; peers that are not installed are left out
(``pip install finufft trackpy scikit-image torch torch-fourier-slice torch-ctf``; cufinufft needs a GPU). Times are
processor time, the least of the repetitions, after one that compiles and plans.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from threadpoolctl import threadpool_limits

from tumble.recon.device import cpu
from tumble.recon.frontend.frontend import FrontEnd
from tumble.recon.geometry import half_plane
from tumble.recon.kernels import cpu as kernels
from tumble.recon.rotations import random_rotations, to_matrix
from tumble.recon.volume import PAD, Grid, as_kernel_volume, attenuation, complete, to_fourier, to_real
from tumble.stream.simulator.crystal import wulff_crystal
from tumble.stream.simulator.options import SceneOptions
from tumble.stream.simulator.presets import ROUGH
from tumble.stream.simulator.scene import Scene

BOX_PX, K_MAX, POSES, PIXEL_A = 96, 38, 200, 0.358
SIGMA_PX = 0.45 / PIXEL_A  # of an atom
Row = tuple[str, str, float, str, str]  # step, method, ms, accuracy, note


def peer(name: str) -> Any:
    """A package that may be there."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: left out")
        return None


def least(call: Callable[[], Any], repeat: int = 5) -> tuple[float, Any]:
    """Least processor seconds of a call, and what it gave."""
    seconds, result = [], None
    for _ in range(repeat + 1):
        began = time.process_time()
        result = call()
        seconds.append(time.process_time() - began)
    return min(seconds[1:]), result


class Slices:
    """A crystal in a box, the points at which its transform is wanted, and what is exact there."""

    def __init__(self) -> None:
        self.grid, self.plane, self.device = Grid(BOX_PX, K_MAX), half_plane(BOX_PX, K_MAX), cpu(1)
        rng = np.random.default_rng(0)
        atoms = wulff_crystal("Pt", 410, **ROUGH, seed=0).positions_A / PIXEL_A
        self.rotations = to_matrix(random_rotations(POSES, rng))
        k = np.stack([self.plane.kx, self.plane.ky, np.zeros(len(self.plane.kx))], axis=1).astype(float)
        self.points = (k @ self.rotations).reshape(-1, 3)  # R^T k as rows, (x, y, z), cycles per box
        fall = np.exp(-2 * (np.pi * SIGMA_PX / BOX_PX) ** 2 * (self.points**2).sum(axis=1))
        phase = -2j * np.pi / BOX_PX * self.points
        self.exact = np.concatenate([np.exp(part @ atoms.T).sum(axis=1) for part in np.array_split(phase, 160)]) * fall
        # the map of the same atoms, on the sampling of the grid
        samples = self.grid.samples
        axis = (np.arange(samples) - samples // 2) * (BOX_PX / samples)
        lines = [np.exp(-((axis[None] - atoms[:, i, None]) ** 2) / (2 * SIGMA_PX**2)) for i in range(3)]
        self.map = np.einsum("az,ay,ax->zyx", lines[2], lines[1], lines[0], optimize=True).astype(np.float32)

    def error(self, found: Any) -> float:
        """Relative rms difference from what is exact, up to one factor."""
        found = np.asarray(found).reshape(-1)
        factor = np.vdot(found, self.exact) / np.vdot(found, found)
        return float(np.linalg.norm(factor * found - self.exact) / np.linalg.norm(self.exact))

    def rows(self, finufft: Any) -> Iterator[Row]:
        """Slicing: the transform of a map at the points of many poses."""
        plane, count = self.plane, len(self.plane.kx)
        volume = to_fourier(self.map, self.grid, self.device)
        ours, rotations = as_kernel_volume(volume, self.device), self.rotations.astype(np.float32)
        seconds, found = least(lambda: kernels.slice_volume(ours, PAD, rotations, plane.kx, plane.ky, count))
        yield "slice", "tumble slice_volume", seconds, f"{self.error(found[..., 0] + 1j * found[..., 1]):.1e}", ""
        place = (PAD * self.points + self.grid.half)[:, ::-1].T
        parts = np.ascontiguousarray(ours[..., 0]), np.ascontiguousarray(ours[..., 1])

        def interpolate() -> Any:
            real, imaginary = (map_coordinates(part, place, order=1, prefilter=False) for part in parts)
            return real + 1j * imaginary

        seconds, found = least(interpolate, 2)
        yield "slice", "scipy map_coordinates", seconds, f"{self.error(found):.1e}", "same volume"
        if finufft is None:
            return
        angles = [np.ascontiguousarray(2 * np.pi / self.grid.samples * self.points[:, i], np.float32) for i in range(3)]
        image = self.map.astype(np.complex64)
        for eps in (1e-2, 1e-4):
            call = lambda eps=eps: finufft.nufft3d2(*angles[::-1], image, eps=eps, isign=-1, nthreads=1)  # noqa: E731
            seconds, found = least(call, 2)
            yield "slice", f"finufft type 2, eps {eps:g}", seconds, f"{self.error(found):.1e}", "from the map"

    def torch_rows(self) -> Iterator[Row]:
        """Slices and insertions of torch-fourier-slice, on the sampling on which it is as accurate as ours.

        It knows whole slices of a padded volume only, every half cycle per box: four times the coefficients. One in
        four is what is wanted, and compared; the others are zero when it inserts. It gives the numerator and weights.
        """
        torch, package = peer("torch"), peer("torch_fourier_slice")
        if torch is None or package is None:
            return
        torch.set_num_threads(1)
        samples, full = self.grid.samples, PAD * self.grid.samples
        low = (full - samples) // 2
        padded = np.zeros((full,) * 3, np.float32)
        padded[(slice(low, low + samples),) * 3] = self.map / attenuation(samples)
        shifted = torch.fft.fftshift(torch.from_numpy(padded), dim=(-3, -2, -1))
        volume = torch.fft.fftshift(torch.fft.rfftn(shifted, dim=(-3, -2, -1)), dim=(-3, -2))
        turns = torch.from_numpy(self.rotations.swapaxes(1, 2).astype(np.float32).copy())
        highest = PAD * self.plane.radius.max() / full
        batches = torch.split(turns, 20)  # all at once takes more memory than a cache holds, and is no faster

        def cut() -> Any:
            slices = [package.extract_central_slices_rfft_3d(volume, part, fftfreq_max=highest) for part in batches]
            return torch.cat(slices)

        seconds, found = least(cut, 1)
        kx, ky = self.plane.kx.astype(int), self.plane.ky.astype(int)
        sign = np.where(kx < 0, -1, 1)
        row, column = full // 2 + PAD * ky * sign, PAD * abs(kx)
        values = found.numpy()[:, row, column]
        yield (
            "slice", "torch-fourier-slice", seconds, f"{self.error(np.where(sign < 0, values.conj(), values)):.1e}",
            "slices of every half cycle",
        )  # fmt: skip
        images = np.zeros((POSES, full, full // 2 + 1), np.complex64)
        exact = self.exact.reshape(POSES, -1)
        images[:, row, column] = np.where(sign < 0, exact.conj(), exact)
        axis = ky[kx == 0]
        images[:, full // 2 - PAD * axis, 0] = exact[:, kx == 0].conj()  # both halves of the line kx = 0
        parts = torch.split(torch.from_numpy(images), 20)

        def insert() -> Any:
            total = 0
            for part, turn in zip(parts, batches, strict=True):
                sums, _ = package.insert_central_slices_rfft_3d(part, (full,) * 3, turn, fftfreq_max=highest)
                total = total + sums
            return total

        seconds, sums = least(insert, 1)
        real = torch.fft.irfftn(torch.fft.ifftshift(sums, dim=(-3, -2)), s=(full,) * 3, dim=(-3, -2, -1))
        box = torch.fft.fftshift(real).numpy()[(slice(low, low + samples),) * 3] / attenuation(samples)
        yield "insert", "torch-fourier-slice", seconds, _difference(box, *self._adjoint()), "slices of every half cycle"

    def insert_rows(self, finufft: Any) -> Iterator[Row]:
        """Insertion, its adjoint: coefficients at the points of many poses to a map."""
        plane, grid, count = self.plane, self.grid, len(self.plane.kx)
        boxes = np.stack([self.exact.real, self.exact.imag], axis=1).reshape(POSES, count, 2).astype(np.float32)
        edge, rotations = grid.edge, self.rotations.astype(np.float32)
        every, zero, ones = np.arange(POSES), np.zeros((POSES, 2), np.float32), np.ones(POSES, np.float32)
        weight = np.ones(count, np.float32)

        def insert() -> Any:
            shape = (1, edge, edge, grid.half + 1)
            sums = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
            kernels.insert_poses(
                *sums, np.zeros(POSES, np.int64), PAD, every, rotations, zero, ones, boxes, plane.kx, plane.ky, weight,
                count, BOX_PX,
            )  # fmt: skip
            return sums[0][0].view(np.complex64)[..., 0]

        def scatter() -> Any:
            place = (PAD * self.points + grid.half)[:, ::-1]
            low = np.floor(place).astype(int)
            share = place - low
            flat, weights = [], []
            for corner in np.ndindex(2, 2, 2):
                at = low + corner
                flat.append(np.ravel_multi_index(tuple(at.T), (edge,) * 3))
                weights.append(np.where(corner, share, 1 - share).prod(axis=1))
            index, values = np.concatenate(flat), np.concatenate([w * self.exact for w in weights])
            parts = [np.bincount(index, part, edge**3) for part in (values.real, values.imag)]
            np.bincount(index, np.concatenate(weights), edge**3)  # the denominator
            return (parts[0] + 1j * parts[1]).reshape((edge,) * 3)

        def back(volume: Any) -> Any:
            volume = np.array(volume, np.complex64)
            if volume.shape[2] == edge:  # the whole grid
                volume = (volume + volume[::-1, ::-1, ::-1].conj())[:, :, grid.half :]
            else:
                complete(volume)
            return to_real(volume, grid, self.device)

        exact, middle = self._adjoint()
        seconds, found = least(insert)
        yield "insert", "tumble insert_poses", seconds, _difference(back(found), exact, middle), "numerator and weights"
        seconds, found = least(scatter, 1)
        yield "insert", "numpy bincount", seconds, _difference(back(found), exact, middle), "the same"
        if finufft is not None:
            angles = [np.ascontiguousarray(2 * np.pi / grid.samples * self.points[:, i], np.float32) for i in range(3)]
            values = self.exact.astype(np.complex64)
            for eps, kinds in itertools.product((1e-2, 1e-4), (values, np.stack([values, np.ones_like(values)]))):
                call = lambda eps=eps, kinds=kinds: finufft.nufft3d1(  # noqa: E731
                    *angles[::-1], kinds, (grid.samples,) * 3, eps=eps, isign=1, nthreads=1
                )
                seconds, found = least(call, 2)
                numerator, note = (found, "no weights") if kinds is values else (found[0], "numerator and weights")
                error = _difference(numerator.real, exact, middle)
                yield "insert", f"finufft type 1, eps {eps:g}", seconds, error, note

    def _adjoint(self) -> tuple[Any, Any]:
        """The exact adjoint inside the ball where a map is kept, by direct summation of a sample of voxels."""
        samples = self.grid.samples
        rng = np.random.default_rng(1)
        voxels = rng.integers(samples // 4, 3 * samples // 4, (60, 3))  # z, y, x
        place = (voxels - samples // 2)[:, ::-1] * (2 * np.pi / samples)
        exact = np.array([np.exp(1j * self.points @ r) @ self.exact for r in place]).real
        return exact, tuple(voxels.T)


def _difference(found: Any, exact: Any, voxels: Any) -> str:
    values = np.asarray(found)[voxels].astype(float)
    factor = values @ exact / (values @ values)
    return f"{np.linalg.norm(factor * values - exact) / np.linalg.norm(exact):.1e}"


def track_rows(frames: int = 160) -> Iterator[Row]:
    """Where one crystal is in every frame; rms distance from the truth, px."""
    options = SceneOptions(frames=frames, height_px=256, width_px=256, homes_px=((86.0, 118.0),))
    scene = Scene((wulff_crystal("Pt", 410, **ROUGH, seed=0),), options)
    pictures = [scene.frame(i).data for i in range(frames)]
    truth = scene.truth.particles[0].centres_px
    front = FrontEnd(256, 256, PIXEL_A)
    observations = [o for i, p in enumerate(pictures) for o in front.step(i, 0.0, p).observations]
    observations += front.flush().observations
    centres = np.array([o.centre_px for o in observations if o.particle == 1])
    seen = np.array([o.frame for o in observations if o.particle == 1])
    clock = front.clock.cpu
    note = f"finding it {clock['detect']:.2f} s once"
    yield "track", "tumble front end", (clock["track"] + clock["box"]) / frames, _rms(centres - truth[seen]), note
    trackpy, registration = peer("trackpy"), peer("skimage.registration")
    if trackpy is not None:

        def locate(picture: Any) -> Any:
            power = (gaussian_filter(picture / picture.mean(), 1.0) - 1) ** 2
            smooth = gaussian_filter(power.reshape(64, 4, 64, 4).mean(axis=(1, 3)), 2.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                spot = trackpy.locate(smooth, 17, topn=1, preprocess=False)
            return 4 * spot[["x", "y"]].to_numpy()[0] + 1.5 if len(spot) else np.full(2, np.nan)

        seconds, found = least(lambda: np.array([locate(p) for p in pictures]), 1)
        kept = np.isfinite(found).all(axis=1)
        note = f"{kept.sum()} of {frames} found; on smoothed contrast^2"
        yield "track", "trackpy locate", seconds / frames, _rms((found - truth)[kept]), note
    if registration is not None:
        correlate = registration.phase_cross_correlation

        def follow() -> Any:
            place = [truth[0].copy()]
            for before, now in itertools.pairwise(pictures):
                x, y = (int(np.clip(round(v), 48, 208)) for v in place[-1])
                window = slice(y - 48, y + 48), slice(x - 48, x + 48)
                a, b = (gaussian_filter(p[window] / p.mean() - 1, 1.0) for p in (before, now))
                shift, _, _ = correlate(a, b, upsample_factor=10)
                place.append(np.clip(place[-1] - shift[::-1], 0, 255))
            return np.array(place)

        seconds, found = least(follow, 1)
        yield "track", "skimage phase correlation", seconds / frames, _rms(found - truth), "started at the truth"


def _rms(difference: Any) -> str:
    return f"{np.sqrt((difference**2).sum(axis=1).mean()):.2f} px"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the rows to this file")
    arguments = parser.parse_args()
    numba.set_num_threads(1)
    threadpool_limits(1)
    finufft, slices = peer("finufft"), Slices()
    rows = [*((s, m, t / POSES, a, n) for s, m, t, a, n in slices.rows(finufft))]
    rows += [(s, m, t / POSES, a, n) for s, m, t, a, n in slices.insert_rows(finufft)]
    rows += [(s, m, t / POSES, a, n) for s, m, t, a, n in slices.torch_rows()]
    rows += track_rows()
    print(f"{'step':8}{'method':28}{'CPU ms':>9}  {'error':10}note     (per pose, per frame)")
    for step, method, seconds, accuracy, note in rows:
        print(f"{step:8}{method:28}{1e3 * seconds:9.3f}  {accuracy:10}{note}")
    if arguments.json:
        named = [dict(zip(("step", "method", "seconds", "error", "note"), row, strict=True)) for row in rows]
        Path(arguments.json).write_text(json.dumps(named, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
