"""Who may come in: CURVE for sockets that listen, and the answers libzmq asks for (ZAP, RFC 27).

A connection is refused during its handshake, before any of its bytes is looked at; every request is checked once more,
because a key can be revoked while a connection stands.
"""

from __future__ import annotations

import zmq

from .keys import KEY_BYTES, Client, KeyFolder, KeyPair, Right

HANDSHAKE_MS = 5000  # who has said nothing sensible until then is disconnected
HEARTBEAT_MS = 10_000
THIS_USER = "this user"
Socket = zmq.Socket[bytes]


class Gate:
    """Lets clients in by their keys. One per context; it has to exist before the sockets it guards are bound.

    Parameters
    ----------
    context : of the sockets.
    keys : where the allowed clients are.
    local : public key of the clients that may do everything, because they can read this daemon's files.
    """

    def __init__(self, context: zmq.Context[Socket], keys: KeyFolder, local: bytes) -> None:
        self._keys, self._local = keys, local
        self.socket: Socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")

    def guard(self, socket: Socket, pair: KeyPair, right: Right) -> None:
        """Make `socket`, not yet bound, one that only clients with this right can connect to."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, right)

    def who(self, key: bytes, right: str) -> str:
        """The name of the client with this key when it has this right, else nothing."""
        if key == self._local:
            return THIS_USER
        client: Client | None = self._keys.clients().get(key)
        if client is None or right not in ("watch", client.right):
            return ""
        return client.name

    def sender(self, part: zmq.Frame, right: Right) -> str:
        """Who sent a message over a guarded socket; nothing when it is no longer allowed."""
        try:
            return self.who(bytes.fromhex(str(part.get("User-Id"))), right)
        except (zmq.ZMQError, ValueError):
            return ""

    def answer(self) -> None:
        """Answer one question of libzmq."""
        parts = self.socket.recv_multipart()
        if len(parts) < 6:
            self.socket.send_multipart([b"1.0", b"", b"500", b"not understood", b"", b""])
            return
        sequence, right, mechanism, credentials = parts[1], parts[2].decode("ascii", "replace"), parts[5], parts[6:]
        key = credentials[0] if mechanism == b"CURVE" and len(credentials) == 1 else b""
        welcome = len(key) == KEY_BYTES and self.who(key, right)
        verdict = [b"200", b"OK", key.hex().encode()] if welcome else [b"400", b"this key is not allowed", b""]
        self.socket.send_multipart([b"1.0", sequence, *verdict, b""])


def harden(socket: Socket, max_message: int) -> None:
    """Limits for a socket that listens: sizes before anything is allocated, and no patience with the dead."""
    socket.setsockopt(zmq.MAXMSGSIZE, max_message)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)


def present(socket: Socket, server: bytes, pair: KeyPair) -> None:
    """Make `socket`, not yet connected, a client with a key of its own of the daemon with the public key `server`."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
