"""Atoms as discs along the axes of the lattice: far ones fainter, coloured by the confidence in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .colours import gradient, hexadecimal
from .density import VIEWS, basis

Floats = NDArray[np.float64]
LARGEST = 6000  # more atoms make a page that no browser scrolls
RADIUS_A = 1.0


def atoms(positions_A: Floats, confidence: Floats, view: str, half_A: float) -> str:
    """One view as an ``<svg>`` element. Far atoms are mixed with the colour of the page, not see-through.

    Parameters
    ----------
    positions_A : (m, 3) x, y, z in the body frame; confidence: (m,) 0..1.
    view : name of the direction towards the eye, of `density.VIEWS`.
    half_A : half of the width shown.
    """
    right, up, eye = basis(view)
    order = np.argsort(positions_A @ eye)[-LARGEST:]
    x, y, depth = positions_A[order] @ right, -(positions_A[order] @ up), positions_A[order] @ eye
    near = np.clip((depth / half_A + 1) / 2, 0, 1)
    circles = []
    radius = RADIUS_A * (0.8 + 0.2 * near)
    for index in range(len(order)):
        colour = hexadecimal(float(np.round(confidence[order[index]], 1)), "cividis")
        circles.append(
            f'<circle cx="{x[index]:.2f}" cy="{y[index]:.2f}" r="{radius[index]:.2f}" fill="{colour}" '
            f'style="fill:color-mix(in srgb,{colour} {20 + 80 * near[index]:.0f}%,var(--card))"/>'
        )
    box = f"{-half_A:.1f} {-half_A:.1f} {2 * half_A:.1f} {2 * half_A:.1f}"
    return f'<svg class="atoms" viewBox="{box}" role="img" aria-label="atoms along {view}">{"".join(circles)}</svg>'


def views() -> tuple[str, ...]:
    """Names of the directions that are shown."""
    return tuple(VIEWS)


def scale() -> str:
    """What the colours mean."""
    return (
        f'<p class="scale">confidence 0 <span class="ramp" style="background:linear-gradient(90deg,'
        f'{gradient("cividis")})"></span> 1</p>'
    )
