"""Frames in shared memory between the receiver process and the reconstruction: one writer, one reader, no pickling.

The block begins with a mailbox (the receiver's latest books, as JSON behind a check sum) and goes on with equal slots,
one frame each. Who may touch which slot is agreed over a pipe, whose system calls also order the memory accesses.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import zlib
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TumbleError

MAILBOX_BYTES = 1 << 17  # for counts, and for as many lines as a series may leave for the operator
MOUNT = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory lives; touching more than it has kills
PREFIX = "tumble-"  # of the names of our blocks; then the process that made it
MAX_SLOTS = 1024  # so that announcements of a full ring fit into the buffer of a pipe
_ALIGN = 64


def shared_block(size_MiB: float, share: float, hint: str = "free some in /dev/shm") -> SharedMemory:
    """A new block of `size_MiB` MiB, or of `share` of what the machine has left, whichever is less.

    Raises
    ------
    TumbleError : shared memory is refused; `hint` says what to do.
    """
    wanted = int(size_MiB * 2**20)
    sweep()
    if MOUNT.is_dir():
        wanted = min(wanted, int(shutil.disk_usage(MOUNT).free * share))
    name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        return SharedMemory(name, create=True, size=MAILBOX_BYTES + max(wanted, 4096))
    except OSError as error:
        raise TumbleError(f"cannot get {wanted / 2**20:.0f} MiB of shared memory: {error}; {hint}") from None


def sweep() -> None:
    """Free the blocks of this user's daemons that were killed together with everything that would have freed them."""
    for path in MOUNT.glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_uid == os.getuid() and not _alive(int(pid)):
                path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class FrameRing:
    """A block of shared memory that is cut into slots once the size of a frame is known.

    Create it in the process that outlives the other (`FrameRing.create`), open it by name in the other one.
    """

    def __init__(self, memory: SharedMemory, *, owner: bool) -> None:
        if memory.buf is None:
            raise TumbleError("shared memory was closed before it was used")
        self._memory = memory
        self._bytes = memory.buf
        self._owner = owner
        self._views: list[NDArray[Any]] = []

    @classmethod
    def create(cls, size_MiB: float) -> FrameRing:
        """A new block of `size_MiB` MiB, or of half of what the machine has left, whichever is less.

        Raises
        ------
        TumbleError : shared memory is refused.
        """
        return cls(shared_block(size_MiB, share=0.5, hint="lower stream.ring_MiB"), owner=True)

    @classmethod
    def attach(cls, name: str) -> FrameRing:
        """The block that another process created under `name`."""
        return cls(SharedMemory(name=name), owner=False)

    @property
    def name(self) -> str:
        """Name by which the other process opens it."""
        return self._memory.name

    @property
    def slots(self) -> int:
        """Number of slots; 0 before `cut`."""
        return len(self._views)

    def cut(self, height: int, width: int, dtype: np.dtype[Any]) -> int:
        """Cut the block into slots of one (height, width) frame of `dtype`; returns how many there are.

        Raises
        ------
        TumbleError : not even two frames fit.
        """
        frame_bytes = height * width * dtype.itemsize
        pitch = -(-max(frame_bytes, 1) // _ALIGN) * _ALIGN
        count = min((self._memory.size - MAILBOX_BYTES) // pitch, MAX_SLOTS)
        if count < 2:
            raise TumbleError(
                f"a frame of {width} x {height} {dtype} ({frame_bytes / 2**20:.1f} MiB) does not fit twice into the "
                f"{self._memory.size / 2**20:.0f} MiB of shared memory: raise stream.ring_MiB or the machine's /dev/shm"
            )
        self._views = [
            np.ndarray((height, width), dtype, self._memory.buf, MAILBOX_BYTES + number * pitch)
            for number in range(count)
        ]
        return count

    def slot(self, number: int) -> NDArray[Any]:
        """(height, width) view of slot ``number % slots``, ``[row=y, column=x]``."""
        return self._views[number % len(self._views)]

    def post(self, books: dict[str, Any]) -> None:
        """Writer: put the latest books into the mailbox.

        Raises
        ------
        ValueError : larger than the mailbox.
        """
        text = json.dumps(books, separators=(",", ":")).encode()
        if len(text) > MAILBOX_BYTES - 8:
            raise ValueError(f"books of {len(text)} bytes do not fit into the mailbox")
        head = len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little")
        self._bytes[: 8 + len(text)] = head + text

    def read(self) -> dict[str, Any] | None:
        """Reader: the latest books; ``None`` when there are none yet or the writer is in the middle of writing."""
        length = int.from_bytes(self._bytes[:4], "little")
        if not 0 < length <= MAILBOX_BYTES - 8:
            return None
        check = int.from_bytes(self._bytes[4:8], "little")
        text = bytes(self._bytes[8 : 8 + length])
        if zlib.crc32(text) != check:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def close(self) -> None:
        """Let go of the memory; the owner also removes it."""
        self._views = []
        self._bytes = memoryview(b"")
        with contextlib.suppress(BufferError):  # someone still holds a slot; the memory goes when that reference goes
            self._memory.close()
        if self._owner:
            self._memory.unlink()
