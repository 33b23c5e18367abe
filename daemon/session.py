"""The session folder: everything a run leaves behind, in the layout that users and scripts rely on."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distributions, version
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import __version__
from ..recon.records import ParticleStatus
from ..stream.frame import SeriesStart
from .checkpoints import remove as remove_checkpoints
from .config import Settings
from .errors import TumbleError, UsageError
from .particle_files import ParticleFolder, plain, write_json
from .particles import particle_name
from .snapshot import Picture, Snapshot

FORMAT_VERSION = 1
VERSIONS_OF = ("numpy", "scipy", "numba", "numba-cuda", "h5py", "hdf5plugin", "pyzmq", "cbor2")  # and any cupy
_OURS = (
    "session.json",
    "frames.h5",
    "checkpoint.h5",
    "timeline.jsonl",
    "operator.jsonl",
    "report.html",
    "report",
    "particles",
)


def default_folder(name: str) -> Path:
    """``sessions/<date>-<name>`` in the working directory, not yet existing."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = Path("sessions") / f"{stamp}-{name}"
    number = 1
    while folder.exists():
        number += 1
        folder = Path("sessions") / f"{stamp}-{name}-{number}"
    return folder


def prepare(folder: Path, *, overwrite: bool) -> Path:
    """Make `folder` ready to be a session; with `overwrite` the files of an earlier session in it are removed.

    Raises
    ------
    UsageError : the folder holds something and `overwrite` was not given, or it cannot be made or is no folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(not path.name.startswith(".") for path in folder.iterdir()):  # a killed daemon may leave a draft
            if not overwrite:
                raise UsageError(f"session folder {folder} is not empty: choose another one or give --overwrite")
            for name in _OURS:  # only what a session writes: never somebody else's files
                _remove(folder / name)
    except OSError as error:
        problem = f"cannot use {folder.absolute()} as session folder: {error.strerror or error}"
        raise UsageError(f"{problem}; choose another (--session), or let user {os.getuid()} write there") from None
    return folder


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for inside in path.iterdir():
            _remove(inside)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def unfinished(folder: Path) -> bool:
    """Whether `folder` holds a session whose daemon ended without saying so."""
    try:
        facts = json.loads((folder / "session.json").read_text(encoding="utf-8"))
        return facts["ended"] is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Session:
    """Writes the session folder. `folder` must have been prepared; use as a context manager.

    Parameters
    ----------
    folder, settings, command : where, and what is noted in session.json of how this run came about.
    device : where the reconstruction computes, noted as well: results depend on it.
    resumed : go on with the session that is in the folder.

    Raises
    ------
    TumbleError : a file cannot be written (the disk is full, say).
    """

    def __init__(
        self, folder: Path, settings: Settings, command: str, device: str = "", *, resumed: bool = False
    ) -> None:
        self.folder, self.device = folder, device
        self._slices: dict[str, Picture] = {}  # newest in the timeline
        self._facts: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "tumble": __version__,
            "command": command,
            "begun": _now(),
            "ended": None,
            "phase": "WAITING",
            "versions": versions(),
            "device": device,
            "config": settings.model_dump(mode="json"),
            "series": None,
            "accounting": None,
            "verdict": "",
            "verdicts": {},
            "log": [],
        }
        if resumed:
            before = json.loads((folder / "session.json").read_text(encoding="utf-8"))
            resumed_at = [*before.get("resumed", []), _now()]
            self._facts |= {"begun": before["begun"], "series": before["series"], "resumed": resumed_at}
        self._write_facts()  # first: it is what makes the folder a session
        self._attempt(self._open_timeline if resumed else lambda: self._open_timeline(anew=True))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timeline.close()

    def _open_timeline(self, *, anew: bool = False) -> None:
        path = self.folder / "timeline.jsonl"
        if anew:
            path.unlink(missing_ok=True)
        self._timeline: FileIO = path.open("ab+", buffering=0)
        size = os.fstat(self._timeline.fileno()).st_size
        if size and os.pread(self._timeline.fileno(), 1, size - 1) != b"\n":  # the last line of a killed process
            append(self._timeline, b"\n")

    def series(self, start: SeriesStart, pixel_size_A: float | None) -> None:
        """Note what the source said of the series.

        Raises
        ------
        TumbleError : session.json cannot be written now; `finish` will write it.
        """
        self._facts["series"] = plain(
            {
                "series_id": start.series_id,
                "unique_id": start.unique_id,
                "width_px": start.width,
                "height_px": start.height,
                "dtype": None if start.dtype is None else str(start.dtype),
                "number_of_images": start.number_of_images,
                "frame_time_s": start.frame_time_s,
                "pixel_size_A": pixel_size_A,
                "dose_e_per_A2": start.dose_e_per_A2,
                "voltage_kV": start.voltage_kV,
                "detector": start.detector,
            }
        )
        self._facts["phase"] = "RUNNING"
        self._write_facts()

    def timeline(self, snapshot: Snapshot, *, whole: bool = False) -> None:
        """Add a snapshot to timeline.jsonl, at once readable by others.

        A map slice that is the same as in an earlier line is left out (unless `whole`): it is most of the bytes.

        Raises
        ------
        TumbleError : it cannot be written now; the file is as it was.
        """
        told: dict[str, Picture] = {}
        if not whole:
            views = tuple(
                replace(view, slice_xy=(), slice_xz=(), slice_yz=())
                if self._slices.get(view.name) == view.slice_xy
                else view
                for view in snapshot.particles
            )
            told = {view.name: view.slice_xy for view in snapshot.particles}
            snapshot = replace(snapshot, particles=views)
        self._attempt(lambda: append(self._timeline, snapshot.to_json().encode() + b"\n"))
        self._slices.update(told)

    def summary(self, status: ParticleStatus) -> None:
        """Write the summary of a particle whose own worker cannot do so any more; its maps stay as they are."""
        files = ParticleFolder(self.folder / "particles" / particle_name(status.particle), "", None)
        self._attempt(lambda: files.write_summary(status))
        files.close()

    def finish(self, snapshot: Snapshot) -> None:
        """Write the final session.json: accounting, verdicts, the log."""
        stream = json.loads(snapshot.to_json())["stream"]
        self._facts.update(
            ended=_now(),
            phase=snapshot.phase,
            accounting=stream,
            verdict=snapshot.verdict,
            verdicts={view.name: {"state": view.state, "note": view.note} for view in snapshot.particles},
            log=list(snapshot.log),
            step_ms=snapshot.step_ms,
            memory_MiB=snapshot.memory_MiB,
        )
        self._write_facts()
        remove_checkpoints(self.folder)

    def _write_facts(self) -> None:
        self._attempt(lambda: write_json(self.folder / "session.json", self._facts))

    def _attempt(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise TumbleError(f"cannot write to {self.folder}: {error.strerror or error}") from None


def append(file: FileIO, line: bytes) -> None:
    """Write `line` to the end of `file`, all of it or, where that fails, nothing.

    Raises
    ------
    OSError : the disk is full or fails.
    """
    before = os.fstat(file.fileno()).st_size
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        file.truncate(before)
        raise


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    cupy = (one for one in distributions() if (one.name or "").lower().startswith("cupy"))  # one for each CUDA version
    return found | {one.name: one.version for one in cupy}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
