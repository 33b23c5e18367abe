"""What the pipeline tells a reconstruction worker, in an order that is kept for every particle, and how it is packed.

A message is a small head and an array of float32, copied as they are into shared memory or a scratch file: nothing is
pickled on this way.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..recon.records import NoiseSpectrum, Observation

Values = NDArray[np.float32]
_KIND = struct.Struct("<BI")  # kind, particle
_MEETING = struct.Struct("<dd")  # pixel size, diameter
_BACKGROUND = struct.Struct("<qI")  # boxes, edge of the spectrum
_SIGHTING = struct.Struct("<qddiidddII?4d")  # see `_pack_sighting`; the reason follows as text
_NO_POSE = (math.nan,) * 4
_NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Meeting:
    """A particle was found; comes first."""

    particle: int
    pixel_size_A: float
    diameter_A: float


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """The background spectrum that counts from here on in the sequence of a particle."""

    particle: int
    spectrum: NoiseSpectrum


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One observation. `arrived_s` is when its frame came off the socket, `time.monotonic`; no result depends on it."""

    observation: Observation
    arrived_s: float

    @property
    def particle(self) -> int:
        """Number of the particle."""
        return self.observation.particle


@dataclass(frozen=True, slots=True)
class Ending:
    """Nothing more comes: bring the particle to its final result."""

    particle: int


def sighting(observation: Observation, arrived_s: float) -> Sighting:
    """The message of an observation. A box that must not enter the map stays behind: it would only take room."""
    if not observation.accepted:
        observation = replace(observation, box=_NOTHING.reshape(0, 0))
    return Sighting(observation, arrived_s)


Message = Meeting | Background | Sighting | Ending


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A packed message: `head` in bytes and `values`, flat float32, which may be empty."""

    head: bytes
    values: Values

    @property
    def nbytes(self) -> int:
        """Bytes of head and values."""
        return len(self.head) + self.values.nbytes


def pack(message: Message) -> Parcel:
    """Pack a message."""
    kind = _KIND.pack(_KINDS.index(type(message)), message.particle)
    if isinstance(message, Sighting):
        return _pack_sighting(kind, message)
    if isinstance(message, Background):
        power = message.spectrum.power
        return Parcel(kind + _BACKGROUND.pack(message.spectrum.boxes, len(power)), _flat(power))
    if isinstance(message, Meeting):
        return Parcel(kind + _MEETING.pack(message.pixel_size_A, message.diameter_A), _NOTHING)
    return Parcel(kind, _NOTHING)


def _pack_sighting(kind: bytes, sighting: Sighting) -> Parcel:
    seen = sighting.observation
    rows, columns = seen.box.shape
    fields = _SIGHTING.pack(
        seen.frame, seen.time_s, sighting.arrived_s, *seen.corner_px, *seen.centre_px, seen.centre_sd_px,
        rows, columns, seen.accepted, *(seen.pose or _NO_POSE),
    )  # fmt: skip
    return Parcel(kind + fields + seen.reason.encode(), _flat(seen.box))


def _flat(array: NDArray[Any]) -> Values:
    return np.ascontiguousarray(array, np.float32).reshape(-1)


def unpack(parcel: Parcel) -> Message:
    """The message of a parcel; its arrays are those of the parcel."""
    kind, particle = _KIND.unpack_from(parcel.head)
    rest = parcel.head[_KIND.size :]
    made = _KINDS[kind]
    if made is Sighting:
        return _unpack_sighting(particle, rest, parcel.values)
    if made is Background:
        boxes, edge = _BACKGROUND.unpack(rest)
        return Background(particle, NoiseSpectrum(parcel.values.reshape(edge, edge), boxes))
    if made is Meeting:
        return Meeting(particle, *_MEETING.unpack(rest))
    return Ending(particle)


def arrival_s(parcel: Parcel) -> float | None:
    """When the frame of a packed sighting arrived; ``None`` for other messages."""
    kind, _ = _KIND.unpack_from(parcel.head)
    return _SIGHTING.unpack_from(parcel.head, _KIND.size)[2] if _KINDS[kind] is Sighting else None


def _unpack_sighting(particle: int, rest: bytes, values: Values) -> Sighting:
    frame, time_s, arrived_s, left, top, x, y, sd, rows, columns, accepted, *pose = _SIGHTING.unpack_from(rest)
    observation = Observation(
        particle=particle,
        frame=frame,
        time_s=time_s,
        box=values.reshape(rows, columns),
        corner_px=(left, top),
        centre_px=(x, y),
        centre_sd_px=sd,
        accepted=accepted,
        reason=rest[_SIGHTING.size :].decode(),
        pose=None if math.isnan(pose[0]) else (pose[0], pose[1], pose[2], pose[3]),
    )
    return Sighting(observation, arrived_s)


_KINDS: tuple[type[Message], ...] = (Meeting, Background, Sighting, Ending)
