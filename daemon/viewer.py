"""The client's end: watch a daemon, or give it orders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import zmq

from .control import NO_SNAPSHOT, REPEAT_S
from .editions import Reader
from .endpoints import is_local, newest, running
from .errors import TumbleError, Unreachable, UsageError
from .gate import Socket, present
from .keys import KeyFolder, KeyPair
from .snapshot import Snapshot, from_data, from_json

MAX_REPLY = 64 << 20  # bytes


class Viewer:
    """Follows a daemon: asks for the next snapshot whenever it has got one. Use as a context manager.

    Parameters
    ----------
    endpoint : of the daemon's status socket.
    timeout_s : patience.
    keys : of this user, and of the daemons on other machines that it knows.

    Raises
    ------
    Unreachable : nobody answers at `endpoint`.
    TumbleError : what answers is no daemon.
    UsageError : the daemon is elsewhere and its key is not known.
    """

    def __init__(self, endpoint: str, timeout_s: float = 5.0, *, keys: KeyFolder | None = None) -> None:
        self.endpoint = endpoint
        self._timeout_ms = int(timeout_s * 1000)
        self._context: zmq.Context[Socket] = zmq.Context()
        self._reader: Reader | None = Reader()  # none: the daemon is older than changes
        self._seen = -1
        self._asked_at: float | None = None
        try:
            self._pass = _pass_for(endpoint, "endpoint", keys or KeyFolder())
            self._socket = self._connect(zmq.DEALER)
            if self._ask("hello").get("daemon") != "tumble":
                raise TumbleError(f"what answers at {endpoint} is not a Tumble daemon")
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

    def _connect(self, kind: int) -> Socket:
        return _connect(self._context, kind, self.endpoint, self._pass)

    def _ask(self, request: str) -> dict[str, Any]:
        return _ask(self._connect(zmq.REQ), request, self.endpoint, self._timeout_ms)

    def latest(self) -> Snapshot:
        """The daemon's latest snapshot.

        Raises
        ------
        TumbleError : no answer, none there yet, or one of another version.
        """
        deadline = time.monotonic() + self._timeout_ms / 1e3
        answer = self._ask("snapshot")
        while answer.get("error") == NO_SNAPSHOT and time.monotonic() < deadline:  # it has only just begun
            time.sleep(0.05)
            answer = self._ask("snapshot")
        return self._made(from_data, answer)

    def _made(self, read: Callable[[Any], Snapshot], answer: dict[str, Any] | bytes) -> Snapshot:
        try:
            return read(answer)
        except ValueError as error:
            raise TumbleError(f"{self.endpoint}: {error}") from None

    def poll(self, timeout_s: float) -> Snapshot | None:
        """The newest snapshot that has come, or ``None`` when nothing came within `timeout_s`.

        Raises
        ------
        TumbleError : this client is no longer allowed, or the daemon is of another version.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            clock = time.monotonic()
            if self._asked_at is None or clock - self._asked_at > 3 * REPEAT_S:  # a daemon may have come back
                self._request(clock)
            left = deadline - clock
            if self._socket.poll(max(0, int(min(left, REPEAT_S) * 1000))):
                snapshot = self._take()
                if snapshot is not None:
                    return snapshot
            elif left <= REPEAT_S:
                return None

    def _request(self, clock: float) -> None:
        self._asked_at = clock
        words = "snapshot" if self._seen < 0 else f"next {self._seen}"
        if self._reader is not None:
            words = f"changes {self._reader.edition}"
        try:
            self._socket.send_multipart([b"", words.encode()], zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # nobody there; asked again later

    def _take(self) -> Snapshot | None:
        """The newest of the answers that have come, and the next question; ``None``: there is no snapshot yet."""
        text = b""
        while self._socket.poll(0):
            text = self._socket.recv_multipart()[-1]
        if text.startswith(b'{"error"'):
            problem = str(json.loads(text)["error"])
            if self._reader is not None and problem.startswith("unknown request"):
                self._reader = None
            elif problem != NO_SNAPSHOT:
                raise TumbleError(f"{self.endpoint}: {problem}")
            time.sleep(0.05)
            self._asked_at = None
            return None
        snapshot = self._made(from_json if self._reader is None else self._reader.read, text)
        self._seen = snapshot.sequence
        self._request(time.monotonic())
        return snapshot

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


def give_order(
    words: str, endpoint: str | None = None, *, keys: KeyFolder | None = None, timeout_s: float = 5.0
) -> str:
    """Give a daemon an order over its control socket; returns its answer.

    Parameters
    ----------
    words : see `orders.parse`.
    endpoint : of the control socket; default is that of the newest daemon here.
    keys : as for `Viewer`.
    timeout_s : patience.

    Raises
    ------
    TumbleError : nobody answers, or the daemon refuses.
    UsageError : there is no key to come with.
    """
    endpoint = endpoint or str(newest()["control"])
    context: zmq.Context[Socket] = zmq.Context()
    try:
        allowed = _pass_for(endpoint, "control", keys or KeyFolder())
        if allowed is None:
            raise _unknown(endpoint)
        answer = _ask(_connect(context, zmq.REQ, endpoint, allowed), words, endpoint, int(timeout_s * 1000))
    finally:
        context.destroy(linger=0)
    if "ok" not in answer:
        raise TumbleError(str(answer.get("error", f"what answers at {endpoint} is not a Tumble daemon")))
    return str(answer["ok"])


Pass = tuple[bytes, KeyPair]  # the daemon's public key and our own pair


def _pass_for(endpoint: str, kind: str, keys: KeyFolder) -> Pass | None:
    """With which keys `endpoint` is reached; ``None``: without any."""
    for card in running():
        if card.get(kind) == endpoint and (kind == "control" or card.get("guarded")):
            pair = KeyPair(bytes.fromhex(card["client_key"]), bytes.fromhex(card["client_secret"]))
            return bytes.fromhex(card["server_key"]), pair
    server = keys.trusted(endpoint)
    if server is None:
        if is_local(endpoint):
            return None
        raise _unknown(endpoint)
    mine = keys.client()
    if mine is None:
        raise UsageError(f"you have no key in {keys.folder}: `tumble keys make`, then have it allowed over there")
    return server, mine


def _unknown(endpoint: str) -> UsageError:
    return UsageError(
        f"the key of {endpoint} is not known: `tumble keys trust {endpoint} KEY`, see `tumble keys list` there"
    )


def _connect(context: zmq.Context[Socket], kind: int, endpoint: str, allowed: Pass | None) -> Socket:
    socket: Socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
    socket.setsockopt(zmq.SNDHWM, 8)
    if endpoint.startswith("tcp://["):
        socket.setsockopt(zmq.IPV6, 1)
    if allowed is not None:
        present(socket, *allowed)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise TumbleError(f"cannot connect to {endpoint}: {error}; give tcp://host:port") from None
    return socket


def _ask(socket: Socket, request: str, endpoint: str, timeout_ms: int) -> dict[str, Any]:
    """One question and its answer; closes the socket."""
    try:
        socket.send_string(request)
        if not socket.poll(timeout_ms):
            raise Unreachable(f"nobody answers at {endpoint}: is the daemon running, and is your key allowed there?")
        answer = json.loads(socket.recv())
    except (zmq.ZMQError, ValueError):
        answer = None
    finally:
        socket.close()
    if not isinstance(answer, dict):
        raise TumbleError(f"what answers at {endpoint} is not a Tumble daemon")
    return answer
