"""Every socket that listens: a client without a key sees nothing and changes nothing, whatever bytes it sends."""

from __future__ import annotations

import json
import os
import socket as plain_socket
import stat
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import zmq

from tumble.daemon.control import MAX_MESSAGE, ControlServer, check_listening
from tumble.daemon.endpoints import running, runtime_folder
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.gate import present
from tumble.daemon.keys import KeyFolder, KeyPair, new_pair
from tumble.daemon.orders import WAITING, Orders, parse
from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth
from tumble.daemon.viewer import Viewer, give_order
from tumble.stream.publisher import Publisher
from tumble.stream.tee import Tee

BEYOND = "tcp://0.0.0.0:0"
SILENCE_MS = 400  # longer than an answer over loopback takes


def snapshot(sequence: int = 1) -> Snapshot:
    particle = ParticleView("P001", "MAPPING", (1.0, 2.0), 30.0)
    return Snapshot(SCHEMA_VERSION, "0", sequence, 0.0, 0.0, "RUNNING", "here", StreamHealth(), (particle,))


@contextmanager
def daemon(keys: KeyFolder, *, card: bool = False, **options):
    """A control server with a snapshot; without its card, clients are as if on another machine."""
    orders = Orders()
    with ControlServer(BEYOND, "here", control=BEYOND, keys=keys, orders=orders, **options) as server:
        if not card:
            for path in runtime_folder().glob("*.json"):
                path.unlink()
        server.publish(snapshot())
        yield server, orders


def introduce(there: KeyFolder, server: ControlServer, here: KeyFolder) -> None:
    """Give somebody elsewhere the public key of this machine."""
    for endpoint in (server.endpoint, server.control):
        there.trust(endpoint, here.server().public)


