"""The files of one particle in the session folder: maps, atoms, poses, curves. Written beside and then renamed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..recon.records import Atom, ParticleResult, ParticleStatus, PoseRow
from .errors import TumbleError
from .particles import particle_name
from .views import finite

POSE_COLUMNS = ("frame", "time_s", "qw", "qx", "qy", "qz", "x_px", "y_px", "score", "used")
SETTLED = ".poses_settled.csv"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path` and move it there: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8", newline="\n")

    write_atomically(path, write)


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON to `path` atomically."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False, default=str) + "\n")


def write_map(path: Path, volume: NDArray[np.float32], voxel_A: float, label: str) -> None:
    """Write an MRC map.

    Parameters
    ----------
    volume : (z, y, x) float32.
    voxel_A : sampling, A, put into the header.
    label : one line for the header. No time stamp is written: equal maps make equal files.
    """
    import mrcfile

    def write(beside: Path) -> None:
        with mrcfile.new(beside, overwrite=True) as file:
            file.set_data(np.ascontiguousarray(volume, dtype=np.float32))
            file.set_volume()
            file.voxel_size = voxel_A
            file.header.label[:] = b""
            file.header.label[0] = label.encode("ascii", "replace")[:80]
            file.header.nlabl = 1

    write_atomically(path, write)


def atoms_text(atoms: Iterable[Atom]) -> str:
    """Extended XYZ: element, x y z in A in the body frame, confidence 0..1, standard error per axis in A; of an alloy
    the confidence in the element, too.
    """
    listed = tuple(atoms)
    alloy = any(math.isfinite(atom.element_confidence) for atom in listed)
    lines = [
        f"{atom.element} {x:.4f} {y:.4f} {z:.4f} {atom.confidence:.4f} {atom.error_A:.4f}"
        + (f" {atom.element_confidence:.4f}" if alloy else "")
        for atom in listed
        for x, y, z in [atom.position_A]
    ]
    columns = "species:S:1:pos:R:3:confidence:R:1:error_A:R:1" + (":element_confidence:R:1" if alloy else "")
    return "\n".join([str(len(lines)), f'Properties={columns} pbc="F F F"', *lines]) + "\n"


def table_text(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A CSV table with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def poses_text(poses: Iterable[PoseRow]) -> str:
    """Lines of poses.csv without its header: ``r_lab = R(q) r_body + centre``, one line per frame."""

    def row(pose: PoseRow) -> list[str]:
        numbers = [f"{value:.7f}" for value in pose.quaternion] + [f"{value:.4f}" for value in pose.centre_px]
        return [str(pose.frame), f"{pose.time_s:.6f}", *numbers, f"{pose.score:.3f}", str(int(pose.used))]

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(row, poses))
    return text.getvalue()


class PosesFile:
    """poses.csv: poses that are final, gathered in a file beside it, and after them those that may still change.

    Parameters
    ----------
    folder : the particle's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "poses.csv"
        self._settled = folder / SETTLED
        self._any = False

    def settle(self, poses: Iterable[PoseRow]) -> None:
        """These poses will not change any more."""
        text = poses_text(poses)
        if text:
            if not self._any:  # what a killed process has left there is not of this run
                self._settled.write_bytes(b"")
            before = self._settled.stat().st_size
            try:
                with self._settled.open("a", encoding="utf-8", newline="\n") as file:
                    file.write(text)
            except OSError:
                os.truncate(self._settled, before)  # all of them or none: they will be given again
                raise
            self._any = True

    @property
    def nbytes(self) -> int:
        """Of the settled poses."""
        return self._settled.stat().st_size if self._any else 0

    def go_on(self, nbytes: int) -> None:
        """So many bytes that a killed process had gathered are of this run too.

        Raises
        ------
        OSError : they are not there.
        """
        if nbytes and self._settled.stat().st_size < nbytes:
            raise OSError("settled poses are missing")
        if nbytes:
            os.truncate(self._settled, nbytes)
        self._any = nbytes > 0

    def write(self, poses: Iterable[PoseRow]) -> None:
        """Write poses.csv: the settled poses and then `poses`."""

        def write(beside: Path) -> None:
            with beside.open("wb") as file:
                file.write((",".join(POSE_COLUMNS) + "\n").encode())
                if self._any:
                    with self._settled.open("rb") as settled:
                        shutil.copyfileobj(settled, file, 1 << 20)
                file.write(poses_text(poses).encode())

        write_atomically(self._path, write)

    def close(self) -> None:
        """Remove what was gathered beside; poses.csv holds it."""
        self._settled.unlink(missing_ok=True)


