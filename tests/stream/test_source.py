"""The PULL source against real sockets: what arrives is delivered or counted, whatever the sender does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from tumble.stream import dectris2, simplon1
from tumble.stream.counters import Cut
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.source import PullSource, SourceError, zmq_endpoint

from . import hostile

PIXELS = np.random.default_rng(5).poisson(2.0, (24, 32)).astype(np.uint16)


class Sender:
    """A bare PUSH socket: it sends what it is told, right or wrong."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:0") -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, 20_000)
        self.socket.bind(endpoint)
        self.uri = "zmq+" + self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, *messages: bytes | list[bytes]) -> None:
        for message in messages:
            self.socket.send_multipart(message if isinstance(message, list) else [message])

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.close()


def v2(first: int, last: int, series: int = 1, compression: str = "bslz4") -> list[bytes]:
    frames = (Frame(series, index, PIXELS + index, index * 0.5) for index in range(first, last))
    return [dectris2.encode(frame, compression) for frame in frames]


def whole(count: int, series: int = 1) -> list[bytes]:
    start = SeriesStart(series, width=32, height=24, number_of_images=count)
    return [dectris2.encode(start), *v2(0, count, series), dectris2.encode(SeriesEnd(series))]


def until_end(source: PullSource) -> list:
    events = []
    while (event := source.get(60.0)) is not None:
        events.append(event)
        if isinstance(event, SeriesEnd):
            return events
    pytest.fail(f"no end after {len(events)} events: {source.counters}")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_a_series_over_tcp(sender):
    with PullSource(sender.uri) as source:
        sender.send(*whole(20))
        start, *frames, end = until_end(source)
        assert (start.series_id, start.number_of_images, end.reason) == (1, 20, "end")
        for index, frame in enumerate(frames):
            assert isinstance(frame, Frame)
            np.testing.assert_array_equal(frame.data, PIXELS + index)
            assert (frame.index, frame.time_s) == (index, index * 0.5)
        counters = source.counters
        assert (counters.messages, counters.received, counters.delivered, counters.queued) == (22, 20, 20, 0)
        assert counters.balance() == counters.malformed == counters.missing == 0
        assert counters.warnings == ()


def test_a_series_over_ipc(tmp_path: Path):
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.bind(f"ipc://{tmp_path}/s")
    with PullSource(f"zmq+ipc://{tmp_path}/s") as source:
        for message in whole(3):
            socket.send(message)
        assert len(until_end(source)) == 5
    context.destroy(linger=0)


@pytest.mark.parametrize("separate", [True, False])
def test_version_1_is_recognised_per_message(sender, separate):
    """The same socket may carry both: a detector switched from one to the other needs no restart here."""
    start = SeriesStart(1, width=32, height=24, number_of_images=5)
    frames = [encode_frame(Frame(1, index, PIXELS, 0.25 * index), "bslz4") for index in range(5)]
    with PullSource(sender.uri) as source:
        sender.send(*simplon1.encode_start(start, separate))
        sender.send(*map(simplon1.encode_frame, frames), simplon1.encode_end(SeriesEnd(1)))
        sender.send(*whole(4, series=2))
        first, second = until_end(source), until_end(source)
        assert [len(first), len(second)] == [7, 6]
        np.testing.assert_array_equal(first[3].data, PIXELS)
        assert first[3].time_s == 0.5
        assert source.counters.balance() == source.counters.ignored == 0


def test_several_messages_in_one(sender):
    start, *frames, end = whole(4)
    with PullSource(sender.uri) as source:
        sender.send([start, frames[0]], frames[1:], end)
        assert len(until_end(source)) == 6
        assert source.counters.received == 4


