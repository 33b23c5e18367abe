"""The sockets on which a daemon listens: one that only answers questions, and one that takes orders.

The **status** socket answers ``snapshot`` with the latest snapshot, ``next N`` with the first one that is not number N,
``changes E`` with what is not as in edition E of it (`editions.py`; 0: with all), as soon as there is anything, and
``hello`` with who it is; anything else gets an error in words. On loopback it has no keys; anywhere else clients
need one that is allowed. The **control** socket takes orders (see `orders.py`) and always needs a key; the user who
started the daemon has one without doing anything, in a file that nobody else can read.

A thread of its own serves both, so that a viewer is answered while a piece of work runs.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import zmq

from .allowance import Allowance
from .editions import Editions
from .endpoints import any_port, from_here, is_local, write_card
from .errors import TumbleError, UsageError
from .gate import Gate, Socket, harden
from .keys import KeyFolder, new_pair
from .orders import Orders, parse
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .config import Settings  # builds its models when it is loaded, and viewers load this module

MAX_MESSAGE = 1024  # bytes; the handshake of CURVE needs about 300, an order of an operator less
MAX_PARTS = 4  # of a message
NO_SNAPSHOT = "no snapshot yet"
ANY_PORT = "tcp://127.0.0.1:0"
REPEAT_S = 1.0  # a snapshot is sent again after this long, so that viewers know that the daemon lives
MAX_WAITING = 256  # viewers that wait for the next snapshot; more are answered at once
AT_ONCE = 32  # requests read before the thread pauses: whoever floods it must not take the processor away
PAUSE_S = 0.02
EACH = 64  # requests of one client that are answered in a second; a viewer asks for every snapshot once
LAST_S = 3 * REPEAT_S  # after the end, for those who follow and have not been given the last snapshot
NOT_UNDERSTOOD = b'{"error":"unknown request: ask for snapshot, next, changes or hello"}'
NOT_ALLOWED = b'{"error":"this key is not allowed"}'


def check_sockets(settings: Settings) -> None:
    """Whether the daemon may listen where it is configured to: see `check_listening`."""
    tee = (settings.stream.tee or "").removeprefix("zmq+")
    for endpoint in filter(None, (settings.status.endpoint, settings.control.endpoint, tee)):
        check_listening(endpoint, KeyFolder(settings.keys.folder))


def check_listening(endpoint: str, keys: KeyFolder) -> str:
    """`endpoint`, when the daemon may listen on it: on this machine, or anywhere once there are keys.

    Raises
    ------
    UsageError : it can be reached from elsewhere and there are no keys, or it is no address.
    TumbleError : the keys cannot be read.
    """
    if not is_local(endpoint) and keys.server() is None:
        raise UsageError(
            f"refusing to listen on {endpoint}: there are no keys in {keys.folder}; "
            "`tumble keys make` makes them, or stay on loopback and use an ssh tunnel from elsewhere"
        )
    return endpoint


class ControlServer:
    """Serves snapshots and takes orders, from a thread. Use as a context manager.

    Parameters
    ----------
    endpoint : where the status socket listens; port 0 takes a free one.
    session : shown to those who look for daemons.
    control : where the control socket listens.
    keys : of the clients that are let in.
    orders : where orders go.
    watchers : told of every snapshot, in the thread that publishes.

    Attributes
    ----------
    refresh : asked for a newer snapshot, from this thread, when none was published for a second; ``None``: the last
        one is repeated.

    Raises
    ------
    UsageError : an address beyond loopback without keys.
    TumbleError : the address is taken.
    """

    def __init__(
        self,
        endpoint: str,
        session: str,
        *,
        control: str = ANY_PORT,
        keys: KeyFolder | None = None,
        orders: Orders | None = None,
        watchers: Sequence[Callable[[Snapshot], None]] = (),
    ) -> None:
        keys = keys or KeyFolder()
        for address in (endpoint, control):
            check_listening(address, keys)
        self._orders = orders or Orders()
        self._watchers = watchers
        self._pair = keys.server() or new_pair()
        self._mine = new_pair()
        self._context: zmq.Context[Socket] = zmq.Context()
        self._gate = Gate(self._context, keys, self._mine.public)
        self._guarded = not is_local(endpoint)
        self._status = self._listen(endpoint, "status.endpoint", guarded=self._guarded)
        self._control = self._listen(control, "control.endpoint", guarded=True)
        self.endpoint = from_here(self._status.get_string(zmq.LAST_ENDPOINT))
        self.control = from_here(self._control.get_string(zmq.LAST_ENDPOINT))
        self._editions, self._number = Editions(), -1
        self._known: frozenset[str] | None = None  # names of the particles
        self._fresh = False
        self._lock = threading.Lock()
        self._allowance = Allowance(EACH)
        self._waiting: dict[bytes, tuple[zmq.Frame, int | None]] = {}  # and which edition each has
        self._followers: dict[bytes, tuple[int, float]] = {}  # which snapshot each has, and since when
        self.refresh: Callable[[], Snapshot | None] = lambda: None
        self._closing = False
        self._session, self._begun = session, time.time()
        self._card: Path | None = None
        self._thread = threading.Thread(target=self._serve, name="tumble control", daemon=True)

    def _listen(self, endpoint: str, setting: str, *, guarded: bool) -> Socket:
        socket: Socket = self._context.socket(zmq.ROUTER)
        harden(socket, MAX_MESSAGE)
        socket.setsockopt(zmq.LINGER, 200)
        socket.setsockopt(zmq.SNDHWM, 8)  # a slow viewer misses snapshots instead of making them pile up
        socket.setsockopt(zmq.RCVHWM, 64)
        if endpoint.startswith("tcp://["):
            socket.setsockopt(zmq.IPV6, 1)
        if guarded:
            self._gate.guard(socket, self._pair, "control" if setting == "control.endpoint" else "watch")
        try:
            socket.bind(any_port(endpoint))
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise TumbleError(f"cannot listen on {endpoint}: {error}; choose another {setting}") from None
        return socket

    def __enter__(self) -> ControlServer:
        self.move(self._session)
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

    def move(self, session: str) -> None:
        """Tell those who look for daemons which session folder is written to now."""
        self._session = session
        self._card = write_card(
            {
                "endpoint": self.endpoint,
                "control": self.control,
                "session": session,
                "begun": self._begun,
                "guarded": self._guarded,
                "server_key": self._pair.public.hex(),
                "client_key": self._mine.public.hex(),
                "client_secret": self._mine.secret.hex(),
            }
        )

    def publish(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the one that viewers get."""
        self._keep(snapshot, fresh=True)
        for watcher in self._watchers:
            watcher(snapshot)

    def _keep(self, snapshot: Snapshot, *, fresh: bool) -> None:
        with self._lock:
            if fresh or not self._fresh:  # what was published meanwhile is newer than a refreshed one
                self._editions.add(snapshot)
                self._number, self._fresh = snapshot.sequence, fresh
                self._known = frozenset(view.name for view in snapshot.particles)

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in (self._gate.socket, self._status, self._control):
            poller.register(socket, zmq.POLLIN)
        repeat_at, end_at = 0.0, math.inf
        while time.monotonic() < end_at:
            closing = self._closing
            if closing:
                end_at = min(end_at, time.monotonic() + LAST_S)
            if self._due(repeat_at):
                repeat_at = time.monotonic() + REPEAT_S
                number = self._number
                for identity, (question, known) in self._waiting.items():
                    reply = self._newest(known) if self._welcome(question) else NOT_ALLOWED
                    self._send(self._status, identity, reply)
                    self._note(identity, number)
                self._waiting.clear()
            ready = dict(poller.poll(50))
            if closing and not ready and not self._behind():
                return
            if self._gate.socket in ready:
                self._gate.answer()
            if self._read(self._status, self._question) + self._read(self._control, self._order) >= AT_ONCE:
                time.sleep(PAUSE_S)

    def _note(self, identity: bytes, number: int) -> None:
        """A follower has been given snapshot `number`, or one that is newer."""
        now = time.monotonic()
        if len(self._followers) >= MAX_WAITING:  # those who went away make room
            self._followers = {who: known for who, known in self._followers.items() if known[1] > now - LAST_S}
        if identity in self._followers or len(self._followers) < MAX_WAITING:
            self._followers[identity] = number, now

    def _behind(self) -> bool:
        """Whether somebody who followed a moment ago still has to be given the latest snapshot."""
        since = time.monotonic() - LAST_S
        return any(number != self._number and when > since for number, when in self._followers.values())

    def _due(self, repeat_at: float) -> bool:
        """Whether those who wait get something now: a new snapshot, or after a while what there is, refreshed."""
        with self._lock:
            if self._fresh:
                self._fresh = False
                return True
        if not self._editions or time.monotonic() < repeat_at:
            return False
        try:
            beat = self.refresh()
        except Exception:  # noqa: BLE001  # viewers keep the last snapshot; the daemon itself will hear of it
            beat = None
        if beat is not None:
            self._keep(beat, fresh=False)
        return True

    def _read(self, socket: Socket, answer: Callable[[zmq.Frame, str], bytes | None]) -> int:
        """Answer what waits at a socket, but not for ever; returns how many requests there were."""
        for count in range(AT_ONCE):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return count
            except zmq.ZMQError:  # a message that libzmq itself gives up
                continue
            if len(parts) < 2 or len(parts) > MAX_PARTS:
                continue
            identity = parts[0].bytes
            if not self._allowance.spend(identity):
                continue
            try:
                words = parts[-1].bytes.decode()
            except UnicodeDecodeError:
                words = ""
            number = self._number
            reply = answer(parts[-1], words)
            if words.startswith(("next ", "changes ")) and reply is not NOT_ALLOWED:
                self._note(identity, number)
            if reply is None:
                self._waiting[identity] = parts[-1], _edition(words)
            else:
                self._send(socket, identity, reply)
        return AT_ONCE

    def _welcome(self, part: zmq.Frame) -> bool:
        return not self._guarded or bool(self._gate.sender(part, "watch"))

    def _question(self, part: zmq.Frame, words: str) -> bytes | None:
        """Answer to a question at the status socket; ``None``: as soon as there is something newer."""
        if not self._welcome(part):
            return NOT_ALLOWED
        if words == "hello":
            about = {"session": self._session, "pid": os.getpid(), "number": self._number}
            return json.dumps({"daemon": "tumble", **about}).encode()
        kind, _, number = words.partition(" ")
        if words != "snapshot" and not (kind in ("next", "changes") and number.isdecimal()):
            return NOT_UNDERSTOOD
        if not self._editions:
            return json.dumps({"error": NO_SNAPSHOT}).encode()
        known = _edition(words)
        newest = kind != "snapshot" and int(number) == (self._number if known is None else self._editions.number)
        return None if newest and len(self._waiting) < MAX_WAITING else self._newest(known)

    def _newest(self, known: int | None) -> bytes:
        """The latest snapshot, or what of it is not as in edition `known`."""
        try:
            return self._editions.text(known)
        except ValueError as error:  # whoever published it will hear of it when it is written down
            return json.dumps({"error": f"the snapshot cannot be told: {error}"}).encode()

    def _order(self, part: zmq.Frame, words: str) -> bytes:
        """Answer to an order at the control socket."""
        who = self._gate.sender(part, "control")
        if not who:
            return NOT_ALLOWED
        try:
            order = parse(words, who)
        except UsageError as error:
            return json.dumps({"error": str(error)}).encode()
        if order.kind == "exclude" and f"P{order.particle:03d}" not in (self._known or ()):
            known = ", ".join(sorted(self._known or ())) or "none yet"
            return json.dumps({"error": f"there is no particle P{order.particle:03d}: {known}"}).encode()
        if not self._orders.put(order):
            return b'{"error":"too many orders wait: try again in a moment"}'
        return json.dumps({"ok": f"{words}: passed on"}).encode()

    @staticmethod
    def _send(socket: Socket, identity: bytes, reply: bytes) -> None:
        try:
            socket.send_multipart([identity, b"", reply], zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # nobody takes it; a viewer never holds the daemon up


def _edition(words: str) -> int | None:
    """The edition that somebody has who asks for changes; ``None`` where all is asked for."""
    kind, _, number = words.partition(" ")
    return int(number) if kind == "changes" else None
