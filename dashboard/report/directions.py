"""From which sides a particle was seen: the whole sphere of directions in Mollweide's equal-area projection."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .colours import gradient, shade
from .png import data_uri

Floats = NDArray[np.float64]
WIDTH = 880  # pixels; the sphere is twice as wide as high
NEVER = (128, 128, 128)  # grey stripes: no colour of the scale, and no mistake on paper


def project(longitude: Floats, latitude: Floats) -> tuple[Floats, Floats]:
    """Mollweide's projection (1805): x in -2..2, y in -1..1, of angles in radians.

    The equation ``2 t + sin 2t = pi sin(latitude)`` is solved by Newton's method.
    """
    theta = np.array(latitude, np.float64)
    wanted = math.pi * np.sin(latitude)
    for _ in range(30):
        slope = np.maximum(2 + 2 * np.cos(2 * theta), 1e-6)
        theta = np.clip(theta - (2 * theta + np.sin(2 * theta) - wanted) / slope, -math.pi / 2, math.pi / 2)
    return 2 / math.pi * longitude * np.cos(theta), np.sin(theta)


def unproject(x: Floats, y: Floats) -> Floats:
    """(..., 3) unit vectors of places in the ellipse; NaN outside it."""
    inside = (x / 2) ** 2 + y**2 <= 1
    theta = np.arcsin(np.clip(y, -1, 1))
    latitude = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / math.pi, -1, 1))
    longitude = np.where(inside, math.pi * x / (2 * np.maximum(np.cos(theta), 1e-9)), np.nan)
    flat = np.cos(latitude)
    return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude) + 0 * longitude], axis=-1)


@lru_cache(maxsize=2)
def _cells(axes: bytes, width: int) -> NDArray[np.int32]:
    """For each pixel the nearest of the cells and their opposites, modulo the latter; -1 outside the sphere."""
    cells = np.frombuffer(axes, np.float64).reshape(-1, 3).astype(np.float32)
    both = np.concatenate([cells, -cells]).T
    line = (np.arange(width) + 0.5) / width * 4 - 2
    x, y = np.meshgrid(line, -line[::2] / 2)
    place = unproject(x, y)
    inside = np.isfinite(place[..., 0])
    nearest = np.full(x.shape, -1, np.int32)
    found = [np.argmax(part @ both, axis=1) for part in np.array_split(place[inside].astype(np.float32), 32)]
    nearest[inside] = np.concatenate(found) % len(cells)
    return nearest


def sphere_image(views: Floats, axes: Floats, width: int = WIDTH) -> NDArray[np.uint8]:
    """The counts as a picture: both of a view and its opposite, which show the same; never seen is striped grey.

    Parameters
    ----------
    views, axes : (c,) counts and (c, 3) unit vectors of the cells of a hemisphere.

    Returns
    -------
    (width // 2, width, 4) uint8 RGBA, transparent outside the sphere.
    """
    nearest = _cells(np.ascontiguousarray(axes, np.float64).tobytes(), width)
    inside: NDArray[np.bool_] = np.asarray(nearest >= 0)
    counts = np.where(inside, views[np.maximum(nearest, 0)], 0)
    image = np.zeros((*nearest.shape, 4), np.uint8)
    top = math.log1p(max(1.0, float(views.max(initial=0))))
    image[..., :3] = shade(np.log1p(counts) / top, "viridis")
    image[..., 3] = 255 * inside
    rows, columns = np.indices(nearest.shape)
    never: NDArray[np.bool_] = inside & np.asarray(counts == 0)
    stripe: NDArray[np.bool_] = np.asarray((rows + columns) % 10 < 4)
    image[never, :3] = NEVER
    image[never, 3] = np.where(stripe[never], 190, 60)
    return image


def _graticule() -> str:
    """Meridians and parallels every 30 degrees, and the rim."""
    lines = []
    turn = np.radians(np.linspace(-90, 90, 37))
    for degrees in range(-150, 180, 30):
        x, y = project(np.full_like(turn, math.radians(degrees)), turn)
        lines.append(_path(x, y))
    around = np.radians(np.linspace(-180, 180, 61))
    for degrees in (-60, -30, 0, 30, 60):
        x, y = project(around, np.full_like(around, math.radians(degrees)))
        lines.append(_path(x, y))
    return f'<path class="meridian" d="{"".join(lines)}"/><ellipse class="rim" cx="0" cy="0" rx="200" ry="100"/>'


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{100 * a:.1f} {-100 * b:.1f}" for a, b in zip(x, y, strict=True))


def _axes_names() -> str:
    """Where the axes of the body lie, with names as of a cubic lattice."""
    named = {
        "[001]": (0, 0, 1), "[00-1]": (0, 0, -1), "[100]": (1, 0, 0), "[010]": (0, 1, 0), "[0-10]": (0, -1, 0),
        "[111]": (1, 1, 1), "[1-11]": (1, -1, 1), "[11-1]": (1, 1, -1), "[1-1-1]": (1, -1, -1),
    }  # fmt: skip
    parts = []
    for words, (a, b, c) in named.items():
        x, y = project(np.array(math.atan2(b, a)), np.array(math.asin(c / math.sqrt(a * a + b * b + c * c))))
        at_x, at_y = 100 * float(x), -100 * float(y)
        shift = -5 if c > 0 or not c else 11
        parts.append(f'<circle class="pole" cx="{at_x:.1f}" cy="{at_y:.1f}" r="1.6"/>')
        parts.append(f'<text class="pole-name" x="{at_x:.1f}" y="{at_y + shift:.1f}">{words}</text>')
    return "".join(parts)


def sphere(views: Floats, axes: Floats) -> str:
    """The sphere as SVG with its scale; axes named as those of a cubic lattice. Shapes as `sphere_image`."""
    picture = data_uri(sphere_image(views, axes))
    most = int(views.max(initial=0))
    svg = (
        '<svg class="sphere" viewBox="-204 -116 408 232" role="img" aria-label="views per direction">'
        f'<image href="{picture}" x="-200" y="-100" width="400" height="200" preserveAspectRatio="none"/>'
        f"{_graticule()}{_axes_names()}</svg>"
    )
    scale = (
        f'<p class="scale"><span class="never"></span> never seen &nbsp; 1 <span class="ramp" '
        f'style="background:linear-gradient(90deg,{gradient("viridis")})"></span> {most} views (logarithmic)</p>'
    )
    return svg + scale
