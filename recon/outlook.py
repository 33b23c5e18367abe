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
from .turning import Axis, directions_about, free_directions

Floats = NDArray[np.float64]

VOID = 0.05  # share of the directions of a map that may stay empty
PATHS = 50  # that are drawn,
EVERY = 2  # on one in so many of the points
FREE_PATHS = 50  # to tell one that turns freely from one that is held
STEPS = 2500  # most steps of a path; a longer future is walked in larger steps
MARKS = 30  # moments of the future at which a path is measured
HELD = 0.1  # a share of paths lower than this that gain as little as was gained makes one doubt that it turns freely,
SURELY_HELD = 0.02  # and one lower than this is proof
SHRINKING = 0.85  # a void that is still larger than this share of what it was does not fill
RESIDUE = 0.25  # of a path, added to those that gain as little: that none of a few does is no proof


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What had been seen of a particle at one moment: after `frames`, `counts` and `visits` (points,) of a
    `FourierSampling` and the newest `view` (3,), with the rotation `step_deg` per axis and frame at that time, and the
    `axis` that it keeps to, if any.
    """

    frames: int
    counts: NDArray[np.int32]
    visits: NDArray[np.int32]
    view: Floats
    step_deg: float
    axis: Axis | None = None


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


@njit(cache=True, parallel=True)
def _count_all(
    points: Floats, half_width: float, begin: Floats, views: Floats, weight: float, marks: NDArray[np.int64],
    out: Floats,
) -> None:  # fmt: skip
    """Of each of the paths `views` (paths, steps, 3), add `weight` to those of `points` (3, points) that a view sees;
    `out` (paths, marks, points) counts then, `begin` (points,) before.
    """
    for path in prange(views.shape[0]):
        counts, mark = begin.copy(), 0
        for step in range(views.shape[1]):
            x, y, z = views[path, step, 0], views[path, step, 1], views[path, step, 2]
            for point in range(points.shape[1]):  # no branch and no stride: four at a time
                along = points[0, point] * x + points[1, point] * y + points[2, point] * z
                counts[point] += weight if abs(along) < half_width else 0.0
            while mark < marks.shape[0] and marks[mark] == step + 1:
                for point in range(points.shape[1]):
                    out[path, mark, point] = counts[point]
                mark += 1


def _courses(
    begin: Sighting, frames: int, paths: int, rng: np.random.Generator, *, axis: Axis | None
) -> tuple[Floats, int]:
    """Directions (paths, steps, 3) in which a crystal may be seen, freely or about `axis`, and how many frames a step
    is.
    """
    stride = max(1, math.ceil(frames / STEPS))
    steps = max(frames // stride, 1)
    if axis is not None:
        return directions_about(axis, begin.view, paths, steps, stride, rng), stride
    sigma = math.radians(begin.step_deg) * math.sqrt(stride)
    return free_directions(begin.view, rng.normal(0, sigma, (paths, steps, 3))), stride


def _worth(counts: NDArray[np.int32], radius: float) -> float:
    return float(effective_views(counts.astype(np.float64), radius))


def wander(
    begin: Sighting, sampling: FourierSampling, frames: int, rng: np.random.Generator, marks: int = MARKS
) -> Outlook:
    """Futures of a crystal that turns freely, or about the axis that it keeps to.

    Parameters
    ----------
    begin : from where. sampling : its points and radius are used. frames : how far ahead. marks : moments of it, the
        last at its end.
    """
    views, stride = _courses(begin, frames, PATHS, rng, axis=begin.axis)
    steps = views.shape[1]
    moments = np.unique(np.rint(np.geomspace(min(10, steps), steps, marks) if marks > 1 else [steps]).astype(np.int64))
    some = slice(None, None, EVERY)
    counts = begin.counts[some].astype(np.float64)
    seen = np.zeros((PATHS, len(moments), len(counts)))
    points = np.ascontiguousarray(sampling.points[some].T)
    _count_all(points, 0.5 / sampling.radius, counts, views, float(stride), moments, seen)
    # by how much some of the points are off now, they are off later
    off = _worth(begin.counts, sampling.radius) - _worth(begin.counts[some], sampling.radius)
    missed = float((begin.counts == 0).mean() - (counts == 0).mean())
    empty = (seen == 0).mean(axis=2)
    return Outlook(
        np.asarray(moments * stride, np.float64),
        effective_views(seen, sampling.radius) + off,
        np.maximum(empty + missed, 0.0),
    )


@njit(cache=True, parallel=True)
def _revisit_all(
    points: Floats, half_width: float, counts: Floats, visits: Floats, views: Floats, weight: float, steps: int
) -> None:
    """Counts and visits (paths, points) after the paths `views` (paths, steps, 3); one visit in so many `steps`."""
    for path in prange(views.shape[0]):
        touched = np.zeros(points.shape[1])
        for step in range(views.shape[1]):
            x, y, z = views[path, step, 0], views[path, step, 1], views[path, step, 2]
            for point in range(points.shape[1]):
                along = points[0, point] * x + points[1, point] * y + points[2, point] * z
                seen = 1.0 if abs(along) < half_width else 0.0
                counts[path, point] += weight * seen
                touched[point] = max(touched[point], seen)
            if (step + 1) % steps == 0 or step + 1 == views.shape[1]:
                for point in range(points.shape[1]):
                    visits[path, point] += touched[point]
                    touched[point] = 0.0


def _gone_on(
    before: Sighting, now: Sighting, sampling: FourierSampling, rng: np.random.Generator, axis: Axis | None = None
) -> tuple[Floats, Floats]:
    """What a crystal that turns freely, or about `axis`, from `before` on would have seen until `now`: counts and
    visits, (paths, points) each.
    """
    views, stride = _courses(before, now.frames - before.frames, FREE_PATHS, rng, axis=axis)
    counts, visits = (
        np.repeat(seen[None].astype(np.float64), FREE_PATHS, axis=0) for seen in (before.counts, before.visits)
    )
    points = np.ascontiguousarray(sampling.points.T)
    steps = max(1, VISIT_FRAMES // stride)
    _revisit_all(points, 0.5 / sampling.radius, counts, visits, views, float(stride), steps)
    return counts, visits


def freedom(before: Sighting, now: Sighting, sampling: FourierSampling, rng: np.random.Generator) -> float:
    """Share, 0 to 1, of futures in which the crystal turns on: 1 unless free ones, or such as keep to its axis, hardly
    ever gain as little, in directions, or in effective views where hardly a direction is empty.
    """
    if now.frames <= before.frames:
        return 1.0
    counts, _ = _gone_on(before, now, sampling, rng, now.axis)
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
    these on hardly ever leave as large a one, nor often such as turn about the axis that it keeps to. The void is what
    no view has measured; or what no more visits have than wrong poses explain, because one pose in a hundred that is
    wrong fills the first in time (`sampling.stray_visits`).

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
    turns = (None,) if now.axis is None else (None, now.axis)
    ways = [[_gone_on(start, now, sampling, rng, axis) for axis in turns] for start in left]
    # one that turns about an axis may come round where no free one would have waited as long
    doubts = ((HELD, 2 * HELD) if said else (SURELY_HELD, HELD))[: len(turns)]
    for allowed in sorted({0, most}):
        here = float(void(now.counts, now.visits, allowed))
        if not left or here <= VOID or here <= SHRINKING * float(void(left[0].counts, left[0].visits, allowed)):
            continue
        rare = ([float((void(*paths, allowed) >= here).mean()) for paths in way] for way in ways)
        if any(all(share < doubt for share, doubt in zip(way, doubts, strict=True)) for way in rare):
            held = max(held, here)
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
