"""How a crystal turns: freely, as a random walk of the direction of view, or about an axis that it keeps.

What turns about an axis across the beam, or at an angle to it, comes by the same views again and again, each time from
another side of a narrow band; a free walk with the same step leaves the band and would see more that is new.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LAG_FRAMES = 25  # over which it is seen how far a crystal gets: what its poses are off counts less,
LEAST_PAIRS = 100  # of frames so far apart
FLAT_VIEWS = 300  # at least, in which an axis is looked for
WALKS = 60  # free ones that it is compared with,
FEWER = 1  # of which at most so many may keep as near to a circle
STRIDE = 5  # frames a step of these
MOST_HEIGHT = 0.35  # of the beam along the axis: beyond, one sees what no such turning ever fills, and is held
KEPT = 0.95  # of the views, the nearest to the circle: wrong poses are anywhere
GAUSSIAN = 0.675  # standard deviations to which half of normal errors come
LEAST_WIDTH = 1e-3  # rad, of a band
MOST_MEMORY = 0.999


def drift_deg(views: Floats, number: NDArray[np.int64]) -> float | None:
    """Rotation per axis and frame, degrees, of a free one that would get as far in `LAG_FRAMES` frames; None if too few
    are known.

    From one frame to the next errors of poses are in it, and one that rocks or spins seems slow: in longer it gets far.
    The median of the distances, so that a wrong pose in a hundred does no harm.

    Parameters
    ----------
    views : (n, 3) unit vectors. number : (n,) which frames they are of, ascending.
    """
    later = _later(number)
    apart = number[later] == number + LAG_FRAMES
    if apart.sum() < LEAST_PAIRS:
        return None
    squared = ((views[later[apart]] - views[apart]) ** 2).sum(axis=1)
    return math.degrees(math.sqrt(float(np.median(squared)) / (2 * math.log(2) * LAG_FRAMES)))


def _later(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) which of the frames is `LAG_FRAMES` behind each, or the next one there is."""
    return np.minimum(np.searchsorted(number, number + LAG_FRAMES), max(len(number) - 1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """An axis about which a crystal turns, and how.

    Attributes
    ----------
    frame : (3, 3) its rows are two directions across the axis, and the axis, in the body.
    height, spread : mean and standard deviation of the beam along it. memory : correlation of the height from one frame
        to the next. step : rad, of the turn about it in a frame.
    """

    frame: Floats
    height: float
    spread: float
    memory: float
    step: float


def find_axis(views: Floats, number: NDArray[np.int64], step_deg: float, rng: np.random.Generator) -> Axis | None:
    """The axis about which a crystal turns; None where free ones as fast keep as near to a circle now and then.

    Parameters
    ----------
    views : (n, 3) unit vectors. number : (n,) which frames they are of, ascending. step_deg : as of `drift_deg`.
    """
    if len(views) < FLAT_VIEWS or not step_deg > 0:
        return None
    axis, spread = _circle(views[None])
    steps = int(number[-1] - number[0]) // STRIDE
    turns = rng.normal(0, math.radians(step_deg) * math.sqrt(STRIDE), (WALKS, steps, 3))
    free = free_directions(views[0], turns)
    if not math.isfinite(spread[0]) or (_circle(free)[1] <= spread[0]).sum() > FEWER:
        return None
    return _measured(axis[0], views, number)


def _measured(along: Floats, views: Floats, number: NDArray[np.int64]) -> Axis | None:
    """How views (n, 3) of frames (n,) turn about an axis (3,); None if too few are known so far apart."""
    later = _later(number)
    apart = number[later] == number + LAG_FRAMES
    if apart.sum() < LEAST_PAIRS:
        return None
    across = np.linalg.svd(along[None])[2][1:]
    height, angle = views @ along, np.arctan2(views @ across[1], views @ across[0])
    middle = float(np.median(height))
    off = height - middle
    width = max(float(np.median(np.abs(off))) / GAUSSIAN, LEAST_WIDTH)
    near = apart & (np.abs(off) < 4 * width) & (np.abs(off[later]) < 4 * width)
    kept = float((off[near] * off[later[near]]).sum() / max((off[near] ** 2).sum(), 1e-12))
    moved = np.abs((angle[later[apart]] - angle[apart] + math.pi) % (2 * math.pi) - math.pi)
    step = float(np.median(moved)) / GAUSSIAN / math.sqrt(LAG_FRAMES)
    memory = min(max(kept, 0.0) ** (1 / LAG_FRAMES), MOST_MEMORY)
    return Axis(np.concatenate([across, along[None]]), middle, width, memory, step)


def _circle(views: Floats) -> tuple[Floats, Floats]:
    """Axes (walks, 3) of the wide circles on which views (walks, n, 3) nearly lie, and how far off they are, rms
    (walks,), infinite where there is none.

    A small cap of the sphere is nearly flat as well; its axis is along the views, and no band is about it.
    """
    weight = np.ones(views.shape[:2])
    each = np.arange(len(views))
    for _ in range(3):
        mean = (weight[..., None] * views).sum(axis=1) / weight.sum(axis=1)[:, None]
        away = views - mean[:, None]
        axes = np.linalg.eigh(np.einsum("wn,wni,wnj->wij", weight, away, away))[1]
        wide = np.abs(np.einsum("wi,wij->wj", mean, axes)) < MOST_HEIGHT
        axis = axes[each, :, wide.argmax(axis=1)]
        off = np.abs(np.einsum("wni,wi->wn", away, axis))
        weight = (off <= np.quantile(off, KEPT, axis=1)[:, None]).astype(np.float64)
    spread = np.sqrt((weight * off**2).sum(axis=1) / weight.sum(axis=1))
    return axis, np.where(wide.any(axis=1), spread, np.inf)


@njit(cache=True)
def free_directions(view: Floats, turns: Floats) -> Floats:
    """Directions (walks, steps, 3) of one that begins at `view` (3,) and turns by `turns` (walks, steps, 3), rad."""
    out = np.empty_like(turns)
    for walk in range(turns.shape[0]):
        x, y, z = view[0], view[1], view[2]
        for step in range(turns.shape[1]):
            x, y, z = x + turns[walk, step, 0], y + turns[walk, step, 1], z + turns[walk, step, 2]
            norm = math.sqrt(x * x + y * y + z * z)
            x, y, z = x / norm, y / norm, z / norm
            out[walk, step, 0], out[walk, step, 1], out[walk, step, 2] = x, y, z
    return out


def directions_about(axis: Axis, view: Floats, walks: int, steps: int, stride: int, rng: np.random.Generator) -> Floats:
    """Directions (walks, steps, 3) of one that goes on about its axis from `view` (3,), one in `stride` frames."""
    memory = axis.memory**stride
    x, y, z = axis.frame @ view
    angle = math.atan2(y, x) + np.cumsum(rng.normal(0, axis.step * math.sqrt(stride), (walks, steps)), axis=1)
    height = rng.normal(0, axis.spread * math.sqrt(1 - memory**2), (walks, steps))
    before = np.full(walks, z - axis.height)
    for step in range(steps):
        before = height[:, step] = memory * before + height[:, step]
    height = np.clip(axis.height + height, -1, 1)
    radius = np.sqrt(1 - height**2)
    return np.asarray(np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=2) @ axis.frame)
