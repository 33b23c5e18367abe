"""How a particle moved: its path in the field, how far it turned from frame to frame, how well each pose fits."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from .chart import Chart, Series, draw, spread
from .colours import gradient, hexadecimal

Floats = NDArray[np.float64]
POINTS = 900  # of a curve; more than a page has pixels
TIME, QUATERNION, PLACE, SCORE, USED = 1, slice(2, 6), slice(6, 8), 8, 9


def turns_deg(poses: Floats) -> Floats:
    """(k - 1,) angle between the orientations of neighbouring frames, degrees; NaN where one of them was not used."""
    q = poses[:, QUATERNION]
    cosine = np.abs((q[:-1] * q[1:]).sum(axis=1))
    angle = np.degrees(2 * np.arccos(np.clip(cosine, 0, 1)))
    used = poses[:, USED] > 0
    return np.where((np.diff(poses[:, 0]) == 1) & used[1:] & used[:-1], angle, np.nan)


def typical_turn_deg(poses: Floats) -> float | None:
    """Median rotation from frame to frame, degrees: a jump between branches would spoil a mean."""
    if len(poses) < 3:
        return None
    angles = turns_deg(poses)
    return float(np.nanmedian(angles)) if np.isfinite(angles).any() else None


def grouped(x: Floats, y: Floats, most: int = POINTS) -> tuple[list[float], list[float]]:
    """Medians of `y` over equal groups of neighbours, so that at most `most` points are left; NaN are passed over."""
    keep = np.isfinite(y)
    x, y = x[keep], y[keep]
    size = max(1, -(-len(x) // most))
    parts = range(0, len(x), size)
    return [float(np.mean(x[i : i + size])) for i in parts], [float(np.median(y[i : i + size])) for i in parts]


def turning_chart(poses: Floats) -> str:
    """Rotation per frame against time: dots for frames, a line for the running median."""
    x, y = poses[1:, TIME], turns_deg(poses)
    finite = y[np.isfinite(y)]
    top = 3.2 * float(np.median(finite)) if len(finite) else 1.0
    dots, line = grouped(x, np.where(y <= top, y, np.nan)), grouped(x, y, 60)
    return draw(
        Chart(
            "rotation per frame",
            "time of the movie, s",
            "rotation per frame, deg",
            (Series(*dots, "frames", "dots", 1), Series(*line, "running median", "line", 2)),
            x_range=(0.0, float(poses[-1, TIME]) or 1.0),
            y_range=(0.0, top or 1.0),
            height=230,
        )
    )


def score_chart(poses: Floats) -> str:
    """How much better each pose explains its frame than no particle does; frames that were not used stand out."""
    used = poses[:, USED] > 0
    series = [Series(*grouped(poses[used, TIME], poses[used, SCORE]), "used", "dots", 1)]
    if (~used).any():
        series.append(Series(*grouped(poses[~used, TIME], poses[~used, SCORE]), "not used", "dots", 2))
    every = [value for part in series for value in part.y]
    return draw(
        Chart(
            "fit of the poses",
            "time of the movie, s",
            "log-likelihood gain",
            series,
            x_range=(0.0, float(poses[-1, TIME]) or 1.0),
            y_range=spread(every),
            height=230,
        )
    )


def nice_bar(width_A: float) -> tuple[float, str]:
    """Length, A, and words of a scale bar of about a fifth to a half of a width."""
    sizes = [number * 10.0**power for power in range(-1, 7) for number in (1, 2, 5)]
    length = max((size for size in sizes if size <= 0.4 * width_A), default=sizes[0])
    return length, f"{length / 10:g} nm" if length >= 10 else f"{length:g} Å"


Path = tuple[Floats, float | None]  # (k, 2) x, y in pixels, and the diameter of the particle, pixels


def field(paths: dict[str, Path], view: tuple[float, float, float, float], pixel_size_A: float | None) -> str:
    """Paths of particles, dark at their beginning and light at their end, and where they were last.

    Parameters
    ----------
    paths : by name of the particle.
    view : the part of the field that is shown: x, y, width, height, pixels.
    pixel_size_A : for the scale bar; None for none.
    """
    left, top, width, height = view
    unit = max(width, height) / 400
    box = f'x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"'
    parts = [
        f'<svg class="field" viewBox="{left:g} {top:g} {width:g} {height:g}" role="img" aria-label="paths">',
        f'<rect class="edge" {box} stroke-width="{2 * unit:.2f}"/>',
    ]
    for name, (path, diameter) in paths.items():
        parts += _track(path, diameter, unit)
        if len(paths) > 1 or diameter is None:
            x = float(path[-1, 0])
            y = float(path[-1, 1]) - (diameter or 0) / 2 - 6 * unit
            y = y if y > top + 14 * unit else float(path[-1, 1]) + (diameter or 0) / 2 + 18 * unit
            parts.append(
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{14 * unit:.2f}" text-anchor="middle">{escape(name)}</text>'
            )
    if pixel_size_A:
        length, words = nice_bar(width * pixel_size_A)
        x0, y0 = left + 12 * unit, top + height - 12 * unit
        bar = f"M{x0:.1f} {y0:.1f}h{length / pixel_size_A:.1f}"
        parts.append(f'<path d="{bar}" stroke="currentColor" stroke-width="{4 * unit:.2f}"/>')
        parts.append(f'<text x="{x0:.1f}" y="{y0 - 7 * unit:.1f}" font-size="{14 * unit:.2f}">{words}</text>')
    return "".join(parts) + "</svg>"


def _track(path: Floats, diameter: float | None, unit: float) -> list[str]:
    """One path in pieces of one colour each, on the outline of the particle at its end."""
    parts = []
    if diameter:
        x, y = path[-1]
        parts.append(
            f'<circle class="body" cx="{x:.1f}" cy="{y:.1f}" r="{diameter / 2:.1f}" stroke-width="{unit:.2f}"/>'
        )
    thin = path[:: max(1, len(path) // 800)]
    pieces = np.array_split(np.arange(len(thin)), min(40, max(1, len(thin) - 1)))
    for number, piece in enumerate(pieces):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in thin[piece[0] : piece[-1] + 2])
        colour = hexadecimal(number / max(1, len(pieces) - 1), "viridis")
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{1.6 * unit:.2f}" '
            'stroke-linejoin="round"/>'
        )
    return parts


def around(path: Floats, diameter: float | None) -> tuple[float, float, float, float]:
    """The square part of the field that holds a path and the particle at its end: x, y, width, height, pixels."""
    low, high = path.min(axis=0), path.max(axis=0)
    reach = (diameter or 0) / 2
    low, high = np.minimum(low, path[-1] - reach), np.maximum(high, path[-1] + reach)
    side = 1.15 * float((high - low).max()) or 1.0
    left, top = (low + high - side) / 2
    return float(left), float(top), side, side


def time_scale(last_s: float) -> str:
    """What the colours of a path mean."""
    return (
        f'<p class="scale">0 s <span class="ramp" style="background:linear-gradient(90deg,{gradient("viridis")})">'
        f"</span> {last_s:.3g} s</p>"
    )
