"""The daemon's read-only window: snapshots by publication and on request, on loopback, and how viewers find it.

One ROUTER socket answers ``snapshot`` with the latest snapshot and ``hello`` with where the PUB socket is; anything
else gets an error in words. A thread of its own serves both, so that a viewer is answered while a piece of work runs.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import zmq

from .errors import TumbleError, UsageError
from .particle_files import write_text
from .snapshot import Snapshot, from_json

MAX_REQUEST = 256  # bytes
NO_SNAPSHOT = "no snapshot yet"
REPEAT_S = 1.0  # a snapshot is published again after this long, so that a new viewer does not wait for the next one


def check_loopback(endpoint: str) -> str:
    """`endpoint`, when it is on this machine.

    Raises
    ------
    UsageError : it could be reached from elsewhere, or is not ``tcp://host:port`` or ``ipc://path``.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "ipc" and len(endpoint) > len("ipc://"):
        return endpoint
    try:
        host, port = parts.hostname or "", parts.port
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local, port = False, None
    if parts.scheme != "tcp" or (local and port is None):
        raise UsageError(f"endpoint {endpoint!r} is not an address: give tcp://127.0.0.1:PORT (port 0: any)")
    if not local:
        raise UsageError(
            f"refusing to listen on {endpoint}: it has no keys, so loopback only; use an ssh tunnel from elsewhere"
        )
    return endpoint


def runtime_folder() -> Path:
    """Where running daemons leave their address: private to the user.

    Raises
    ------
    TumbleError : the folder belongs to somebody else.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "tumble" if base else Path(tempfile.gettempdir()) / f"tumble-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise TumbleError(f"{folder} belongs to another user: remove it or set XDG_RUNTIME_DIR")
    return folder


class ControlServer:
    """Serves snapshots from a thread. Use as a context manager.

    Parameters
    ----------
    endpoint : where the ROUTER socket listens; port 0 takes a free one.
    session : shown to those who look for daemons.

    Attributes
    ----------
    refresh : asked for a newer snapshot, from this thread, when none was published for a second; ``None``: the last
        one is repeated.

    Raises
    ------
    UsageError : not a loopback address.
    TumbleError : the address is taken.
    """

    def __init__(self, endpoint: str, session: str) -> None:
        check_loopback(endpoint)
        self._context = zmq.Context()
        self._router = self._socket(zmq.ROUTER)
        self._router.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        self._pub = self._socket(zmq.PUB)
        try:
            self._router.bind(_any_port(endpoint))
            self._pub.bind("tcp://127.0.0.1:*")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise TumbleError(f"cannot listen on {endpoint}: {error}; choose another status.endpoint") from None
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT)
        self.publication = self._pub.get_string(zmq.LAST_ENDPOINT)
        self._latest = b""
        self._fresh = False
        self._lock = threading.Lock()
        self.refresh: Callable[[], Snapshot | None] = lambda: None
        self._closing = False
        self._session = session
        self._card: Path | None = None
        self._thread = threading.Thread(target=self._serve, name="tumble control", daemon=True)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 200)
        socket.setsockopt(zmq.SNDHWM, 8)  # a slow viewer misses snapshots instead of making them pile up
        socket.setsockopt(zmq.RCVHWM, 64)
        return socket

    def __enter__(self) -> ControlServer:
        self._card = runtime_folder() / f"{os.getpid()}.json"
        card = {"pid": os.getpid(), "endpoint": self.endpoint, "session": self._session, "begun": time.time()}
        write_text(self._card, json.dumps(card))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._card is not None:
            self._card.unlink(missing_ok=True)
        self._closing = True
        self._thread.join()
        self._context.destroy(linger=200)

    def publish(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the one that viewers get."""
        text = snapshot.to_json().encode()
        with self._lock:
            self._latest, self._fresh = text, True

    def _due(self, repeat_at: float) -> bytes:
        """What has to be sent now: something new, or after a while what there is, refreshed."""
        with self._lock:
            if self._fresh:
                self._fresh = False
                return self._latest
        if not self._latest or time.monotonic() < repeat_at:
            return b""
        try:
            beat = self.refresh()
        except Exception:  # noqa: BLE001  # viewers keep the last snapshot; the daemon itself will hear of it
            beat = None
        text = b"" if beat is None else beat.to_json().encode()
        with self._lock:
            if text and not self._fresh:  # what was published meanwhile is newer
                self._latest = text
            self._fresh = False
            return self._latest

    def _serve(self) -> None:
        repeat_at = 0.0
        while True:
            closing = self._closing
            if text := self._due(repeat_at):
                repeat_at = time.monotonic() + REPEAT_S
                self._send(self._pub, [text])
            if self._router.poll(50):
                self._answer(self._router.recv_multipart())
            elif closing:
                return

    def _answer(self, parts: list[bytes]) -> None:
        identity, *_, request = parts if len(parts) > 1 else (parts[0], b"")
        if request == b"snapshot":
            reply = self._latest or json.dumps({"error": NO_SNAPSHOT}).encode()
        elif request == b"hello":
            reply = json.dumps({"publication": self.publication, "session": self._session, "pid": os.getpid()}).encode()
        else:
            reply = b'{"error":"unknown request: ask for snapshot or hello"}'
        self._send(self._router, [identity, b"", reply])

    @staticmethod
    def _send(socket: zmq.Socket[bytes], parts: list[bytes]) -> None:
        try:
            socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # nobody takes it; a viewer never holds the daemon up


