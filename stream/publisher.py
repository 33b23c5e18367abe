"""Publish events as a detector does: a ZeroMQ PUSH socket, Stream V2, at the recorded pace or at full speed."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import dectris2
from .compression import ALGORITHMS
from .encoded import EncodedFrame
from .errors import WireError
from .frame import Event, Frame, SeriesStart

Outcome = Literal["end", "stopped", "peer gone"]
_POLL_MS = 50
_LONGEST_PAUSE_S = 10.0  # of the recorded time


class PublisherError(WireError):
    """The publisher cannot listen where it was told to."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a `Publisher.publish`; `outcome` is ``"end"`` when everything was handed over to ZeroMQ."""

    messages: int
    frames: int
    bytes: int
    seconds: float
    outcome: Outcome


class Publisher:
    """A PUSH socket that waits for a client and loses nothing.

    Parameters
    ----------
    endpoint : ZeroMQ address to listen on, ``tcp://127.0.0.1:0`` for a free port; the real one is `endpoint`.
    compression : ``"bslz4"``, ``"lz4"`` or ``"none"``, for frames that are not compressed yet.
    high_water_mark : messages ZeroMQ holds before `send` waits.
    linger_s : how long `close` waits for a client to take the rest.
    peer_timeout_s : how long a client that went away may take to come back before publishing stops.
    allow_remote : listen on an address that other machines can reach; the stream is neither secret nor authenticated.

    Raises
    ------
    PublisherError : the address is taken, unknown, or reachable from outside without `allow_remote`.
    CompressionError : unknown compression.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:0",
        *,
        compression: str = "bslz4",
        high_water_mark: int = 64,
        linger_s: float = 10.0,
        peer_timeout_s: float = 5.0,
        allow_remote: bool = False,
    ) -> None:
        if compression not in ALGORITHMS:
            raise PublisherError(f"unknown compression {compression!r}; known are {', '.join(ALGORITHMS)}")
        endpoint = endpoint.removeprefix("zmq+")
        if not allow_remote and not is_local(endpoint):
            raise PublisherError(
                f"{endpoint} can be reached by other machines, and the stream is not encrypted: use 127.0.0.1"
            )
        self._compression, self._linger_s, self._peer_timeout_s = compression, linger_s, peer_timeout_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._peers = 0
        self._had_peer = False
        self._alone_since: float | None = None
        self._closed = False
        self.endpoint = endpoint
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close(linger_s=0)
            raise PublisherError(f"cannot listen on {endpoint}: {error}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def source_uri(self) -> str:
        """What a `PullSource` on this machine connects to."""
        return "zmq+" + self.endpoint.replace("//0.0.0.0:", "//127.0.0.1:")

    def publish(
        self,
        events: Iterable[Event | EncodedFrame],
        speed: float | Literal["max"] = "max",
        stop: threading.Event | None = None,
    ) -> Published:
        """Send events until they end, `stop` is set, or the client went away and did not come back.

        Parameters
        ----------
        speed : 1 for the recorded pace (`time_s` of the frames, else the frame time of the start), 2 for twice as fast,
            ``"max"`` for as fast as the client takes them.

        Raises
        ------
        WireError : an event cannot be sent, or the iterable itself found damaged data.
        """
        stop = stop or threading.Event()
        pace = _Pace(speed, stop)
        messages = frames = size = 0
        began = time.monotonic()
        outcome: Outcome = "end"
        for event in events:
            payload = dectris2.encode(event, self._compression)
            pace.wait(event)
            sent = self._send(payload, stop)
            if sent != "end":
                outcome = sent
                break
            messages, frames, size = messages + 1, frames + isinstance(event, Frame | EncodedFrame), size + len(payload)
        return Published(messages, frames, size, time.monotonic() - began, outcome)

    def _send(self, payload: bytes, stop: threading.Event) -> Outcome:
        while not stop.is_set():
            if self._socket.poll(0, zmq.POLLOUT) or self._socket.poll(_POLL_MS, zmq.POLLOUT):
                with contextlib.suppress(zmq.Again):  # the client left between the two calls
                    self._socket.send(payload, zmq.NOBLOCK, copy=False)
                    return "end"
            if self._peer_gone():
                return "peer gone"
        return "stopped"

    def _peer_gone(self) -> bool:
        self._watch_peers()
        if self._alone_since is None:
            return False
        return time.monotonic() - self._alone_since > self._peer_timeout_s

    def _watch_peers(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            self._peers = max(0, self._peers + (1 if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else -1))
            self._had_peer = self._had_peer or self._peers > 0
            self._alone_since = time.monotonic() if self._had_peer and not self._peers else None

    def close(self, linger_s: float | None = None) -> None:
        """Wait until the client has taken everything (at most `linger_s`; not at all when it is gone), then close."""
        if self._closed:
            return
        self._closed = True
        self._watch_peers()
        linger = self._linger_s if linger_s is None else linger_s
        if self._had_peer and not self._peers:  # the news of a client's arrival can be later than what it took
            linger = 0.0
        if self.endpoint.startswith("ipc:"):
            self._await_peers_leaving(linger)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(int(linger * 1000))
        self._context.term()

    def _await_peers_leaving(self, longest_s: float) -> None:
        """A client whose queue is full loses what lies in a Unix socket when its other end closes, so it goes first."""
        deadline = time.monotonic() + longest_s
        while self._peers and time.monotonic() < deadline:
            self._monitor.poll(_POLL_MS)
            self._watch_peers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(None if error is None else 0)


class _Pace:
    """When a frame is due. A sender that fell behind catches up; it does not stretch the series.

    Breaks are no longer than `_LONGEST_PAUSE_S`, or ten frame times: nobody wants to wait for a beam that was off, and
    the clock of a detector may have been set, ahead or back, while it recorded.
    """

    def __init__(self, speed: float | Literal["max"], stop: threading.Event) -> None:
        if speed != "max" and not 0 < float(speed) < math.inf:
            raise PublisherError(f"speed {speed!r} has to be a positive number or 'max'")
        self._speed = 0.0 if speed == "max" else float(speed)
        self._stop = stop
        self._frame_time_s = 0.0
        self._origin: tuple[float, float] | None = None
        self._last_s = 0.0

    def wait(self, event: Event | EncodedFrame) -> None:
        if not self._speed:
            return
        if isinstance(event, SeriesStart):
            self._frame_time_s, self._origin = event.frame_time_s or 0.0, None
        elif isinstance(event, Frame | EncodedFrame):
            recorded = event.time_s if math.isfinite(event.time_s) else event.index * self._frame_time_s
            if self._origin is None:
                self._origin, self._last_s = (time.monotonic(), recorded), recorded
            step, self._last_s = recorded - self._last_s, recorded
            longest = max(_LONGEST_PAUSE_S, 10 * self._frame_time_s)
            began, first = self._origin
            first += step - min(max(step, 0.0), longest)
            self._origin = began, first
            delay = began + (recorded - first) / self._speed - time.monotonic()
            if delay > 0:
                self._stop.wait(delay)


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach a ZeroMQ address."""
    transport, _, rest = endpoint.partition("://")
    if transport in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