def answer(endpoint: str, *requests: bytes, server: bytes | None = None, pair: KeyPair | None = None) -> bytes:
    """What comes back first for some requests; empty: nothing."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if server is not None:
            present(socket, server, pair)
        socket.connect(endpoint)
        for request in requests:
            socket.send_multipart([b"", request])
        return socket.recv_multipart()[-1] if socket.poll(SILENCE_MS) else b""


@pytest.mark.parametrize("which", ["endpoint", "control"])
@pytest.mark.parametrize("kind", ["no key", "unknown key", "wrong server key"])
def test_a_client_without_an_allowed_key_sees_and_changes_nothing(which, kind, here, there):
    server_key = {"no key": None, "unknown key": here.server().public, "wrong server key": new_pair().public}[kind]
    if kind == "wrong server key":
        here.allow("them", there.client().public, "control")
    with daemon(here) as (server, orders):
        requests = (b"snapshot", b"hello", b"next 0", b"stop", b"exclude P001")
        assert answer(getattr(server, which), *requests, server=server_key, pair=there.client()) == b""
        assert not list(orders.take())


def test_an_allowed_client_may_watch_but_not_control(here, there):
    here.allow("ben", there.client().public, "watch")
    with daemon(here) as (server, orders):
        introduce(there, server, here)
        with Viewer(server.endpoint, keys=there) as viewer:
            assert viewer.latest() == viewer.poll(10.0) == snapshot()
        with pytest.raises(TumbleError, match="nobody answers"):
            give_order("stop", server.control, keys=there, timeout_s=0.4)
        assert not list(orders.take())


def test_a_client_with_the_right_to_control_may_do_both(here, there):
    here.allow("anna", there.client().public, "control")
    with daemon(here) as (server, orders):
        introduce(there, server, here)
        with Viewer(server.endpoint, keys=there) as viewer:
            assert viewer.latest() == snapshot()
        assert "passed on" in give_order("exclude P001", server.control, keys=there)
        assert [(order.kind, order.particle, order.who) for order in orders.take()] == [("exclude", 1, "anna")]


def test_a_revoked_client_is_out_while_it_is_connected(here, there, monkeypatch):
    monkeypatch.setattr("tumble.daemon.keys.REREAD_S", -1.0)
    here.allow("ben", there.client().public, "watch")
    with daemon(here) as (server, _):
        introduce(there, server, here)
        with Viewer(server.endpoint, keys=there) as viewer:
            assert viewer.poll(10.0) == snapshot()
            KeyFolder(here.folder).revoke("ben")
            server.publish(snapshot(2))
            with pytest.raises(TumbleError, match="not allowed"):
                only_the_first(viewer)


def only_the_first(viewer: Viewer) -> None:
    """Look for a while; what is published now must never be seen."""
    for _ in range(20):
        assert viewer.poll(1.5) in (None, snapshot())


def test_the_user_who_started_it_needs_no_preparation():
    orders = Orders()
    with ControlServer("tcp://127.0.0.1:0", "here", orders=orders) as server:
        server.publish(snapshot())
        (card,) = runtime_folder().glob("*.json")
        assert stat.S_IMODE(card.stat().st_mode) == 0o600
        assert "passed on" in give_order("mark the beam was moved")
        with Viewer(server.endpoint) as viewer:
            assert viewer.latest() == snapshot()
        assert answer(server.control, b"stop") == b""  # other users of this machine
    assert [(order.kind, order.text, order.who) for order in orders.take()] == [
        ("mark", "the beam was moved", "this user")
    ]


def test_the_user_who_started_it_watches_a_guarded_daemon_too(here):
    with daemon(here, card=True) as (server, _), Viewer(server.endpoint) as viewer:
        assert viewer.latest() == snapshot()
        assert running()[0]["guarded"]


def test_beyond_loopback_only_with_keys(tmp_path, here):
    none = KeyFolder(tmp_path / "none")
    for words in ({"endpoint": BEYOND}, {"endpoint": "tcp://127.0.0.1:0", "control": BEYOND}):
        with pytest.raises(UsageError, match=r"refusing to listen on tcp://0\.0\.0\.0:0: there are no keys in .*none"):
            ControlServer(session="here", keys=none, **words)
    assert check_listening(BEYOND, here) == BEYOND
    with pytest.raises(ValueError, match=r"0\.0\.0\.0"):  # frames: no keys in the protocol at all
        Publisher("tcp://0.0.0.0:0")
    with pytest.raises(ValueError, match=r"0\.0\.0\.0"):
        Tee("tcp://0.0.0.0:0")


def test_a_socket_in_a_private_folder_works_like_one_on_loopback(tmp_path):
    with ControlServer(f"ipc://{tmp_path}/status", "here", control=f"ipc://{tmp_path}/control") as server:
        server.publish(snapshot())
        with Viewer(f"ipc://{tmp_path}/status") as viewer:
            assert viewer.latest() == snapshot()
        assert "passed on" in give_order("pause")
        assert answer(server.control, b"stop") == b""


def test_nobody_is_asked_without_knowing_who_it_is(there, tmp_path):
    with pytest.raises(UsageError, match="tumble keys trust tcp://scope:5 KEY"):
        Viewer("tcp://scope:5", keys=there)
    strangers = KeyFolder(tmp_path / "none")
    strangers.trust("tcp://scope:5", new_pair().public)
    with pytest.raises(UsageError, match="tumble keys make"):
        Viewer("tcp://scope:5", keys=strangers)


@pytest.mark.parametrize("which", ["endpoint", "control"])
def test_hostile_bytes_neither_crash_nor_stall_it(which, here, there):
    """Structure-aware rubbish: as raw TCP, as ZMTP, and as messages of a client that is allowed."""
    here.allow("eve", there.client().public, "control")
    rng = np.random.default_rng(7)
    key, pair = here.server().public, there.client()
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
    with daemon(here) as (server, orders):
        endpoint = getattr(server, which)
        port = urlsplit(endpoint).port
        for number in range(60):
            body = rng.bytes(int(rng.integers(0, 300)))
            with plain_socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(greeting[: int(rng.integers(0, 64))] + body if number % 2 else greeting + body)
        orders_seen = [b"stop now", b"exclude P999", b"exclude", b"mark " + b"x" * 500, b"{}", b"\xff\xfe", b"", b"\0"]
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            present(socket, key, pair)
            socket.connect(endpoint)
            for request in orders_seen:
                socket.send_multipart([b"", request])
                assert socket.poll(20_000)
                assert b"error" in socket.recv_multipart()[-1]
            for parts in ([b"frob"], [b"", b"stop", b"", b"", b"stop"], [b""] * 1000, [rng.bytes(MAX_MESSAGE)]):
                socket.send_multipart(parts)
            socket.send_multipart([b"", b"x" * (MAX_MESSAGE + 1)])  # ends this connection
        introduce(there, server, here)
        with Viewer(server.endpoint, keys=there) as viewer:
            assert viewer.latest() == snapshot()
        assert not list(orders.take())


def test_orders_do_not_pile_up(here):
    with daemon(here, card=True) as (_, orders):
        for _ in range(WAITING):
            give_order("pause")
        with pytest.raises(TumbleError, match="too many"):
            give_order("pause")
        assert len(list(orders.take())) == WAITING


def test_an_unknown_particle_is_named_with_those_that_are(here):
    with daemon(here, card=True), pytest.raises(TumbleError, match=r"no particle P002: P001"):
        give_order("exclude 2")


@pytest.mark.parametrize(
    "words", ["", "frob", "stop now", "mark", "mark   ", "mark " + "x" * 201, "exclude", "exclude P0", "exclude x"]
)
def test_what_is_no_order(words):
    with pytest.raises(UsageError):
        parse(words)


def test_a_mark_cannot_write_on_the_terminal():
    assert parse("mark a\x1b[2Jb\nc").text == "a [2Jb c"


def test_no_secret_reaches_a_viewer(here):
    with daemon(here, card=True) as (server, _), Viewer(server.endpoint) as viewer:
        card = running()[0]
        seen = json.dumps(viewer._ask("hello")) + viewer.latest().to_json()
        assert card["client_secret"] not in seen
        assert here.server().secret.hex() not in seen


def test_the_runtime_folder_is_closed_to_others(tmp_path):
    folder = Path(os.environ["XDG_RUNTIME_DIR"]) / "tumble"
    folder.mkdir(mode=0o755)
    assert stat.S_IMODE(runtime_folder().stat().st_mode) == 0o700
