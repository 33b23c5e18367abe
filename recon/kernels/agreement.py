"""Whether the launchers of a device give the answers of the CPU: a small problem, run on both."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import half_plane
from ..rotations import from_rotation_vector, random_rotations, to_matrix
from . import cpu, pixels_cpu
from .pixels import Tables

BOX_PX, K_MAX, PAD = 20, 6, 2


def _apart(ours: Any, theirs: NDArray[np.floating], to_host: Any) -> float:
    """Largest difference, in units of the largest value."""
    return float(np.abs(to_host(ours) - theirs).max() / np.abs(theirs).max())


def differences(kernels: ModuleType, xp: Any, frames: int = 3, seed: int = 0) -> dict[str, float]:
    """Largest relative difference of every launcher of `kernels` from its twin in `cpu`, on random data.

    Parameters
    ----------
    kernels : module with the launchers. xp : numpy or cupy, whose arrays they are given.
    frames : boxes, with two poses each.
    """
    rng = np.random.default_rng(seed)
    plane = half_plane(BOX_PX, K_MAX)
    count, edge = len(plane.kx), 2 * (PAD * K_MAX + 3) + 1

    def to_host(array: Any) -> Any:
        return array if isinstance(array, np.ndarray) else array.get()

    def both(name: str, *arguments: Any) -> tuple[Any, Any]:
        there = (xp.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments)
        return getattr(kernels, name)(*there), getattr(cpu, name)(*arguments)

    volume = rng.normal(size=(edge, edge, edge, 2)).astype(np.float32)
    poses = random_rotations(frames * 2, rng).reshape(frames, 2, 4)
    matrices = to_matrix(poses).astype(np.float32)
    weight = rng.uniform(0.5, 1.5, count).astype(np.float32)
    result = {}
    ours, boxes = both("slice_volume", volume, PAD, matrices[:, 0].copy(), plane.kx, plane.ky, count)
    result["slice_volume"] = _apart(ours, boxes, to_host)

    data = (boxes, plane.kx, plane.ky, weight, count, BOX_PX)
    rows = np.arange(frames)
    starts = rng.normal(0, 0.3, (frames, 2, 2, 2)).astype(np.float32)
    ours, theirs = both("score_pairs", volume, PAD, rows, matrices, starts, *data)
    result["score_pairs"] = max(_apart(a, b, to_host) for a, b in zip(ours, theirs, strict=True))

    turned = to_matrix(from_rotation_vector(rng.normal(0, 0.02, (frames, 3)))) @ matrices[:, 0]
    moved = rng.normal(0, 0.2, (frames, 2)).astype(np.float32)
    ours, theirs = both("refine_poses", volume, PAD, rows, turned.astype(np.float32), moved, *data, 3)
    scales = (1.0, 1.0, float(np.abs(theirs[2]).max()))  # rotations, pixels, log-likelihood
    result["refine_poses"] = max(
        float(np.abs(to_host(a) - b).max()) / s for a, b, s in zip(ours, theirs, scales, strict=True)
    )

    shares = rng.uniform(-1, 1, frames).astype(np.float32)
    sums = [
        (m.zeros((2, edge, edge, edge // 2 + 1, 2), np.float32), m.zeros((2, edge, edge, edge // 2 + 1), np.float32))
        for m in (xp, np)
    ]
    arguments = (rows % 2, PAD, rows, matrices[:, 1].copy(), moved, shares, *data)
    kernels.insert_poses(*sums[0], *(xp.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments))
    cpu.insert_poses(*sums[1], *arguments)
    result["insert_poses"] = max(_apart(a, b, to_host) for a, b in zip(*sums, strict=True))
    return result | _pixel_differences(kernels.pixels, xp, to_host, rng)


def _tables(shape: tuple[int, int], rng: np.random.Generator) -> Tables:
    """A detector with a few bad pixels, none of them beside another."""
    bad = np.zeros(shape, np.bool_)
    bad[1::4, 2::5] = True
    rows, columns = (np.ascontiguousarray(place) for place in np.nonzero(bad))
    steps = ((-1, -1), (0, 1), (1, 0))
    sources = np.array([[(r + y) * shape[1] + c + x for y, x in steps] for r, c in zip(rows, columns, strict=True)])
    starts = np.concatenate([[0], bad.sum(axis=1).cumsum()])
    dark, gain = (rng.uniform(0.5, 1.5, shape).astype(np.float32) for _ in range(2))
    return Tables(dark, gain, bad, rows, columns, starts, sources)


def _pixel_differences(pixels: ModuleType, xp: Any, to_host: Any, rng: np.random.Generator) -> dict[str, float]:
    """The same for the launchers of `pixels`."""
    data = rng.poisson(9.0, (11, 13)).astype(np.uint16)
    tables = _tables(data.shape, rng)
    moved = Tables(*(xp.asarray(getattr(tables, item.name)) for item in fields(Tables)))
    there, outs = xp.asarray(data), (xp.zeros(data.shape, np.float32), np.zeros(data.shape, np.float32))
    top = int(data.max())
    result = {"levels": float(pixels.levels(there, top) != pixels_cpu.levels(data, top))}
    ours, total = pixels.correct(there, moved, outs[0]), pixels_cpu.correct(data, tables, outs[1])
    result["correct"] = max(abs(ours / total - 1), _apart(*outs, to_host))
    pixels.fill(outs[0], moved, 1.0)
    pixels_cpu.fill(outs[1], tables, 1.0)
    result["fill"] = _apart(*outs, to_host)
    for name in ("bin_mean", "bin_energy"):
        result[name] = _apart(
            getattr(pixels, name)(outs[0][None], 3), getattr(pixels_cpu, name)(outs[1][None], 3), to_host
        )
    places = np.array([[-2, 3], [9, 8]]), np.array([0.1, 0.2], np.float32), tables.bad
    cut = pixels.cut(there, *(xp.asarray(a) for a in places), (5, 6)), pixels_cpu.cut(data, *places, (5, 6))
    return result | {"cut": _apart(*cut, to_host)}
