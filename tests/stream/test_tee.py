"""Others may look at the stream without taking frames away from it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import zmq

from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import PublisherError
from tumble.stream.series import SeriesTracker
from tumble.stream.source import PullSource
from tumble.stream.tee import Tee

PIXELS = np.random.default_rng(4).poisson(2.0, (20, 30)).astype(np.uint16)
START = SeriesStart(3, unique_id="abc", width=30, height=20, pixel_size_A=0.358)


def frame(index: int) -> EncodedFrame:
    return encode_frame(Frame(3, index, PIXELS + index, index * 0.5), "bslz4")


def await_newcomer(tee: Tee, event) -> None:
    """Send the same event again and again until somebody has joined; it reaches those who have joined before."""
    before = tee.sent
    deadline = time.monotonic() + 60
    while tee.sent == before:
        assert time.monotonic() < deadline
        tee.send(event)
        time.sleep(0.005)


def listen(tee: Tee) -> PullSource:
    return PullSource("zmq+sub+" + tee.endpoint, end_timeout_s=60.0)


def test_subscribers_get_every_frame_and_those_who_come_late_the_start():
    with Tee("tcp://127.0.0.1:0") as tee:
        tee.send(START)
        for index in range(3):
            tee.send(frame(index))  # nobody listens
        assert tee.sent == 0
        with listen(tee) as first:
            await_newcomer(tee, frame(3))
            begun = first.get(60)
            assert (begun.series_id, begun.pixel_size_A) == (3, 0.358)
            assert first.get(60).index == 3
            with listen(tee) as second:
                index = 4
                while second.counters.received == 0:
                    tee.send(frame(index))
                    index += 1
                    time.sleep(0.005)
                for more in range(index, index + 20):
                    tee.send(frame(more))
                tee.send(SeriesEnd(3))
                for source, begin in ((first, 4), (second, None)):
                    events = []
                    while not events or not isinstance(events[-1], SeriesEnd):
                        events.append(source.get(60))
                    frames = [event for event in events if isinstance(event, Frame)]
                    begin = frames[0].index if begin is None else begin
                    assert [item.index for item in frames] == list(range(begin, index + 20))
                    np.testing.assert_array_equal(frames[-1].data, PIXELS + frames[-1].index)
                    assert isinstance(events[0], SeriesStart) == (source is second)


def test_one_who_leaves_takes_nothing_from_the_others():
    with Tee("tcp://127.0.0.1:0") as tee:
        tee.send(START)
        with listen(tee) as stays:
            await_newcomer(tee, frame(0))
            with listen(tee) as leaves:
                index = 1
                while leaves.counters.received == 0:
                    tee.send(frame(index))
                    index += 1
                    time.sleep(0.005)
            deadline = time.monotonic() + 60
            while tee._subscribers > 1:  # until the tee has heard of it
                assert time.monotonic() < deadline
                tee.send(frame(index))
                index += 1
                time.sleep(0.005)
            tee.send(SeriesEnd(3))
            events = []
            while not events or not isinstance(events[-1], SeriesEnd):
                events.append(stays.get(60))
        assert [event.index for event in events if isinstance(event, Frame)] == list(range(index))
        deadline = time.monotonic() + 60
        sent = -1
        while sent != tee.sent:  # nobody is left: nothing is sent any more
            assert time.monotonic() < deadline
            sent = tee.sent
            tee.send(frame(index))
            time.sleep(0.2)


def test_reduced_rate(tmp_path):
    with Tee(f"ipc://{tmp_path}/tee", every=5) as tee, listen(tee) as source:
        tee.send(START)
        await_newcomer(tee, frame(0))
        for index in range(1, 60):
            tee.send(frame(index))
        tee.send(SeriesEnd(3))
        events = []
        while not events or not isinstance(events[-1], SeriesEnd):
            events.append(source.get(60))
        assert source.counters.warnings == ()  # nobody takes frames away from it
    assert [event.index for event in events if isinstance(event, Frame)] == list(range(0, 60, 5))


def test_it_is_for_this_machine_only():
    for endpoint in ("tcp://0.0.0.0:0", "tcp://*:5000", "tcp://detector:31001"):
        with pytest.raises(PublisherError, match="can be reached by other machines"):
            Tee(endpoint)
    with pytest.raises(PublisherError, match="cannot listen"):
        Tee("ipc:///nonexistent/folder/tee")


def test_a_start_that_is_repeated_is_no_new_series():
    tracker = SeriesTracker()
    assert len(tracker.feed(START)) == 1
    assert len(tracker.feed(frame(0))) == 1
    assert tracker.feed(START) == []
    assert len(tracker.feed(frame(1))) == 1
    assert (tracker.ignored, tracker.missing, dict(tracker.rejected)) == (1, 0, {})
    without_name = SeriesStart(3)
    assert [type(event) for event in tracker.feed(without_name)] == [SeriesEnd, SeriesStart]
    assert [type(event) for event in tracker.feed(without_name)] == [SeriesEnd, SeriesStart]


@pytest.mark.parametrize("topics", ["many", "long"])
def test_who_floods_it_with_subscriptions_holds_nobody_up(topics):
    """Another program on this machine that means no good: the stream goes on, and whoever wants to look still can."""
    with Tee("tcp://127.0.0.1:0") as tee, zmq.Context() as context, context.socket(zmq.XSUB) as rude:
        rude.setsockopt(zmq.LINGER, 0)
        rude.setsockopt(zmq.SNDHWM, 0)
        rude.connect(tee.endpoint)
        tee.send(START)
        first = tee._socket
        for number in range(20 if topics == "long" else 0):
            rude.send(b"\x01" + bytes([number]) * 100_000)
        deadline = time.monotonic() + 120
        told = 0
        while topics == "many" and tee._socket is first:  # until it has thrown the other out
            assert time.monotonic() < deadline
            for number in range(told, told + 1000):  # more than it looks at between two frames
                rude.send(b"\x01" + number.to_bytes(4, "big"))
            told += 1000
            tee.send(frame(0))
            time.sleep(0.005)
        rude.close(0)
        with listen(tee) as source:
            index = 1
            while source.counters.received == 0:
                assert time.monotonic() < deadline
                tee.send(frame(index))
                index += 1
                time.sleep(0.005)
            assert isinstance(source.get(60), SeriesStart)
            assert isinstance(source.get(60), Frame)
