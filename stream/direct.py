"""A file that only grows, written past the page cache in large pieces by a thread of its own.

Through the page cache a frame is copied by the kernel into pages that it has to find, and these are written out and
given back later: several times the processor time of receiving the frame. Past it the disk takes the pieces from our
memory. Where the system or the file system cannot do that the same pieces go through the page cache.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from .checksum import crc32
from .compression import Buffer

Write = tuple[int, bytes]  # an address in the file, and what belongs there
PAGE = 4096  # what lies on pages of its own can be written past the cache
BATCH_BYTES = 2 << 20  # larger ones cost as much, and their memory has to be fetched anew
_IN_FLIGHT = 4  # pieces that are being written or wait for it, besides the one that is being filled
_ALIGNED = 64  # bytes; where appended ones begin, so that they are copied past the caches of the processor
_SMALL_BYTES = 32 << 10  # small reservations share so much


@dataclass(slots=True)
class _Batch:
    """A piece of the file that is still in memory."""

    memory: mmap.mmap
    address: int
    filled: int = 0
    written: bool = False
    view: memoryview = field(init=False)

    def __post_init__(self) -> None:
        self.view = memoryview(self.memory)


@dataclass(slots=True)
class _Task:
    """What the thread does next: a piece, then other places of the file, then say how far it has come."""

    batch: _Batch | None = None
    writes: list[Write] = field(default_factory=list)
    end: int = 0
    mark: int = 0
    done: threading.Event | None = None


class DirectFile:
    """The file and the thread that writes it.

    Parameters
    ----------
    path : the file. What is in it stays.
    new : it must not exist, and is made.

    Attributes
    ----------
    reached : the last mark up to which everything has been handed to the operating system.

    Raises
    ------
    OSError : it cannot be opened.
    RuntimeError : the system gives no thread.
    """

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self.file = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if new else 0), 0o666)
        self._direct = -1
        with contextlib.suppress(OSError, AttributeError):  # the file system or the system cannot
            self._direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        self._end = _up(os.fstat(self.file).st_size)
        self._small = self._small_end = 0
        self._batch: _Batch | None = None
        self._sent: deque[_Batch] = deque()
        self._free: list[mmap.mmap] = []
        self._room = threading.Semaphore(_IN_FLIGHT)
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._failure: OSError | None = None
        self.reached = 0
        self._thread = threading.Thread(target=self._work, name="tumble-recorder", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._close_files()
            raise

    def head(self, content: bytes) -> None:
        """Write the first bytes of the file, at once; nothing may have been appended or reserved.

        Raises
        ------
        OSError : they cannot be written.
        """
        _write_all(self.file, memoryview(content), 0)
        self._end = _up(len(content))

    @property
    def end(self) -> int:
        """The address behind everything that has been asked for."""
        return self._end if self._batch is None else _up(self._batch.address + self._batch.filled)

    def append(self, blob: Buffer) -> tuple[int, int]:
        """Take bytes over. Waits while the disk is far behind.

        Returns
        -------
        Where in the file they will be, and their CRC-32, which costs least while they are copied.

        Raises
        ------
        OSError : something before it could not be written.
        """
        self.check()
        size = len(blob)
        batch = self._batch
        if batch is None or batch.filled + size > len(batch.view):
            batch = self._begin(size)
        at = batch.filled
        check = crc32(blob, batch.view[at : at + size])
        batch.filled = at + size + -size % _ALIGNED
        return batch.address + at, check

    def reserve(self, size: int) -> int:
        """The address of `size` bytes that are only written by `post`.

        What fits into a page lies in one: the system writes it whole even when this process is killed meanwhile.
        """
        if size > _SMALL_BYTES:
            return self._take(size)
        if size <= PAGE and self._small % PAGE + size > PAGE:
            self._small = _up(self._small)
        if self._small + size > self._small_end:
            self._small = self._take(_SMALL_BYTES)
            self._small_end = self._small + _SMALL_BYTES
        address = self._small
        self._small += size + -size % 8
        return address

    def post(self, writes: list[Write], mark: int) -> None:
        """Write these places after everything that was appended, in this order, and note the mark after that.

        Raises
        ------
        OSError : something before it could not be written.
        """
        self.check()
        self._send()
        self._tasks.put(_Task(writes=writes, end=self._end, mark=mark))

    def settle(self) -> None:
        """Wait until all of it is in the hands of the operating system.

        Raises
        ------
        OSError : something could not be written.
        """
        self._send()
        done = threading.Event()
        self._tasks.put(_Task(done=done))
        done.wait()
        self.check()

    def read(self, address: int, size: int) -> bytes:
        """Bytes that were appended, written or not.

        Raises
        ------
        OSError : the disk fails.
        """
        for batch in (*self._sent, *(() if self._batch is None else (self._batch,))):
            if batch.address <= address < batch.address + batch.filled:
                at = address - batch.address
                return bytes(batch.view[at : at + size])
        return os.pread(self.file, size, address)

    def close(self) -> None:
        """End the thread after what it still has to do, and close the file."""
        if self._thread.is_alive():
            self._tasks.put(None)
            self._thread.join()
        self._close_files()

    def _close_files(self) -> None:
        files, self.file, self._direct = (self._direct, self.file), -1, -1
        for file in files:
            if file >= 0:
                os.close(file)

    def check(self) -> None:
        """Nothing, as long as all could be written.

        Raises
        ------
        OSError : something could not be written; what came after it was not tried.
        """
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror)

    def _take(self, size: int) -> int:
        """Pages of their own: the piece that is being filled ends before them."""
        self._send()
        address = self._end
        self._end += _up(size)
        return address

    def _begin(self, size: int) -> _Batch:
        """A new piece with room for `size` bytes."""
        if size > BATCH_BYTES:
            self.settle()  # so that one of unusual size is in memory at most
        self._send()
        self._room.acquire()  # the thread gives back what it has written, and after a failure everything
        self.check()
        while self._sent and self._sent[0].written:
            old = self._sent.popleft()
            if len(old.memory) == BATCH_BYTES:
                self._free.append(old.memory)
        fits = size <= BATCH_BYTES
        memory = self._free.pop() if fits and self._free else _memory(BATCH_BYTES if fits else _up(size))
        self._batch = _Batch(memory, self._end)
        return self._batch

    def _send(self) -> None:
        """The piece that is being filled is complete; what is left of its last page stays empty."""
        batch, self._batch = self._batch, None
        if batch is not None:
            padded = _up(batch.filled)
            batch.view[batch.filled : padded] = bytes(padded - batch.filled)
            self._end = batch.address + padded
            self._sent.append(batch)
            self._tasks.put(_Task(batch))

    # ---------------------------------------------------------------- the thread

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._failure is None:
                try:
                    self._do(task)
                except OSError as error:
                    self._failure = error
                except Exception as error:  # noqa: BLE001  # whoever waits for this thread has to hear of it
                    self._failure = OSError(errno.EIO, f"{type(error).__name__}: {error}")
            if task.batch is not None:
                self._room.release()
            if task.done is not None:
                task.done.set()

    def _do(self, task: _Task) -> None:
        if task.batch is not None:
            self._write_batch(task.batch)
            task.batch.written = True
        if task.end > os.fstat(self.file).st_size:  # what was reserved and not written yet
            os.ftruncate(self.file, task.end)
        for address, content in task.writes:
            _write_all(self.file, memoryview(content), address)
        self.reached = max(self.reached, task.mark)

    def _write_batch(self, batch: _Batch) -> None:
        view = batch.view[: _up(batch.filled)]
        if self._direct >= 0:
            try:
                _write_all(self._direct, view, batch.address)
            except OSError as error:
                if error.errno != errno.EINVAL:  # opened, but not for pieces like this one
                    raise
                os.close(self._direct)
                self._direct = -1
        if self._direct < 0:
            _write_all(self.file, view, batch.address)
            if hasattr(os, "posix_fadvise"):  # begin to write it out, and let go of what is written
                os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # the system then has one page to find for a write past the cache, not 512
        with contextlib.suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _up(size: int) -> int:
    return size + -size % PAGE


def _write_all(file: int, view: memoryview, address: int) -> None:
    while len(view):
        written = os.pwrite(file, view, address)
        view, address = view[written:], address + written
