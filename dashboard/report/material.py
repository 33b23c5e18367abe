"""What a session folder holds, read so that a damaged or unfinished session still gives all it has."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Facts = dict[str, Any]
POSE_FIELDS = 10


class ReportError(ValueError):
    """There is no session to report on; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One snapshot of the timeline, without the pictures in it: daemon time, phase, frame counts, particle records."""

    uptime_s: float
    phase: str
    stream: Facts
    particles: dict[str, Facts]


@dataclass(slots=True, eq=False)
class Particle:
    """What is there of one particle; what is not there is None or empty, and `missing` says so in words.

    Attributes
    ----------
    facts : its record in the last snapshot, which is never older than summary.json, completed by that.
    volume : (n, n, n) float32 ``[z, y, x]``; voxel_A its sampling.
    elements, positions_A, confidence : the atoms: symbols, (m, 3) x y z, (m,) 0..1.
    poses : (k, 10) columns of poses.csv.
    fsc : (j, 2) spatial frequency 1/A and correlation of the halves.
    views, axes : (c,) counts and (c, 3) unit vectors x y z of the cells of the hemisphere.
    """

    name: str
    facts: Facts = field(default_factory=dict)
    volume: NDArray[np.float32] | None = None
    voxel_A: float = 0.0
    elements: list[str] = field(default_factory=list)
    positions_A: Floats = field(default_factory=lambda: np.empty((0, 3)))
    confidence: Floats = field(default_factory=lambda: np.empty(0))
    poses: Floats = field(default_factory=lambda: np.empty((0, POSE_FIELDS)))
    fsc: Floats = field(default_factory=lambda: np.empty((0, 2)))
    views: Floats = field(default_factory=lambda: np.empty(0))
    axes: Floats = field(default_factory=lambda: np.empty((0, 3)))
    missing: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Material:
    """A session: `facts` is session.json, `timeline` thinned to a bounded number of moments."""

    folder: Path
    facts: Facts
    timeline: list[Moment]
    particles: list[Particle]
    missing: list[str]

    @property
    def stream(self) -> Facts:
        """The accounting: final when the session ended in order, else of the last snapshot."""
        final = self.facts.get("accounting")
        if isinstance(final, dict):
            return final
        return self.timeline[-1].stream if self.timeline else {}

    @property
    def in_order(self) -> bool:
        """Whether the daemon has written its last word."""
        return self.facts.get("ended") is not None


def number(value: object) -> float | None:
    """A finite number, or None for whatever else stands there."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def read(folder: Path, moments: int = 1500) -> Material:
    """Read a session folder.

    Parameters
    ----------
    folder : of a session, finished or not.
    moments : how many snapshots of the timeline are kept at most, evenly spaced; the last always.

    Raises
    ------
    ReportError : there is no session in `folder`.
    """
    if not folder.is_dir():
        raise ReportError(f"no session folder {folder}: give the folder that a run has made")
    names = ("session.json", "timeline.jsonl", "particles")
    if not any((folder / name).exists() for name in names):
        raise ReportError(f"{folder} is no session: it has no {', no '.join(names)}")
    missing: list[str] = []
    facts = _facts(folder / "session.json", missing)
    timeline = _timeline(folder / "timeline.jsonl", moments, missing)
    last = timeline[-1].particles if timeline else {}
    on_disk = {path.name for path in (folder / "particles").glob("P*") if path.is_dir()}
    particles = [_particle(folder / "particles" / name, last.get(name, {})) for name in sorted(on_disk | set(last))]
    return Material(folder, facts, timeline, particles, missing)


