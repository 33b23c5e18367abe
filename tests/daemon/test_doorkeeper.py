"""The stream is handed on beyond this machine only to those who have a key that is allowed."""

from __future__ import annotations

import socket as plain_socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import zmq

from tumble.daemon.config import Settings
from tumble.daemon.control import check_sockets
from tumble.daemon.doorkeeper import Doorkeeper, presenting
from tumble.daemon.endpoints import from_here
from tumble.daemon.errors import UsageError
from tumble.daemon.gate import present
from tumble.daemon.keys import KeyFolder, new_pair
from tumble.stream.dectris2 import decode
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import PublisherError
from tumble.stream.source import PullSource
from tumble.stream.tee import Tee

from .programs import ended_when

PIXELS = np.random.default_rng(4).poisson(2.0, (20, 30)).astype(np.uint16)
BEYOND = "tcp://0.0.0.0:0"
SILENCE_MS = 400  # longer than a handshake and a frame over loopback take


@contextmanager
def streaming(here: KeyFolder) -> Iterator[str]:
    """A tee that listens everywhere while frames come; gives its address from here."""
    over = threading.Event()
    with Tee(BEYOND, door=Doorkeeper(here)) as tee:

        def stream() -> None:
            tee.send(SeriesStart(3, "abc", 30, 20))
            index = 0
            while not over.wait(0.002):
                tee.send(encode_frame(Frame(3, index, PIXELS, 0.0), "bslz4"))
                index += 1

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            yield from_here(tee.endpoint)
        finally:
            over.set()
            thread.join()


@contextmanager
def subscribed(endpoint: str, *pass_: object) -> Iterator[zmq.Socket]:
    """A bare subscriber, with a pass or without."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if pass_:
            present(socket, *pass_)
        socket.connect(endpoint)
        yield socket


def test_only_an_allowed_key_sees_frames(here, there):
    mine, key = there.client(), here.server().public
    with streaming(here) as endpoint:
        for pass_ in ((), (key, mine), (new_pair().public, mine), (key, new_pair())):  # nobody is allowed yet
            with subscribed(endpoint, *pass_) as socket:
                assert not socket.poll(SILENCE_MS)
        here.allow("ben", mine.public, "watch")
        with subscribed(endpoint, key, mine) as socket, subscribed(endpoint) as stranger:
            assert socket.poll(20_000)
            assert not stranger.poll(SILENCE_MS)


def test_hostile_bytes_at_the_door_change_nothing_for_those_inside(here, there):
    """Of clients without a key: rubbish as raw TCP, halves of handshakes, and what no subscription is."""
    here.allow("ben", there.client().public, "watch")
    rng = np.random.default_rng(5)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    with streaming(here) as endpoint, subscribed(endpoint, here.server().public, there.client()) as ben:
        assert ben.poll(20_000)
        port = int(endpoint.rpartition(":")[2])
        for number in range(30):
            body = rng.bytes(int(rng.integers(0, 300)))
            with plain_socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall((greeting if number % 2 else greeting[: int(rng.integers(0, 64))]) + body)
        with zmq.Context() as context, context.socket(zmq.XSUB) as rude:
            rude.setsockopt(zmq.LINGER, 0)
            present(rude, here.server().public, new_pair())
            rude.connect(endpoint)
            for words in (b"\x01", b"\x00", b"stop", rng.bytes(100)):
                rude.send(words)
            assert not rude.poll(SILENCE_MS)
        while ben.poll(0):  # what came meanwhile
            ben.recv()
        seen = [decode(ben.recv()) for _ in range(20) if ben.poll(20_000)]
    assert [type(event) for event in seen] == [EncodedFrame] * 20  # and no other start: he was not sent away
    assert np.diff([frame.index for frame in seen]).min() > 0


def test_a_revoked_key_sees_nothing_more_and_others_go_on(here, there, tmp_path, monkeypatch):
    monkeypatch.setattr("tumble.daemon.doorkeeper.REREAD_S", 0.1)
    monkeypatch.setattr("tumble.daemon.keys.REREAD_S", 0.1)
    other = new_pair()
    here.allow("ben", there.client().public, "watch")
    here.allow("anna", other.public, "control")
    with (
        streaming(here) as endpoint,
        subscribed(endpoint, here.server().public, there.client()) as ben,
        subscribed(endpoint, here.server().public, other) as anna,
    ):
        assert ben.poll(20_000)
        assert anna.poll(20_000)
        KeyFolder(here.folder).revoke("ben")
        deadline = time.monotonic() + 100
        more = True
        while more:  # until a hundred frames have come and none of them to him
            assert time.monotonic() < deadline
            for _ in range(100):
                assert anna.poll(20_000)
                anna.recv()
            more = bool(ben.poll(0))
            while ben.poll(0):
                ben.recv()
        assert anna.poll(20_000)
        assert not ben.poll(SILENCE_MS)


def test_a_second_daemon_elsewhere_takes_the_stream_with_its_key(here, there):
    here.allow("second", there.client().public, "watch")
    with streaming(here) as endpoint:
        uri = f"zmq+sub+{endpoint}"
        assert presenting(uri, there) is None  # not yet trusted
        there.trust(endpoint, here.server().public)
        with PullSource(uri, present=presenting(uri, there)) as source:
            start, first, second = (source.get(20.0) for _ in range(3))
    assert (start.series_id, start.width) == (3, 30)
    assert second.index == first.index + 1
    np.testing.assert_array_equal(first.data, PIXELS)


def test_a_daemon_hands_its_stream_on_to_those_with_a_key(series, publish, run_service, there):
    """From the configuration to the subscriber, through the receiver process."""
    here = KeyFolder()  # of the user, as the configuration says nothing else
    here.make()
    here.allow("ben", there.client().public, "watch")
    with plain_socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    there.trust(f"tcp://127.0.0.1:{port}", here.server().public)
    uri = f"zmq+sub+tcp://127.0.0.1:{port}"
    seen = []

    def look() -> None:
        with PullSource(uri, end_timeout_s=60.0, present=presenting(uri, there)) as source:
            while not seen or not isinstance(seen[-1], SeriesEnd):
                seen.append(source.get(60.0))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    with publish(ended_when(series(100_000), lambda: len(seen) > 50)) as source:
        run = run_service(source, tee=f"tcp://0.0.0.0:{port}")
    watcher.join(60)
    assert run.code == 0, run.text
    assert isinstance(seen[0], SeriesStart)
    assert f"received {seen[-2].index + 1} = used {seen[-2].index + 1} " in run.text


def test_without_keys_it_stays_on_this_machine(tmp_path):
    none = KeyFolder(tmp_path / "none")
    with pytest.raises(UsageError, match=r"no keys in .*none: `tumble keys make`"):
        Doorkeeper(none)
    settings = Settings.model_validate({"stream": {"tee": "zmq+" + BEYOND}, "keys": {"folder": none.folder}})
    with pytest.raises(UsageError, match="refusing to listen"):
        check_sockets(settings)
    with pytest.raises(PublisherError, match="can be reached by other machines"):
        Tee(BEYOND)


def test_who_trusts_a_tee_needs_a_key_to_show(tmp_path, here):
    none = KeyFolder(tmp_path / "none")
    none.trust("tcp://scope:31002", here.server().public)
    with pytest.raises(UsageError, match="`tumble keys make`"):
        presenting("zmq+sub+tcp://scope:31002", none)
    assert presenting("zmq+tcp://scope:31001", none) is None