def coverage_text(counts: NDArray[np.int32], axes: NDArray[np.floating[Any]] | None) -> str:
    """coverage.csv: cell, direction (x, y, z) of the cell in the body frame, views counted there.

    Parameters
    ----------
    counts : (n,) int32.
    axes : (n, 3) unit vectors of the cells, or ``None`` when they are not known.
    """
    if axes is None or len(axes) != len(counts):
        return table_text(("cell", "views"), enumerate(int(count) for count in counts))
    rows = (
        [cell, *(f"{value:.6f}" for value in axis), int(count)]
        for cell, (axis, count) in enumerate(zip(axes, counts, strict=True))
    )
    return table_text(("cell", "x", "y", "z", "views"), rows)


def summary(status: ParticleStatus, extra: dict[str, Any]) -> dict[str, Any]:
    """summary.json: the figures of one particle."""
    return {
        "particle": status.particle,
        "state": status.state,
        "frames_seen": status.frames_seen,
        "frames_used": status.frames_used,
        "frames_rejected": dict(sorted(status.frames_rejected.items())),
        "frames_in_flight": status.frames_in_flight,
        "lattice": status.lattice,
        "twinned": status.twinned,
        "lattice_constant_A": finite(status.lattice_constant_A),
        "metals": list(status.metals),
        "strain_percent": [finite(value) for value in status.strain_percent],
        "rotation_per_frame_deg": finite(status.step_deg),
        "resolution_A": finite(status.resolution_A),
        "atoms": status.atoms,
        "elements": status.elements,
        "target_resolution_A": finite(status.target_A),
        "verdict": None if status.verdict is None else status.verdict.word,
        "verdict_reasons": [] if status.verdict is None else list(status.verdict.reasons),
        "trusted": None if status.trust is None else status.trust.trusted,
        "trust_reasons": [] if status.trust is None else list(status.trust.reasons),
        "metrics": {} if status.milestone is None else plain(asdict(status.milestone)),
        "note": status.note,
        **{key: plain(value) for key, value in extra.items()},
    }


