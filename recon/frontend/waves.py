"""Fourier sums of small fields as matrix products with cosines and sines, for compiled loops that cannot call an FFT.

A real field is a sum of products of one wave along the rows and one along the columns; the four products of cosine and
sine at (ky, kx) hold its Fourier coefficients at (ky, kx) and (-ky, kx).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@lru_cache(maxsize=16)
def waves(size: int) -> NDArray[np.float32]:
    """Cosine and sine of every frequency from 0 to size // 2 in turn, (size, 2 (size // 2 + 1)) float32."""
    phase = 2 * np.pi / size * (np.outer(np.arange(size), np.arange(size // 2 + 1)) % size)
    return np.stack([np.cos(phase), np.sin(phase)], axis=-1).reshape(size, -1).astype(np.float32)


def paired(filters: NDArray[Any]) -> NDArray[np.complex64]:
    """Filters for `filtered`, (m, 2, size // 2 + 1, size // 2 + 1) complex64: of (ky, kx) and of (-ky, kx).

    With the weights of the way back: a product of waves stands for itself twice along an axis, but once at zero and at
    the Nyquist frequency.

    Parameters
    ----------
    filters : (m, size, size // 2 + 1), as for `scipy.fft.rfft2`; of a real field.
    """
    size, count = filters.shape[-2:]
    number = np.arange(count)
    times = np.where((number == 0) | (2 * number == size), 1.0, 2.0)
    both = np.stack([filters[:, number], filters[:, -number % size]], axis=1)
    return np.ascontiguousarray(both * (np.outer(times, times) / size**2), np.complex64)


@njit(cache=True, nogil=True)
def filtered(
    fields: NDArray[np.float32], filters: NDArray[np.complex64], wave: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sum of real fields, each filtered: ``irfft2(sum(rfft2(fields) * filters))``, (size, size) float32.

    Parameters
    ----------
    fields : (m, size, size) float32, contiguous.
    filters : of every field, from `paired`.
    wave : ``waves(size)``.
    """
    turned = np.ascontiguousarray(wave.T)
    out = np.zeros((wave.shape[1], wave.shape[1]), np.float32)
    half = np.float32(0.5)
    for m in range(fields.shape[0]):
        sums = np.dot(np.dot(turned, fields[m]), wave)
        for i in range(filters.shape[2]):
            for j in range(filters.shape[3]):
                cc, cs, sc, ss = (
                    sums[2 * i, 2 * j],
                    sums[2 * i, 2 * j + 1],
                    sums[2 * i + 1, 2 * j],
                    sums[2 * i + 1, 2 * j + 1],
                )
                up = complex(cc - ss, -(cs + sc)) * filters[m, 0, i, j]
                down = complex(cc + ss, sc - cs) * filters[m, 1, i, j]
                out[2 * i, 2 * j] += half * (up.real + down.real)
                out[2 * i, 2 * j + 1] -= half * (up.imag + down.imag)
                out[2 * i + 1, 2 * j] += half * (down.imag - up.imag)
                out[2 * i + 1, 2 * j + 1] += half * (down.real - up.real)
    return np.dot(np.dot(wave, out), turned)
