"""Checkpoints: the state of each particle with how far its messages had come, so that a restart need not begin at zero.

After a crash the recording is worked off again by the front end, which makes the same messages as before. Those that a
checkpoint has behind it are held back, on disk, and counted; when their number and the digest of all that they said are
those of the checkpoint, its state stands for them. When they are not (frames that had been used and were not yet
recorded), or the state cannot be read, what was held back is worked off as if there were no checkpoint.

    SESSION/particles/P001/checkpoint.h5   the state (see `freezer`), replaced as a whole
    SESSION/checkpoint.h5                  links to all of them
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py

from ..recon.records import NoiseSpectrum
from .config import Settings
from .freezer import PACKAGES, NotKeptError, freeze, thaw
from .parcels import Background, Ending, Message, Sighting, pack, unpack
from .particles import particle_name
from .spool import RESERVE_BYTES, Spool

EVERY_S = 60.0
LEAST_WORK = 20  # times what a checkpoint takes, from one to the next
FILE = "checkpoint.h5"


class Course:
    """How far the messages of a particle have come: how many there were, and a digest of all that they said."""

    def __init__(self) -> None:
        self.count = 0
        self.frame = -1  # of the newest observation
        self._digest = hashlib.blake2b(digest_size=16)

    def note(self, message: Message) -> None:
        """One message more."""
        if isinstance(message, Sighting):
            self.frame = message.observation.frame
            message = replace(message, arrived_s=0.0)
        parcel = pack(message)
        self.count += 1
        self._digest.update(parcel.head)
        self._digest.update(parcel.values.data)

    @property
    def digest(self) -> str:
        """Of all messages so far."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a checkpoint says of itself: where in the messages it was made, and how long the file of final poses was."""

    path: Path
    count: int
    digest: str
    settled_bytes: int


class Returning:
    """A particle on its way to its checkpoint: holds messages back until they are there.

    Attributes
    ----------
    noise, sightings, arrivals : the background spectrum, and what came of observations, in what was held back and last.
    """

    def __init__(self, kept: Kept, folder: Path) -> None:
        self.kept = kept
        self.noise: NoiseSpectrum | None = None
        self.sightings = 0
        self.arrivals = array("d")  # of those that were not refused
        self._spool = Spool(folder)

    def holds_back(self, message: Message, course: Course) -> bool:
        """Whether the message comes before the checkpoint. False: it is the last of them, or the disk is full."""
        if isinstance(message, Background):
            self.noise = message.spectrum
        elif isinstance(message, Sighting):
            self.sightings += 1
            if message.observation.accepted:
                self.arrivals.append(message.arrived_s)
        if course.count >= self.kept.count or isinstance(message, Ending):
            return False
        try:
            self._spool.put(pack(message))
        except OSError:
            return False
        return True

    def arrived(self, course: Course) -> bool:
        """Whether the messages so far are those of the checkpoint."""
        return (course.count, course.digest) == (self.kept.count, self.kept.digest)

    def messages(self) -> Iterator[Message]:
        """What was held back."""
        while (parcel := self._spool.first()) is not None:
            yield unpack(parcel)
            self._spool.drop()

    def close(self) -> None:
        """Free the disk."""
        self._spool.close()


class Checkpoints:
    """The checkpoints of a session folder.

    Parameters
    ----------
    folder : of the session.
    maker : what has to be the same for a checkpoint to be believed in, see `maker_of`.
    every_s : of each particle at most so often.
    packages : whose objects may be kept.
    """

    def __init__(
        self, folder: Path, maker: str, *, every_s: float = EVERY_S, packages: Iterable[str] = PACKAGES
    ) -> None:
        self._folder, self._maker, self._every_s, self._packages = folder, maker, every_s, tuple(packages)
        self._next_s: dict[int, float] = {}

    def _path(self, particle: int) -> Path:
        return self._folder / "particles" / particle_name(particle) / FILE

    def returning(self, particle: int) -> Returning | None:
        """What a killed process has left of a particle; ``None``: nothing that can be believed in."""
        path = self._path(particle)
        try:
            with h5py.File(path) as file:
                said = dict(file.attrs)
            if said["maker"] != self._maker:
                return None
            kept = Kept(path, int(said["messages"]), str(said["digest"]), int(said["settled_bytes"]))
        except (OSError, KeyError, ValueError, RuntimeError):
            return None
        return Returning(kept, self._folder)

    def due(self, particle: int) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._next_s.get(particle, 0.0)

    def keep(
        self, particle: int, state: object, course: Course, settled_bytes: int, known: Mapping[str, object]
    ) -> None:
        """Write the checkpoint of a particle. What cannot be kept is not tried again; a full disk is, later."""
        begun = time.monotonic()
        beside = self._path(particle).with_name(f".{FILE}.new")
        try:
            if shutil.disk_usage(self._folder).free < RESERVE_BYTES:
                raise OSError("too little room")
            beside.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(beside, "w", libver="v110") as file:
                freeze(state, file.create_group("state"), known, self._packages)
                said = {"maker": self._maker, "messages": course.count, "digest": course.digest, "frame": course.frame}
                file.attrs.update(said | {"settled_bytes": settled_bytes})
            beside.replace(self._path(particle))
            self._link()
        except NotKeptError:
            self._next_s[particle] = float("inf")
        except (OSError, RuntimeError):
            self._next_s[particle] = begun + self._every_s
        else:
            now = time.monotonic()
            self._next_s[particle] = now + max(self._every_s, LEAST_WORK * (now - begun))
        finally:
            with contextlib.suppress(OSError):  # there may be no folder any more, or one that nobody may write to
                beside.unlink(missing_ok=True)

    def _link(self) -> None:
        found = sorted(path.relative_to(self._folder) for path in self._folder.glob(f"particles/*/{FILE}"))
        beside = self._folder / f".{FILE}.{os.getpid()}"
        with h5py.File(beside, "w") as file:
            for path in found:
                file[path.parent.name] = h5py.ExternalLink(str(path), "/")
        beside.replace(self._folder / FILE)

    def load(self, kept: Kept, known: Mapping[str, object]) -> Any:
        """The state.

        Raises
        ------
        NotKeptError : it cannot be read.
        """
        try:
            with h5py.File(kept.path) as file:
                return thaw(file["state"], known, self._packages)
        except (OSError, KeyError, RuntimeError) as error:
            raise NotKeptError(str(error)) from None


def remove(folder: Path) -> None:
    """The session is over: nothing will be gone on with."""
    for path in (folder / FILE, *folder.glob(f"particles/*/{FILE}")):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def maker_of(settings: Settings) -> str:
    """Digest of the reconstruction's code and settings, the libraries and the machine: with others sums may differ."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).resolve().parent.parent / "recon"
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    for section in (settings.reconstruction, settings.optics, settings.tilts):
        digest.update(section.model_dump_json().encode())
    for name in ("numpy", "scipy", "numba"):
        digest.update(version(name).encode())
    digest.update(f"{platform.python_version()} {platform.platform()} {platform.processor()}".encode())
    return digest.hexdigest()
