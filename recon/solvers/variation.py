"""Total variation: the volume nearest to a given one among those of small variation."""

from __future__ import annotations

from typing import Any

import numpy as np

INNER = 5  # rounds per call; the dual is kept from call to call, and the volumes change little between them


class VariationProx:
    """Minimiser of ``1/2 |x - given|^2 + weight TV(x)`` over ``x >= 0`` inside a support, by fast projected gradients
    on the dual (Beck & Teboulle, IEEE Trans. Image Process. 18, 2419 (2009)); isotropic, forward differences.

    Called again and again with similar volumes, it goes on from the dual of the last call.
    """

    def __init__(self, weight: float, support: Any, xp: Any) -> None:
        self._weight, self._support, self._xp = np.float32(weight), support, xp
        self._dual: Any = None

    def __call__(self, given: Any, rounds: int = INNER) -> Any:
        """The minimiser for (nz, ny, nx) float32, after so many rounds."""
        if self._weight == 0:
            return self._allowed(given)
        xp = self._xp
        if self._dual is None:
            self._dual = xp.zeros((3, *given.shape), np.float32)
        dual = point = self._dual
        momentum = 1.0
        for _ in range(rounds):
            ascent = gradient(self._allowed(given - self._weight * gradient_adjoint(point, xp)), xp)
            ascent *= 1 / (12 * self._weight)  # 12 bounds the norm of the gradient squared
            ascent += point
            ascent /= xp.maximum(xp.sqrt((ascent * ascent).sum(axis=0)), 1)
            following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
            point = ascent + np.float32((momentum - 1) / following) * (ascent - dual)
            dual, momentum = ascent, following
        self._dual = dual
        return self._allowed(given - self._weight * gradient_adjoint(dual, xp))

    def _allowed(self, volume: Any) -> Any:
        volume = self._xp.maximum(volume, 0)
        return volume if self._support is None else volume * self._support


def gradient(volume: Any, xp: Any) -> Any:
    """Forward differences (3, nz, ny, nx) along z, y, x; 0 at the far end."""
    out = xp.zeros((3, *volume.shape), np.float32)
    out[0, :-1] = volume[1:] - volume[:-1]
    out[1, :, :-1] = volume[:, 1:] - volume[:, :-1]
    out[2, ..., :-1] = volume[..., 1:] - volume[..., :-1]
    return out


def gradient_adjoint(field: Any, xp: Any) -> Any:
    """Adjoint of `gradient`: (nz, ny, nx) of (3, nz, ny, nx)."""
    out = xp.zeros(field.shape[1:], np.float32)
    out[1:] += field[0, :-1]
    out[:-1] -= field[0, :-1]
    out[:, 1:] += field[1, :, :-1]
    out[:, :-1] -= field[1, :, :-1]
    out[..., 1:] += field[2, ..., :-1]
    out[..., :-1] -= field[2, ..., :-1]
    return out
