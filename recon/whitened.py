"""Whitened boxes of one particle and the three things done with them: score poses, refine poses, insert into a map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device, resident
from .geometry import HalfPlane
from .maps import Accumulator
from .rotations import from_matrix, to_matrix
from .volume import PAD

Floats = NDArray[np.float64]


def _components(plane: HalfPlane) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    return plane.kx, plane.ky


@dataclass(frozen=True, slots=True, eq=False)
class Whitened:
    """Fourier coefficients of boxes with the inverse noise power.

    Attributes
    ----------
    coefficients : (frames, n, 2) float32 on the device, in the order of `plane`.
    weight : (n,) float32, inverse noise power; `band_weight` the same, zero outside the lattice band.
    shift_sd_px : prior standard deviation of the particle's shift from the box centre, per axis.
    """

    coefficients: Any
    plane: HalfPlane
    weight: NDArray[np.float32]
    band_weight: NDArray[np.float32]
    shift_sd_px: float
    device: Device
    _there: tuple[Any, ...] = field(init=False, repr=False)  # kx, ky and both weights, on the device

    def __post_init__(self) -> None:
        """Bring to the device what every launch needs."""
        kx, ky = resident(self.device, _components, self.plane)
        weights = self.device.up(self.weight, self.band_weight)
        object.__setattr__(self, "_there", (kx, ky, *weights))

    def _penalty(self, shift: Floats) -> Floats:
        return 0.5 * (shift**2).sum(axis=-1) / self.shift_sd_px**2

    def _arrays(self, band: bool) -> tuple[Any, Any, Any]:
        kx, ky, weight, band_weight = self._there
        return kx, ky, band_weight if band else weight

    def score_branches(
        self,
        volume: Any,
        frames: NDArray[np.int64],
        poses: Floats,
        starts: Floats,
        k_max: float,
        *,
        centred: bool = True,
    ) -> tuple[Floats, Floats]:
        """Log-likelihoods (t, k, b) and best shifts (t, k, b, 2) of all equivalents (t, k, b, 4) on a kernel volume.

        `poses` and `starts` (t, k, b, 2) are in the order of `rotations.equivalents`; `centred`: the second half of
        them is the first one after half a turn about the beam, and one slice serves both.
        """
        if not centred:
            return self._score_alone(volume, frames, poses, starts, k_max)
        device = self.device
        kx, ky, weight = self._arrays(band=False)
        t, k, order = poses.shape[:3]
        half = order // 2
        matrices = to_matrix(poses[:, :, :half]).astype(np.float32).reshape(t, k * half, 3, 3)
        pairs = starts.reshape(t, k, 2, half, 2).swapaxes(2, 3).reshape(t, k * half, 2, 2)
        given = device.up(frames, matrices, np.ascontiguousarray(pairs, np.float32))
        found = device.kernels.score_pairs(
            volume, PAD, *given, self.coefficients, kx, ky, weight, self.plane.count(k_max), self.plane.box_px
        )
        score, shift = device.down(*found)
        score = score.astype(np.float64).reshape(t, k, half, 2).swapaxes(2, 3)
        shift = shift.astype(np.float64).reshape(t, k, half, 2, 2).swapaxes(2, 3)
        shift = shift.reshape(t, k, order, 2)
        return score.reshape(t, k, order) - self._penalty(shift), shift

    def _score_alone(
        self, volume: Any, frames: NDArray[np.int64], poses: Floats, starts: Floats, k_max: float
    ) -> tuple[Floats, Floats]:
        """`score_branches` of poses that have nothing to do with each other: one of every pair scored counts."""
        pairs = np.concatenate([poses, poses], axis=2), np.concatenate([starts, starts], axis=2)
        score, shift = self.score_branches(volume, frames, *pairs, k_max)
        return score[:, :, : poses.shape[2]], shift[:, :, : poses.shape[2]]

    def refine(
        self,
        volume: Any,
        frames: NDArray[np.int64],
        poses: Floats,
        shifts: Floats,
        k_max: float,
        *,
        rounds: int = 8,
        band: bool = False,
    ) -> tuple[Floats, Floats, Floats]:
        """Locally refined poses (t, k, 4), shifts (t, k, 2) and log-likelihoods (t, k)."""
        device, count, coefficients = self.device, self.plane.count(k_max), self.coefficients
        kx, ky, weight = self._arrays(band)
        shape = poses.shape[:-1]
        each = np.repeat(frames, shape[1]) if len(shape) == 2 else frames
        if band and len(frames):  # what lies below the band weighs nothing: it is left out
            below, first, last = int(np.argmax(self.band_weight > 0)), frames.min(), frames.max()
            kx, ky, weight, count = kx[below:], ky[below:], weight[below:], count - below
            coefficients, each = device.xp.ascontiguousarray(coefficients[first : last + 1, below:]), each - first
        given = device.up(
            each, to_matrix(poses).astype(np.float32).reshape(-1, 3, 3), shifts.astype(np.float32).reshape(-1, 2)
        )
        found = device.kernels.refine_poses(
            volume, PAD, *given, coefficients, kx, ky, weight, count, self.plane.box_px, rounds
        )
        matrices, moved, score = device.down(*found)
        moved = moved.astype(np.float64).reshape(*shape, 2)
        likelihood = score.astype(np.float64).reshape(shape)
        return from_matrix(matrices).reshape(*shape, 4), moved, likelihood - self._penalty(moved)

    def insert(
        self,
        into: Accumulator,
        target: NDArray[np.int64],
        frames: NDArray[np.int64],
        poses: Floats,
        shifts: Floats,
        shares: Floats,
        *,
        band: bool = False,
    ) -> None:
        """Add (m,) boxes to the sets `target` of an accumulator, each with a share (negative: take out)."""
        if len(frames) == 0:
            return
        device = self.device
        kx, ky, weight = self._arrays(band)
        where, *given = device.up(
            target, frames, to_matrix(poses).astype(np.float32), shifts.astype(np.float32), shares.astype(np.float32)
        )
        device.kernels.insert_poses(
            into.numerator, into.denominator, where, PAD, *given, self.coefficients, kx, ky, weight,
            self.plane.count(into.grid.k_max), self.plane.box_px,
        )  # fmt: skip
