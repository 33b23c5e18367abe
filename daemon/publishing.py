"""Frames where no detector is: from a file or the simulator, in a process of its own, on the real wire."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ..stream.encoded import EncodedFrame
from ..stream.frame import Event, Frame, Quaternion, SeriesEnd
from .errors import TumbleError, UsageError
from .stops import when_parent_ends
from .threads import single_threaded

Speed = float | Literal["max"]
FOR_EVER_S = 7 * 86400.0  # how long the publisher waits for a busy daemon to take the rest


@dataclass(frozen=True, slots=True)
class Plan:
    """What is published: a recording when `path` is given, else a simulated scene.

    Attributes
    ----------
    speed : 1 for the recorded pace, ``"max"`` for as fast as it is taken.
    seconds : end the series after this long, seconds; ``None`` for all of it.
    known : what the operator knows of the recording, keywords of `open_recording`.
    scene : keywords of `scene_from_options`; ``None`` for the scene of the demo.
    tilts : pose by image number, sent along with the frames of a recording.
    """

    path: Path | None = None
    speed: Speed = "max"
    seconds: float | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    scene: Mapping[str, Any] | None = None
    seed: int = 0
    tilts: Mapping[int, Quaternion] | None = None


@contextmanager
def events(plan: Plan) -> Iterator[Iterator[Event | EncodedFrame]]:
    """The events of `plan`, opened and closed.

    Raises
    ------
    UsageError : the recording cannot be read, or the scene cannot be.
    """
    if plan.path is not None:
        from ..stream.errors import RecordingError
        from ..stream.readers import open_recording
        from ..stream.tilts import with_poses

        try:
            recording = open_recording(plan.path, **plan.known)
        except RecordingError as error:
            raise UsageError(str(error)) from None
        with recording:
            yield _limited(with_poses(recording.encoded_events(), plan.tilts or {}), plan.seconds)
    else:
        yield _limited(iter(make_scene(plan)), plan.seconds)


def make_scene(plan: Plan) -> Any:
    """The `Scene` of a plan without a recording.

    Raises
    ------
    UsageError : options that no scene can have.
    """
    from ..stream.simulator.presets import demo_scene, scene_from_options

    try:
        return demo_scene(plan.seed) if plan.scene is None else scene_from_options(**plan.scene)
    except (ValueError, OSError) as error:
        raise UsageError(f"simulator: {error}") from None


def _limited(source: Iterator[Any], seconds: float | None) -> Iterator[Any]:
    """`source`, ended in order after `seconds`."""
    deadline = None
    series_id = 0
    for event in source:
        if isinstance(event, Frame | EncodedFrame):
            series_id = event.series_id
            if deadline is None and seconds is not None:
                deadline = time.monotonic() + seconds
            if deadline is not None and time.monotonic() > deadline:
                yield SeriesEnd(series_id)
                return
        yield event


def publish(plan: Plan, endpoint: str, say: Any, stop: threading.Event) -> int:
    """Publish `plan` from this process until it ends or `stop` is set; returns the number of frames sent.

    Raises
    ------
    UsageError : see `events`.
    WireError : the endpoint cannot be used, or the recording is damaged.
    """
    from ..stream.publisher import Publisher

    with events(plan) as source, Publisher(endpoint, linger_s=FOR_EVER_S, peer_timeout_s=30.0) as publisher:
        say(publisher.source_uri)
        done = publisher.publish(source, plan.speed, stop)
        if done.outcome == "peer gone":
            raise TumbleError(f"the client went away after {done.frames} frames")
        if stop.is_set():
            publisher.close(linger_s=0)
    return done.frames


def publish_child(plan: Plan, endpoint: str, answer: Connection) -> None:
    """Body of the publisher process; answers with its address, then with the end or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to everybody; the daemon decides
    single_threaded()
    when_parent_ends(lambda: os._exit(1))
    try:
        frames = publish(plan, endpoint, lambda uri: answer.send(("uri", uri)), threading.Event())
        answer.send(("sent", frames))
    except Exception as error:
        expected = isinstance(error, (TumbleError, ValueError, OSError))
        answer.send(
            ("failed", str(error) if expected else f"{type(error).__name__}: {error}", getattr(error, "code", 1))
        )
        if os.environ.get("TUMBLE_DEBUG"):
            raise


class PublisherProcess:
    """Runs `publish_child` on a free loopback port. Use as a context manager.

    Raises
    ------
    TumbleError : it could not begin; `UsageError` when that is because of what was asked for.
    """

    def __init__(self, plan: Plan, endpoint: str = "tcp://127.0.0.1:0") -> None:
        context = multiprocessing.get_context("spawn")
        self._answers, answer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=publish_child, args=(plan, endpoint, answer), name="tumble publisher", daemon=True
        )
        self._process.start()
        answer.close()
        self._problem = ""
        try:
            kind, *rest = self._answers.recv()
        except EOFError:
            kind, rest = "failed", ["the publisher process died while starting", 1]
        if kind != "uri":
            self.close()
            raise (UsageError if rest[1] == UsageError.code else TumbleError)(rest[0])
        self.uri: str = rest[0]

    def problem(self) -> str:
        """What went wrong since, in words; empty while all is well."""
        while not self._problem and self._answers.poll():
            try:
                kind, *rest = self._answers.recv()
            except EOFError:
                break
            if kind == "failed":
                self._problem = f"publisher: {rest[0]}"
        if not self._problem and self._process.exitcode not in (None, 0):
            self._problem = f"the publisher process died (exit code {self._process.exitcode})"
        return self._problem

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._answers.close()

    def __enter__(self) -> PublisherProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
