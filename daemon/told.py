"""What a session folder tells of its last moment, when nobody is there to ask any more."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import TumbleError, UsageError
from .snapshot import OtherSchema, Snapshot, from_json

STEP = 1 << 16  # bytes that are read at a time, from the end


def is_session(place: str | None) -> bool:
    """Whether `place` is a folder, and no address."""
    return place is not None and "://" not in place and Path(place).is_dir()


def last_told(folder: Path) -> Snapshot:
    """The last snapshot that a run, finished or not, has written down; a line that a kill has torn is passed over.

    Raises
    ------
    UsageError : `folder` is no session.
    TumbleError : there is no snapshot in it, or only of another version.
    """
    path = folder / "timeline.jsonl"
    try:
        with path.open("rb") as file:
            at, text = file.seek(0, os.SEEK_END), b""
            while at:
                begin = max(0, at - STEP)
                file.seek(begin)
                text, at = file.read(at - begin) + text, begin
                whole = text.split(b"\n")[1 if at else 0 :]
                for line in reversed([line for line in whole if line.strip()]):
                    try:
                        return from_json(line)
                    except OtherSchema as error:
                        raise TumbleError(f"{path}: {error}") from None
                    except ValueError:
                        continue
    except OSError as error:
        raise UsageError(f"{folder} is no session: {path.name}: {error.strerror}") from None
    raise TumbleError(f"{path} holds no snapshot")
