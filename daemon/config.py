"""The configuration of a daemon: a pydantic model, read from TOML and overridden by the command line.

Unknown keys are refused, so that a misspelt key cannot be silently without effect.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import UsageError

Scalar = bool | int | float | str | None
# What `tumble run` does unless told otherwise.
RUN_DEFAULTS: dict[str, dict[str, Any]] = {"session": {"record": True}, "stream": {"series": 0}}
SOURCE_SCHEMES = ("zmq+tcp", "zmq+ipc", "zmq+sub+tcp", "zmq+sub+ipc", "tcp", "ipc")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamSettings(_Strict):
    """How frames are taken in."""

    source: str = ""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0  # silence after the first message that ends the series
    series: Annotated[int, Field(ge=0)] = 1  # how many are taken; 0: until the daemon is stopped
    queue: Annotated[int, Field(ge=2)] = 512  # compressed frames held in front of the ring
    ring_MiB: Annotated[float, Field(gt=0)] = 256.0  # shared memory between receiver and reconstruction
    when_full: Literal["drop", "block"] = "drop"  # without a recording; with one, frames wait on disk
    channel: str | None = None  # of a detector with several; None: the first
    tee: str | None = None  # where others may look at the stream, tcp://127.0.0.1:31002; beyond loopback with keys
    tee_every: Annotated[int, Field(ge=1)] = 1  # every n-th frame goes there


class DetectorSettings(_Strict):
    """Files with what is known of the detector; what the stream says (pixel mask, flat field) is used besides."""

    gain_file: Path | None = None  # factors that counts are multiplied by
    dark_file: Path | None = None  # counts without beam
    mask_file: Path | None = None  # non-zero: a bad pixel
    flatfield: Literal["auto", "never"] = "auto"  # auto: that of the stream, unless it was applied already


class ReconstructionSettings(_Strict):
    """What the operator knows of the specimen, and how much work is done. ``None``: measured or chosen by Tumble."""

    element: Annotated[str, Field(pattern="^[A-Z][a-z]?$")] | None = None
    elements: tuple[str, ...] | None = None  # of an alloy; every atom is given one, with a confidence
    lattice_constant_A: Annotated[float, Field(gt=1, lt=20)] | None = None
    pixel_size_A: Annotated[float, Field(gt=0, lt=100)] | None = None
    bootstrap_frames: Annotated[int, Field(ge=50)] | None = None
    batch_frames: Annotated[int, Field(ge=1)] | None = None
    lag_frames: Annotated[int, Field(ge=1)] | None = None  # how many of the newest frames stay provisional
    buffer_frames: Annotated[int, Field(ge=100)] | None = None  # how many frames can still be decided anew
    shift_sd_px: Annotated[float, Field(gt=0)] | None = None
    target_resolution_A: Annotated[float, Field(gt=0.3, lt=10)] | None = None  # what ENOUGH means; 1.0 if not given
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] | None = None  # processes that share the particles; one for each device
    device: Literal["auto", "cpu", "gpu"] = (
        "auto"  # auto: the GPUs that work, or the processor; gpu: nothing else will do
    )
    gpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None  # which, as nvidia-smi counts them; all

    @field_validator("gpus")
    @classmethod
    def _each_once(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError('name at least one GPU, and each once; for none: device = "cpu"')
        return value

    @model_validator(mode="after")
    def _processor_or_gpus(self) -> ReconstructionSettings:
        if self.device == "cpu" and self.gpus is not None:
            raise ValueError('gpus and device = "cpu" contradict each other')
        return self

    @field_validator("elements")
    @classmethod
    def _lightest_first(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from ..recon.symbols import lightest_first

        if value is not None and len(value) < 2:
            raise ValueError("an alloy has at least two elements; a single one is reconstruction.element")
        return None if value is None else lightest_first(value)


class OpticsSettings(_Strict):
    """How the lens makes contrast. ``None``: atoms have one sign at all frequencies; bright or dark is found out."""

    voltage_kV: Annotated[float, Field(gt=0, le=3000)] = 300.0
    cs_um: float | None = None  # spherical aberration in micrometres, negative when over-corrected
    defocus_A: float | None = None  # underfocus positive
    contrast: Literal["auto", "bright", "dark"] = "auto"  # of atoms, where cs_um and defocus_A are not given


class TiltSettings(_Strict):
    """A tilt series: frames whose pose is known. The field is one particle, nothing is searched for."""

    poses: Literal["stream", "file"] | None = None  # where they come from; None: unknown, particles tumble
    file: Path | None = None  # .rawtlt, .tlt, .csv or HDF5
    dataset: str | None = None  # of an HDF5 file; found by its name when not given
    axis_deg: Annotated[float, Field(ge=-180, le=180)] = 90.0  # tilt axis, from x (columns) towards y (rows)
    align: bool = True  # shifts and small turns are matched
    box: tuple[int, int, int, int] | None = None  # x, y, width, height; the whole frame
    wide: Annotated[float, Field(ge=1, le=5)] = 1.0  # specimen, in fields across the axis: a film goes on beyond it
    thick: Annotated[float, Field(ge=0.05, le=1)] = 1.0  # specimen, in fields (across the axis) along the beam
    variation: Annotated[float, Field(ge=0)] = 0.0  # weight of the total variation; 1: what the noise asks for; 0: none
    background: Literal["auto", "border", "none"] = "auto"  # taken off; auto: the border of counts, nothing of floats


class SessionSettings(_Strict):
    """What is kept on disk."""

    folder: Path | None = None
    record: bool = False
    overwrite: bool = False
    files_every_s: Annotated[float, Field(ge=0)] = 5.0  # maps on disk are refreshed at most this often


class StatusSettings(_Strict):
    """The endpoint that viewers ask. Without keys on loopback; anywhere else only with them."""

    endpoint: str = "tcp://127.0.0.1:0"
    rate_hz: Annotated[float, Field(gt=0, le=20)] = 4.0  # snapshots a second; latency cannot be less than half a period


class ControlSettings(_Strict):
    """The endpoint that takes orders. Always with keys."""

    endpoint: str = "tcp://127.0.0.1:0"


class KeySettings(_Strict):
    """Where the keys are: see `daemon.keys`. ``None``: those of the user."""

    folder: Path | None = None


class MonitoringSettings(_Strict):
    """/metrics and /healthz, on loopback. ``None``: off."""

    port: Annotated[int, Field(ge=0, le=65535)] | None = None


class LogSettings(_Strict):
    """Lines for the operator when there is no dashboard."""

    format: Literal["text", "json"] = "text"


class Settings(_Strict):
    """Everything a daemon is told. `frontend` holds fields of `recon.frontend.FrontEndOptions` by name."""

    stream: StreamSettings = StreamSettings()
    detector: DetectorSettings = DetectorSettings()
    reconstruction: ReconstructionSettings = ReconstructionSettings()
    optics: OpticsSettings = OpticsSettings()
    tilts: TiltSettings = TiltSettings()
    frontend: dict[str, Scalar | tuple[Scalar, ...]] = Field(default_factory=dict)
    session: SessionSettings = SessionSettings()
    status: StatusSettings = StatusSettings()
    control: ControlSettings = ControlSettings()
    keys: KeySettings = KeySettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    log: LogSettings = LogSettings()


def load(
    path: Path | None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Settings from a TOML file, with `overrides` above it and `defaults` below it, ``{section: {key: value}}``.

    An override that is ``None`` overrides nothing.

    Raises
    ------
    UsageError : unreadable file, unknown key, or a value out of range.
    """
    tables: dict[str, Any] = {}
    where = "command line"
    if path is not None:
        where = str(path)
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read configuration {path}: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"configuration {path} is not TOML: {error}") from None
    for section, values in (defaults or {}).items():
        table = tables.setdefault(section, {})
        if isinstance(table, dict):
            tables[section] = {**values, **table}
    for section, values in (overrides or {}).items():
        table = tables.setdefault(section, {})
        if isinstance(table, dict):
            table.update({key: value for key, value in values.items() if value is not None})
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        raise UsageError(f"configuration ({where}): {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in ("bool", "int", "float", "str"))
    if first["type"] == "extra_forbidden":
        *where, name = (str(part) for part in first["loc"])
        return f"unknown key {key}: {near_miss(name, known_keys('.'.join(where)), where)}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]} (given: {first['input']!r})"


def known_keys(section: str) -> tuple[str, ...]:
    """Names that `section` has; the sections themselves for no section."""
    if not section:
        return tuple(Settings.model_fields)
    model = Settings.model_fields[section].annotation
    return tuple(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else ()


def near_miss(name: str, known: tuple[str, ...], where: list[str] | tuple[str, ...] = ()) -> str:
    """What to do about a name that is not `known`: ``did you mean reconstruction.element?``."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {'.'.join([*where, close[0]])}?"
    return f"there are {', '.join(sorted(known))}"


def as_toml(settings: Settings) -> Iterator[str]:
    """Lines of a configuration file that says the same; what is left to Tumble stands behind a #."""
    for section, values in settings.model_dump(mode="json").items():
        yield f"[{section}]"
        for key, value in values.items():
            yield f"# {key} =    # left to Tumble" if value is None else f"{key} = {_toml(value)}"
        yield ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def check_source(uri: str) -> str:
    """The URI of a stream, as given.

    Raises
    ------
    UsageError : not of the form ``zmq+tcp://host:port`` or ``zmq+ipc://path``.
    """
    parts = urlsplit(uri)
    try:
        complete = (
            bool(parts.hostname and parts.port) if parts.scheme.endswith("tcp") else bool(parts.netloc or parts.path)
        )
    except ValueError:
        complete = False
    if parts.scheme not in SOURCE_SCHEMES or not complete:
        raise UsageError(f"source {uri!r} is not a stream address: give zmq+tcp://host:31001 or zmq+ipc://path")
    return uri


Options = TypeVar("Options")


def options_from(kind: type[Options], values: Mapping[str, Any], section: str) -> Options:
    """An options dataclass `kind` from configured `values`; unknown names and wrong types are refused.

    Raises
    ------
    UsageError : a key that `kind` does not have, or a value of the wrong type.
    """
    from pydantic import TypeAdapter

    known = tuple(getattr(kind, "__dataclass_fields__", {}))
    for key in values:
        if key not in known:
            raise UsageError(f"configuration: unknown key {section}.{key}: {near_miss(key, known, [section])}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # options that contradict each other
            raise UsageError(f"configuration: [{section}] {first['msg'].removeprefix('Value error, ')}") from None
        raise UsageError(f"configuration: {section}.{_first_problem(error)}") from None
    except ValueError as error:
        raise UsageError(f"configuration: {error}") from None