def _any_port(endpoint: str) -> str:
    return endpoint[:-1] + "*" if endpoint.startswith("tcp://") and endpoint.endswith(":0") else endpoint


def running() -> list[dict[str, Any]]:
    """Daemons of this user that are alive, the newest last. Cards of dead ones are removed."""
    found = []
    for path in runtime_folder().glob("*.json"):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            os.kill(int(card["pid"]), 0)
            found.append((float(card["begun"]), card))
        except (ValueError, KeyError, TypeError, ProcessLookupError):
            path.unlink(missing_ok=True)
        except OSError:
            continue
    return [card for _, card in sorted(found, key=lambda pair: pair[0])]


def find(endpoint: str | None) -> str:
    """`endpoint`, or that of the newest daemon that runs here.

    Raises
    ------
    TumbleError : none runs.
    """
    if endpoint:
        return endpoint
    cards = running()
    if not cards:
        raise TumbleError("no daemon of yours runs on this machine: start one, or give its endpoint (tcp://host:port)")
    return str(cards[-1]["endpoint"])


class Viewer:
    """Follows a daemon: asks once, then listens. Use as a context manager.

    Raises
    ------
    TumbleError : nobody answers at `endpoint`.
    """

    def __init__(self, endpoint: str, timeout_s: float = 5.0) -> None:
        self.endpoint = endpoint
        self._timeout_ms = int(timeout_s * 1000)
        self._context = zmq.Context()
        self._sub: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        self._sub.setsockopt(zmq.LINGER, 0)
        self._sub.setsockopt(zmq.CONFLATE, 1)  # only the newest counts, however slow the terminal is
        self._sub.setsockopt_string(zmq.SUBSCRIBE, "")
        try:
            publication = self._ask(b"hello").get("publication")
            if publication is None:
                raise TumbleError(f"what answers at {endpoint} is not a Tumble daemon")
            self._sub.connect(str(publication))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._context.destroy(linger=0)

    def _ask(self, request: bytes) -> dict[str, Any]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(self.endpoint)
            socket.send(request)
            if not socket.poll(self._timeout_ms):
                raise TumbleError(f"nobody answers at {self.endpoint}: is the daemon running?")
            answer: dict[str, Any] = json.loads(socket.recv())
        except zmq.ZMQError as error:
            raise TumbleError(f"cannot connect to {self.endpoint}: {error}; give tcp://host:port") from None
        except ValueError:
            raise TumbleError(f"what answers at {self.endpoint} is not a Tumble daemon") from None
        finally:
            socket.close()
        if not isinstance(answer, dict):
            raise TumbleError(f"what answers at {self.endpoint} is not a Tumble daemon")
        return answer

    def latest(self) -> Snapshot:
        """The daemon's latest snapshot.

        Raises
        ------
        TumbleError : no answer, none there yet, or one of another version.
        """
        deadline = time.monotonic() + self._timeout_ms / 1e3
        answer = self._ask(b"snapshot")
        while answer.get("error") == NO_SNAPSHOT and time.monotonic() < deadline:  # it has only just begun
            time.sleep(0.05)
            answer = self._ask(b"snapshot")
        try:
            return from_json(json.dumps(answer))
        except ValueError as error:
            raise TumbleError(f"{self.endpoint}: {error}") from None

    def poll(self, timeout_s: float) -> Snapshot | None:
        """The newest snapshot that has come, or ``None`` when nothing came within `timeout_s`."""
        if not self._sub.poll(int(timeout_s * 1000)):
            return None
        try:
            return from_json(self._sub.recv())
        except ValueError as error:
            raise TumbleError(f"{self.endpoint}: {error}") from None

    def follow(self, silence_s: float = 15.0) -> Iterator[Snapshot]:
        """Snapshots as they change, until the daemon has finished or has been silent for `silence_s`.

        Raises
        ------
        TumbleError : silence.
        """
        sequence = -1
        while True:
            snapshot = self.poll(silence_s)
            if snapshot is None:
                raise TumbleError(
                    f"{self.endpoint}: nothing for {silence_s:.0f} s, the daemon has died or is unreachable"
                )
            if snapshot.sequence != sequence:
                sequence = snapshot.sequence
                yield snapshot
            if snapshot.phase in ("DONE", "FAILED"):
                return