def test_encoded_frames_are_delivered_as_they_came(sender):
    with PullSource(sender.uri, encoded=True) as source:
        messages = whole(2)
        sender.send(*messages)
        _, frame, other, _ = until_end(source)
        assert isinstance(frame, EncodedFrame)
        assert bytes(frame.blob) in messages[1]
        np.testing.assert_array_equal(other.decode().data, PIXELS + 1)
        source.count_rejected("damaged payload")
        assert (source.counters.delivered, source.counters.balance()) == (1, 0)


def test_hostile_messages_are_counted_and_survived(sender):
    hostile_messages = [*hostile.V2.values(), *hostile.V1.values(), [b"\xff", b"\xff"]]
    with PullSource(sender.uri) as source:
        sender.send(*hostile_messages, *whole(3))
        assert len(until_end(source)) == 5
        counters = source.counters
        assert counters.malformed == len(hostile_messages)
        assert counters.messages == len(hostile_messages) + 5
        assert counters.balance() == 0
        assert len(counters.warnings) == 3  # the first few, in words, one line each
        assert all("cannot be read" in text and "\n" not in text for text in counters.warnings)


def test_of_each_series_the_first_messages_that_cannot_be_read_are_named(sender):
    with PullSource(sender.uri, encoded=True) as source:
        for series in (1, 2):
            sender.send(*[b"\xff" * 5] * 5, *whole(2, series))
            until_end(source)
            assert sum("cannot be read" in text for text in source.ended.warnings) == 3
        assert source.counters.malformed == 10


def test_damaged_payloads_are_rejected_and_counted(sender):
    fine = [dectris2.encode(Frame(1, 100, hostile.PIXELS, 0.0)), dectris2.encode(SeriesEnd(1))]
    wrong_shape = 1
    with PullSource(sender.uri) as source:
        payloads = [
            payload.replace(b"himage_id\x00", b"himage_id" + bytes([index]))
            for index, payload in enumerate(hostile.DAMAGED.values())
        ]
        sender.send(*payloads, *fine)
        frames = [event for event in until_end(source) if isinstance(event, Frame)]
        assert [frame.index for frame in frames] == [100]
        assert source.counters.rejected == {
            "damaged payload": len(payloads) - wrong_shape,
            "shape or type changed within the series": wrong_shape,
        }
        assert source.counters.balance() == 0


def test_unknown_messages_are_ignored(sender):
    with PullSource(sender.uri) as source:
        sender.send(b"\xa1\x64type\x65other", *whole(1), dectris2.encode(SeriesEnd(1)), *whole(1, 2))
        assert len(until_end(source)) == len(until_end(source)) == 3
        assert source.counters.ignored == 2


def test_full_queue_drops_the_newest_and_counts_them(sender):
    with PullSource(sender.uri, capacity=4, policy="drop") as source:
        sender.send(*whole(30))
        wait_for(lambda: source.counters.dropped == {"queue full": 27})  # booked first, queued or dropped after
        assert source.counters.queued == 3  # the start takes one place
        start, *frames, end = until_end(source)
        assert [frame.index for frame in frames] == [0, 1, 2]
        assert (start.series_id, end.reason) == (1, "end")  # neither is ever dropped
        counters = source.counters
        assert counters.dropped == {"queue full": 27}
        assert counters.missing == 0  # they did arrive
        assert counters.balance() == 0


def test_queue_is_bounded_in_bytes_too(sender):
    size = len(dectris2.decode(v2(0, 1, compression="none")[0]).blob)
    with PullSource(sender.uri, capacity_bytes=3 * size, policy="drop") as source:
        sender.send(*v2(0, 10, compression="none"), dectris2.encode(SeriesEnd(1)))
        wait_for(lambda: source.counters.dropped == {"queue full": 7})
        assert source.counters.queued == 3
        assert len(until_end(source)) == 5
        assert source.counters.dropped == {"queue full": 7}
    with PullSource(sender.uri, capacity_bytes=1) as source:  # smaller than any frame: one at a time
        sender.send(*whole(5, series=2))
        assert len(until_end(source)) == 7


