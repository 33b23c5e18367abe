"""Shared memory: slots, mailbox, limits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tumble.daemon.errors import TumbleError
from tumble.daemon.ring import MAILBOX_BYTES, MAX_SLOTS, MOUNT, PREFIX, FrameRing, sweep


@pytest.fixture
def rings():
    owner = FrameRing.create(1.0)
    other = FrameRing.attach(owner.name)
    yield owner, other
    other.close()
    owner.close()


def test_a_frame_written_on_one_side_is_read_on_the_other(rings):
    writer, reader = rings
    assert writer.cut(10, 12, np.dtype(np.uint16)) == reader.cut(10, 12, np.dtype(np.uint16)) == MAX_SLOTS
    frame = np.arange(120, dtype=np.uint16).reshape(10, 12)
    writer.slot(3)[:] = frame
    assert np.array_equal(reader.slot(3 + MAX_SLOTS), frame)
    assert not reader.slot(2).any()
    assert not reader.slot(4).any()


def test_slots_do_not_overlap(rings):
    writer, _ = rings
    count = writer.cut(33, 7, np.dtype(np.uint8))
    for number in range(count):
        writer.slot(number)[:] = number % 251
    assert all((writer.slot(number) == number % 251).all() for number in range(count))


def test_the_mailbox_keeps_the_latest_books(rings):
    writer, reader = rings
    assert reader.read() is None
    writer.post({"received": 1, "note": "a longer one"})
    writer.post({"received": 2})
    assert reader.read() == {"received": 2}


def test_a_half_written_mailbox_is_not_believed(rings):
    writer, reader = rings
    writer.post({"received": 1})
    writer._bytes[10] = ord("x")
    assert reader.read() is None


@pytest.mark.skipif(not MOUNT.is_dir(), reason="shared memory is no folder here")
def test_what_killed_daemons_left_is_freed(rings):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    left, mine = MOUNT / f"{PREFIX}{gone.pid}-test", MOUNT / rings[0].name
    left.write_bytes(b"x")
    sweep()
    assert not left.exists()
    assert mine.exists()


def test_books_that_do_not_fit_are_refused(rings):
    with pytest.raises(ValueError, match="do not fit"):
        rings[0].post({"words": "x" * MAILBOX_BYTES})


def test_a_frame_that_does_not_fit_says_what_to_do(rings):
    with pytest.raises(TumbleError, match="ring_MiB"):
        rings[0].cut(4000, 4000, np.dtype(np.uint16))
