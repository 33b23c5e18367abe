"""Find crystals in the whole field without clicks, by their energy in the lattice bands.

Energy is used and not brightness: a background that is uneven by a few per cent ruins the latter and leaves the former.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, maximum_filter

from .bands import Sampling
from .options import FrontEndOptions

SMOOTH_A = 3.58
FINE_SMOOTH_A = 1.72
SEPARATION_A = 8.6
HALF_HEIGHT_TO_DIAMETER = 1.21  # the energy of a round particle falls towards its rim with its thickness


@dataclass(frozen=True, slots=True)
class Detection:
    """One crystal: centre (x, y) in px, diameter in A, peak height in robust standard deviations, relative excess."""

    x_px: float
    y_px: float
    diameter_A: float
    z_score: float
    excess: float


def floor_and_spread(values: NDArray[np.float32]) -> tuple[float, float]:
    """Floor and standard deviation of a map in which particles only raise the values.

    The floor is the median of what is not raised (two rounds), the spread the median absolute deviation below it.
    """
    flat = values.ravel()
    for _ in range(3):
        floor = float(np.median(flat))
        below = floor - flat[flat < floor]
        spread = 1.4826 * float(np.median(below)) if below.size else 0.0
        kept = flat[flat < floor + 4 * spread]
        if kept.size in (0, flat.size):
            break
        flat = kept
    return floor, max(spread, 1e-12 + 1e-6 * abs(floor))


def flatten_illumination(
    energy: NDArray[np.float32], low: NDArray[np.float32], sampling: Sampling
) -> NDArray[np.float32]:
    """Take uneven illumination out of an energy map.

    Counting noise of ``counts / mean - 1`` has a power inversely proportional to the local dose; multiplying by the
    relative dose makes the floor even.

    Parameters
    ----------
    energy, low : (bin rows, bin columns) float32, mean maps of the same frames.
    """
    dose = 1 + gaussian_filter(low, SMOOTH_A / sampling.bin_A, mode="reflect")
    return np.asarray(energy * np.clip(dose, 0.05, 20), np.float32)


def detect(energy: NDArray[np.float32], sampling: Sampling, options: FrontEndOptions) -> list[Detection]:
    """Return the crystals in a mean energy map, strongest first.

    Parameters
    ----------
    energy : (bin rows, bin columns) float32, both bands summed and averaged over 25-100 frames, even illumination.
    """
    smooth = gaussian_filter(energy, SMOOTH_A / sampling.bin_A, mode="reflect")
    floor, spread = floor_and_spread(smooth)
    z_map = (smooth - floor) / spread
    width = 2 * round(SEPARATION_A / sampling.bin_A) + 1
    peaks = (smooth == maximum_filter(smooth, width)) & (z_map > options.z_threshold)
    peaks &= smooth > floor * (1 + options.min_excess)
    if not peaks.any():
        return []
    fine = gaussian_filter(energy, FINE_SMOOTH_A / sampling.bin_A, mode="reflect")
    fine -= floor_and_spread(fine)[0]
    found: list[Detection] = []
    for row, column in sorted(np.argwhere(peaks).tolist(), key=lambda place: -float(z_map[place[0], place[1]])):
        shape = _outline(fine, row, column, sampling, options)
        if shape is None:
            continue
        x_px, y_px, diameter = shape
        if not options.min_diameter_A <= diameter <= options.max_diameter_A:
            continue
        reach = diameter / 2 / sampling.pixel_size_A
        # A second peak inside a particle that was already taken is its uneven interior, not another particle.
        if any(
            np.hypot(x_px - other.x_px, y_px - other.y_px) < max(reach, other.diameter_A / 2 / sampling.pixel_size_A)
            for other in found
        ):
            continue
        z_score = float(z_map[row, column])
        found.append(Detection(x_px, y_px, diameter, z_score, float(smooth[row, column] / floor - 1)))
    return found


def _outline(
    fine: NDArray[np.float32], row: int, column: int, sampling: Sampling, options: FrontEndOptions
) -> tuple[float, float, float] | None:
    """Centre (x, y) in px and diameter in A from the region above half height around a peak."""
    reach = options.max_diameter_A / sampling.bin_A / 2 * 1.1
    first_row, first_column = max(0, int(row - reach)), max(0, int(column - reach))
    part = fine[first_row : int(row + reach) + 1, first_column : int(column + reach) + 1]
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    distance = np.hypot(rows - (row - first_row), columns - (column - first_column))
    height = float(np.median(part[distance < 4.3 / sampling.bin_A]))
    regions, _ = label((part > 0.5 * height) & (distance <= reach))
    region = regions[row - first_row, column - first_column]
    if height <= 0 or region == 0:
        return None
    inside = regions == region
    diameter_bins = HALF_HEIGHT_TO_DIAMETER * 2 * np.sqrt(inside.sum() / np.pi)
    near = np.hypot(rows - rows[inside].mean(), columns - columns[inside].mean()) < diameter_bins / 2 + 1
    weight = np.where(near, np.clip(part, 0, None), 0)
    centre_row = float((weight * rows).sum() / weight.sum()) + first_row
    centre_column = float((weight * columns).sum() / weight.sum()) + first_column
    return sampling.to_px(centre_column), sampling.to_px(centre_row), float(diameter_bins * sampling.bin_A)
