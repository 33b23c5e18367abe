"""Options that several commands take, spelt once; those that belong together as one record."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from .errors import UsageError

SessionOption = Annotated[
    Path | None, typer.Option("--session", help="Session folder (default: a new one in sessions/).")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; options on the command line win.")]
HeadlessOption = Annotated[bool, typer.Option("--headless", help="Plain log lines instead of the dashboard.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the session that is in the folder.")]
ElementOption = Annotated[str | None, typer.Option("--element", help="Element, as in Pt; of an alloy Pd,Pt.")]
LatticeOption = Annotated[float | None, typer.Option("--lattice-constant", help="Lattice constant to start from, A.")]
PixelOption = Annotated[float | None, typer.Option("--pixel-size", help="Pixel size at the specimen, A.")]
BootstrapOption = Annotated[
    int | None, typer.Option("--bootstrap-frames", help="Frames gathered before the first map.")
]
TargetOption = Annotated[
    float | None, typer.Option("--target", metavar="ANGSTROM", help="Resolution that is enough, A (default: 1).")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of everything random.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Threads of the reconstruction (default: all cores, of four or more all but two)."),
]
GpusOption = Annotated[
    str | None,
    typer.Option("--gpus", metavar="NUMBERS", help="GPUs to use, as 0,1 (default: all that work), or none."),
]
SecondsOption = Annotated[float | None, typer.Option("--seconds", min=0.1, help="End the stream after this long.")]
EndpointOption = Annotated[str | None, typer.Option("--status", help="Where viewers ask, tcp://127.0.0.1:PORT.")]
RecordOption = Annotated[bool | None, typer.Option("--record/--no-record", help="Keep the raw frames in frames.h5.")]
SpeedOption = Annotated[str, typer.Option("--speed", help="1 for the recorded pace, 2 for twice that, max.")]


@dataclasses.dataclass(frozen=True, slots=True)
class SessionOptions:
    """Where a session is kept, and how."""

    config: ConfigOption = None
    session: SessionOption = None
    record: RecordOption = None
    headless: HeadlessOption = False
    overwrite: OverwriteOption = False
    status_endpoint: EndpointOption = None

    def settings(self) -> dict[str, dict[str, Any]]:
        """Sections `session` and `status` of the configuration."""
        return {
            "session": {"record": self.record, "overwrite": self.overwrite or None},
            "status": {"endpoint": self.status_endpoint},
        }


@dataclasses.dataclass(frozen=True, slots=True)
class ReconstructionOptions:
    """What is known of the particles, and what is wanted of them."""

    element: ElementOption = None
    lattice_constant: LatticeOption = None
    pixel_size: PixelOption = None
    target: TargetOption = None
    bootstrap_frames: BootstrapOption = None
    threads: ThreadsOption = None
    gpus: GpusOption = None

    def settings(self) -> dict[str, Any]:
        """The section `reconstruction` of the configuration."""
        return {
            **element_settings(self.element),
            "lattice_constant_A": self.lattice_constant,
            "pixel_size_A": self.pixel_size,
            "target_resolution_A": self.target,
            "bootstrap_frames": self.bootstrap_frames,
            "threads": self.threads,
            **gpu_settings(self.gpus),
        }


def gpu_settings(words: str | None) -> dict[str, Any]:
    """What `--gpus` says of the section `reconstruction`.

    Raises
    ------
    UsageError : it is not a list of numbers.
    """
    if words is None or words == "none":
        return {"device": "cpu" if words else None}
    try:
        return {"gpus": tuple(int(word) for word in words.split(","))}
    except ValueError:
        raise UsageError(f"--gpus {words}: give numbers, as 0,1, or none") from None


def element_settings(words: str | None) -> dict[str, Any]:
    """What `--element` says of the section `reconstruction`: one element, or those of an alloy, `Pd,Pt`."""
    if words is None or "," not in words:
        return {"element": words}
    return {"elements": tuple(word.strip() for word in words.split(","))}


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """`command` as typer wants it: in the place of each parameter that is a record of options stand its fields."""
    hints = get_type_hints(command, include_extras=True)
    spelt: list[inspect.Parameter] = []
    records: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            spelt.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        records[name] = kind
        options = get_type_hints(kind, include_extras=True)
        spelt += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=options[field.name]
            )
            for field in dataclasses.fields(kind)
        ]

    def called(**given: Any) -> int:
        for name, kind in records.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
        return command(**given)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in spelt} | {"return": int}
    called.__signature__ = inspect.Signature(spelt)  # type: ignore[attr-defined]
    return called
