"""The immutable, versioned picture of the daemon that viewers and machines see. No GPU, no numpy needed to read it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

SCHEMA_VERSION = 1  # raised when a field goes or means something else; new ones have defaults, old readers skip them
Picture = tuple[bytes, ...]  # rows of grey values 0..255


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """Where every received frame is: received = used + rejected + dropped + in_flight."""

    source: str = ""
    series_id: int | None = None
    frame_width_px: int | None = None
    frame_height_px: int | None = None
    expected: int | None = None  # frames announced by the source
    received: int = 0
    used: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    missing: int = 0  # gaps in the image numbers: lost before they reached us
    in_flight: int = 0
    recorded: int = 0
    rate_hz: float = 0.0  # frames received per second, lately
    lag_s: float = 0.0  # age of the newest frame that is in a map or analysed
    queue: int = 0
    queue_size: int = 0
    latency_p50_ms: float | None = None  # from the wire to the first snapshot in which a frame is analysed, lately
    latency_p99_ms: float | None = None
    pose_latency_p50_ms: float | None = None  # from the wire to the first snapshot that counts its pose as decided
    pose_latency_p99_ms: float | None = None
    waiting: int = 0  # observations of all particles that the reconstruction has not come to
    waiting_on_disk_MiB: float = 0.0  # of these, what found no room in shared memory

    def balance(self) -> int:
        """Zero when the books are right."""
        return self.received - self.used - sum(self.rejected.values()) - sum(self.dropped.values()) - self.in_flight


@dataclass(frozen=True, slots=True)
class ParticleView:
    """One particle as the operator sees it."""

    name: str  # P001
    state: str
    centre_px: tuple[float, float]
    diameter_A: float
    where: str = ""  # GPU 1: what its reconstruction computes on; empty: the processor
    frames_seen: int = 0
    frames_used: int = 0
    frames_rejected: dict[str, int] = field(default_factory=dict)
    frames_in_flight: int = 0
    frames_waiting: int = 0  # of these, tracked frames that the reconstruction has not come to
    lag_s: float = 0.0  # age of the newest frame that it has come to, while others wait
    lattice: str = ""  # that was recognised, as "fcc" or "decahedral"; empty before
    twinned: bool = False  # two grains of it that share a (111) plane
    lattice_constant_A: float | None = None
    metals: tuple[str, ...] = ()  # that have this constant, nearest first; empty where the element was told
    strain_percent: tuple[float, ...] = ()  # principal strains, largest first, less their mean; empty: none
    step_deg: float | None = None
    resolution_A: float | None = None
    resolution_trend: tuple[tuple[int, float], ...] = ()  # (frames used, A), bounded length
    fsc_k: tuple[float, ...] = ()  # 1/A
    fsc: tuple[float, ...] = ()
    coverage: tuple[int, ...] = ()  # views per cell of the view grid, see `coverage_axes`
    slice_xy: Picture = ()  # the central layer of the map, small; in JSON two hexadecimal digits a pixel
    slice_xz: Picture = ()  # the same at right angles: rows are z, columns x
    slice_yz: Picture = ()  # rows are z, columns y
    slice_width_A: float = 0.0
    atoms: int | None = None
    ms_per_frame: dict[str, float] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)  # atoms of each, of an alloy
    tilts: dict[str, float] = field(
        default_factory=dict
    )  # of a tilt series: angles, wedge, next tilt, resolution by axis
    note: str = ""
    verdict: str = ""  # SEARCHING, CONTINUE, ENOUGH, PLATEAU, STARVED, LOST or CHANGING; empty: not judged
    verdict_reasons: tuple[str, ...] = ()  # in words
    verdict_frames: int | None = None  # for so many frames of the particle it has been said
    trusted: bool | None = None  # whether the map is right, as far as there is evidence; None: not judged yet
    trust_reasons: tuple[str, ...] = ()  # what speaks against the map, is awaited, or the trust rests on
    trust: dict[str, float] = field(default_factory=dict)  # the evidence, see `recon.records.Trust`
    metrics: dict[str, float] = field(default_factory=dict)  # of the newest map, see `recon.records.Milestone`
    target_A: float | None = None  # what the operator wants
    forecast_low_s: float | None = None  # 90 % interval of the time until then, counted from now
    forecast_median_s: float | None = None
    forecast_high_s: float | None = None  # None beside a low one: perhaps never
    forecast_words: str = ""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One process of the reconstruction."""

    where: str = ""  # GPU 1; empty: the processor
    alive: bool = True
    particles: int = 0  # that it works for
    memory_MiB: float = 0.0  # of the host


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the daemon. `phase` is WAITING, RUNNING, FINISHING, DONE or FAILED."""

    version: int
    tumble: str
    sequence: int
    time_s: float  # Unix time
    uptime_s: float
    phase: str
    session: str
    stream: StreamHealth
    particles: tuple[ParticleView, ...] = ()
    step_ms: dict[str, float] = field(default_factory=dict)  # ms per frame, front end
    memory_MiB: float = 0.0
    disk_free_MiB: float | None = None  # where the session is written
    log: tuple[str, ...] = ()  # newest last, bounded length
    verdict: str = ""  # one line in words
    paused: bool = False  # by the operator: frames are received and recorded, not analysed
    mark: str = ""  # the operator's newest mark, and after which frame
    device: str = ""  # what the reconstruction computes on, 2 x NVIDIA H200, 139 GiB; cpu: the processor
    workers: tuple[WorkerView, ...] = ()

    def to_json(self) -> str:
        """Compact JSON, one line."""
        return encoded(fields_of(self))


# of a particle, what is large and changes with a map: viewers are told it once (`editions.py`)
LARGE = ("resolution_trend", "fsc_k", "fsc", "coverage", "slice_xy", "slice_xz", "slice_yz")
_PICTURES = ("slice_xy", "slice_xz", "slice_yz")


def from_json(text: str | bytes) -> Snapshot:
    """Rebuild a snapshot from `Snapshot.to_json`.

    Raises
    ------
    ValueError : not a snapshot. `OtherSchema` when it is one of another schema version.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not a snapshot: {error}") from None
    return from_data(raw)


