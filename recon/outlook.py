"""Which views will come: a crystal that turns freely wanders on, one that is held shows what it has shown before.

Free rotation is a random walk of the direction of view with the measured step (Perrin 1934; Furry, Phys. Rev. 107, 7
(1957)). Its rate of fresh views varies a lot over some hundred frames and hardly over some thousand, and the rate of
the last frames says nothing of that of the next; so the walk is drawn many times instead of extrapolating a rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from .metrics.sampling import VISIT_FRAMES, FourierSampling, effective_views, stray_visits

Floats = NDArray[np.float64]

VOID = 0.05  # share of the directions of a map that may stay empty
PATHS = 20  # that are drawn
FREE_PATHS = 50  # to tell one that turns freely from one that is held
STEPS = 2500  # most steps of a path; a longer future is walked in larger steps
MARKS = 30  # moments of the future at which a path is measured
HELD = 0.1  # a share of paths lower than this that gain as little as was gained makes one doubt that it turns freely,
SURELY_HELD = 0.02  # and one lower than this is proof
SHRINKING = 0.85  # a void that is still larger than this share of what it was does not fill
LAG_FRAMES = 25  # over which it is seen how far a crystal gets: what its poses are off counts less,
LEAST_PAIRS = 100  # of frames so far apart
RESIDUE = 0.25  # of a path, added to those that gain as little: that none of a few does is no proof


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What had been seen of a particle at one moment: after `frames`, `counts` and `visits` (points,) of a
    `FourierSampling` and the newest `view` (3,), with the rotation `step_deg` per axis and frame at that time.
    """

    frames: int
    counts: NDArray[np.int32]
    visits: NDArray[np.int32]
    view: Floats
    step_deg: float


def drift_deg(views: Floats, number: NDArray[np.int64]) -> float | None:
    """Rotation per axis and frame, degrees, of a free one that would get as far in `LAG_FRAMES` frames; None if too few
    are known.

    From one frame to the next errors of poses are in it, and one that rocks or spins seems slow: in longer it gets far.
    The median of the distances, so that a wrong pose in a hundred does no harm.

    Parameters
    ----------
    views : (n, 3) unit vectors. number : (n,) which frames they are of, ascending.
    """
    later = np.minimum(np.searchsorted(number, number + LAG_FRAMES), max(len(number) - 1, 0))
    apart = number[later] == number + LAG_FRAMES
    if apart.sum() < LEAST_PAIRS:
        return None
    squared = ((views[later[apart]] - views[apart]) ** 2).sum(axis=1)
    return math.degrees(math.sqrt(float(np.median(squared)) / (2 * math.log(2) * LAG_FRAMES)))


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


@njit(cache=True)
def _revisit(
    points: Floats, half_width: float, counts: Floats, visits: Floats, view: Floats, turns: Floats, weight: float,
    steps: int,
) -> None:  # fmt: skip
    """`_walk` to its end; the `visits` (points,) of what is seen, of so many `steps` each, are counted as well."""
    x, y, z = view[0], view[1], view[2]
    touched = np.zeros(points.shape[1])
    for step in range(turns.shape[0]):
        x, y, z = x + turns[step, 0], y + turns[step, 1], z + turns[step, 2]
        norm = math.sqrt(x * x + y * y + z * z)
        x, y, z = x / norm, y / norm, z / norm
        for point in range(points.shape[1]):
            along = points[0, point] * x + points[1, point] * y + points[2, point] * z
            seen = 1.0 if abs(along) < half_width else 0.0
            counts[point] += weight * seen
            touched[point] = max(touched[point], seen)
        if (step + 1) % steps == 0 or step + 1 == turns.shape[0]:
            visits += touched
            touched[:] = 0.0


@njit(cache=True, parallel=True)
def _revisit_all(
    points: Floats, half_width: float, counts: Floats, visits: Floats, view: Floats, turns: Floats, weight: float,
    steps: int,
) -> None:  # fmt: skip
    """`_revisit` by each of `turns` (paths, steps, 3), into its own `counts` and `visits` (paths, points)."""
    for path in prange(turns.shape[0]):
        _revisit(points, half_width, counts[path], visits[path], view, turns[path], weight, steps)


def _free(
    before: Sighting, now: Sighting, sampling: FourierSampling, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """What a crystal that turns freely from `before` on would have seen until `now`: counts and visits, (paths, points)
    each.
    """
    frames = now.frames - before.frames
    stride = max(1, math.ceil(frames / STEPS))
    sigma = math.radians(before.step_deg) * math.sqrt(stride)
    turns = rng.normal(0, sigma, (FREE_PATHS, max(frames // stride, 1), 3))
    counts, visits = (
        np.repeat(seen[None].astype(np.float64), FREE_PATHS, axis=0) for seen in (before.counts, before.visits)
    )
    points = np.ascontiguousarray(sampling.points.T)
    _revisit_all(
        points, 0.5 / sampling.radius, counts, visits, before.view, turns, float(stride), max(1, VISIT_FRAMES // stride)
    )  # fmt: skip
    return counts, visits


def freedom(before: Sighting, now: Sighting, sampling: FourierSampling, rng: np.random.Generator) -> float:
    """Share, 0 to 1, of futures in which the crystal turns freely: 1 unless free ones hardly ever gain as
    little, in directions, or in effective views where hardly a direction is empty.
    """
    if now.frames <= before.frames:
        return 1.0
    counts, _ = _free(before, now, sampling, rng)
    empty = float((now.counts == 0).mean())
    if empty > VOID:
        as_little = int(((counts == 0).mean(axis=1) >= empty).sum())
    else:  # of a map with a void they are no measure
        worth = np.minimum(effective_views(np.stack([*counts, now.counts]), sampling.radius), now.frames)
        as_little = int((worth[:-1] <= worth[-1]).sum())
    return min(1.0, (as_little + RESIDUE) / (FREE_PATHS + 2 * RESIDUE) / HELD)


def held_void(
    starts: Sequence[Sighting],
    now: Sighting,
    sampling: FourierSampling,
    rng: np.random.Generator,
    *,
    said: bool = False,
) -> float:
    """Share of the directions that stay unmeasured because the crystal is held; 0 where it fills them or turns freely.

    It is held when a void has hardly shrunk since the newest of `starts`, and crystals that turn freely from one of
    these on hardly ever leave as large a one. The void is what no view has measured; or what no more visits have than
    wrong poses explain, because one pose in a hundred that is wrong fills the first in time (`sampling.stray_visits`).

    Parameters
    ----------
    starts : newest first. said : it was found to be held before, which takes more to be taken back.
    """
    most = stray_visits(now.frames, sampling.radius)

    def void(counts: NDArray[Any], visits: NDArray[Any], allowed: int) -> Floats:
        thin = visits <= allowed if allowed else counts == 0
        return np.asarray(thin.mean(axis=-1), np.float64)

    held = 0.0
    if not said and float((now.counts == 0).mean()) <= VOID:
        return held
    left = [s for s in starts if s.frames < now.frames]
    free = [_free(start, now, sampling, rng) for start in left]
    for allowed in sorted({0, most}):
        here = float(void(now.counts, now.visits, allowed))
        if not left or here <= VOID or here <= SHRINKING * float(void(left[0].counts, left[0].visits, allowed)):
            continue
        rarest = min(float((void(*paths, allowed) >= here).mean()) for paths in free)
        held = max(held, here if rarest < (HELD if said else SURELY_HELD) else 0.0)
    return held


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
