"""The window for viewers: loopback only, bounded, read-only."""

from __future__ import annotations

import json
import time

import pytest
import zmq

from tumble.daemon.control import ControlServer, Viewer, check_loopback, find, running, runtime_folder
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.snapshot import SCHEMA_VERSION, Snapshot, StreamHealth


def snapshot(sequence: int, phase: str = "RUNNING") -> Snapshot:
    return Snapshot(SCHEMA_VERSION, "0", sequence, 0.0, 0.0, phase, "here", StreamHealth())


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "tcp://[::1]:5", "tcp://localhost:31", "ipc:///tmp/x"])
def test_loopback(endpoint):
    assert check_loopback(endpoint) == endpoint


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5", "tcp://192.168.0.3:5", "tcp://*:5", "tcp://example.org:5"])
def test_other_addresses_are_refused_with_a_reason(endpoint):
    with pytest.raises(UsageError, match="no keys"):
        check_loopback(endpoint)


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:5", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "udp://127.0.0.1:1"])
def test_what_is_no_address(endpoint):
    with pytest.raises(UsageError):
        check_loopback(endpoint)


def test_a_viewer_sees_what_is_published():
    with ControlServer("tcp://127.0.0.1:0", "here") as server:
        assert find(None) == server.endpoint
        assert [card["session"] for card in running()] == ["here"]
        server.publish(snapshot(1))
        with Viewer(server.endpoint) as viewer:
            assert viewer.latest().sequence == 1
            server.publish(snapshot(2, "DONE"))
            assert [seen.sequence for seen in viewer.follow()][-1] == 2
    assert running() == []


def test_the_newest_daemon_is_found():
    with ControlServer("tcp://127.0.0.1:0", "old"):
        folder = runtime_folder()
        card = json.loads(next(folder.glob("*.json")).read_text())
        (folder / "1.json").write_text(json.dumps({**card, "endpoint": "tcp://127.0.0.1:1", "begun": time.time() + 9}))
        assert find(None) == "tcp://127.0.0.1:1"


def test_cards_of_the_dead_and_rubbish_are_removed():
    folder = runtime_folder()
    (folder / "a.json").write_text(json.dumps({"pid": 2**22 + 1, "endpoint": "x", "begun": 0.0}))
    (folder / "b.json").write_text("rubbish")
    with pytest.raises(TumbleError, match="no daemon"):
        find(None)
    assert list(folder.iterdir()) == []


def test_nobody_there():
    with pytest.raises(TumbleError, match="nobody answers"):
        Viewer("tcp://127.0.0.1:9", timeout_s=0.2)


def test_a_taken_address_is_named():
    with ControlServer("tcp://127.0.0.1:0", "a") as server, pytest.raises(TumbleError, match="cannot listen"):
        ControlServer(server.endpoint, "b")


@pytest.mark.parametrize(
    "request_parts", [[b"stop"], [b""], [b"", b"snapshot", b"x"], [b"\x80\x04pickle"], [b"x" * 10000]]
)
def test_strange_requests_change_nothing(request_parts):
    with ControlServer("tcp://127.0.0.1:0", "here") as server, zmq.Context() as context:
        server.publish(snapshot(7))
        with context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(server.endpoint)
            socket.send_multipart(request_parts)
            if socket.poll(300):
                assert b"error" in socket.recv_multipart()[-1]
        with Viewer(server.endpoint) as viewer:
            assert viewer.latest().sequence == 7


def test_a_viewer_that_does_not_read_costs_nothing():
    server = ControlServer("tcp://127.0.0.1:0", "here")
    with server, zmq.Context() as context, context.socket(zmq.SUB) as lazy:
        lazy.setsockopt(zmq.LINGER, 0)
        lazy.setsockopt_string(zmq.SUBSCRIBE, "")
        lazy.connect(server.publication)
        for sequence in range(2000):
            server.publish(snapshot(sequence))
        with Viewer(server.endpoint) as viewer:
            assert viewer.latest().sequence == 1999
