"""The PUSH publisher against real sockets: complete, paced, and it stops when it has to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cbor2
import numpy as np
import pytest
import zmq

from tumble.stream.encoded import encode_frame
from tumble.stream.errors import WireError
from tumble.stream.frame import Event, Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import Published, Publisher, PublisherError, is_local
from tumble.stream.source import PullSource

PIXELS = np.random.default_rng(5).poisson(2.0, (24, 32)).astype(np.uint16)


def series(count: int, frame_time_s: float = 0.001, time_known: bool = True) -> Iterator[Event]:
    yield SeriesStart(
        1,
        width=32,
        height=24,
        dtype=PIXELS.dtype,
        number_of_images=count,
        frame_time_s=frame_time_s,
        pixel_size_A=0.4,
    )
    for index in range(count):
        yield Frame(1, index, PIXELS + index, index * frame_time_s if time_known else np.nan)
    yield SeriesEnd(1)


class InBackground(threading.Thread):
    """Publish in a thread, keep the outcome."""

    def __init__(self, publisher: Publisher, *args: object, **named: object) -> None:
        super().__init__()
        self.publisher, self.args, self.named = publisher, args, named
        self.outcome: Published | None = None
        self.start()

    def run(self) -> None:
        self.outcome = self.publisher.publish(*self.args, **self.named)


def collect(source: PullSource) -> list[Event]:
    events: list[Event] = []
    for event in source:
        events.append(event)
        if isinstance(event, SeriesEnd):
            break
    return events


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_everything_arrives(compression):
    with Publisher(compression=compression) as publisher:
        assert publisher.endpoint.startswith("tcp://127.0.0.1:")
        thread = InBackground(publisher, series(50))
        with PullSource(publisher.source_uri) as source:
            start, *frames, end = collect(source)
        thread.join()
    assert (start.pixel_size_A, start.number_of_images, end.reason) == (0.4, 50, "end")
    assert [frame.index for frame in frames] == list(range(50))
    for frame in frames:
        np.testing.assert_array_equal(frame.data, PIXELS + frame.index)
    assert (thread.outcome.messages, thread.outcome.frames, thread.outcome.outcome) == (52, 50, "end")
    assert thread.outcome.bytes > 0


def test_the_wire_is_plain_stream_v2():
    """As a program sees it that knows the specification and not this project."""
    context = zmq.Context()
    with Publisher(compression="none") as publisher:
        thread = InBackground(publisher, series(1))
        pull = context.socket(zmq.PULL)
        pull.connect(publisher.endpoint)
        start, image, end = (cbor2.loads(pull.recv()) for _ in range(3))
        thread.join()
    context.destroy(linger=0)
    assert (start["type"], start["series_id"], start["image_dtype"]) == ("start", 1, "uint16")
    assert (list(start["channels"]), start["image_size_x"], start["image_size_y"]) == (["threshold_1"], 32, 24)
    assert start["user_data"]["tumble"]["pixel_size_angstrom"] == 0.4
    (dimensions, typed) = image["data"]["threshold_1"].value
    assert (image["data"]["threshold_1"].tag, list(dimensions), typed.tag) == (40, [24, 32], 69)
    assert typed.value == PIXELS.tobytes()
    assert (image["image_id"], list(image["start_time"])) == (0, [0, 1_000_000_000])
    assert end == {"type": "end", "series_id": 1, "series_unique_id": ""}


def test_compressed_frames_are_forwarded_as_they_are():
    encoded = encode_frame(Frame(1, 0, PIXELS, 0.0), "lz4")
    with Publisher(compression="bslz4") as publisher:
        thread = InBackground(publisher, [encoded, SeriesEnd(1)])
        with PullSource(publisher.source_uri, encoded=True) as source:
            _, frame, _ = collect(source)
        thread.join()
    assert frame.algorithm == "lz4"
    assert bytes(frame.blob) == bytes(encoded.blob)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_close_waits_until_the_tail_is_taken(tmp_path, transport):
    """A sender that exits right after its last message must not take the tail with it."""
    endpoint = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/s"
    publisher = Publisher(endpoint, high_water_mark=1000)
    source = PullSource(publisher.source_uri, capacity=2, high_water_mark=1)
    thread = InBackground(publisher, series(300))
    closing = threading.Thread(target=lambda: (thread.join(), publisher.close()))
    closing.start()
    time.sleep(0.5)  # everything is on its way by now, and this end is full
    assert len(collect(source)) == 302
    source.close()
    closing.join()


@pytest.mark.parametrize("time_known", [True, False])
def test_pace(time_known):
    """The recorded pace is kept; how exactly is up to the machine, so only the lower bound is a promise."""
    with Publisher() as publisher, PullSource(publisher.source_uri) as source:
        fast = InBackground(publisher, series(21, 0.02, time_known), speed=2)
        collect(source)
        fast.join()
        assert fast.outcome.seconds >= 0.19


def test_a_clock_that_was_set_does_not_stop_a_replay():
    """Ahead by weeks, back by a day: the pace goes on, and a break that was recorded is waited for, not for long."""
    times_s = [0.0, 0.02, 1e7, 1e7 + 0.02, -80_000.0, -79_999.98]
    events = [SeriesStart(1, frame_time_s=0.02), *(Frame(1, n, PIXELS, time_s) for n, time_s in enumerate(times_s))]
    with Publisher() as publisher, PullSource(publisher.source_uri) as source:
        thread = InBackground(publisher, [*events, SeriesEnd(1)], speed=20)
        assert len(collect(source)) == 8
        thread.join()
    assert thread.outcome.seconds >= 0.5


@pytest.mark.parametrize("speed", [0, -1, np.inf, np.nan])
def test_speeds_that_are_none(speed):
    with Publisher() as publisher, pytest.raises(PublisherError, match="speed"):
        publisher.publish(series(1), speed=speed)


def test_stop_before_any_client_came():
    stop = threading.Event()
    with Publisher() as publisher:
        thread = InBackground(publisher, series(3), stop=stop)
        time.sleep(0.1)
        stop.set()
        thread.join()
        assert (thread.outcome.outcome, thread.outcome.messages) == ("stopped", 0)


def test_stop_interrupts_a_pause():
    stop = threading.Event()
    with Publisher() as publisher, PullSource(publisher.source_uri) as source:
        thread = InBackground(publisher, series(3, frame_time_s=1000.0), speed=1, stop=stop)
        while source.counters.messages < 2:
            time.sleep(0.01)
        stop.set()
        thread.join(100)
        assert thread.outcome.outcome == "stopped"


def test_a_client_that_goes_away_ends_the_publishing():
    publisher = Publisher(high_water_mark=2, peer_timeout_s=0.2, linger_s=300.0)
    source = PullSource(publisher.source_uri, capacity=2, high_water_mark=1)
    thread = InBackground(publisher, series(100_000))
    while source.counters.received < 2:
        time.sleep(0.01)
    source.close()
    thread.join(60)
    assert thread.outcome.outcome == "peer gone"
    began = time.monotonic()
    publisher.close()
    assert time.monotonic() - began < 100  # it does not linger for somebody who is gone
    publisher.close()


def test_a_client_that_comes_back_in_time_is_served():
    with Publisher(high_water_mark=2, peer_timeout_s=30) as publisher:
        thread = InBackground(publisher, series(3000))
        with PullSource(publisher.source_uri, capacity=2, high_water_mark=1) as first:
            while first.counters.received < 2:
                time.sleep(0.01)
        with PullSource(publisher.source_uri) as second:
            assert collect(second)[-1] == SeriesEnd(1)
        thread.join()
        assert thread.outcome.outcome == "end"


def test_only_this_machine_may_listen_unless_allowed():
    with pytest.raises(PublisherError, match="other machines"):
        Publisher("tcp://0.0.0.0:0")
    with Publisher("tcp://0.0.0.0:0", allow_remote=True) as publisher:
        assert publisher.source_uri.startswith("zmq+tcp://127.0.0.1:")


def test_is_local(tmp_path):
    for endpoint in ("tcp://127.0.0.1:5", "tcp://localhost:5", "tcp://[::1]:5", f"ipc://{tmp_path}/x"):
        assert is_local(endpoint)
    for endpoint in ("tcp://*:5", "tcp://eth0:5", "tcp://10.0.0.1:5", "tcp://detector:5", "nonsense"):
        assert not is_local(endpoint)


def test_addresses_that_cannot_be_had(tmp_path):
    with Publisher() as publisher, pytest.raises(PublisherError, match="cannot listen"):
        Publisher(publisher.endpoint)
    with pytest.raises(PublisherError, match="cannot listen"):
        Publisher(f"ipc://{tmp_path}/no/such/folder/x")


def test_unknown_compression():
    with pytest.raises(PublisherError, match="unknown compression"):
        Publisher(compression="zstd")


def test_errors_of_the_iterable_reach_the_caller():
    def broken() -> Iterator[Event]:
        yield SeriesStart(1)
        raise WireError("frame 3 is damaged")

    with Publisher() as publisher, PullSource(publisher.source_uri), pytest.raises(WireError, match="frame 3"):
        publisher.publish(broken())
