"""The front end of a tilt series: the field, or a box of it, is the one particle; nothing is searched for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .frontend.correction import Calibration, Corrector
from .frontend.frontend import FrontEndOutput
from .records import NoiseSpectrum, Observation, Quaternion, TrackedParticle
from .tilts import lab_poses

Background = Literal["auto", "border", "none"]
PARTICLE = 1


class TiltField:
    """Makes one observation of every frame that has a pose.

    Parameters
    ----------
    height, width : of a frame, pixels. pixel_size_A : sampling.
    axis_deg : direction of the tilt axis, from x (columns) towards y (rows).
    box : (x, y, width, height) of the part to reconstruct, pixels; the whole frame when None.
    background : what is taken off: the median of the border, nothing, or ``"auto"``: the border of counts, nothing of
        real numbers, which others have worked on.
    poses : pose of the goniometer by image number, for frames that do not bring theirs.
    goniometer_deg : tilt of image 0 and increment, for those neither has.
    streamed : poses that come with frames count.
    calibration : dark, gain and bad pixels.

    Raises
    ------
    ValueError : the box is not within the frame, or the calibration is of another size.
    """

    def __init__(
        self,
        height: int,
        width: int,
        pixel_size_A: float,
        axis_deg: float,
        *,
        box: tuple[int, int, int, int] | None = None,
        background: Background = "auto",
        poses: Mapping[int, Quaternion] | None = None,
        goniometer_deg: tuple[float, float] | None = None,
        streamed: bool = True,
        calibration: Calibration | None = None,
    ) -> None:
        x, y, across, down = box or (0, 0, width, height)
        if min(x, y) < 0 or min(across, down) < 16 or x + across > width or y + down > height:
            raise ValueError(
                f"a box of {across} x {down} px at ({x}, {y}) is not within frames of {width} x {height} px, or is "
                "smaller than 16 px: give --tilt-box X,Y,WIDTH,HEIGHT"
            )
        self._box = (slice(y, y + down), slice(x, x + across))
        self._corner = (x, y)
        self._centre = (float(x + across // 2), float(y + down // 2))
        self._axis_deg, self._background = axis_deg, background
        self._table, self._goniometer, self._streamed = poses or {}, goniometer_deg, streamed
        self._corrector = Corrector(height, width, calibration)
        self._notes: tuple[str, ...] = calibration.notes if calibration else ()
        self._next: Quaternion | None = None
        self._tracked = TrackedParticle(PARTICLE, self._centre, max(across, down) * pixel_size_A, 0.0)

    def place(self, pose: Quaternion) -> None:
        """The pose of the frame that comes next, as its source says it."""
        self._next = pose if self._streamed else None

    def step(self, index: int, time_s: float, data: NDArray[np.generic]) -> FrontEndOutput:
        """Take one frame (height, width) ``[row=y, column=x]``; it comes back at once."""
        pose, self._next = self._pose(index), None
        notes, self._notes = self._notes, ()
        if pose is None:
            return FrontEndOutput(rejected=((index, "no pose"),), events=notes)
        frame = np.asarray(data)
        if self._corrector.active:
            corrected = np.empty(frame.shape, self._corrector.dtype(frame))
            self._corrector.apply(frame, corrected)
            frame = corrected
        box = frame[self._box].astype(np.float32)
        if not np.isfinite(box).all():
            return FrontEndOutput(rejected=((index, "not finite"),), events=notes)
        if self._background == "border" or (self._background == "auto" and np.asarray(data).dtype.kind in "ui"):
            box -= np.float32(np.median(np.concatenate([box[0], box[-1], box[:, 0], box[:, -1]])))
        w, x, y, z = (float(value) for value in lab_poses(pose, self._axis_deg))
        seen = Observation(PARTICLE, index, time_s, box, self._corner, self._centre, 0.0, pose=(w, x, y, z))
        return FrontEndOutput(observations=(seen,), analysed=(index,), events=notes)

    def _pose(self, index: int) -> Quaternion | None:
        if self._next is not None:
            return self._next
        if index in self._table:
            return self._table[index]
        if self._goniometer is None:
            return None
        half = np.radians(self._goniometer[0] + index * self._goniometer[1]) / 2
        return (float(np.cos(half)), float(np.sin(half)), 0.0, 0.0)

    def flush(self) -> FrontEndOutput:
        """Nothing is held back."""
        return FrontEndOutput(events=self._notes)

    def noise(self, box_px: int) -> NoiseSpectrum | None:  # noqa: ARG002  # there is no box without the specimen
        """None: the solver weighs all pixels alike."""
        return None

    def particles(self) -> tuple[TrackedParticle, ...]:
        """The field."""
        return (self._tracked,)
