"""karabo-bridge: trains as its own server sends them, asked for, pushed and published, and as nobody should."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tumble.stream.errors import WireError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.karabo import Decoder, looks_like
from tumble.stream.source import PullSource

msgpack = pytest.importorskip("msgpack")
IMAGES = np.random.default_rng(6).poisson(3.0, (8, 20, 30)).astype(np.uint16)


def train(image: np.ndarray, number: object = 7, **changes: object) -> list[bytes]:
    """One train: control data, a small array, an image."""
    metadata = {"timestamp.tid": number, "timestamp": 1000.0 + number * 0.1 if isinstance(number, int) else 0}
    head = {"source": "camera", "content": "array", "path": "image.data", "dtype": str(image.dtype)}
    head |= {"shape": list(image.shape), **changes}
    vector = {"source": "camera", "content": "array", "path": "axis", "dtype": "float32", "shape": [3]}
    parts = [
        {"source": "camera", "content": "msgpack", "metadata": metadata},
        {"gain": 1},
        vector,
        bytes(12),
        head,
        image.tobytes(),
    ]
    return [part if isinstance(part, bytes) else msgpack.packb(part) for part in parts]


def test_a_train_is_a_frame_and_its_number_tells_what_is_missing():
    decoder = Decoder()
    start, first = decoder.decode(train(IMAGES[0], 100))
    assert (start.series_id, start.width, start.height, start.detector) == (1, 30, 20, "camera")
    assert (first.index, first.time_s) == (0, 0.0)
    np.testing.assert_array_equal(first.decode().data, IMAGES[0])
    (later,) = decoder.decode(train(IMAGES[1], 103))
    assert (later.index, later.series_id) == (3, 1)
    assert later.time_s == pytest.approx(0.3)
    again, restarted = decoder.decode(train(IMAGES[2], 5))
    assert (again.series_id, restarted.index) == (2, 0)


def test_a_stack_of_images_in_a_train():
    decoder = Decoder()
    decoder.decode(train(IMAGES[:4], 10))
    frames = decoder.decode(train(IMAGES[4:], 12))
    assert [frame.index for frame in frames] == [8, 9, 10, 11]
    for frame, image in zip(frames, IMAGES[4:], strict=True):
        np.testing.assert_array_equal(frame.decode().data, image)


def test_trains_without_a_number_are_counted():
    decoder = Decoder()
    indices = [decoder.decode(train(image, "x"))[-1].index for image in IMAGES[:3]]
    assert indices == [0, 1, 2]


def test_a_train_without_an_image_says_nothing():
    assert Decoder().decode(train(IMAGES[0])[:4]) == []


@pytest.mark.parametrize(
    "parts",
    [
        [b"\x81"],
        [b"\x81", b""],
        [b"\x82\xa1a", b"x"],
        [msgpack.packb([1, 2]), b""],
        train(IMAGES[0])[:-1],
        [*train(IMAGES[0])[:-1], b"too short"],
        train(IMAGES[0], dtype="object"),
        train(IMAGES[0], dtype=7),
        train(IMAGES[0], shape=[2**40, 2**40]),
        train(IMAGES[0], shape=[0, 30]),
        train(IMAGES[0], shape=[2**61, 20, 30]),
        [msgpack.packb({"content": "array", "shape": [1, 1]}), b"\0"],
    ],
)
def test_what_is_no_train_is_refused(parts):
    assert looks_like(b"\x83")
    with pytest.raises(WireError) as caught:
        Decoder().decode(parts)
    assert "\n" not in str(caught.value)


@pytest.mark.interop
@pytest.mark.parametrize(("kind", "scheme"), [("REP", "zmq+req+tcp"), ("PUSH", "zmq+tcp"), ("PUB", "zmq+sub+tcp")])
def test_its_own_server(kind, scheme):
    """The server of the karabo-bridge package, in all the ways it can send."""
    server_module = pytest.importorskip("karabo_bridge.server")
    server = server_module.ServerInThread("tcp://127.0.0.1:*", sock=kind, maxlen=200)
    server.start()
    stop = threading.Event()

    def feed() -> None:
        number = 100
        while not stop.is_set() and number < 5000:
            data = {"camera": {"image": IMAGES[number % 8], "gain": 2}}
            server.feed(data, {"camera": {"source": "camera", "timestamp.tid": number, "timestamp": number * 0.1}})
            number += 1
            stop.wait(0.002)

    feeder = threading.Thread(target=feed, daemon=True)
    try:
        host = server.endpoint.rpartition(":")[2]
        with PullSource(f"{scheme}://127.0.0.1:{host}", end_timeout_s=5.0) as source:
            feeder.start()
            start = source.get(20)
            assert isinstance(start, SeriesStart)
            frames = [source.get(20) for _ in range(60)]
            stop.set()
            while not isinstance(event := source.get(20), SeriesEnd):
                frames.append(event)
        assert event.reason == "timeout"
        assert all(isinstance(frame, Frame) for frame in frames)
        indices = [frame.index for frame in frames]
        assert indices[0] == 0
        assert np.diff(indices).min() == 1
        assert len(indices) + source.counters.missing == indices[-1] + 1  # its queue may overflow, and PUB drops
        offset = next(k for k in range(8) if np.array_equal(frames[0].data, IMAGES[k]))
        for frame in frames:
            np.testing.assert_array_equal(frame.data, IMAGES[(offset + frame.index) % 8])
        assert source.counters.malformed == 0
    finally:
        stop.set()
        server.stop()
