"""What travels from a source to the daemon: a series, its frames, its end. No transport, no physics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Quaternion = tuple[float, float, float, float]  # (w, x, y, z), unit length


@dataclass(frozen=True, slots=True, eq=False)
class SeriesStart:
    """Everything a source says once, before the first frame.

    Fields are ``None`` when the source did not say. `pixel_size_A` is the sampling at the specimen; detectors do not
    know it, so it comes from ``user_data["tumble"]`` or from the operator.
    """

    series_id: int
    unique_id: str = ""
    width: int | None = None  # columns
    height: int | None = None  # rows
    dtype: np.dtype[Any] | None = None
    number_of_images: int | None = None
    frame_time_s: float | None = None
    pixel_size_A: float | None = None
    dose_e_per_A2: float | None = None  # per frame
    voltage_kV: float | None = None
    detector: str = ""
    pixel_mask: NDArray[np.uint32] | None = None  # [row, column]; non-zero is bad
    flatfield: NDArray[np.floating[Any]] | None = None  # [row, column]; counts are multiplied by it
    flatfield_applied: bool = False  # by the detector already
    user_data: Mapping[str, Any] = field(default_factory=dict)
    goniometer_deg: tuple[float, float] | None = None  # tilt of image 0, and its increment from image to image


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One detector image.

    Attributes
    ----------
    index : image number within the series, from 0; a gap means that frames were lost before they reached us.
    data : (height, width) array ``[row=y, column=x]``, counts as the detector sent them.
    time_s : start of the exposure in seconds since the series began.
    pose : of the goniometer, where the source knows it, see `stream.poses`.
    """

    series_id: int
    index: int
    data: NDArray[Any]
    time_s: float
    pose: Quaternion | None = None


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """The series is over. `reason` is ``"end"``, ``"timeout"`` or ``"superseded"`` (a new start, no end before)."""

    series_id: int
    reason: str = "end"


Event = SeriesStart | Frame | SeriesEnd
