"""A recording goes to the disk steadily and leaves memory, but for what is still wanted."""

import itertools
import os
import threading

import numpy as np
import pytest

from tumble.stream import recorder, writeout
from tumble.stream.encoded import encode_frame
from tumble.stream.frame import Frame, SeriesStart
from tumble.stream.keeper import Keeper
from tumble.stream.readers import open_recording

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be asked")
FRAMES = 40


@pytest.fixture
def frames(monkeypatch):
    """Frames of 8 kB that do not compress, with requests every four of them and eight kept."""
    monkeypatch.setattr(recorder, "STEP_BYTES", 4 << 13)
    monkeypatch.setattr(writeout, "KEPT_BYTES", 8 << 13)
    rng = np.random.default_rng(0)
    return [
        encode_frame(Frame(1, index, rng.integers(0, 1 << 16, (64, 64), np.uint16), 0.0), "bslz4")
        for index in range(FRAMES)
    ]


@pytest.fixture
def asked(monkeypatch):
    """Ranges of bytes that the system was asked about."""
    ranges = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, begin, length, _advice: ranges.append((begin, length)))
    return ranges


class Finished(threading.Thread):
    """A thread that is done as soon as it has begun: what it does depends on nothing else."""

    def start(self) -> None:
        self.run()

    def is_alive(self) -> bool:
        return False


def test_everything_is_asked_for_once_and_the_newest_are_kept(tmp_path, monkeypatch, frames, asked):
    monkeypatch.setattr(threading, "Thread", Finished)
    keeper = Keeper(tmp_path / "frames.h5")
    keeper.begin(SeriesStart(1))
    for frame in frames:
        assert keeper.take(frame, 0.0)
        keeper.pop()
    keeper.close()
    first, *later = asked
    written = [first, *(item for item in later if item[0])]
    assert first[0] == 0
    assert all(one[0] + one[1] == other[0] for one, other in itertools.pairwise(written))
    dropped = [length for begin, length in later if begin == 0]
    size = (tmp_path / "frames.h5").stat().st_size
    assert dropped == sorted(set(dropped))
    assert size / 2 < dropped[-1] <= size - writeout.KEPT_BYTES


def test_what_waits_stays_in_memory(tmp_path, monkeypatch, frames, asked):
    monkeypatch.setattr(threading, "Thread", Finished)
    keeper = Keeper(tmp_path / "frames.h5", room_frames=1)
    keeper.begin(SeriesStart(1))
    for frame in frames:
        assert keeper.take(frame, 0.0)
    assert all(begin for begin, _ in asked[1:])  # nothing was dropped: the first request alone begins at 0
    for frame in frames:
        assert bytes(keeper.pop()[0].blob) == bytes(frame.blob)
    keeper.close()


def test_a_disk_that_is_behind_holds_nobody_up(tmp_path, monkeypatch, frames):
    """The first request is answered after everything has been recorded and read."""
    go, called = threading.Event(), []

    def slow(*_arguments):
        called.append(go.wait(60))

    monkeypatch.setattr(os, "posix_fadvise", slow)
    path = tmp_path / "frames.h5"
    with recorder.Recorder(path, SeriesStart(1)) as made:
        for frame in frames:
            assert made.write(frame)
        assert not called
    with open_recording(path) as recording:
        assert [recording.frame(position).index for position in range(FRAMES)] == list(range(FRAMES))
    assert made._write_out._thread is not None
    go.set()
    made._write_out._thread.join(60)
    assert called == [True]


@pytest.mark.parametrize("refused", ["the request", "the thread"])
def test_a_system_that_refuses_is_no_error(tmp_path, monkeypatch, frames, refused):
    def refuse(*_arguments):
        raise OSError(22, "Invalid argument") if refused == "the request" else RuntimeError("can't start new thread")

    if refused == "the request":
        monkeypatch.setattr(threading, "Thread", Finished)
        monkeypatch.setattr(os, "posix_fadvise", refuse)
    else:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    with recorder.Recorder(tmp_path / "frames.h5", SeriesStart(1)) as made:
        for frame in frames:
            assert made.write(frame)
    assert made.frames == FRAMES


def test_what_left_memory_is_read_from_the_disk(tmp_path, frames):
    """The system is really asked here; whatever it does, the bytes are those that were recorded."""
    path = tmp_path / "frames.h5"
    with recorder.Recorder(path, SeriesStart(1)) as made:
        for frame in frames:
            assert made.write(frame)
            made.wanted_from = made.frames
        for position, frame in enumerate(frames):
            assert bytes(made.read(position, position, 0.0).blob) == bytes(frame.blob)
    with open_recording(path) as recording:
        assert [bytes(recording.encoded(position).blob) for position in range(FRAMES)] == [
            bytes(frame.blob) for frame in frames
        ]