def test_full_queue_slows_the_sender_down(sender):
    """With back pressure the sender cannot run ahead further than the queues, and nothing is lost."""
    count = 400
    large = np.random.default_rng(0).integers(0, 2**16, (512, 512)).astype(np.uint16)  # does not compress
    payloads = [dectris2.encode(Frame(1, index, large, 0.0), "none") for index in range(4)]
    sent = 0

    def send() -> None:
        nonlocal sent
        for index in range(count):
            payload = payloads[index] if index < 4 else dectris2.encode(Frame(1, index, large, 0.0), "none")
            sender.send(payload)
            sent += 1
        sender.send(dectris2.encode(SeriesEnd(1)))

    sender.socket.close()
    sender.socket = sender.context.socket(zmq.PUSH)
    sender.socket.setsockopt(zmq.SNDHWM, 4)
    sender.socket.setsockopt(zmq.SNDBUF, 1 << 16)
    sender.socket.bind("tcp://127.0.0.1:0")
    uri = "zmq+" + sender.socket.getsockopt_string(zmq.LAST_ENDPOINT)
    with PullSource(uri, capacity=4, high_water_mark=4) as source:
        thread = threading.Thread(target=send)
        thread.start()
        wait_for(lambda: source.counters.queued >= 3)
        time.sleep(0.3)
        assert sent < 60
        frames = [event.index for event in until_end(source) if isinstance(event, Frame)]
        thread.join()
        assert frames == list(range(count))
        assert source.counters.dropped == {}
        assert source.counters.balance() == 0


def test_silence_ends_the_series(sender):
    with PullSource(sender.uri, end_timeout_s=1.0) as source:
        sender.send(*whole(3)[:-1])
        assert until_end(source)[-1] == SeriesEnd(1, "timeout")
        assert source.get(0.5) is None
        assert not source.finished


def test_waiting_for_the_queue_is_not_silence(sender):
    with PullSource(sender.uri, end_timeout_s=1.0, capacity=2) as source:
        sender.send(*whole(6))
        wait_for(lambda: source.counters.queued)
        time.sleep(2.0)  # the consumer is busy for longer than the timeout
        assert until_end(source)[-1] == SeriesEnd(1, "end")


def test_a_detector_that_was_switched_off_and_on_is_found_again():
    """Its series is cut off without a word; the next start begins anew, with numbers from 0 again."""
    first = Sender()
    with PullSource(first.uri, end_timeout_s=60.0) as source:
        first.send(*whole(100)[:21])
        wait_for(lambda: source.counters.received == 20)
        first.close()
        second = Sender(first.uri.removeprefix("zmq+"))
        try:
            second.send(*whole(5))
            events = [*until_end(source), *until_end(source)]
        finally:
            second.close()
        assert [event.reason for event in events if isinstance(event, SeriesEnd)] == ["superseded", "end"]
        assert [event.index for event in events if isinstance(event, Frame)] == [*range(20), *range(5)]
        assert (source.counters.received, source.counters.missing, source.counters.balance()) == (25, 0, 0)


def test_a_stop_of_the_sender_in_the_middle_of_a_series_is_only_a_pause():
    first = Sender()
    with PullSource(first.uri, end_timeout_s=60.0) as source:
        first.send(*whole(40)[:21])
        wait_for(lambda: source.counters.received == 20)
        first.close()
        second = Sender(first.uri.removeprefix("zmq+"))
        try:
            second.send(*v2(23, 40), dectris2.encode(SeriesEnd(1)))
            events = until_end(source)
        finally:
            second.close()
        assert events[-1] == SeriesEnd(1, "end")
        assert [event.index for event in events if isinstance(event, Frame)] == [*range(20), *range(23, 40)]
        assert source.counters.missing == 3


def test_connected_late(sender):
    with PullSource(sender.uri) as source:
        sender.send(*v2(50, 53), dectris2.encode(SeriesEnd(1)))
        start, *frames, _ = until_end(source)
        assert (start.width, start.height, start.dtype) == (32, 24, np.uint16)
        assert [frame.index for frame in frames] == [50, 51, 52]
        assert source.counters.missing == 0


