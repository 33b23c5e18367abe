"""The images of a tilt series and their poses: as they were told, and as they were matched to a volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from .device import Device
from .rotations import conjugate, from_rotation_vector, multiply
from .solvers.alignment import match
from .solvers.projector import Projector

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
SMALL_TURN = 0.06  # radians that an angle may be wrong by; what matching wants beyond it is refused


@dataclass(frozen=True, slots=True, eq=False)
class TiltImages:
    """Images (m, h, w) float32 with poses that turn about y, or nearly so.

    The solver is fifty times as quick for poses that turn about y. So turns in the plane are taken out of the images
    instead of being put into the poses.

    Attributes
    ----------
    given : as they came. told : (m, 4) float64, their poses in the lab frame.
    images : `given`, turned back in the plane by `in_plane` (m,) radians. poses : (m, 4), as matched.
    shifts_px : (m, 2), where the origin of the body is in `images`, (x, y) from pixel ``size // 2``.
    """

    given: Image
    told: Floats
    images: Image
    poses: Floats
    shifts_px: Floats
    in_plane: Floats

    @classmethod
    def none(cls, height: int, width: int) -> TiltImages:
        """No image yet, of that size."""
        nothing = np.zeros((0, height, width), np.float32)
        return cls(nothing, np.zeros((0, 4)), nothing, np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.given)

    def joined(self, image: Image, pose: Floats) -> TiltImages:
        """With one more image (h, w) and its pose (4,)."""
        return TiltImages(
            np.concatenate([self.given, image[None]]),
            np.vstack([self.told, pose]),
            np.concatenate([self.images, image[None]]),
            np.vstack([self.poses, pose]),
            np.vstack([self.shifts_px, np.zeros(2)]),
            np.append(self.in_plane, 0.0),
        )

    def as_told(self, which: Any = slice(None)) -> TiltImages:
        """Some of the images, nothing matched."""
        given, told = self.given[which], self.told[which]
        return TiltImages(given, told, given, told, np.zeros((len(told), 2)), np.zeros(len(told)))

    def projector(self, volume_shape: tuple[int, int, int], device: Device) -> Projector:
        """What a volume of that shape projects to `images` with."""
        return Projector(volume_shape, self.given.shape[1:], self.poses, self.shifts_px, device)

    def matched(self, volume: Any, turns: str, device: Device) -> TiltImages:
        """One step of all poses towards where a volume (nz, ny, nx) says they are; see `alignment.match`."""
        before = self.projector(volume.shape, device)
        after = match(before, self.images, volume, turns=turns)
        if not turns:
            return replace(self, shifts_px=after.shifts_px)
        vectors = 2 * multiply(after.quaternions, conjugate(before.quaternions))[:, 1:]  # small turns
        vectors[np.abs(vectors).max(axis=1) > SMALL_TURN] = 0.0
        along = np.zeros_like(vectors)
        along[:, 1] = vectors[:, 1]
        turned = multiply(from_rotation_vector(along), self.poses)
        near = np.abs((turned * self.told).sum(axis=1)) > np.cos(SMALL_TURN / 2)
        in_plane = np.clip(self.in_plane + vectors[:, 2], -SMALL_TURN, SMALL_TURN)
        pairs = zip(self.given, in_plane, strict=True)
        images = np.stack([_turned_back(image, angle) for image, angle in pairs])
        poses = np.where(near[:, None], turned, self.poses)
        return replace(self, images=images, poses=poses, shifts_px=after.shifts_px, in_plane=in_plane)


def _turned_back(image: Image, angle: float) -> Image:
    """The image turned by ``-angle`` (radians, from x to y) about pixel ``size // 2``."""
    if angle == 0:
        return image
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]])  # (row, column) of the source from those of the result
    middle = np.array(image.shape) // 2
    turned: Image = affine_transform(image, matrix, middle - matrix @ middle, order=3, mode="nearest")
    return turned
