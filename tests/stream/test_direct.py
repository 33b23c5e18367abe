"""Past the page cache, by a thread: what was taken over is there, whatever the disk does, or it is said."""

from __future__ import annotations

import errno
import itertools
import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from tumble.stream import direct
from tumble.stream.direct import PAGE, DirectFile


@pytest.fixture
def small(monkeypatch):
    """Pieces of two pages."""
    monkeypatch.setattr(direct, "BATCH_BYTES", 2 * PAGE)


def through_the_cache(monkeypatch) -> None:
    """A file system that knows of no other way."""
    really = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return really(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)


def aligned_for_more(monkeypatch) -> None:
    """A file system that opens such a file and then refuses its pieces."""
    really_open, really_write, files = os.open, os.pwrite, []

    def open_it(path, flags, *mode):
        file = really_open(path, flags & ~os.O_DIRECT, *mode)
        files.extend([file] if flags & os.O_DIRECT else [])
        return file

    def refuse(file, view, address):
        if file in files:
            raise OSError(errno.EINVAL, "Invalid argument")
        return really_write(file, view, address)

    monkeypatch.setattr(os, "open", open_it)
    monkeypatch.setattr(os, "pwrite", refuse)


def in_small_steps(monkeypatch) -> None:
    """A system that writes less than it is asked for."""
    really = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, view, address: really(file, view[:PAGE], address))


@pytest.mark.parametrize("manner", [None, through_the_cache, aligned_for_more, in_small_steps])
def test_everything_is_where_it_was_said_to_be(tmp_path, monkeypatch, small, manner):
    """Pieces, reservations and what is posted into them, at random; read back on the way and at the end."""
    if manner is not None:
        manner(monkeypatch)
    rng = np.random.default_rng(4)
    file = DirectFile(tmp_path / "a", new=True)
    file.head(b"head")
    expected, appended = {0: b"head"}, []
    for mark in range(1, 400):
        blob = rng.bytes(int(rng.integers(1, 3 * PAGE)))
        if rng.random() < 0.8:
            address, check = file.append(memoryview(blob))
            assert check == zlib.crc32(blob)
            expected[address] = blob
            appended.append(address)
        else:
            address = file.reserve(len(blob))
            expected[address] = blob
            file.post([(address, blob[:7]), (address + 7, blob[7:])] if len(blob) > 7 else [(address, blob)], mark)
        if rng.random() < 0.1:
            file.settle()
            assert os.fstat(file.file).st_size <= file.end
        if appended:  # what was posted is only there once it is written
            one = int(rng.choice(appended))
            assert file.read(one, len(expected[one])) == expected[one]
    file.settle()
    assert all(file.read(address, len(blob)) == blob for address, blob in expected.items())
    file.close()
    content = (tmp_path / "a").read_bytes()
    assert all(content[address : address + len(blob)] == blob for address, blob in expected.items())
    ends = sorted((address, address + len(blob)) for address, blob in expected.items())
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ends))


def test_what_is_on_its_way_is_read_from_memory(tmp_path, monkeypatch, small):
    really, blobs = os.pwrite, {}
    monkeypatch.setattr(os, "pwrite", lambda *what: (time.sleep(0.001), really(*what))[1])
    file = DirectFile(tmp_path / "a", new=True)
    for number in range(100):
        blob = bytes([number]) * 3000
        blobs[file.append(blob)[0]] = blob
        assert len(file._sent) <= direct._IN_FLIGHT + 1  # a slow disk makes the sender wait
        assert all(file.read(address, 3000) == content for address, content in blobs.items())
    file.close()


def test_what_fits_into_a_page_lies_in_one(tmp_path):
    file, rng, end = DirectFile(tmp_path / "a", new=True), np.random.default_rng(1), 0
    for size in rng.integers(1, 2 * PAGE, 500).tolist():
        address = file.reserve(size)
        assert address >= end
        assert size > PAGE or address // PAGE == (address + size - 1) // PAGE
        end = address + size
    file.close()


def test_a_mark_is_reached_when_all_before_it_is_written(tmp_path, small):
    file = DirectFile(tmp_path / "a", new=True)
    place = file.reserve(8)
    address, _ = file.append(b"x" * 5000)
    file.post([(place, b"12345678")], 7)
    file.settle()
    assert file.reached == 7
    content = (tmp_path / "a").read_bytes()
    assert (content[place : place + 8], content[address : address + 5000]) == (b"12345678", b"x" * 5000)
    assert len(content) == file.end
    file.close()


def test_a_disk_that_fails_is_heard_of_and_keeps_what_is_in_memory(tmp_path, monkeypatch, small):
    file = DirectFile(tmp_path / "a", new=True)
    first, _ = file.append(b"a" * 100)
    file.post([], 1)
    file.settle()
    really = os.pwrite

    def refuse(*_what):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    second, _ = file.append(b"b" * 100)
    file.post([], 2)
    for ask in (file.settle, file.check, lambda: file.append(b"c"), lambda: file.post([], 3)):
        with pytest.raises(OSError, match="No space left"):
            ask()
    monkeypatch.setattr(os, "pwrite", really)
    assert file.reached == 1
    assert (file.read(first, 100), file.read(second, 100)) == (b"a" * 100, b"b" * 100)
    file.close()


def test_a_thread_that_fails_in_any_other_way_keeps_nobody_waiting(tmp_path, monkeypatch, small):
    def refuse(*_what):
        raise MemoryError("no memory")

    file = DirectFile(tmp_path / "a", new=True)
    monkeypatch.setattr(os, "pwrite", refuse)
    file.append(b"x")
    with pytest.raises(OSError, match="MemoryError: no memory"):
        file.settle()
    with pytest.raises(OSError, match="MemoryError: no memory"):
        file.append(b"x")
    file.close()


def test_a_new_file_is_new(tmp_path):
    (tmp_path / "a").write_text("precious")
    with pytest.raises(FileExistsError):
        DirectFile(tmp_path / "a", new=True)
    file = DirectFile(tmp_path / "a")
    assert file.append(b"more")[0] == PAGE  # behind what is there
    file.close()
    assert (tmp_path / "a").read_bytes()[:8] == b"precious"


def test_a_system_without_threads_to_spare(tmp_path, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RuntimeError, match="new thread"):
        DirectFile(tmp_path / "a", new=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