def plain(value: Any) -> Any:
    """`value` as JSON can carry it: arrays become lists, numbers that are not finite become ``None``."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return finite(value) if isinstance(value, float) else value


class ParticleFolder:
    """Writes the files of one particle.

    Parameters
    ----------
    folder : made when something is written.
    label : for the headers of the maps.
    axes : (n, 3) directions of the coverage cells, or ``None`` when they are not known.
    """

    def __init__(self, folder: Path, label: str, axes: NDArray[Any] | None) -> None:
        self._folder = folder
        self._label = label
        self._axes = axes
        self.poses = PosesFile(folder)
        self._map: NDArray[np.float32] | None = None  # the one that is on disk

    def settle(self, poses: Iterable[PoseRow]) -> None:
        """Keep poses that are final and no longer part of a result."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.poses.settle(poses)

    def write(self, status: ParticleStatus, result: ParticleResult | None) -> None:
        """Bring the files up to date. The summary comes last, so that it describes files that exist."""
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        if result is not None:
            self._write_maps(result)
            self.poses.write(result.poses)
            fsc = ((f"{k:.6f}", f"{value:.6f}") for k, value in zip(status.fsc_k, status.fsc, strict=True))
            write_text(folder / "fsc.csv", table_text(("k_per_A", "fsc"), fsc))
        write_text(folder / "coverage.csv", coverage_text(status.coverage, self._axes))
        write_json(folder / "summary.json", summary(status, {} if result is None else result.extra))

    def write_summary(self, status: ParticleStatus) -> None:
        """Write the summary alone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / "summary.json", summary(status, {}))

    def _write_maps(self, result: ParticleResult) -> None:
        if result.map is self._map:
            return
        volumes = {name: getattr(result, name) for name in ("map", "half1", "half2", "unfiltered")}
        for name, volume in volumes.items():
            if volume is not None:
                write_map(self._folder / f"{name}.mrc", volume, result.voxel_A, f"{self._label} {name}")
        write_text(self._folder / "atoms.xyz", atoms_text(result.atoms))
        self._map = result.map

    def close(self) -> None:
        """Remove what was only needed while writing."""
        self.poses.close()


class Stored(Protocol):
    """A particle whose files are kept: see `daemon.workshop.Task`."""

    number: int

    def status(self) -> ParticleStatus: ...
    def result(self) -> ParticleResult | None: ...
    def drain_poses(self) -> tuple[PoseRow, ...]: ...


class ParticleStore:
    """Keeps the files of particles up to date, in the process that reconstructs them.

    Parameters
    ----------
    folder : of the session.
    every_s : files are written at most this often while the particle goes on.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        self._folder, self._every_s = folder, every_s
        self._files: dict[int, ParticleFolder] = {}
        self._written: dict[int, tuple[float, int, str]] = {}  # when, frames used, state
        self._settled: dict[int, tuple[PoseRow, ...]] = {}  # not yet on disk
        self._axes: NDArray[Any] | None = None

    def refresh(self, particle: Stored, *, final: bool) -> None:
        """Write the files of one particle if that is due and they have changed; always when `final`.

        Raises
        ------
        TumbleError : the folder cannot be written.
        """
        when, *before = self._written.get(particle.number, (-self._every_s, -1, ""))
        if not final and time.monotonic() - when < self._every_s:
            return
        status = particle.status()
        if not final and before == [status.frames_used, status.state]:
            return
        settled = self._settled.pop(particle.number, ()) + particle.drain_poses()  # first: the result lacks them then
        result = particle.result()
        if result is None and not settled and not final:
            return
        files = self._of(particle.number)
        self._settled[particle.number] = settled
        try:
            files.settle(settled)
            self._settled[particle.number] = ()
            files.write(status, result)
            if final:
                files.close()
        except OSError as error:
            self._written[particle.number] = (time.monotonic(), -1, "")  # no sooner than if it had been done
            raise TumbleError(f"cannot write to {self._folder}: {error.strerror or error}") from None
        self._written[particle.number] = (time.monotonic(), status.frames_used, status.state)

    def settled_bytes(self, number: int) -> int | None:
        """How long the file of final poses is; ``None``: some are not yet in it, or it is gone."""
        with contextlib.suppress(OSError):
            return None if self._settled.get(number) else self._of(number).poses.nbytes
        return None

    def go_on(self, number: int, settled_bytes: int) -> None:
        """Go on with the files of a particle that a killed process has left.

        Raises
        ------
        TumbleError : final poses are missing.
        """
        try:
            self._of(number).poses.go_on(settled_bytes)
        except OSError as error:
            raise TumbleError(f"cannot go on in {self._folder}: {error.strerror or error}") from None

    def _of(self, number: int) -> ParticleFolder:
        if number not in self._files:
            if self._axes is None:
                from ..recon.coverage import view_grid

                self._axes = np.asarray(view_grid())
            name = particle_name(number)
            label = f"tumble {__version__} {name}"
            self._files[number] = ParticleFolder(self._folder / "particles" / name, label, self._axes)
        return self._files[number]
