"""Projections of a volume at known poses, and the exact adjoint."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..device import Device
from ..rotations import from_rotation_vector, to_matrix
from . import cpu
from .footprint import STEPS, profile_tables

LEVEL = 1e-6  # a pose whose v axis is that close to y turns about y


def tilt_quaternions(tilts_deg: ArrayLike, axis_deg: float = 90.0) -> NDArray[np.float64]:
    """Poses (m, 4) of a tilt series: turns by `tilts_deg` (m,) about an axis in the image plane.

    Parameters
    ----------
    axis_deg : direction of the tilt axis, from x (columns) towards y (rows). Along y projecting is fastest.
    """
    axis = np.array([np.cos(np.radians(axis_deg)), np.sin(np.radians(axis_deg)), 0.0])
    return from_rotation_vector(np.radians(np.atleast_1d(np.asarray(tilts_deg, np.float64)))[:, None] * axis)


@dataclass(frozen=True, slots=True, eq=False)
class Projector:
    """Linear map from volumes to their projections, and back.

    Voxels and pixels have the same edge. The body origin is voxel ``n // 2`` along each axis and falls on pixel
    ``n // 2`` of the image, moved by the shift. See `footprint` for the model.

    Attributes
    ----------
    volume_shape : (nz, ny, nx). image_shape : (h, w).
    quaternions : (m, 4) float64, ``r_lab = R(q) r_body``. shifts_px : (m, 2) float64, (x, y).
    device : where the arrays are.
    """

    volume_shape: tuple[int, int, int]
    image_shape: tuple[int, int]
    quaternions: NDArray[np.float64]
    shifts_px: NDArray[np.float64]
    device: Device

    def __post_init__(self) -> None:
        if self.quaternions.shape != (len(self.shifts_px), 4) or self.shifts_px.shape[1:] != (2,):
            raise ValueError(
                f"poses of shape {self.quaternions.shape} and {self.shifts_px.shape}: give quaternions (m, 4) and "
                "shifts (m, 2)"
            )

    def select(self, which: Any) -> Projector:
        """The same for some of the poses: an index array or a mask (m,)."""
        quaternions, shifts = self.quaternions[which], self.shifts_px[which]
        return Projector(self.volume_shape, self.image_shape, quaternions, shifts, self.device)

    def forward(self, volume: Any) -> Any:
        """Projections (m, h, w) float32 of a volume (nz, ny, nx) float32.

        Raises
        ------
        ValueError : the shape is another one.
        """
        if volume.shape != self.volume_shape:
            raise ValueError(f"volume of shape {volume.shape}, expected {self.volume_shape}")
        images = self.device.xp.zeros((len(self.quaternions), *self.image_shape), np.float32)
        axes, origins, tables = self._geometry()
        volume = self.device.xp.ascontiguousarray(volume, dtype=np.float32)
        if self._sliced():
            lines = np.zeros((len(images), self.image_shape[1], volume.shape[1]), np.float32)
            cpu.forward_slices(np.ascontiguousarray(volume.transpose(0, 2, 1)), axes, origins, tables, lines)
            np.matmul(self._rows(origins, tables), lines.transpose(0, 2, 1), out=images)
        else:
            self._kernels().forward(volume, axes, origins, tables, images)
        return images

    def adjoint(self, images: Any) -> Any:
        """Adjoint of `forward`: a volume (nz, ny, nx) float32 of images (m, h, w) float32.

        Raises
        ------
        ValueError : the shape is another one.
        """
        expected = (len(self.quaternions), *self.image_shape)
        if images.shape != expected:
            raise ValueError(f"images of shape {images.shape}, expected {expected}")
        axes, origins, tables = self._geometry()
        images = self.device.xp.ascontiguousarray(images, dtype=np.float32)
        if self._sliced():
            rows = self._rows(origins, tables)
            lines = np.ascontiguousarray(np.matmul(images.transpose(0, 2, 1), rows))
            depth, height, width = self.volume_shape
            slices = np.zeros((depth, width, height), np.float32)
            cpu.adjoint_slices(slices, axes, origins, tables, lines)
            return np.ascontiguousarray(slices.transpose(0, 2, 1))
        volume = self.device.xp.zeros(self.volume_shape, np.float32)
        self._kernels().adjoint(volume, axes, origins, tables, images)
        return volume

    def _sliced(self) -> bool:
        """On the processor, poses that turn about y are projected slice by slice."""
        middle = to_matrix(self.quaternions)[:, 1]
        return self.device.xp is np and bool(np.all(np.abs(middle - (0, 1, 0)) < LEVEL))

    def _kernels(self) -> ModuleType:
        if self.device.xp is np:
            return cpu
        from . import cuda  # loads the compiler for GPUs

        return cuda

    def _geometry(self) -> tuple[Any, Any, Any]:
        """Axes (m, 2, 3), origins (m, 2) and profiles, float32, as the kernels take them."""
        rotations = to_matrix(self.quaternions)
        middle = np.array(self.volume_shape[::-1]) // 2  # x, y, z
        origins = np.array(self.image_shape[::-1]) // 2 + self.shifts_px - rotations[:, :2] @ middle
        parts = rotations[:, :2], origins, profile_tables(rotations)
        axes, origins, tables = (self.device.asarray(np.ascontiguousarray(p, dtype=np.float32)) for p in parts)
        return axes, origins, tables

    def _rows(self, origins: Any, tables: Any) -> NDArray[np.float32]:
        """What each image row gets of each slice, (m, h, ny)."""
        place = origins[:, 1, None, None] + np.arange(self.volume_shape[1])
        distance = np.abs(place - np.arange(self.image_shape[0])[:, None])
        steps = np.arange(tables.shape[2]) / STEPS
        return np.stack([np.interp(d, steps, t[1]) for d, t in zip(distance, tables, strict=True)]).astype(np.float32)
