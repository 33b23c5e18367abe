"""Receive a detector stream: a ZeroMQ socket in a thread, a bounded queue, counted losses.

Stream V2 and SIMPLON v1 are told apart per message. Nothing a sender does is fatal: what cannot be used is counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal, Self

import zmq

from . import dectris2, karabo, simplon1
from .compression import MAX_RAW_BYTES, prepare
from .counters import Cut, SourceCounters
from .encoded import EncodedFrame
from .errors import CompressionError, WireError
from .frame import Event, Frame, SeriesEnd, SeriesStart
from .handover import Handover
from .series import SeriesTracker, Tally, WireEvent

Policy = Literal["block", "drop"]
_MANNERS = {"": zmq.PULL, "sub+": zmq.SUB, "req+": zmq.REQ}
SCHEMES = tuple(f"zmq+{manner}{transport}" for manner in _MANNERS for transport in ("tcp", "ipc"))
_POLL_MS = 50
_TOLD_MALFORMED = 3
_BURST = 32  # messages that are read, booked and handed over together at most


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
    present : told the socket before it connects, to show a key to a tee that wants one.

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
        present: Callable[[zmq.Socket[bytes]], None] | None = None,
    ) -> None:
        self.uri = uri
        self._endpoint = zmq_endpoint(uri)
        self._policy, self._end_timeout_s = policy, end_timeout_s
        self._encoded, self._high_water_mark = encoded, high_water_mark
        self._queue = Handover(capacity, capacity_bytes)
        self._tallies: deque[Tally] = deque()  # of the ends that are not yet in the queue
        self._cuts: deque[Cut] = deque()  # of the ends that are
        self.arrived_s = 0.0
        self.ended = Cut()
        self._books = threading.Lock()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._tracker = SeriesTracker(dealt=not uri.startswith("zmq+sub+"))
        if resume is not None:
            self._tracker.resume(*resume)
        self._dectris = dectris2.Decoder(channel)
        self._simplon = simplon1.Decoder()
        self._karabo = karabo.Decoder()
        self._messages = self._malformed = self._told_malformed = self._unknown = self._unusable = 0
        self._dropped: Counter[str] = Counter()
        prepare()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._connect(present)
        self._awaited = [(self._socket, zmq.POLLIN)]
        self._thread = threading.Thread(target=self._run, name="tumble-receiver", daemon=True)
        self._thread.start()

    def _connect(self, present: Callable[[zmq.Socket[bytes]], None] | None) -> zmq.Socket[bytes]:
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
        if present is not None:
            present(socket)
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
        with self._books:
            self._unusable += frames
            self._tracker.rejected[reason] += frames

    @property
    def finished(self) -> bool:
        """Whether the source was stopped and everything queued was delivered."""
        return self._queue.finished

    @property
    def queued(self) -> int:
        """Frames in the queue."""
        return self._queue.placed - self._queue.taken

    @property
    def counters(self) -> SourceCounters:
        """The books at this moment."""
        with self._books:
            tracker, taken = self._tracker, self._queue.taken
            return SourceCounters(
                self._messages,
                tracker.received,
                taken - self._unusable,
                self._queue.placed - taken,
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
        with self._books:
            return self._cut(self._tracker.tally())

    def _cut(self, tally: Tally) -> Cut:
        return Cut(tally.received, tally.missing, tally.rejected, dict(self._dropped), tally.warnings)

    def stop(self) -> None:
        """Stop receiving, from any thread; an iteration ends once it has delivered what is queued."""
        self._stopping.set()
        self._queue.wake()

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
        taken = self._queue.take(deadline)
        if taken is None:
            if self._failure is not None:
                raise SourceError(f"the receiver of {self.uri} failed: {self._failure!r}") from self._failure
            return None
        event, self.arrived_s = taken
        if isinstance(event, SeriesEnd):
            self.ended = self._cuts.popleft()
        return event

    def _decode(self, event: EncodedFrame) -> Frame | None:
        try:
            return event.decode()
        except CompressionError as error:
            self.count_rejected("damaged payload")
            with self._books:
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
            self._queue.close()

    def _receive(self) -> None:
        last_message = time.monotonic()
        self._ask()
        while not self._stopping.is_set():
            if self._has_come(_POLL_MS):
                self._put(self._burst())
                last_message = time.monotonic()  # after the queue had room again: waiting for it is not silence
            elif time.monotonic() - last_message > self._end_timeout_s:
                with self._books:
                    ended = self._noted(self._tracker.time_out())
                self._put(ended)
                self._ask()
                last_message = time.monotonic()
        self._count_abandoned()

    def _burst(self) -> list[WireEvent]:
        """What has come, up to a bound: handing every single message over would cost more than reading it."""
        messages = [self._next()]
        self._ask()
        while not self._asks and len(messages) < _BURST and self._has_come(0):
            messages.append(self._next())
        return self._booked(messages)

    def _has_come(self, patience_ms: int) -> bool:
        """Whether there is a message; trying in vain to take one costs six times as much, `Socket.poll` three times."""
        return bool(zmq.zmq_poll(self._awaited, patience_ms))

    def _ask(self) -> None:
        if self._asks:
            with contextlib.suppress(zmq.Again):
                self._socket.send(karabo.REQUEST, zmq.NOBLOCK)

    def _next(self, flags: int = 0) -> list[memoryview]:
        """The parts of the next message, not copied."""
        parts = [self._socket.recv(flags, copy=False)]
        while parts[-1].more:
            parts.append(self._socket.recv(copy=False))
        return [part.buffer for part in parts]

    def _booked(self, messages: list[list[memoryview]]) -> list[WireEvent]:
        """What messages amount to. Decoding is done outside the lock, booking inside."""
        decoded = [self._decode_message(parts) for parts in messages]
        delivered: list[WireEvent] = []
        with self._books:
            for parts, found in zip(messages, decoded, strict=True):
                self._messages += 1
                if found is None:
                    self._unknown += 1
                elif isinstance(found, WireError):
                    self._count_malformed(parts, found)
                else:
                    for event in found:
                        delivered += self._noted(self._tracker.feed(event))
        return delivered

    def _count_malformed(self, parts: list[memoryview], problem: WireError) -> None:
        self._malformed += 1
        self._told_malformed += 1
        if self._told_malformed <= _TOLD_MALFORMED:
            size = sum(part.nbytes for part in parts)
            self._tracker.warn(f"message {self._messages} ({size} bytes) cannot be read: {problem}")

    def _noted(self, events: list[WireEvent]) -> list[WireEvent]:
        """`events` of one step of the tracker; what it had counted at an end among them is kept for that end."""
        for event in events:
            if isinstance(event, SeriesEnd):
                self._tallies.append(self._tracker.at_end)
                self._told_malformed = 0  # of each series the first few are named
        return events

    def _decode_message(self, parts: list[memoryview]) -> list[WireEvent] | WireError | None:
        """What is in a message; ``None``: nothing that concerns us."""
        first = parts[0]
        if len(parts) == 1 and (frame := self._dectris.known(first)) is not None:
            return [frame]
        try:
            if simplon1.looks_like(first):
                events = self._simplon.decode(parts)
            elif karabo.looks_like(first):
                events = self._karabo.decode(parts)
            else:  # one by the book, several were seen
                events = [event for event in map(self._dectris.decode, parts) if event is not None]
        except WireError as error:
            return error
        return events if events or self._simplon.waiting else None

    def _put(self, events: list[WireEvent]) -> None:
        arrived_s = time.monotonic()  # before any waiting for room
        queue = self._queue
        for event in events:
            if queue.full(event):
                if self._policy == "drop" and isinstance(event, EncodedFrame):
                    with self._books:
                        self._dropped["queue full"] += 1
                    continue
                queue.await_room(event, self._stopping)
            if isinstance(event, SeriesEnd):
                self._cuts.append(self._cut(self._tallies.popleft()))
            queue.put(event, arrived_s)
        queue.announce()

    def _count_abandoned(self) -> None:
        """Frames ZeroMQ had already taken from the sender when we were stopped: nobody else will get them."""
        for _ in range(0 if self._asks else self._high_water_mark):
            try:
                events = self._booked([self._next(zmq.NOBLOCK)])
            except zmq.Again:
                return
            frames = sum(isinstance(event, EncodedFrame) for event in events)
            with self._books:
                if frames:
                    self._dropped["stopped"] += frames
