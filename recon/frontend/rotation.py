"""How fast a crystal turns, measured without poses, and how many frames may therefore be summed.

The power of a crystal's box in the lattice bands is speckle that changes as reflections pass through the Ewald sphere;
it does not depend on where in the box the crystal lies, and counting noise of two frames is independent. So the
correlation of that speckle between frames, as a function of their distance, is the correlation of orientation alone.
Its width in angle is that of a reflection of a crystal of this size, about 0.5 / (diameter x frequency).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..geometry import box_mask, box_size_px
from .background import GrapheneSheet
from .bands import BANDS_A, Sampling, frequencies
from .boxes import cut_box

MOST_SUMMED = 8
RIM_BLUR_A = 0.08  # rms movement of the rim within a sum that costs nothing at 1 A resolution
LAGS = 24
LEAST_FRAMES = 12
SIGNIFICANT = 3.0
WIDTH = 0.75  # width of the speckle correlation, in units of 1 / (diameter x frequency); from a scene with known truth


def frames_to_sum(step_deg: float | None, diameter_A: float, most: int = MOST_SUMMED) -> int:
    """Largest number of frames that may be summed without blurring the rim of a turning crystal.

    Within a sum of n frames of a random walk of `step_deg` per axis and frame, orientations scatter around their mean
    by ``step * sqrt((n^2 - 1) / (6 n))`` per axis; at the rim that must stay below `RIM_BLUR_A`.

    Parameters
    ----------
    step_deg : rotation per frame, rms per axis, degrees; None when unknown.
    diameter_A : of the crystal.
    most : upper bound.

    Returns
    -------
    1 when the rotation is unknown or fast.
    """
    if step_deg is None:
        return 1
    best = 1
    for count in range(2, most + 1):
        scatter = np.deg2rad(step_deg) * ((count * count - 1) / (6 * count)) ** 0.5
        if scatter * diameter_A / 2 <= RIM_BLUR_A:
            best = count
    return best


def speckle(
    frames: list[tuple[NDArray[Any], float]],
    centre_px: tuple[float, float],
    diameter_A: float,
    sampling: Sampling,
    sheets: list[GrapheneSheet],
) -> NDArray[np.float32]:
    """Lattice-band power of a particle's box in every frame, less its ring mean, (frames, coefficients) float32.

    Parameters
    ----------
    frames : (counts (rows, columns), mean count) of consecutive frames.
    centre_px : (x, y) of the particle, good to some pixels.
    sheets : graphene sheets, whose spots (they do not turn) are left out.
    """
    pixel_A = sampling.pixel_size_A
    box_px = box_size_px(diameter_A, pixel_A)
    corner = (round(centre_px[0]) - box_px // 2, round(centre_px[1]) - box_px // 2)
    ky, kx = frequencies(box_px, box_px, pixel_A)
    radius = np.hypot(ky, kx)
    ring = np.rint(radius * box_px * pixel_A).astype(int)
    low, high = 1 / BANDS_A[0][0], sampling.bands[-1][1]
    chosen = (radius > low) & (radius < high)
    for sheet in sheets:
        for spot_y, spot_x in sheet.spots():
            for sign in (1, -1):
                chosen &= np.hypot(ky - sign * spot_y, kx - sign * spot_x) > 2 / (box_px * pixel_A)
    mask = box_mask(box_px)
    per_ring = np.maximum(np.bincount(ring[chosen], minlength=ring.max() + 1), 1)
    rows = []
    for data, mean in frames:
        box = cut_box(data, corner, box_px, mean)
        spectrum = scipy.fft.rfft2((box - box.mean()) * mask)
        power = (spectrum.real**2 + spectrum.imag**2)[chosen]
        ring_mean = np.bincount(ring[chosen], power, minlength=len(per_ring)) / per_ring
        rows.append(power - ring_mean[ring[chosen]])
    return np.asarray(rows, np.float32)


def rotation_step_deg(speckles: NDArray[np.float32], diameter_A: float) -> float | None:
    """Rotation per frame, rms per axis, degrees, from the decay of the speckle correlation; None when not measurable.

    Parameters
    ----------
    speckles : (frames, coefficients) float32, see `speckle`.
    """
    count = len(speckles)
    if count < LEAST_FRAMES:
        return None
    lags = np.arange(1, min(LAGS, count // 2) + 1)
    products = [np.einsum("fk,fk->f", speckles[:-lag], speckles[lag:], dtype=np.float64) for lag in lags]
    correlation = np.array([p.mean() for p in products])
    first = products[0]
    if correlation[0] < SIGNIFICANT * first.std() / len(first) ** 0.5 or correlation[0] <= 0:
        return None
    below = np.flatnonzero(correlation < 0.4 * correlation[0])
    last = max(3, int(below[0]) + 1) if below.size else len(lags)
    lags, correlation = lags[:last], correlation[:last] / correlation[0]
    rates = np.geomspace(1e-5, 30, 400)
    shapes = 1 / (1 + rates[:, None] * lags)
    heights = (shapes @ correlation) / (shapes**2).sum(axis=1)
    misfit = ((correlation - heights[:, None] * shapes) ** 2).sum(axis=1)
    rate = float(rates[misfit.argmin()])
    frequency = 0.6  # of the bands, 1/A, on average
    return float(np.rad2deg(rate**0.5 * WIDTH / (diameter_A * frequency)))
