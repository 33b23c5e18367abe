"""Electron counts: exact Poisson numbers, one counter-based random stream per frame, fast enough for a live demo.

A Poisson number of mean m is drawn as the sum of one of a tabulated mean below m (alias method: A. J. Walker, ACM
Trans. Math. Softw. 3 (1977) 253) and one of the small rest (inversion); both are exact, so the sum is. The random bits
of a pixel are a hash of (frame seed, pixel) (SplitMix64: Steele, Lea, Flood, OOPSLA 2014), so a frame depends neither
on other frames nor on threads.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray
from scipy.stats import poisson

TABLE_STEP = 0.25  # tabulated means are multiples of this
TABLE_MAX = 32.0  # larger means are split
TABLE_WIDTH = 128  # P(count >= 128 | mean 32) is below 1e-35


def frame_seed(seed: int, index: int, stream: int = 0) -> np.uint64:
    """64 random bits that belong to one frame (and one of its random `stream`s) of a scene."""
    return np.uint64(np.random.SeedSequence([seed, index, stream]).generate_state(1, np.uint64)[0])


@functools.cache
def _alias_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """(means, TABLE_WIDTH) acceptance thresholds in 1/2^32 and aliases of the Poisson distributions, Walker 1977."""
    means = np.arange(round(TABLE_MAX / TABLE_STEP) + 1) * TABLE_STEP
    accept = np.zeros((len(means), TABLE_WIDTH), dtype=np.uint32)
    alias = np.zeros((len(means), TABLE_WIDTH), dtype=np.uint8)
    for row, mean in enumerate(means):
        probability = poisson.pmf(np.arange(TABLE_WIDTH), mean)
        scaled = probability / probability.sum() * TABLE_WIDTH
        small = [i for i in range(TABLE_WIDTH) if scaled[i] < 1.0]
        large = [i for i in range(TABLE_WIDTH) if scaled[i] >= 1.0]
        alias[row] = np.arange(TABLE_WIDTH)
        while small and large:
            low, high = small.pop(), large[-1]
            alias[row, low] = high
            accept[row, low] = min(int(scaled[low] * 2.0**32), 2**32 - 1)
            scaled[high] -= 1.0 - scaled[low]
            if scaled[high] < 1.0:
                small.append(large.pop())
        accept[row, small + large] = 2**32 - 1
    return accept, alias


@njit(cache=True, nogil=True)
def _hash64(value: uint64) -> uint64:  # type: ignore[valid-type]
    value = (value ^ (value >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> uint64(27))) * uint64(0x94D049BB133111EB)
    return value ^ (value >> uint64(31))


@njit(cache=True, nogil=True)
def _draw(mean, seed, accept, alias, out, ceiling):  # type: ignore[no-untyped-def]
    golden = uint64(0x9E3779B97F4A7C15)
    top_row = accept.shape[0] - 1
    width = uint64(accept.shape[1])
    for i in range(mean.size):
        rest = mean[i]
        state = _hash64(seed + uint64(i) * golden)
        count = 0
        while rest > 0.0:
            row = min(int(rest / TABLE_STEP), top_row)
            state = _hash64(state + golden)
            column = state % width
            if (state >> uint64(32)) < uint64(accept[row, column]):
                count += int(column)
            else:
                count += int(alias[row, column])
            rest -= row * TABLE_STEP
            if rest < TABLE_STEP:
                break
        if rest > 0.0:
            state = _hash64(state + golden)
            uniform = float(state >> uint64(11)) * (1.0 / 9007199254740992.0)
            term = math.exp(-rest)
            reached = term
            order = 0
            while uniform > reached and order < 64:
                order += 1
                term *= rest / order
                reached += term
            count += order
        out[i] = min(count, ceiling)


def poisson_counts(mean: NDArray[np.float32], seed: np.uint64) -> NDArray[np.uint16]:
    """Poisson counts of the expected electrons per pixel.

    Parameters
    ----------
    mean : (height, width) float32 ``[row, column]``, expected electrons per pixel; below zero counts as zero.
    seed : 64 random bits of this frame, see `frame_seed`.

    Returns
    -------
    (height, width) uint16; counts beyond 65535 saturate.
    """
    accept, alias = _alias_tables()
    flat = np.ascontiguousarray(mean, dtype=np.float32).ravel()
    counts = np.empty(flat.size, dtype=np.uint16)
    _draw(flat, np.uint64(seed), accept, alias, counts, 65535)
    return counts.reshape(mean.shape)
