"""Frames that several threads expand: the same bits in the same order, damaged ones are said and cost no other."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from tumble.daemon import expanding
from tumble.daemon.config import StreamSettings
from tumble.daemon.expanding import Expansion
from tumble.daemon.intake import Batch, End, Intake, Over
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart

SHAPE = (640, 1024)  # more than WORTH_IT_BYTES


def counts(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(number).poisson(0.3, shape).astype(np.uint16)


def encoded(index: int, shape: tuple[int, int] = SHAPE) -> EncodedFrame:
    return encode_frame(Frame(1, index, counts(index, shape), 0.0), "bslz4")


def damaged(frame: EncodedFrame, at: int) -> EncodedFrame:
    """One that announces a block longer than everything."""
    blob = bytearray(frame.blob)
    blob[at : at + 4] = b"\xff\xff\xff\xff"
    return replace(frame, blob=bytes(blob))


def expanded(frames: list[EncodedFrame], slots: np.ndarray, number: int) -> list[expanding.Expanded]:
    """What comes out of so many threads, as it comes."""
    expansion, out = Expansion(number), []
    for frame, slot in zip(frames, slots, strict=True):
        expansion.begin(frame, slot, 0.5)
    while expansion:
        expansion.wait(0.01)
        out += list(expansion.finished())
    expansion.close()
    return out


@pytest.mark.parametrize("number", [1, 2, 5])
def test_they_come_out_in_the_order_in_which_they_went_in(number):
    frames = [encoded(index) for index in range(12)]
    frames[4] = damaged(frames[4], 12)
    slots = np.full((12, *SHAPE), 7, np.uint16)
    out = expanded(frames, slots, number)
    assert [one.frame.index for one in out] == list(range(12))
    assert [one.frame.index for one in out if one.damage] == [4]
    assert "truncated or damaged" in out[4].damage
    for index in set(range(12)) - {4}:
        assert np.array_equal(slots[index], counts(index))


def test_a_frame_that_is_done_waits_for_the_one_before(monkeypatch):
    frames = [encoded(index) for index in range(2)]
    slow = expanding.Expanded.expand

    def first_is_slow(self):
        if self.frame.index == 0:
            time.sleep(0.2)
        slow(self)

    monkeypatch.setattr(expanding.Expanded, "expand", first_is_slow)
    out = expanded(frames, np.empty((2, *SHAPE), np.uint16), 2)
    assert [one.frame.index for one in out] == [0, 1]


def test_small_frames_and_those_without_threads_are_expanded_at_once(monkeypatch):
    expansion = Expansion(4)
    expansion.begin(encoded(0, (16, 16)), np.empty((16, 16), np.uint16), 0.0)
    assert [one.done for one in expansion.finished()] == [True]

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(expanding.threading.Thread, "start", refused)
    slot = np.empty(SHAPE, np.uint16)
    expansion.begin(encoded(1), slot, 0.0)
    assert [one.done for one in expansion.finished()] == [True]
    assert np.array_equal(slot, counts(1))


def test_what_is_no_damage_is_raised_where_it_is_asked_for(monkeypatch):
    def fails(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(EncodedFrame, "decode", fails)
    expansion = Expansion(2)
    expansion.begin(encoded(0), np.empty(SHAPE, np.uint16), 0.0)
    expansion.wait(10.0)
    with pytest.raises(MemoryError):
        list(expansion.finished())
    expansion.close()


@pytest.mark.parametrize("number", [1, 3])
def test_the_receiver_hands_all_over_but_the_damaged(publish, tmp_path, number):
    """Two series through a ring that holds a few frames; in the first two frames are damaged, one of them the last."""
    count, broken = 25, {9: 12, 24: 12}

    def events():
        for series in (1, 2):
            yield SeriesStart(series, width=SHAPE[1], height=SHAPE[0], pixel_size_A=0.5)
            for index in range(count):
                frame = encode_frame(Frame(series, index, counts(100 * series + index), 0.0), "bslz4")
                yield damaged(frame, broken[index]) if series == 1 and index in broken else frame
            yield SeriesEnd(series)

    settings = StreamSettings(source="zmq+tcp://127.0.0.1:9", series=2, ring_MiB=8.0, when_full="block")
    with publish(events()) as uri:
        settings = settings.model_copy(update={"source": uri})
        with Intake(settings, tmp_path, record=False, threads=number) as intake:
            found, ends, stepped = [], [], 0
            while not isinstance(message := intake.get(60.0), Over):
                if isinstance(message, Batch):
                    for frame, _ in intake.frames(message):
                        assert np.array_equal(frame.data, counts(100 * (len(ends) + 1) + frame.index))
                        found.append((len(ends), frame.index))
                        stepped += 1
                elif isinstance(message, End):
                    ends.append(intake.books(stepped))
                    stepped = 0
    whole = [index for index in range(count) if index not in broken]
    assert found == [(0, index) for index in whole] + [(1, index) for index in range(count)]
    first, second = ends
    assert (first.received, first.handed_over, first.rejected) == (count, len(whole), {"damaged payload": 2})
    assert (second.received, second.handed_over, second.rejected) == (count, count, {})
    said = [line for line in first.warnings if "cannot be expanded" in line]
    assert len(said) == 1
    assert said[0].startswith("frame 9 cannot be expanded: bslz4 payload of ")
