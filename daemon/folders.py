"""Session folders of one run: SESSION for its first series, then SESSION-2, SESSION-3 ..., each complete by itself."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path
from typing import BinaryIO

from .errors import TumbleError

FACTS, RECORDING = "session.json", "frames.h5"
LOCK, LOCK_S = ".lock", 10.0  # a receiver whose daemon was killed needs a moment to end
_NUMBERED = re.compile(r"(.+)-([1-9][0-9]*)")


def next_folder(folder: Path) -> Path:
    """Make the folder of one more series of the run that left `folder`: the first number that is free.

    Raises
    ------
    TumbleError : it cannot be made.
    """
    first = _named(first_folder(folder))
    number = 2
    while True:
        folder = first.with_name(f"{first.name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise TumbleError(f"cannot make {folder}: {error.strerror or error}") from None


def first_folder(folder: Path) -> Path:
    """Where the run began that left `folder`."""
    numbered = _NUMBERED.fullmatch(_named(folder).name)
    if numbered is not None:
        first = _named(folder).with_name(numbered[1])
        if (first / FACTS).is_file():
            return first
    return folder


def later_folders(folder: Path) -> list[Path]:
    """Folders of series that came after that of `folder`, in one run or another, in their order."""
    first = _named(first_folder(folder))
    found = {}
    for path in first.parent.iterdir():
        numbered = _NUMBERED.fullmatch(path.name)
        if path.is_dir() and numbered is not None and numbered[1] == first.name:
            found[int(numbered[2])] = path
    own = 1 if first == _named(folder) else int(_named(folder).name.rpartition("-")[2])
    return [path for number, path in sorted(found.items()) if number > own]


def lock(folder: Path) -> BinaryIO:
    """Make sure that this is the only process that records into `folder`, for as long as the file is open.

    Raises
    ------
    TumbleError : another one still does after a while, or nothing can be written there.
    """
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            file = (folder / LOCK).open("ab")
        except OSError as error:
            raise TumbleError(
                f"cannot record into {folder}: {error.strerror or error}; choose another folder"
            ) from None
        if _locked(file):
            return file
        file.close()
        if time.monotonic() > deadline:
            raise TumbleError(f"another daemon records into {folder}: choose another session folder")
        time.sleep(0.05)


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can tell, and nobody is kept out for that
        return True
    return os.fstat(file.fileno()).st_nlink > 0  # who had it before has removed it: the next one makes another


def _named(folder: Path) -> Path:
    """`folder` with a name that a number can be hung on to."""
    return folder.resolve() if folder.name in ("", "..") else folder
