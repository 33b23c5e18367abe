"""Motion of the whole field, and of its parts where it deforms, from the graphene lattice.

Particles move on their own and are followed on their own (see `tracking`); this is the motion of what carries them:
the stage, and the film where it buckles. A lattice fringe of frequency k that moves by s turns its phase by
``-2 pi k . s``, so three spots give both components to a few hundredths of an angstrom. Liquid without a film has
nothing that is carried along and stays alike, and no motion is claimed there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Device, cpu
from .background import GrapheneSheet

PATCHES = 3  # per axis
BLOCK = 25  # measurements averaged before patches are compared
LEAST_PATCH_A = 25.0
DEFORMED_SIGMA = 4.0
DEFORMED_A = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Motion of the field against its first frame.

    Attributes
    ----------
    drift_A : (x, y) of the whole field, A.
    local_A : (patch rows, patch columns, 2) float64, (x, y) that every patch moved beyond `drift_A` since the first
        block of measurements, A; zeros until two blocks were seen.
    local_sd_A : standard deviation of one component of `local_A`, A; infinite until two blocks were seen.
    deforms : whether the patches move apart by more than the error allows.
    """

    drift_A: tuple[float, float]
    local_A: NDArray[np.float64]
    local_sd_A: float
    deforms: bool

    def at(self, row_share: float, column_share: float) -> tuple[float, float]:
        """Motion (x, y) in A at a place given as shares (0..1) of the field's height and width.

        The patch nearest to the place decides, and only where the field deforms; elsewhere the whole field moves as
        one, because a patch knows its own motion less well than the field knows the mean.
        """
        if not self.deforms:
            return self.drift_A
        row = min(int(row_share * self.local_A.shape[0]), self.local_A.shape[0] - 1)
        column = min(int(column_share * self.local_A.shape[1]), self.local_A.shape[1] - 1)
        x, y = self.local_A[row, column]
        return self.drift_A[0] + float(x), self.drift_A[1] + float(y)


class FieldMotion:
    """Follows the phase of graphene spots over the whole field and on patches; bounded memory.

    Measurements must come often enough that the field moves by less than half a lattice fringe (1 A) in between.

    Parameters
    ----------
    rows, columns : frame size, px.
    sheets : graphene sheets; the strongest is followed, because sheets may drift apart.
    device : where the fields lie; the processor when there is none.

    Raises
    ------
    ValueError
        Without a sheet.
    """

    def __init__(
        self, rows: int, columns: int, pixel_size_A: float, sheets: list[GrapheneSheet], device: Device | None = None
    ) -> None:
        if not sheets:
            raise ValueError("field motion needs a graphene sheet")
        self.pixel_size_A = pixel_size_A
        self.spots = np.array(sheets[0].spots()[:3])  # (3, 2) ky, kx; first order
        self.patches = PATCHES if min(rows, columns) * pixel_size_A >= PATCHES * LEAST_PATCH_A else 1
        y, x = np.arange(rows) * pixel_size_A, np.arange(columns) * pixel_size_A
        self._device = device or cpu(1)
        along_y = np.exp(-2j * np.pi * self.spots[:, :1] * y).astype(np.complex64)  # (3, rows)
        along_x = np.exp(-2j * np.pi * self.spots[:, 1:] * x).astype(np.complex64)  # (3, columns)
        self._along_y, self._along_x = self._device.up(along_y, along_x)
        self._row_edges = np.linspace(0, rows, self.patches + 1).astype(int)
        self._column_edges = np.linspace(0, columns, self.patches + 1).astype(int)
        # Shift (y, x) = solver @ phase / (2 pi), least squares.
        self._solver = np.linalg.pinv(-2 * np.pi * self.spots)
        self._last: NDArray[np.complex128] | None = None
        self._drift = np.zeros(2)
        self._sum = np.zeros((self.patches, self.patches, 3), complex)
        self._count = 0
        self._first: NDArray[np.complex128] | None = None
        self._local = np.zeros((self.patches, self.patches, 2))
        self._local_sd = np.inf

    def add(self, contrast: Any) -> Motion:
        """Measure one field, (rows, columns) float32 on the device, counts / mean - 1; return the motion so far."""
        patches = self._coefficients(contrast)
        whole = patches.sum(axis=(0, 1))
        if self._last is not None:
            self._drift += self._solver @ np.angle(whole * np.conj(self._last))
        self._last = whole
        # Undo the drift, so that the patches of a block may be averaged as complex numbers.
        self._sum += patches * np.exp(2j * np.pi * self.spots @ self._drift)
        self._count += 1
        if self._count == BLOCK:
            self._close_block()
        return self.motion()

    def motion(self) -> Motion:
        """Motion so far."""
        spread = float(np.sqrt(np.mean(np.sum(self._local**2, axis=-1))))
        deforms = self.patches > 1 and spread > max(DEFORMED_SIGMA * self._local_sd, DEFORMED_A)
        return Motion((float(self._drift[1]), float(self._drift[0])), self._local.copy(), self._local_sd, deforms)

    def _coefficients(self, contrast: Any) -> NDArray[np.complex128]:
        """Coefficients of the spots on every patch, (patch rows, patch columns, 3)."""
        found = []
        for row in range(self.patches):
            rows = slice(self._row_edges[row], self._row_edges[row + 1])
            for column in range(self.patches):
                columns = slice(self._column_edges[column], self._column_edges[column + 1])
                part = contrast[rows, columns]
                along = (part - part.mean()) @ self._along_x[:, columns].T  # (rows of the patch, 3)
                found.append(self._device.xp.einsum("sr,rs->s", self._along_y[:, rows], along))
        spots = np.asarray(self._device.down(*found), complex)
        return spots.reshape(self.patches, self.patches, 3)

    def _close_block(self) -> None:
        """Compare the patches of a finished block with those of the first."""
        block, self._sum, self._count = self._sum, np.zeros_like(self._sum), 0
        if self._first is None:
            self._first = block
            return
        phases = np.angle(block * np.conj(self._first))
        shifts = phases @ self._solver.T  # (y, x) of every patch
        # Three phases, two unknowns: what the plane wave does not explain is the error.
        residual = phases - shifts @ (-2 * np.pi * self.spots.T)
        phase_variance = float(np.sum(residual**2)) / max(1, residual.shape[0] * residual.shape[1])
        self._local_sd = float(np.sqrt(phase_variance * np.mean(np.sum(self._solver**2, axis=1))))
        middle = np.median(shifts, axis=(0, 1))
        self._local = (shifts - middle)[..., ::-1].copy()
