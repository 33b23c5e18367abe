"""Compiled inner loops of the front end: posterior on a grid, smoother, means, neighbours, copy of a frame; disc."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 16384  # counts of 16 bits whose sum fits into 31
NEGLIGIBLE = 40.0  # below the largest log-likelihood: exp(-40) is nothing beside 1 in double precision


@njit(cache=True, nogil=True)
def take(
    data: NDArray[Any], top: Any, kept: NDArray[Any], sample: NDArray[Any], stride: int, rows: tuple[int, int]
) -> tuple[np.int64, np.int64]:
    """Copy rows of a frame, and tell the sum of their counts and how many are `top`, for the price of the copy alone.

    Parameters
    ----------
    data, kept : (rows, columns) of one integer type of at most 16 bits; `kept` is written to.
    top : of the same type.
    sample : of the same type, takes every `stride`-th count of the frame, row after row, while it is in the cache.
    rows : the first one, and the one after the last.
    """
    total, at_top, columns = np.int64(0), np.int64(0), data.shape[1]
    for row in range(rows[0], rows[1]):
        for first in range(0, data.shape[1], BLOCK):  # short enough for sums of 32 bits, twice as many in a vector
            line, target = data[row, first : first + BLOCK], kept[row, first : first + BLOCK]
            part, hits = np.int32(0), np.int32(0)
            for column in range(len(line)):
                value = line[column]
                target[column] = value
                part = np.int32(part + np.int32(value))
                hits = np.int32(hits + np.int32(value == top))
            total += np.int64(part)
            at_top += np.int64(hits)
        number = (row * columns + stride - 1) // stride
        for place in range(number * stride, (row + 1) * columns, stride):
            sample[number] = data[row, place - row * columns]
            number += 1
    return total, at_top


@njit(cache=True, inline="always")
def bilinear(field: NDArray[np.float32], row: float, column: float) -> float:
    """Value between elements of `field` (rows, columns), linearly; places outside take the nearest inside."""
    y = min(max(row, 0.0), field.shape[0] - 1.001)
    x = min(max(column, 0.0), field.shape[1] - 1.001)
    iy, ix = int(y), int(x)
    fy, fx = y - iy, x - ix
    above = (1 - fx) * field[iy, ix] + fx * field[iy, ix + 1]
    below = (1 - fx) * field[iy + 1, ix] + fx * field[iy + 1, ix + 1]
    return (1 - fy) * above + fy * below


@njit(cache=True, nogil=True)
def _largest_within(field: NDArray[np.float32], row: float, column: float, half: float) -> float:
    """Largest element that takes part in interpolations within `half` of (row, column)."""
    last_row, last_column = field.shape[0] - 1, field.shape[1] - 1
    largest = -np.inf
    for i in range(min(max(int(row - half), 0), last_row - 1), min(max(int(row + half) + 1, 1), last_row) + 1):
        for j in range(
            min(max(int(column - half), 0), last_column - 1), min(max(int(column + half) + 1, 1), last_column) + 1
        ):
            largest = max(largest, field[i, j])
    return largest


@njit(cache=True, nogil=True)
def grid_posterior(
    score: NDArray[np.float32], row: float, column: float, covariance: NDArray[np.float64], half: float, step: float
) -> tuple[float, float, float, float, float, float]:
    """Posterior mean shift, covariance and score at the mean, for a Gaussian prior around (row, column).

    Parameters
    ----------
    score : (rows, columns) float32, log-likelihood of every position, interpolated linearly.
    row, column : prior mean, bins.
    covariance : (2, 2) prior covariance [row, column], bins^2.
    half, step : half width and step of the grid, bins.

    Returns
    -------
    (shift in rows, shift in columns, var rows, cov, var columns, interpolated score at the posterior mean).
    """
    determinant = covariance[0, 0] * covariance[1, 1] - covariance[0, 1] ** 2
    inv_rr, inv_rc, inv_cc = (
        covariance[1, 1] / determinant,
        -covariance[0, 1] / determinant,
        covariance[0, 0] / determinant,
    )
    count = round(2 * half / step) + 1
    values = np.empty((count, count))
    # A linear interpolation is never above the largest element near it: most of the grid need not be looked at.
    bound = _largest_within(score, row, column, half)
    top = bilinear(score, row, column)
    for i in range(count):
        dr = -half + i * step
        for j in range(count):
            dc = -half + j * step
            value = -0.5 * (inv_rr * dr * dr + 2 * inv_rc * dr * dc + inv_cc * dc * dc)
            if bound + value < top - NEGLIGIBLE:
                value = -np.inf
            else:
                value += bilinear(score, row + dr, column + dc)
                top = max(top, value)
            values[i, j] = value
    total = mean_r = mean_c = 0.0
    for i in range(count):
        for j in range(count):
            weight = 0.0 if values[i, j] < top - NEGLIGIBLE else np.exp(values[i, j] - top)
            values[i, j] = weight
            total += weight
            mean_r += weight * (-half + i * step)
            mean_c += weight * (-half + j * step)
    mean_r /= total
    mean_c /= total
    var_r = cov = var_c = 0.0
    for i in range(count):
        dr = -half + i * step - mean_r
        for j in range(count):
            dc = -half + j * step - mean_c
            weight = values[i, j] / total
            var_r += weight * dr * dr
            cov += weight * dr * dc
            var_c += weight * dc * dc
    at_mean = bilinear(score, row + mean_r, column + mean_c)
    return mean_r, mean_c, var_r, cov, var_c, at_mean


@njit(cache=True, nogil=True)
def radial_means(
    field: NDArray[np.float32], row: float, column: float, width: float, count: int
) -> NDArray[np.float64]:
    """Means over rings around (row, column), (count,) float64; rings outside the field give 0.

    Parameters
    ----------
    field : (rows, columns) float32.
    width : width of a ring in elements; an element goes to its two nearest rings in proportion.
    """
    sums, weights = np.zeros(count), np.full(count, 1e-3)
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            place = np.sqrt((i - row) ** 2 + (j - column) ** 2) / width
            ring = int(place)
            if ring + 1 < count:
                share = place - ring
                weights[ring] += 1 - share
                weights[ring + 1] += share
                sums[ring] += (1 - share) * field[i, j]
                sums[ring + 1] += share * field[i, j]
    sums /= weights
    return sums


@njit(cache=True, nogil=True)
def inner_and_outer_means(
    maps: NDArray[np.float32], row: float, column: float, inner: float, outer: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of every map within `inner` of (row, column) and beyond `outer`, (maps,) each; 0 where there is nothing.

    Parameters
    ----------
    maps : (maps, rows, columns) float32; all lengths in elements.
    """
    count = maps.shape[0]
    inside, outside = np.zeros(count), np.zeros(count)
    inside_count, outside_count = 0, 0
    for i in range(maps.shape[1]):
        for j in range(maps.shape[2]):
            squared = (i - row) ** 2 + (j - column) ** 2
            if squared < inner * inner:
                inside_count += 1
                for m in range(count):
                    inside[m] += maps[m, i, j]
            elif squared > outer * outer:
                outside_count += 1
                for m in range(count):
                    outside[m] += maps[m, i, j]
    return inside / max(1, inside_count), outside / max(1, outside_count)


