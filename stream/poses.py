"""The pose that comes with a frame, and what Stream V2 messages say of it. No sockets, no files.

A pose is a unit quaternion ``(w, x, y, z)`` of the goniometer: ``r_gonio = R(q) r_body``. A tilt is a turn about its x
axis. How that axis lies in the image is not known here: see `recon.tilts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import WireError
from .frame import Quaternion


def tilted(angle_deg: float) -> Quaternion:
    """Pose of a goniometer that was turned by an angle about its axis."""
    half = math.radians(angle_deg) / 2
    return (math.cos(half), math.sin(half), 0.0, 0.0)


def tilt_deg(pose: Quaternion) -> float:
    """The part of a pose that is a turn about the goniometer's axis, degrees, -180 to 180."""
    return math.degrees(2 * math.atan2(pose[1] if pose[0] >= 0 else -pose[1], abs(pose[0])))


def quaternion(values: Iterable[Any]) -> Quaternion:
    """Four numbers as a unit quaternion.

    Raises
    ------
    ValueError : not four finite numbers, or all zero.
    """
    numbers = [float(value) for value in values]
    length = math.hypot(*numbers)
    if len(numbers) != 4 or not 1e-6 < length < 1e6:
        raise ValueError("a pose has four numbers w, x, y, z, not all of them zero")
    w, x, y, z = (number / length for number in numbers)
    return (w, x, y, z)


def pose_from(user_data: Any) -> Quaternion | None:
    """What the `user_data` of a Stream V2 image says of its pose: ``{"tumble": {"tilt_deg": a}}`` or ``{"tumble":
    {"quaternion": [w, x, y, z]}}``; None when it says nothing.

    Raises
    ------
    WireError : it says something that is no pose.
    """
    said = user_data.get("tumble") if isinstance(user_data, Mapping) else None
    if not isinstance(said, Mapping):
        return None
    if said.get("quaternion") is not None:
        values = said["quaternion"]
        if not isinstance(values, list | tuple) or not all(map(_is_real, values)):
            raise WireError("the quaternion of an image has to be four numbers [w, x, y, z]")
        try:
            return quaternion(values)
        except (ValueError, OverflowError) as error:
            raise WireError(f"the quaternion of an image: {error}") from None
    if said.get("tilt_deg") is not None:
        if not _is_real(said["tilt_deg"]) or not abs(said["tilt_deg"]) <= 360:
            raise WireError("the tilt_deg of an image has to be a number of degrees, -360 to 360")
        return tilted(float(said["tilt_deg"]))
    return None


def goniometer(said: Any) -> tuple[float, float] | None:
    """Start and increment, degrees an image, of the axis that turns, from the `goniometer` of a Stream V2 start; None
    when none does.
    """
    if not isinstance(said, Mapping):
        return None
    turning = {}
    for name, axis in said.items():
        if isinstance(axis, Mapping) and _is_real(axis.get("increment")) and axis["increment"]:
            start = axis["start"] if _is_real(axis.get("start")) else 0.0
            turning[str(name).lower()] = (float(start), float(axis["increment"]))
    return turning.get("alpha") or next(iter(turning.values()), None)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
