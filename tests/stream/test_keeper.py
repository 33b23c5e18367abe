"""Frames are recorded before anything else is decided about them, wait in order, and survive a disk that does not."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest

from tumble.stream import keeper as keeper_module
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.errors import RecordingError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.keeper import DAMAGED, DISK_FAILED, DISK_FULL, REMOVED, Keeper
from tumble.stream.publisher import Publisher
from tumble.stream.readers import open_recording
from tumble.stream.recorder import Recorder
from tumble.stream.source import PullSource

PIXELS = np.random.default_rng(3).poisson(1.5, (20, 30)).astype(np.uint16)


def frame(index: int) -> EncodedFrame:
    return encode_frame(Frame(1, index, PIXELS + index, index * 0.5), "bslz4")


def ready(path, series: int = 1, **named) -> Keeper:
    keeper = Keeper(path, **named)
    keeper.begin(SeriesStart(series))
    return keeper


def test_frames_wait_on_disk_and_come_back_in_order(tmp_path):
    keeper = ready(tmp_path / "a.h5", room_frames=3)
    rng = np.random.default_rng(0)
    came: list[int] = []
    for index in range(200):
        assert keeper.take(frame(index), 100.0 + index)
        for _ in range(int(rng.integers(0, 3)) if index > 60 else 0):
            if keeper.waiting:
                back, arrived_s = keeper.pop()
                assert (arrived_s, back.time_s) == (100.0 + back.index, back.index * 0.5)
                np.testing.assert_array_equal(back.decode().data, PIXELS + back.index)
                came.append(back.index)
    came += [keeper.pop()[0].index for _ in range(keeper.waiting)]
    keeper.close()
    assert came == list(range(200))
    assert (keeper.recorded, keeper.unrecorded, keeper.warnings) == (200, {}, [])
    with open_recording(tmp_path / "a.h5") as recording:
        assert len(recording) == 200


def test_without_a_recording_memory_is_the_limit():
    keeper = ready(None, room_frames=3)
    assert [keeper.take(frame(index), 0.0) for index in range(5)] == [True, True, True, False, False]
    assert keeper.pop()[0].index == 0
    assert keeper.take(frame(5), 0.0)
    assert [keeper.pop()[0].index for _ in range(3)] == [1, 2, 5]
    with pytest.raises(IndexError):
        keeper.pop()
    large = ready(None, room_bytes=10)
    assert large.take(frame(0), 0.0)  # one always fits
    assert not large.take(frame(1), 0.0)


def test_what_finds_no_room_to_wait_is_recorded_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper_module, "MOST_WAITING", 5)
    keeper = ready(tmp_path / "a.h5", room_frames=2)
    assert [keeper.take(frame(index), 0.0) for index in range(8)] == [True] * 5 + [False] * 3
    keeper.close()
    with open_recording(tmp_path / "a.h5") as recording:
        assert [recording.index(position) for position in range(len(recording))] == list(range(8))


@pytest.mark.parametrize("blob", [b"", b"x" * 70_000])
def test_payloads_that_no_file_could_hold_cost_nothing_but_themselves(tmp_path, blob):
    keeper = ready(tmp_path / "a.h5", room_frames=9)
    tiny = encode_frame(Frame(1, 0, np.ones((1, 1), np.uint16), 0.0), "bslz4")
    for index, item in enumerate((tiny, replace(tiny, blob=blob), tiny)):
        assert keeper.take(replace(item, index=index), 0.0)
    keeper.close()
    assert (keeper.recorded, dict(keeper.unrecorded), keeper.warnings) == (2, {DAMAGED: 1}, [])
    again = Keeper(tmp_path / "a.h5")
    assert again.resume(SeriesStart(1)) == (2, 3)
    again.close()


def test_a_full_disk_pauses_the_recording_and_not_the_rest(tmp_path, monkeypatch):
    free = [1 << 40]

    def recorder(path, start):
        return Recorder(path, start, free_bytes=lambda _: free[0], flush_every_s=0)

    monkeypatch.setattr(keeper_module, "Recorder", recorder)
    keeper = ready(tmp_path / "a.h5", room_frames=100)
    for index in range(30):
        free[0] = 0 if 10 <= index < 20 else 1 << 40
        assert keeper.take(frame(index), 0.0)
    assert [keeper.pop()[0].index for _ in range(30)] == list(range(30))
    keeper.close()
    assert (keeper.recorded, dict(keeper.unrecorded)) == (20, {DISK_FULL: 10})
    pauses, goes_on = keeper.warnings
    assert "pauses at frame 10" in pauses
    assert "goes on at frame 20" in goes_on


def test_a_disk_that_fails_ends_the_recording_and_not_the_rest(tmp_path, monkeypatch):
    keeper = ready(tmp_path / "a.h5", room_frames=2)
    write = Recorder.write

    def failing(self, item):
        if item.index >= 10:
            raise RecordingError("cannot write a.h5: Input/output error")
        return write(self, item)

    monkeypatch.setattr(Recorder, "write", failing)
    taken = [keeper.take(frame(index), 0.0) for index in range(15)]
    assert taken == [True] * 10 + [False] * 5  # no disk, no room
    assert [keeper.pop()[0].index for _ in range(10)] == list(range(10))
    keeper.close()
    assert (keeper.recorded, dict(keeper.unrecorded)) == (10, {DISK_FAILED: 5})
    (words,) = keeper.warnings
    assert words.startswith(
        "the recording has ended: cannot write a.h5: Input/output error; later frames are not in it"
    )


def test_frames_on_their_way_to_a_disk_that_fails_are_not_counted_as_recorded(tmp_path, monkeypatch):
    keeper = ready(tmp_path / "a.h5", room_frames=100)
    for index in range(10):
        keeper.take(frame(index), 0.0)
    keeper._recorder.flush()

    def refuse(*_what):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        for index in range(10, 15):
            keeper.take(frame(index), 0.0)
        keeper.rest()
    assert (keeper.recorded, dict(keeper.unrecorded)) == (10, {DISK_FAILED: 5})
    assert "Input/output error" in keeper.warnings[0]
    keeper.close()
    with open_recording(tmp_path / "a.h5") as recording:
        assert len(recording) == 10


def test_a_recording_that_is_removed_counts_as_never_made(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper_module, "Recorder", lambda path, start: Recorder(path, start, flush_every_s=0))
    keeper = ready(tmp_path / "a.h5", room_frames=2)
    for index in range(10):
        assert keeper.take(frame(index), 0.0)
    (tmp_path / "a.h5").unlink()
    keeper.take(frame(10), 0.0)
    assert [keeper.pop()[0].index for _ in range(10)] == list(range(10))  # as long as it is open
    keeper.close()
    assert (keeper.recorded, dict(keeper.unrecorded)) == (0, {REMOVED: 10, DISK_FAILED: 1})
    (words,) = keeper.warnings
    assert words.startswith("the recording has ended: ")
    assert "was removed while it was written" in words


def test_a_series_that_waits_for_its_turn_holds_neither_memory_nor_files(tmp_path):
    keeper = ready(tmp_path / "a.h5", 7, room_frames=4)
    for index in range(9):
        keeper.take(replace(frame(index), series_id=7), 100.0 + index)
    keeper.rest()
    assert keeper._in_memory == keeper._bytes_in_memory == 0
    with h5py.File(tmp_path / "a.h5") as file:  # complete and closed
        assert len(file["entry/data/image_id"]) == 9
    for index in range(9):
        back, arrived_s = keeper.pop()
        assert (back.index, back.time_s, back.series_id, arrived_s) == (index, index * 0.5, 7, 100.0 + index)
        np.testing.assert_array_equal(back.decode().data, PIXELS + index)
    keeper.close()
    keeper = ready(tmp_path / "b.h5", room_frames=1)
    for index in range(2):
        keeper.take(frame(index), 0.0)
    keeper.rest()
    (tmp_path / "b.h5").unlink()
    with pytest.raises(RecordingError, match="no such file"):
        keeper.pop()


def test_a_slow_disk_slows_the_sender_down_and_loses_nothing(tmp_path, monkeypatch):
    """The queue in front of the disk is bounded: when it is full the sender has to wait, and everything is recorded."""
    write = Recorder.write

    def slowly(self, item):
        time.sleep(0.01)
        return write(self, item)

    monkeypatch.setattr(Recorder, "write", slowly)
    blob = np.random.default_rng(0).integers(0, 2**16, (300, 400), np.uint16)  # large: sockets hold only so much
    events = [SeriesStart(1), *(Frame(1, index, blob, 0.0) for index in range(120)), SeriesEnd(1)]
    keeper = Keeper(tmp_path / "a.h5", room_frames=2)
    with (
        Publisher(compression="none", high_water_mark=4) as publisher,
        PullSource(publisher.source_uri, capacity=4, high_water_mark=4, encoded=True) as source,
    ):
        sender = threading.Thread(target=publisher.publish, args=(events,), daemon=True)
        sender.start()
        keeper.begin(source.get(20))
        sent_all_when = 0
        while not isinstance(event := source.get(20), SeriesEnd):
            assert keeper.take(event, source.arrived_s)
            sent_all_when += sender.is_alive()
        counters = source.counters
        sender.join(10)
    keeper.close()
    assert (counters.received, counters.missing, counters.dropped, counters.balance()) == (120, 0, {}, 0)
    assert (keeper.recorded, keeper.waiting) == (120, 120)
    assert sent_all_when > 10  # it still had to wait when some were on disk