def _facts(path: Path, missing: list[str]) -> Facts:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts, dict):
            return facts
        missing.append(f"{path.name} holds no record")
    except (OSError, ValueError) as error:
        missing.append(f"{path.name} cannot be read: {_why(error)}")
    return {}


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _lines(path: Path) -> Iterator[Facts]:
    """Records of a file of JSON lines; a line that was cut off by a crash is passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _timeline(path: Path, limit: int, missing: list[str]) -> list[Moment]:
    """Moments of the timeline; when there are too many, every second one is dropped, again and again.

    Only the last one has the curves and the counts of its particles: they are nearly all of the bytes.
    """
    kept: list[Moment] = []
    every, index, last = 1, -1, None
    try:
        for index, last in enumerate(_lines(path)):
            if index % every == 0:
                kept.append(_moment(last))
                if len(kept) > limit:
                    kept, every = kept[::2], every * 2
    except OSError as error:
        missing.append(f"{path.name} cannot be read: {_why(error)}")
    if last is not None:
        kept[-1 if index % every == 0 else len(kept) :] = [_moment(last, whole=True)]
    if not kept and not missing:
        missing.append(f"{path.name} holds no snapshot")
    return kept


def _moment(record: Facts, *, whole: bool = False) -> Moment:
    stream, views = record.get("stream"), record.get("particles")
    particles = {}
    for view in views if isinstance(views, list) else []:
        if isinstance(view, dict):
            small = {
                key: value for key, value in view.items() if key == "metrics" or not isinstance(value, (list, dict))
            }
            kept = view if whole else small
            particles[str(view.get("name"))] = kept
    return Moment(
        number(record.get("uptime_s")) or 0.0,
        str(record.get("phase", "")),
        stream if isinstance(stream, dict) else {},
        particles,
    )


def _particle(folder: Path, last: Facts) -> Particle:
    particle = Particle(folder.name, dict(last))
    readers = {
        "summary.json": _summary,
        "map.mrc": _map,
        "atoms.xyz": _atoms,
        "poses.csv": _poses,
        "fsc.csv": _fsc,
        "coverage.csv": _coverage,
    }
    for name, reader in readers.items():
        try:
            reader(folder / name, particle)
        except FileNotFoundError:
            particle.missing.append(f"no {name}")
        except (OSError, ValueError, AttributeError, LookupError) as error:
            particle.missing.append(f"{name} cannot be read: {_why(error)}")
    if not len(particle.fsc):
        pairs = zip(last.get("fsc_k") or (), last.get("fsc") or (), strict=False)
        particle.fsc = np.array([pair for pair in pairs if None not in pair], np.float64).reshape(-1, 2)
    return particle


def _summary(path: Path, particle: Particle) -> None:
    summary = json.loads(path.read_text(encoding="utf-8"))
    told = {key: value for key, value in particle.facts.items() if value not in (None, "", [], {})}
    particle.facts = {**dict(summary.items()), **told}


def _map(path: Path, particle: Particle) -> None:
    import mrcfile

    with mrcfile.open(path, mode="r") as file:
        volume = np.array(file.data, dtype=np.float32)
        particle.voxel_A = float(file.voxel_size.x)
    particle.volume = volume


def _atoms(path: Path, particle: Particle) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines[2 : 2 + int(lines[0])]]
    table = np.array([[float(word) for word in row[1:5]] for row in rows], np.float64).reshape(-1, 4)
    particle.elements = [row[0] for row in rows]
    particle.positions_A, particle.confidence = table[:, :3], table[:, 3]


def _table(path: Path, columns: int) -> Floats:
    """(rows, columns) numbers of a CSV file with a header; where it is damaged, its whole lines only."""
    with warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore")  # an empty file is no reason to talk
        table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)  # ten times as fast for a million frames
        if table.shape[1] == columns:
            return np.asarray(table, np.float64)
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        next(lines, None)
        rows = [row for row in lines if len(row) == columns]
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def _poses(path: Path, particle: Particle) -> None:
    particle.poses = _table(path, POSE_FIELDS)


def _fsc(path: Path, particle: Particle) -> None:
    table = _table(path, 2)
    particle.fsc = table[np.isfinite(table).all(axis=1)]


def _coverage(path: Path, particle: Particle) -> None:
    table = _table(path, 5)
    particle.axes, particle.views = table[:, 1:4], table[:, 4]
