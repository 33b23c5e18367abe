"""Which views will come: a crystal that turns freely wanders on, one that is held shows what it has shown before.

Free rotation is a random walk of the direction of view with the measured step (Perrin 1934; Furry, Phys. Rev. 107, 7
(1957)). Its rate of fresh views varies a lot over some hundred frames and hardly over some thousand, and the rate of
the last frames says nothing of that of the next; so the walk is drawn many times instead of extrapolating a rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from .metrics.sampling import FourierSampling, effective_views

Floats = NDArray[np.float64]

PATHS = 20  # that are drawn
STEPS = 2500  # most steps of a path; a longer future is walked in larger steps
MARKS = 30  # moments of the future at which a path is measured
HELD = 0.1  # a share of paths lower than this that gain as little as was gained makes one doubt that it turns freely
RESIDUE = 0.25  # of a path, added to those that gain as little: that none of a few does is no proof


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What had been seen of a particle at one moment: after `frames`, `counts` (points,) of a `FourierSampling` and the
    newest `view` (3,), with the rotation `step_deg` per axis and frame at that time.
    """

    frames: int
    counts: NDArray[np.int32]
    view: Floats
    step_deg: float


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """Futures, all as likely.

    Attributes
    ----------
    frames : (marks,) from now on. effective : (futures, marks) effective views then. empty : (futures, marks) share of
        the directions that no view has measured.
    """

    frames: Floats
    effective: Floats
    empty: Floats


@njit(cache=True)
def _walk(
    points: Floats, half_width: float, counts: Floats, view: Floats, turns: Floats, weight: float,
    marks: NDArray[np.int64], out: Floats,
) -> None:  # fmt: skip
    """Walk on from `view` by `turns` (steps, 3), adding `weight` to those of `points` (3, points) that are seen; `out`
    (marks, points) counts then.
    """
    x, y, z = view[0], view[1], view[2]
    mark = 0
    for step in range(turns.shape[0]):
        x, y, z = x + turns[step, 0], y + turns[step, 1], z + turns[step, 2]
        norm = math.sqrt(x * x + y * y + z * z)
        x, y, z = x / norm, y / norm, z / norm
        for point in range(points.shape[1]):  # no branch and no stride: four at a time
            along = points[0, point] * x + points[1, point] * y + points[2, point] * z
            counts[point] += weight if abs(along) < half_width else 0.0
        while mark < marks.shape[0] and marks[mark] == step + 1:
            out[mark] = counts
            mark += 1


@njit(cache=True, parallel=True)
def _walk_all(
    points: Floats, half_width: float, begin: Floats, view: Floats, turns: Floats, weight: float,
    marks: NDArray[np.int64], out: Floats,
) -> None:  # fmt: skip
    """`_walk` by each of `turns` (paths, steps, 3); `out` (paths, marks, points)."""
    for path in prange(turns.shape[0]):
        _walk(points, half_width, begin.copy(), view, turns[path], weight, marks, out[path])


def wander(
    begin: Sighting, sampling: FourierSampling, frames: int, rng: np.random.Generator, marks: int = MARKS
) -> Outlook:
    """Futures of a crystal that turns freely.

    Parameters
    ----------
    begin : from where. sampling : its points and radius are used. frames : how far ahead. marks : moments of it, the
        last at its end.
    """
    stride = max(1, math.ceil(frames / STEPS))
    steps = max(frames // stride, 1)
    moments = np.unique(np.rint(np.geomspace(min(10, steps), steps, marks) if marks > 1 else [steps]).astype(np.int64))
    sigma = math.radians(begin.step_deg) * math.sqrt(stride)
    effective, empty = np.zeros((PATHS, len(moments))), np.zeros((PATHS, len(moments)))
    seen = np.zeros((PATHS, len(moments), len(begin.counts)))
    turns = rng.normal(0, sigma, (PATHS, steps, 3))
    counts = begin.counts.astype(np.float64)
    points = np.ascontiguousarray(sampling.points.T)
    _walk_all(points, 0.5 / sampling.radius, counts, begin.view, turns, float(stride), moments, seen)
    for path in range(PATHS):
        effective[path] = effective_views(seen[path], sampling.radius)
        empty[path] = (seen[path] == 0).mean(axis=1)
    return Outlook(np.asarray(moments * stride, np.float64), effective, empty)


def freedom(before: Sighting, now: Sighting, sampling: FourierSampling, rng: np.random.Generator) -> float:
    """Share, 0 to 1, of futures in which the crystal turns freely: 1 unless free ones hardly ever gain as
    little, in effective views or in directions.
    """
    if now.frames <= before.frames:
        return 1.0
    gained = min(float(effective_views(now.counts.astype(np.float64), sampling.radius)), now.frames)
    free = wander(before, sampling, now.frames - before.frames, rng, marks=1)
    as_few = int((free.effective[:, -1] <= gained).sum())
    as_empty = int((free.empty[:, -1] >= (now.counts == 0).mean()).sum())
    return min(1.0, (min(as_few, as_empty) + RESIDUE) / (PATHS + 2 * RESIDUE) / HELD)


def outlook(
    before: Sighting, now: Sighting, sampling: FourierSampling, frames: int, rng: np.random.Generator
) -> Outlook:
    """Futures of a crystal that may turn freely or be held, and then goes on as since `before`.

    Parameters
    ----------
    frames : how far ahead.
    """
    free = wander(now, sampling, frames, rng)
    held = round((1 - freedom(before, now, sampling, rng)) * PATHS)
    if held:
        share = free.frames[:, None] / max(now.frames - before.frames, 1)
        counts = np.asarray(now.counts + share * (now.counts - before.counts), np.float64)
        free.effective[:held] = effective_views(counts, sampling.radius)
        free.empty[:held] = (counts == 0).mean(axis=1)
    return free