@njit(cache=True, nogil=True)
def smooth_first(
    means: NDArray[np.float64], covariances: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smoothed mean (2,) and covariance (2, 2) of the first of several filtered states of a random walk.

    Parameters
    ----------
    means : (n, 2) filtered means; covariances : (n, 2, 2); steps : (n,) walk variance added before each state (the
        first is not used).
    """
    last = len(means) - 1
    mean, covariance = means[last].copy(), covariances[last].copy()
    for i in range(last - 1, -1, -1):
        predicted = covariances[i].copy()
        predicted[0, 0] += steps[i + 1]
        predicted[1, 1] += steps[i + 1]
        determinant = predicted[0, 0] * predicted[1, 1] - predicted[0, 1] * predicted[1, 0]
        inverse = np.empty((2, 2))
        inverse[0, 0] = predicted[1, 1] / determinant
        inverse[1, 1] = predicted[0, 0] / determinant
        inverse[0, 1] = -predicted[0, 1] / determinant
        inverse[1, 0] = -predicted[1, 0] / determinant
        gain = np.empty((2, 2))
        for a in range(2):
            for b in range(2):
                gain[a, b] = covariances[i, a, 0] * inverse[0, b] + covariances[i, a, 1] * inverse[1, b]
        new_mean, new_covariance = means[i].copy(), covariances[i].copy()
        for a in range(2):
            for b in range(2):
                new_mean[a] += gain[a, b] * (mean[b] - means[i, b])
                for c in range(2):
                    for d in range(2):
                        new_covariance[a, b] += gain[a, c] * (covariance[c, d] - predicted[c, d]) * gain[b, d]
        mean, covariance = new_mean, new_covariance
    return mean, covariance


@njit(cache=True, nogil=True)
def touching(
    means: NDArray[np.float64], diameters: NDArray[np.float64], half_crops: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who reaches into whose crop, (m, m) [crop, particle], and who is nearer to one than their mean diameter, (m,).

    Parameters
    ----------
    means : (m, 2) row and column; diameters, half_crops : (m,); all in bins.
    """
    count = len(means)
    reaches, close = np.zeros((count, count), np.bool_), np.zeros(count, np.bool_)
    for i in range(count):
        for j in range(count):
            if i != j:
                down, right = abs(means[i, 0] - means[j, 0]), abs(means[i, 1] - means[j, 1])
                reaches[i, j] = max(down, right) < half_crops[i] + diameters[j] / 2 + 2
                close[i] |= np.hypot(down, right) < 0.5 * (diameters[i] + diameters[j])
    return reaches, close


def soft_disc(shape: tuple[int, int], row: float, column: float, radius: float, softness: float) -> NDArray[np.float32]:
    """Disc of height 1 with a logistic rim; all lengths in elements of the array; float32."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(row)
    columns = np.arange(shape[1], dtype=np.float32)[None] - np.float32(column)
    distance = np.sqrt(rows * rows + columns * columns)
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / softness, -60, 60))), np.float32)
