"""Keys for the stream itself: who may subscribe to the tee from elsewhere, and how this machine subscribes there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import zmq

from .errors import UsageError
from .gate import Gate, Socket, harden, present
from .keys import REREAD_S, KeyFolder, new_pair

_POLL_MS = 50
_MAX_SUBSCRIPTION = 1024  # bytes; the handshake of CURVE needs about 300


class Doorkeeper:
    """Lets those subscribe to a `stream.tee.Tee` whose key may watch; one for each tee.

    libzmq's questions are answered in a thread of its own: the stream waits for no handshake, and no handshake for the
    stream.

    Parameters
    ----------
    keys : of this machine and of those that are let in.

    Raises
    ------
    UsageError : there are none.
    """

    def __init__(self, keys: KeyFolder) -> None:
        pair = keys.server()
        if pair is None:
            raise UsageError(f"there are no keys in {keys.folder}: `tumble keys make` makes them")
        self._keys, self._pair = keys, pair
        self._gate: Gate | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._guests: set[bytes] = set()
        self._looked_s = 0.0

    def guard(self, context: zmq.Context[Socket], socket: Socket) -> None:
        """Make `socket`, not yet bound, one that only allowed clients can connect to; of one context only."""
        if self._gate is None:
            nobody = new_pair().public  # there is no card for the tee: users of this machine need their key as well
            self._gate = Gate(context, self._keys, nobody)
            self._thread = threading.Thread(
                target=self._answer, args=(self._gate,), name="tumble tee gate", daemon=True
            )
            self._thread.start()
        self._gate.guard(socket, self._pair, "watch")
        harden(socket, _MAX_SUBSCRIPTION)

    def _answer(self, gate: Gate) -> None:
        try:
            while not self._closing:
                if gate.socket.poll(_POLL_MS):
                    gate.answer()
        finally:
            gate.socket.close()

    def knows(self, subscription: zmq.Frame) -> bool:
        """Whether a subscription comes from somebody who is allowed now."""
        if self._gate is None or not self._gate.sender(subscription, "watch"):
            return False
        self._guests.add(bytes.fromhex(str(subscription.get("User-Id"))))
        return True

    def regrets(self) -> bool:
        """Whether somebody who was let in is not allowed any more. They are forgotten: the tee has to begin anew."""
        now = time.monotonic()
        if self._gate is None or now - self._looked_s < REREAD_S:
            return False
        self._looked_s = now
        if all(self._gate.who(key, "watch") for key in self._guests):
            return False
        self._guests.clear()
        return True

    def close(self) -> None:
        """Stop answering; before the context ends."""
        self._closing = True
        if self._thread is not None:
            self._thread.join()


def presenting(uri: str, keys: KeyFolder) -> Callable[[Socket], None] | None:
    """What shows our key to the tee of a daemon elsewhere, before its socket connects; ``None``: it is not known there.

    Raises
    ------
    UsageError : its key is trusted, but this user has none to show.
    TumbleError : a key cannot be read.
    """
    if not uri.startswith("zmq+sub+tcp://"):
        return None
    server, mine = keys.trusted(uri.removeprefix("zmq+sub+")), keys.client()
    if server is None:
        return None
    if mine is None:
        raise UsageError(f"you have no key in {keys.folder}: `tumble keys make`, then have it allowed over there")
    return lambda socket: present(socket, server, mine)
