"""Whitened boxes of one particle and the three things done with them: score poses, refine poses, insert into a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Device, resident
from .geometry import HalfPlane
from .maps import Accumulator
from .rotations import GROUP_ORDER, from_matrix, to_matrix
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

    def _penalty(self, shift: Floats) -> Floats:
        return 0.5 * (shift**2).sum(axis=-1) / self.shift_sd_px**2

    def _arrays(self, band: bool) -> tuple[Any, Any, Any]:
        device = self.device
        weight = self.band_weight if band else self.weight
        kx, ky = resident(device, _components, self.plane)
        return kx, ky, device.asarray(weight)

    def score_branches(
        self, volume: Any, frames: NDArray[np.int64], poses: Floats, starts: Floats, k_max: float
    ) -> tuple[Floats, Floats]:
        """Log-likelihoods (t, k, 48) and best shifts (t, k, 48, 2) of all equivalents (t, k, 48, 4) on a kernel volume.

        `poses` and `starts` (t, k, 48, 2) are in the order of `rotations.equivalents`.
        """
        device = self.device
        kx, ky, weight = self._arrays(band=False)
        t, k = poses.shape[:2]
        half = GROUP_ORDER // 2
        matrices = to_matrix(poses[:, :, :half]).astype(np.float32).reshape(t, k * half, 3, 3)
        pairs = starts.reshape(t, k, 2, half, 2).swapaxes(2, 3).reshape(t, k * half, 2, 2)
        score, shift = device.kernels.score_pairs(
            volume, PAD, device.asarray(frames), device.asarray(matrices),
            device.asarray(np.ascontiguousarray(pairs, np.float32)), self.coefficients, kx, ky, weight,
            self.plane.count(k_max), self.plane.box_px,
        )  # fmt: skip
        score = device.to_host(score).astype(np.float64).reshape(t, k, half, 2).swapaxes(2, 3)
        shift = device.to_host(shift).astype(np.float64).reshape(t, k, half, 2, 2).swapaxes(2, 3)
        shift = shift.reshape(t, k, GROUP_ORDER, 2)
        return score.reshape(t, k, GROUP_ORDER) - self._penalty(shift), shift

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
        device = self.device
        kx, ky, weight = self._arrays(band)
        shape = poses.shape[:-1]
        each = np.repeat(frames, shape[1]) if len(shape) == 2 else frames
        matrices, moved, score = device.kernels.refine_poses(
            volume, PAD, device.asarray(each), device.asarray(to_matrix(poses).astype(np.float32).reshape(-1, 3, 3)),
            device.asarray(shifts.astype(np.float32).reshape(-1, 2)), self.coefficients, kx, ky, weight,
            self.plane.count(k_max), self.plane.box_px, rounds,
        )  # fmt: skip
        moved = device.to_host(moved).astype(np.float64).reshape(*shape, 2)
        likelihood = device.to_host(score).astype(np.float64).reshape(shape)
        return from_matrix(device.to_host(matrices)).reshape(*shape, 4), moved, likelihood - self._penalty(moved)

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
        device.kernels.insert_poses(
            into.numerator, into.denominator, device.asarray(target), PAD, device.asarray(frames),
            device.asarray(to_matrix(poses).astype(np.float32)), device.asarray(shifts.astype(np.float32)),
            device.asarray(shares.astype(np.float32)), self.coefficients, kx, ky, weight,
            self.plane.count(into.grid.k_max), self.plane.box_px,
        )  # fmt: skip