class OtherSchema(ValueError):
    """A snapshot of a version of this program that names its fields otherwise."""


def from_data(raw: Any, before: Snapshot | None = None) -> Snapshot:
    """Rebuild a snapshot from its JSON as `json.loads` gives it.

    Parameters
    ----------
    raw : its fields by name.
    before : where what is large is missing of a particle, it is as in this one.

    Raises
    ------
    ValueError : as `from_json`.
    """
    try:
        version = raw["version"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a snapshot: {error}") from None
    if version != SCHEMA_VERSION:
        raise OtherSchema(f"snapshot schema {version}, this viewer reads {SCHEMA_VERSION}: install matching versions")

    def known(cls: type[Any], data: dict[str, Any]) -> dict[str, Any]:
        ours = cls.__dataclass_fields__
        return {key: _freeze(value) if type(value) is list else value for key, value in data.items() if key in ours}

    held = {} if before is None else {view.name: view for view in before.particles}
    values = known(Snapshot, raw)
    values["stream"] = StreamHealth(**known(StreamHealth, raw.get("stream", {})))
    values["workers"] = tuple(WorkerView(**known(WorkerView, worker)) for worker in raw.get("workers", ()))
    values["particles"] = tuple(_view(known(ParticleView, p), held) for p in raw.get("particles", ()))
    return Snapshot(**values)


def _view(values: dict[str, Any], held: dict[str, ParticleView]) -> ParticleView:
    for name in _PICTURES:
        if name in values:
            try:
                values[name] = _picture(values[name])
            except (TypeError, ValueError):
                raise ValueError(f"not a snapshot: {name} is no picture") from None
    before = held.get(values.get("name", ""))
    if before is not None:
        values = {name: getattr(before, name) for name in LARGE} | values
    return ParticleView(**values)


@lru_cache(maxsize=128)  # most snapshots show the pictures of the one before
def _picture(rows: tuple[str, ...]) -> Picture:
    return tuple(map(bytes.fromhex, rows))


def _freeze(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    # lists are long where their items are numbers (coverage), and those need no second look
    return tuple(map(_freeze, value)) if value and isinstance(value[0], list) else tuple(value)


def encoded(data: dict[str, Any]) -> str:
    """Compact JSON of fields by name; records and pictures may be among them."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON cannot write by itself: records, and rows of pictures. Lists of pixels would be most of the work."""
    return value.hex() if isinstance(value, bytes) else fields_of(value)


def fields_of(record: Any) -> dict[str, Any]:
    """Fields of one record; `dataclasses.asdict` would copy every pixel of every slice, ten times slower."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