def test_another_client_is_named(sender):
    with PullSource(sender.uri) as source, PullSource(sender.uri) as thief:

        def both() -> bool:
            sender.send(dectris2.encode(SeriesStart(1)))
            return source.counters.messages > 0 and thief.counters.messages > 0

        wait_for(both)
        sender.send(*v2(0, 60))
        wait_for(lambda: source.counters.received + thief.counters.received == 60)
        warnings = source.counters.warnings + thief.counters.warnings
        assert sum("one frame in 2" in text for text in warnings) >= 1
        assert source.counters.missing + thief.counters.missing > 50


def test_stop_from_another_thread_ends_the_iteration_after_the_queue(sender):
    source = PullSource(sender.uri)
    sender.send(*whole(5)[:-1])
    wait_for(lambda: source.counters.received == 5)
    threading.Timer(0.2, source.stop).start()
    assert len(list(source)) == 6
    assert source.finished
    source.close()
    source.close()


def test_stop_while_the_queue_is_full_and_messages_wait_in_the_socket():
    for patience_s in (0.3, 3.0, 30.0):  # until the messages are there, which nobody can see from outside
        sender = Sender()
        source = PullSource(sender.uri, capacity=3)
        sender.send(*v2(0, 40))
        wait_for(lambda source=source: source.counters.queued == 2)
        time.sleep(patience_s)
        source.close()
        sender.close()
        delivered = sum(isinstance(event, Frame) for event in source)
        counters = source.counters
        assert counters.dropped.get("stopped", 0) + delivered == counters.received
        assert counters.balance() == 0
        if counters.received > 3:
            return
    pytest.fail("what waited in the socket was not counted")


def test_a_failed_receiver_is_heard_of(sender, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(dectris2, "decode", fail)
    with PullSource(sender.uri) as source:
        sender.send(b"x")
        with pytest.raises(SourceError, match="out of luck"):
            source.get(20.0)


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("zmq+tcp://127.0.0.1:31001", "tcp://127.0.0.1:31001"),
        ("zmq+tcp://[::1]:9999", "tcp://[::1]:9999"),
        ("zmq+ipc:///tmp/frames", "ipc:///tmp/frames"),
    ],
)
def test_addresses(uri, endpoint):
    assert zmq_endpoint(uri) == endpoint


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "detector:31001",
        "tcp://a:1",
        "zmq+tcp://",
        "zmq+tcp://host",
        "zmq+tcp://host:0",
        "zmq+tcp://:5",
        "zmq+udp://a:1",
    ],
)
def test_addresses_that_are_none(uri):
    with pytest.raises(SourceError, match="source"):
        zmq_endpoint(uri)


def test_an_address_zeromq_does_not_like():
    with pytest.raises(SourceError, match="not an address"):
        PullSource("zmq+ipc://" + "x" * 500)


def test_every_end_comes_with_what_had_been_counted_by_then(sender):
    """The receiver runs ahead of whoever takes the events: what it counts of the next series is not in these books."""
    with PullSource(sender.uri, encoded=True) as source:
        repeated, second = v2(3, 4), whole(2, series=2)
        sender.send(dectris2.encode(SeriesStart(1)), *v2(0, 1), *repeated, *repeated, *second)
        wait_for(lambda: source.counters.messages == 8)
        assert source.cut.received == 5
        events = until_end(source)
        assert (events[-1].series_id, events[-1].reason) == (1, "superseded")
        cut = source.ended
        assert (cut.received, cut.missing, sum(cut.rejected.values())) == (3, 2, 1)
        events = until_end(source)
        assert (events[-1].series_id, events[-1].reason) == (2, "end")
        assert source.ended.since(cut) == Cut(2, 0, {}, {}, ())
