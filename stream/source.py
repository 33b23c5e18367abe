"""Receive a detector stream: a ZeroMQ socket in a thread, a bounded queue, counted losses.

Stream V2 and SIMPLON v1 are told apart per message. Nothing a sender does is fatal: what cannot be used is counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self

import zmq

from . import dectris2, karabo, simplon1
from .compression import MAX_RAW_BYTES, prepare
from .counters import Cut, SourceCounters
from .encoded import EncodedFrame
from .errors import CompressionError, WireError
from .frame import Event, Frame, SeriesEnd, SeriesStart
from .series import SeriesTracker, Tally, WireEvent

Policy = Literal["block", "drop"]
_MANNERS = {"": zmq.PULL, "sub+": zmq.SUB, "req+": zmq.REQ}
SCHEMES = tuple(f"zmq+{manner}{transport}" for manner in _MANNERS for transport in ("tcp", "ipc"))
_POLL_S = 0.05
_CONTROL_ROOM = 16  # starts and ends that still fit into a full queue: they are never dropped
_TOLD_MALFORMED = 3
_BURST = 32  # messages handed over together at most


class SourceError(WireError):
    """The source cannot be opened, or its receiver failed."""


def zmq_endpoint(uri: str) -> str:
    """Turn ``zmq+tcp://host:port`` or ``zmq+ipc://path`` into what ZeroMQ calls it; ``zmq+sub+tcp`` and so on, too.

    Raises
    ------
    SourceError : anything else.
    """
    scheme, separator, rest = uri.partition("://")
    transport = scheme.rpartition("+")[2]
    if not separator or scheme not in SCHEMES or not rest:
        raise SourceError(f"source {uri!r} has to be zmq+tcp://HOST:PORT or zmq+ipc://PATH")
    if transport == "tcp":
        host, colon, port = rest.rpartition(":")
        if not host or not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise SourceError(f"source {uri!r} needs a host and a port, as in zmq+tcp://detector:31001")
    return transport + "://" + rest


class PullSource:
    """Iterate the events of a stream until `stop` is called.

    Parameters
    ----------
    uri : ``zmq+tcp://host:port`` or ``zmq+ipc://path`` of a detector, which pushes; ``zmq+sub+tcp://host:port`` and
        ``zmq+sub+ipc://path`` of a `Tee`, which publishes; ``zmq+req+...`` of a karabo-bridge that waits to be asked.
    capacity : frames the queue holds, compressed as they came.
    capacity_bytes : and how much memory they may take; one frame always fits.
    policy : what happens when the queue is full. ``"block"``: the receiver waits, ZeroMQ fills up and the sender is
        slowed down. ``"drop"``: the newest frame is dropped and counted.
    end_timeout_s : silence after which a running series counts as ended; time spent waiting for the queue is not.
    encoded : deliver `EncodedFrame` instead of `Frame`; the caller decompresses, and tells `count_rejected`.
    channel : which channel of a multi-channel detector; default is the first.
    high_water_mark : messages ZeroMQ may hold before the sender has to wait.
    resume : a series that runs already, and the number of the frame that is awaited; its start is not delivered.

    Attributes
    ----------
    arrived_s : `time.monotonic` when the event that was delivered last came off the socket.
    ended : what had been counted up to the series end that was delivered last; frames of later series are not in it.

    Raises
    ------
    SourceError : the address is not one.
    """

    def __init__(
        self,
        uri: str,
        *,
        capacity: int = 256,
        capacity_bytes: int = 512 << 20,
        policy: Policy = "block",
        end_timeout_s: float = 10.0,
        encoded: bool = False,
        channel: str | None = None,
        high_water_mark: int = 64,
        resume: tuple[SeriesStart, int] | None = None,
    ) -> None:
        self.uri = uri
        self._endpoint = zmq_endpoint(uri)
        self._capacity, self._capacity_bytes, self._policy = capacity, capacity_bytes, policy
        self._end_timeout_s = end_timeout_s
        self._encoded, self._channel, self._high_water_mark = encoded, channel, high_water_mark
        self._queue: deque[WireEvent] = deque()
        self._arrivals: deque[float] = deque()
        self._tallies: deque[Tally] = deque()  # of the ends that are not yet in the queue
        self._cuts: deque[Cut] = deque()  # of the ends that are
        self.arrived_s = 0.0
        self.ended = Cut()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._finished = False
        self._failure: BaseException | None = None
        self._tracker = SeriesTracker(dealt=not uri.startswith("zmq+sub+"))
        if resume is not None:
            self._tracker.resume(*resume)
        self._simplon = simplon1.Decoder()
        self._karabo = karabo.Decoder()
        self._messages = self._malformed = self._unknown = self._queued = self._queued_bytes = self._delivered = 0
        self._dropped: Counter[str] = Counter()
        prepare()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._connect()
        self._thread = threading.Thread(target=self._run, name="tumble-receiver", daemon=True)
        self._thread.start()

    def _connect(self) -> zmq.Socket[bytes]:
        manner = self.uri.removeprefix("zmq+").partition("://")[0].removesuffix("tcp").removesuffix("ipc")
        socket = self._context.socket(_MANNERS[manner])
        self._asks = manner == "req+"
        if manner == "sub+":
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self._asks:  # ask again when a server went away with the question
            socket.setsockopt(zmq.REQ_RELAXED, 1)
            socket.setsockopt(zmq.REQ_CORRELATE, 1)
        socket.setsockopt(zmq.RCVHWM, self._high_water_mark)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_RAW_BYTES + (1 << 20))
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            self._context.term()
            raise SourceError(f"source {self.uri!r} is not an address ZeroMQ knows: {error}") from None
        return socket

    # ---------------------------------------------------------------- consumer

    def __iter__(self) -> Iterator[Event | EncodedFrame]:
        """Events in order, until `stop`; what was queued by then still comes."""
        while True:
            event = self.get()
            if event is None:
                return
            yield event

    def get(self, timeout_s: float | None = None) -> Event | EncodedFrame | None:
        """Return the next event, or ``None`` when the source was stopped and is empty, or after `timeout_s`.

        Raises
        ------
        SourceError : the receiver thread failed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            event = self._take(deadline)
            if event is None or not isinstance(event, EncodedFrame) or self._encoded:
                return event
            frame = self._decode(event)
            if frame is not None:
                return frame

    def count_rejected(self, reason: str, frames: int = 1) -> None:
        """Book frames that were delivered but turned out to be unusable, as a damaged `EncodedFrame` does."""
        with self._changed:
            self._delivered -= frames
            self._tracker.rejected[reason] += frames

    @property
    def finished(self) -> bool:
        """Whether the source was stopped and everything queued was delivered."""
        with self._changed:
            return self._finished and not self._queue

    @property
    def queued(self) -> int:
        """Frames in the queue."""
        return self._queued

    @property
    def counters(self) -> SourceCounters:
        """The books at this moment."""
        with self._changed:
            tracker = self._tracker
            return SourceCounters(
                self._messages,
                tracker.received,
                self._delivered,
                self._queued,
                tracker.missing,
                self._malformed,
                tracker.ignored + self._unknown,
                dict(tracker.rejected),
                dict(self._dropped),
                (*tracker.at_end.warnings, *tracker.warnings),
            )

    @property
    def cut(self) -> Cut:
        """What has been counted up to now."""
        with self._changed:
            return self._cut(self._tracker.tally())

    def _cut(self, tally: Tally) -> Cut:
        return Cut(tally.received, tally.missing, tally.rejected, dict(self._dropped), tally.warnings)

    def stop(self) -> None:
        """Stop receiving, from any thread; an iteration ends once it has delivered what is queued."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and wait until the socket is closed."""
        self.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, deadline: float | None) -> WireEvent | None:
        with self._changed:
            while not self._queue:
                if self._failure is not None:
                    raise SourceError(f"the receiver of {self.uri} failed: {self._failure!r}") from self._failure
                if self._finished:
                    return None
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                self._changed.wait(remaining)
            event = self._queue.popleft()
            self.arrived_s = self._arrivals.popleft()
            if isinstance(event, EncodedFrame):
                self._queued -= 1
                self._queued_bytes -= len(event.blob)
                self._delivered += 1
            elif isinstance(event, SeriesEnd):
                self.ended = self._cuts.popleft()
            self._changed.notify_all()
            return event

    def _decode(self, event: EncodedFrame) -> Frame | None:
        try:
            return event.decode()
        except CompressionError as error:
            self.count_rejected("damaged payload")
            with self._changed:
                self._tracker.warn(f"frame {event.index} of series {event.series_id}: {error}")
            return None

    # ---------------------------------------------------------------- receiver thread

    def _run(self) -> None:
        try:
            self._receive()
        except BaseException as error:  # noqa: BLE001  # it is raised again where somebody looks: in `get`
            self._failure = error
        finally:
            self._socket.close(0)
            self._context.term()
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _receive(self) -> None:
        last_message = time.monotonic()
        self._ask()
        while not self._stopping.is_set():
            if self._socket.poll(int(_POLL_S * 1000)):
                self._put(self._burst())
                last_message = time.monotonic()  # after the queue had room again: waiting for it is not silence
            elif time.monotonic() - last_message > self._end_timeout_s:
                with self._changed:
                    ended = self._noted(self._tracker.time_out())
                self._put(ended)
                self._ask()
                last_message = time.monotonic()
        self._count_abandoned()

    def _burst(self) -> list[WireEvent]:
        """What has come, up to a bound: handing every single message over would cost more than reading it."""
        events = self._read()
        self._ask()
        for _ in range(0 if self._asks else _BURST - 1):
            try:
                events += self._read(zmq.NOBLOCK)
            except zmq.Again:
                break
        return events

    def _ask(self) -> None:
        if self._asks:
            with contextlib.suppress(zmq.Again):
                self._socket.send(karabo.REQUEST, zmq.NOBLOCK)

    def _read(self, flags: int = 0) -> list[WireEvent]:
        """Receive one message and return what it amounts to. Decoding is done outside the lock, booking inside."""
        parts = [part.buffer for part in self._socket.recv_multipart(flags, copy=False)]
        try:
            events, problem = self._decode_message(parts), None
        except WireError as error:
            events, problem = [], error
        with self._changed:
            self._messages += 1
            if problem is not None:
                self._malformed += 1
                if self._malformed <= _TOLD_MALFORMED:
                    size = sum(part.nbytes for part in parts)
                    self._tracker.warn(f"message {self._messages} ({size} bytes) cannot be read: {problem}")
            elif not events and not self._simplon.waiting:
                self._unknown += 1
            return [delivered for event in events for delivered in self._noted(self._tracker.feed(event))]

    def _noted(self, events: list[WireEvent]) -> list[WireEvent]:
        """`events` of one step of the tracker; what it had counted at an end among them is kept for that end."""
        if any(isinstance(event, SeriesEnd) for event in events):
            self._tallies.append(self._tracker.at_end)
        return events

    def _decode_message(self, parts: list[memoryview]) -> list[WireEvent]:
        if simplon1.looks_like(parts[0]):
            return self._simplon.decode(parts)
        if karabo.looks_like(parts[0]):
            return self._karabo.decode(parts)
        events = (dectris2.decode(part, self._channel) for part in parts)  # one by the book, several were seen
        return [event for event in events if event is not None]

    def _put(self, events: list[WireEvent]) -> None:
        arrived_s = time.monotonic()  # before any waiting for room
        with self._changed:
            for event in events:
                if isinstance(event, EncodedFrame):
                    while self._full(event) and self._policy == "block" and not self._stopping.is_set():
                        self._await_room()
                    if self._full(event) and self._policy == "drop":
                        self._dropped["queue full"] += 1
                        continue
                    self._queued += 1
                    self._queued_bytes += len(event.blob)
                else:
                    while len(self._queue) >= self._capacity + _CONTROL_ROOM and not self._stopping.is_set():
                        self._await_room()
                    if isinstance(event, SeriesEnd):
                        self._cuts.append(self._cut(self._tallies.popleft()))
                self._queue.append(event)
                self._arrivals.append(arrived_s)
            self._changed.notify_all()

    def _await_room(self) -> None:
        self._changed.notify_all()  # the consumer may wait for what is in the queue by now
        self._changed.wait(_POLL_S)

    def _full(self, frame: EncodedFrame) -> bool:
        if len(self._queue) >= self._capacity:
            return True
        return self._queued > 0 and self._queued_bytes + len(frame.blob) > self._capacity_bytes

    def _count_abandoned(self) -> None:
        """Frames ZeroMQ had already taken from the sender when we were stopped: nobody else will get them."""
        for _ in range(0 if self._asks else self._high_water_mark):
            try:
                events = self._read(zmq.NOBLOCK)
            except zmq.Again:
                return
            frames = sum(isinstance(event, EncodedFrame) for event in events)
            with self._changed:
                if frames:
                    self._dropped["stopped"] += frames
