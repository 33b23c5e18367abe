"""Going on with a session whose daemon was killed.

The recording is the truth: its frames are worked off again, in order, and because the outcome is a function of the
frames, the state is that of a run that was never interrupted. Then the stream goes on where the recording ends.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from ..stream.errors import RecordingError
from ..stream.frame import SeriesStart
from ..stream.hdf5 import OWN_DATASET
from ..stream.readers import open_recording
from ..stream.repair import repair_recording
from .config import RUN_DEFAULTS, load
from .endpoints import running
from .errors import TumbleError, UsageError
from .folders import FACTS, RECORDING, later_folders, lock
from .operating import JOURNAL
from .orders import Order, parse
from .particle_files import SETTLED
from .session import unfinished

# What decides about the outcome is that of the killed run, unless the operator says otherwise.
_KEPT = ("stream", "detector", "reconstruction", "tilts", "frontend", "session")


def find_unfinished(folder: Path | None, root: Path) -> Path | None:
    """The session to go on with: `folder`, or the newest one in `root`; ``None`` when it has finished or is not there.

    Raises
    ------
    UsageError : `folder` holds a session that has finished, or one that is running.
    """
    busy = {Path(card["session"]).resolve() for card in running()}
    if folder is not None:
        if folder.is_dir() and not unfinished(folder):  # it may have been a later series of the same run
            folder = next(filter(unfinished, later_folders(folder)), folder)
        if folder.resolve() in busy:
            raise UsageError(f"a daemon runs in {folder}: stop it first, or choose another folder")
        if (folder / "session.json").is_file() and not unfinished(folder):
            raise UsageError(f"the session in {folder} has finished: there is nothing to go on with")
        return folder if unfinished(folder) else None
    idle = [path for path in root.glob("*/session.json") if path.parent.resolve() not in busy]
    newest = max(idle, key=lambda path: path.stat().st_mtime, default=None)
    return newest.parent if newest is not None and unfinished(newest.parent) else None


def to_resume(config: Path | None, session: Path | None) -> tuple[Path | None, dict[str, dict[str, Any]]]:
    """The session of a killed daemon, if there is one, and the defaults that it leaves for the run that goes on.

    Raises
    ------
    UsageError : see `find_unfinished`, or a configuration that is none.
    """
    killed = find_unfinished(session or load(config).session.folder, Path("sessions"))
    return killed, RUN_DEFAULTS if killed is None else {**RUN_DEFAULTS, **kept_settings(killed)}


def kept_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """Settings of the killed run, as defaults for the one that goes on."""
    config = _facts(folder).get("config", {})
    return {
        section: {key: value for key, value in config[section].items() if value is not None}
        for section in _KEPT
        if isinstance(config.get(section), dict)
    }


def interrupted(folder: Path) -> tuple[tuple[Path, SeriesStart], ...]:
    """The series that a killed daemon has left to be gone on with: that of `folder`, and those that had been recorded
    while it was still being finished.

    Raises
    ------
    TumbleError : somebody still records into one of them, or a recording cannot be opened.
    """
    waiting = [path for path in later_folders(folder) if (path / RECORDING).exists() and not (path / FACTS).exists()]
    found = [(path, recorded_start(path)) for path in (folder, *waiting)]
    return tuple((path, start) for path, start in found if start is not None)


def recorded_start(folder: Path) -> SeriesStart | None:
    """The series that the recording holds the beginning of; ``None``: none had begun.

    Raises
    ------
    TumbleError : somebody still records into it, or it cannot be opened.
    """
    path, said = folder / RECORDING, _facts(folder).get("series")
    with lock(folder):  # the receiver of the killed daemon may still be closing the file
        start = _start_in(path)
    if said is None:
        return start
    known = {name: said[name] for name in ("series_id", "unique_id", "number_of_images")}
    if start is not None:
        return replace(start, **known)
    for name in ("frame_time_s", "pixel_size_A", "dose_e_per_A2", "voltage_kV", "detector"):
        known[name] = said[name]
    return SeriesStart(width=said["width_px"], height=said["height_px"], **known)


def _start_in(path: Path) -> SeriesStart | None:
    """What a recording says of its series; a file without a readable frame, as after the first second, is put aside."""
    if not path.exists():
        return None
    try:
        path.open("r+b").close()
    except OSError as error:  # it may hold hours of frames
        raise TumbleError(
            f"cannot go on with {path}: {error.strerror or error}; make it readable and writable"
        ) from None
    try:
        repair_recording(path)
        with open_recording(path) as recording:
            start = recording.start
        with h5py.File(path) as file:
            said = file[OWN_DATASET].attrs
            announced = said.get("announced_images")
            return replace(
                start,
                series_id=int(said.get("series_id", start.series_id)),
                number_of_images=None if announced is None else int(announced),
            )
    except (RecordingError, OSError, RuntimeError, KeyError):  # h5py's words for a file that was hardly begun
        _put_aside(path)
        return None


def _put_aside(path: Path) -> None:
    aside, number = path.with_name("frames.unreadable.h5"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"frames.unreadable-{number}.h5")
    path.rename(aside)


def journal(folder: Path) -> tuple[tuple[int, Order], ...]:
    """What operators asked for in the earlier part of a run: (after which frame, order)."""
    try:
        lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
            found.append((int(entry["after_frame"]), parse(entry["order"], entry["who"])))
        except (ValueError, KeyError, TypeError, UsageError):
            continue  # the last line of a killed process may be half a line
    return tuple(found)


def tidy(folder: Path) -> None:
    """Remove what a killed process was writing beside the files of its particles."""
    for path in (folder / "particles").glob("*/.*"):
        if path.name != SETTLED:  # a checkpoint counts on it
            path.unlink(missing_ok=True)


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "session.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
