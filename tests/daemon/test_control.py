"""The window for viewers: loopback only, bounded, read-only."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest
import zmq

from tumble.daemon.allowance import MOST_CLIENTS, Allowance
from tumble.daemon.control import AT_ONCE, EACH, REPEAT_S, ControlServer
from tumble.daemon.endpoints import check_loopback, find, from_here, running, runtime_folder
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.snapshot import SCHEMA_VERSION, Snapshot, StreamHealth
from tumble.daemon.viewer import Viewer


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
    with server, zmq.Context() as context, context.socket(zmq.DEALER) as lazy:
        lazy.setsockopt(zmq.LINGER, 0)
        lazy.connect(server.endpoint)
        for sequence in range(500):
            lazy.send_multipart([b"", f"next {sequence}".encode()], zmq.NOBLOCK)
            server.publish(snapshot(sequence))
        with Viewer(server.endpoint) as viewer:
            assert viewer.latest().sequence == 499


def test_a_flood_of_questions_leaves_others_their_answer():
    with ControlServer("tcp://127.0.0.1:0", "here") as server, zmq.Context() as context:
        server.publish(snapshot(3))
        with context.socket(zmq.DEALER) as flood:
            flood.setsockopt(zmq.LINGER, 0)
            flood.connect(server.endpoint)
            for _ in range(20 * AT_ONCE):
                flood.send_multipart([b"", b"snapshot"])
            with Viewer(server.endpoint) as viewer:
                assert viewer.latest().sequence == 3


def sequence_after(viewer: Viewer, number: int) -> int:
    """Number of the first snapshot that is not a repeat of number `number`; a repeat comes after each second."""
    while (snapshot := viewer.poll(30.0)).sequence == number:
        pass
    return snapshot.sequence


def test_the_next_snapshot_comes_when_there_is_one_and_repeats_show_that_the_daemon_lives():
    with ControlServer("tcp://127.0.0.1:0", "here") as server, Viewer(server.endpoint) as viewer:
        assert viewer.poll(0.0) is None
        server.publish(snapshot(1))
        assert viewer.poll(10.0).sequence == 1
        begun = time.monotonic()
        server.publish(snapshot(2))
        assert sequence_after(viewer, 1) == 2
        assert [viewer.poll(10.0).sequence, viewer.poll(10.0).sequence] == [2, 2]  # nothing new
        assert time.monotonic() - begun >= REPEAT_S


def test_a_viewer_finds_a_daemon_that_came_back():
    with ControlServer("tcp://127.0.0.1:0", "here") as server:
        endpoint = server.endpoint
        server.publish(snapshot(1))
        viewer = Viewer(endpoint)
        assert viewer.poll(10.0).sequence == 1
    with viewer, ControlServer(endpoint, "here") as server:
        server.publish(snapshot(7))
        assert sequence_after(viewer, 1) == 7


def test_who_follows_is_given_the_last_snapshot_though_the_daemon_has_closed(monkeypatch):
    monkeypatch.setattr("tumble.daemon.control.LAST_S", 60.0)  # a busy machine may take more than three to ask
    server = ControlServer("tcp://127.0.0.1:0", "here")
    with zmq.Context() as context, context.socket(zmq.DEALER) as follower:
        follower.setsockopt(zmq.LINGER, 0)
        with server:
            server.publish(snapshot(1))
            follower.connect(server.endpoint)
            follower.send_multipart([b"", b"next 0"])
            assert follower.poll(20_000)
            assert json.loads(follower.recv_multipart()[-1])["sequence"] == 1
            server.publish(snapshot(2, "DONE"))
            closing = threading.Thread(target=server.__exit__, args=(None, None, None))
            closing.start()
            while not server._closing:
                time.sleep(0.001)
            follower.send_multipart([b"", b"next 1"])
            assert follower.poll(20_000)
            assert json.loads(follower.recv_multipart()[-1])["sequence"] == 2
            closing.join()


def test_what_listens_everywhere_is_reached_from_here():
    assert from_here("tcp://0.0.0.0:5") == "tcp://127.0.0.1:5"
    assert from_here("tcp://[::]:5") == "tcp://[::1]:5"
    assert from_here("tcp://10.0.0.1:5") == "tcp://10.0.0.1:5"
    assert from_here("ipc:///run/x") == "ipc:///run/x"


FLOOD = """
import select, sys, time, zmq
context = zmq.Context()
sockets = [context.socket(zmq.DEALER) for _ in range(4)]
for socket in sockets:
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(sys.argv[1])
answers, begun = 0, time.monotonic()
while not select.select([sys.stdin], [], [], 0)[0]:
    for socket in sockets:
        try:
            for _ in range(500):
                socket.send_multipart([b"", b"snapshot"], zmq.NOBLOCK)
        except zmq.Again:
            pass
        while socket.poll(0):
            socket.recv_multipart()
            answers += 1
            if answers == 1:
                print("begun", flush=True)
print(answers, time.monotonic() - begun, flush=True)
"""


def test_a_flood_from_outside_stops_neither_snapshots_nor_the_end_and_gets_few_answers():
    """From a process of its own, over several connections, as fast as it can."""
    server = ControlServer("tcp://127.0.0.1:0", "here")
    command = [sys.executable, "-c", FLOOD, server.endpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flood:
        patience = threading.Timer(120.0, flood.kill)
        patience.start()
        with server:
            server.publish(snapshot(0))
            assert flood.stdout.readline() == "begun\n"
            with Viewer(server.endpoint) as viewer:
                for sequence in range(1, 30):
                    server.publish(snapshot(sequence))
                    while viewer.poll(30.0).sequence != sequence:
                        pass
        assert flood.poll() is None  # it goes on, and the daemon could end all the same
        patience.cancel()
        answers, seconds = flood.communicate("\n", timeout=60)[0].split()
    assert 0 < int(answers) <= 4 * EACH * (float(seconds) + 2)


def test_an_allowance_is_for_each_client_and_second(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("tumble.daemon.allowance.time.monotonic", lambda: clock[0])
    allowance = Allowance(3)
    assert [allowance.spend(b"a") for _ in range(5)] == [True, True, True, False, False]
    assert allowance.spend(b"b")
    for number in range(2 * MOST_CLIENTS):  # those that are not counted any more get nothing, and take no memory
        allowance.spend(number.to_bytes(4, "big"))
    assert not allowance.spend(b"c")
    assert allowance.spend(b"b")
    clock[0] = 1.0
    assert all(allowance.spend(client) for client in (b"a", b"b", b"c"))
