"""Hand the stream on: a PUB socket that sends Stream V2 to anybody on this machine who wants to look at the frames, and
to those elsewhere who have a key.

Detectors deal their messages out in turn, so only one program can be their client; the others listen here. A subscriber
that is too slow loses messages, as ZeroMQ has it, and nobody else does.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Protocol, Self

import zmq

from . import dectris2
from .encoded import EncodedFrame
from .errors import WireError
from .frame import SeriesEnd, SeriesStart
from .publisher import PublisherError, is_local

Socket = zmq.Socket[bytes]
_LONGEST_TOPIC = 1024  # bytes; the handshake of CURVE needs about 300
_MOST_NEWS = 256  # subscriptions that are looked at between two events: more at once come from nobody who wants to look


class DoorkeeperLike(Protocol):
    """Who decides about subscribers: see `daemon.doorkeeper`."""

    def guard(self, context: zmq.Context[Socket], socket: Socket) -> None: ...
    def knows(self, subscription: zmq.Frame) -> bool: ...
    def regrets(self) -> bool: ...
    def close(self) -> None: ...


class Tee:
    """Publishes events to any number of subscribers; costs nothing while there are none.

    Parameters
    ----------
    endpoint : ZeroMQ address, ``tcp://127.0.0.1:31002`` or ``ipc://path``; the real one is `endpoint`.
    every : send the frames whose number is a multiple of this; 1 for all of them.
    high_water_mark : messages ZeroMQ holds for a subscriber that does not keep up.
    door : lets subscribers in by their keys; ``None``: everybody on this machine, and nobody else.

    Raises
    ------
    PublisherError : the address is taken, unknown, or reachable from other machines while there is nobody at the door.
    """

    def __init__(
        self, endpoint: str, *, every: int = 1, high_water_mark: int = 64, door: DoorkeeperLike | None = None
    ) -> None:
        endpoint = endpoint.removeprefix("zmq+")
        if door is None and not is_local(endpoint):
            raise PublisherError(
                f"stream.tee {endpoint} can be reached by other machines, unencrypted: use 127.0.0.1, or make keys"
            )
        self._every, self._high_water_mark, self._door = every, high_water_mark, door
        self._start: SeriesStart | None = None
        self._subscribers = 0
        self.sent = 0  # frames
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = self._made()
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise PublisherError(f"stream.tee cannot listen on {endpoint}: {error}") from None
        self._bound = True
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _made(self) -> Socket:
        socket = self._context.socket(zmq.XPUB)
        socket.setsockopt(zmq.SNDHWM, self._high_water_mark)
        socket.setsockopt(zmq.MAXMSGSIZE, _LONGEST_TOPIC)  # of what subscribers say
        socket.setsockopt(zmq.LINGER, 1000)
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # tell of all who come and go, not of the first and last only
        socket.setsockopt(zmq.XPUB_MANUAL, 1)  # and let nobody in behind our back, between a start and its frames
        if self._door is not None:
            self._door.guard(self._context, socket)
        return socket

    def send(self, event: SeriesStart | EncodedFrame | SeriesEnd) -> None:
        """Send one event to whoever listens. Who comes late is told the start of the series that runs."""
        if isinstance(event, SeriesStart):
            self._start = event
        if self._door is not None and self._door.regrets():  # a single connection cannot be cut
            self._begin_anew()
        if not self._bound:
            with contextlib.suppress(zmq.ZMQError):  # the old socket is still being closed: with the next event
                self._socket.bind(self.endpoint)
                self._bound = True
        newcomers = self._look_around()
        if not self._subscribers:
            return
        if newcomers and self._start is not None and event is not self._start:
            self._publish(self._start)
        if isinstance(event, EncodedFrame):
            if event.index % self._every:
                return
            self.sent += 1
        self._publish(event)
        if isinstance(event, SeriesEnd):
            self._start = None

    def close(self) -> None:
        """Close the socket, with a moment for the subscribers to take the rest."""
        self._socket.close()
        if self._door is not None:
            self._door.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _publish(self, event: SeriesStart | EncodedFrame | SeriesEnd) -> None:
        with contextlib.suppress(WireError):  # a frame of a kind Stream V2 cannot carry, or a damaged one
            self._socket.send(dectris2.encode(event), copy=False)

    def _begin_anew(self) -> None:
        """End all connections. Who is allowed comes back by itself."""
        self._socket.close(0)
        self._socket, self._subscribers, self._bound = self._made(), 0, False

    def _look_around(self) -> bool:
        """Hear who has come or gone; whether somebody has come. Who floods us with that loses the connection."""
        newcomers = False
        for _ in range(_MOST_NEWS):
            try:
                news = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return newcomers
            joins, topic = news.bytes[:1] == b"\x01", news.bytes[1:]
            if joins and self._door is not None and not self._door.knows(news):
                continue
            self._socket.setsockopt(zmq.SUBSCRIBE if joins else zmq.UNSUBSCRIBE, topic)
            self._subscribers = max(0, self._subscribers + (1 if joins else -1))
            newcomers = newcomers or joins
        self._begin_anew()
        return False
