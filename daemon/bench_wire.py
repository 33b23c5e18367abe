"""How long it takes from a frame on the wire to the snapshot that shows it: the whole program, at a real pace.

One process publishes frames of the bench's scene, made beforehand, as a detector does, and notes when; the daemon runs
as it does behind a dashboard; a subscriber in this process notes when a snapshot comes and how many frames it counts.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stream.encoded import EncodedFrame, encode_frame
from ..stream.frame import Frame, SeriesEnd, SeriesStart
from .bench_scene import BenchOptions, make_scene
from .config import load
from .errors import TumbleError
from .launch import Job, prepare_folder, run_behind
from .snapshot import Snapshot

Floats = NDArray[np.float64]
UNHURRIED = 100  # first frames, which meet a program that is still loading, do not count
LOOK_EVERY_S = 0.002
SNAPSHOTS_HZ = 20.0  # as often as a daemon can be told to make them: the wait for one is part of the latency


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, (median, 99th percentile), from the moment a frame was sent.

    Attributes
    ----------
    seen : to the first snapshot that counts it as analysed; waits for the lag of the tracker and for the next snapshot.
    posed : to the first snapshot that counts its pose as decided; waits for the first map, too.
    followed : `posed`, of frames sent after the first map was shown; None when there were none.
    told : `seen` and `posed` as the daemon itself said in its last snapshot; None where it does not.
    snapshot_ms : time between two snapshots while frames came.
    first_map_s : from the first frame to the snapshot with the first map.
    behind_s : from the last frame to the snapshot that counted its pose.
    lost : frames that were dropped, by reason.
    """

    rate_hz: float
    sent_hz: float
    frames: int
    snapshot_ms: float
    seen: tuple[float, float] | None
    posed: tuple[float, float] | None
    followed: tuple[float, float] | None
    told: tuple[tuple[float, float] | None, tuple[float, float] | None]
    first_map_s: float | None
    behind_s: float | None
    lost: dict[str, int]
    memory_MiB: float


@dataclass(frozen=True, slots=True)
class _Look:
    """A snapshot that came: when, frames analysed, poses decided, whether there is a map, time it was made."""

    at_s: float
    analysed: int
    decided: int
    mapped: bool


def measure_latency(options: BenchOptions, say: Callable[[str], None]) -> Latency:
    """Publish the movie at its pace to a daemon and watch its snapshots.

    Raises
    ------
    TumbleError : the daemon could not begin, or it ended without a snapshot.
    """
    context = multiprocessing.get_context("spawn")
    answers, answer = context.Pipe(duplex=False)
    publisher = context.Process(target=_publish, args=(options, answer), name="bench publisher", daemon=True)
    publisher.start()
    answer.close()
    try:
        uri = answers.recv()
        say(f"{options.wire_s:g} s of frames over the wire, {options.rate_hz:g} per second")
        looks, last = _watch(options, uri)
        if not answers.poll(60.0):
            raise TumbleError("the publisher of the bench did not say when it sent its frames")
        sent = np.asarray(answers.recv())
    except EOFError:
        raise TumbleError("the publisher of the bench died") from None
    finally:
        publisher.terminate()
        publisher.join()
    return latency(options.rate_hz, sent, looks, last)


def _watch(options: BenchOptions, uri: str) -> tuple[list[_Look], Snapshot]:
    looks: list[_Look] = []
    newest: list[Snapshot] = []

    def follow(poll: Callable[[], Snapshot | None], finished: Callable[[], bool] | None, **_: Any) -> int:
        while not newest or newest[0].phase not in ("DONE", "FAILED"):
            snapshot = poll()
            if snapshot is not None:
                newest[:] = [snapshot]
                looks.append(_look(snapshot))
            elif finished is not None and finished():
                break
            else:
                time.sleep(LOOK_EVERY_S)
        return 0

    with tempfile.TemporaryDirectory(prefix="tumble-bench-") as folder:
        settings = load(
            None,
            {
                "stream": {"source": uri},
                "status": {"rate_hz": SNAPSHOTS_HZ},
                "reconstruction": {"bootstrap_frames": options.bootstrap_frames, "threads": options.threads},
            },
        )
        job = Job(prepare_folder(settings, Path(folder) / "session"), None, "tumble bench")
        run_behind(job, follow, lambda _: None)
    if not newest:
        raise TumbleError("the daemon of the bench ended without a snapshot")
    return looks, newest[0]


def _look(snapshot: Snapshot) -> _Look:
    stream = snapshot.stream
    analysed = stream.used + sum(stream.rejected.values()) + sum(stream.dropped.values())
    decided = max((view.frames_seen - view.frames_in_flight for view in snapshot.particles), default=0)
    mapped = any(view.resolution_A is not None for view in snapshot.particles)
    return _Look(time.monotonic(), analysed, decided, mapped)


def latency(rate_hz: float, sent_s: Floats, looks: list[_Look], last: Snapshot) -> Latency:
    """Latencies from when frames were sent, `sent_s` (n,), and what was seen when; frames come in order."""
    at = np.array([look.at_s for look in looks])
    seen = _after(sent_s, at, [look.analysed for look in looks])
    posed = _after(sent_s, at, [look.decided for look in looks])
    live = at[at <= sent_s[-1]]
    shown = next((look.at_s for look in looks if look.mapped), None)
    fresh = sent_s > shown if shown is not None else np.zeros(len(sent_s), np.bool_)
    behind = next((look.at_s - sent_s[-1] for look in looks if look.decided >= len(sent_s)), None)
    stream = last.stream
    return Latency(
        rate_hz=rate_hz,
        sent_hz=round((len(sent_s) - 1) / float(sent_s[-1] - sent_s[0]), 1),
        frames=len(sent_s),
        snapshot_ms=round(1e3 * float(np.diff(live).mean()), 1) if len(live) > 1 else float("nan"),
        seen=_percentiles(seen[UNHURRIED:]),
        posed=_percentiles(posed[UNHURRIED:]),
        followed=_percentiles(posed[fresh]),
        told=(
            _pair(stream.latency_p50_ms, stream.latency_p99_ms),
            _pair(stream.pose_latency_p50_ms, stream.pose_latency_p99_ms),
        ),
        first_map_s=None if shown is None else round(shown - float(sent_s[0]), 2),
        behind_s=None if behind is None else round(float(behind), 2),
        lost=dict(stream.dropped),
        memory_MiB=last.memory_MiB,
    )


def _after(sent_s: Floats, at_s: Floats, counts: list[int]) -> Floats:
    """Seconds from the sending of every frame to the first look that counted it; NaN where none did."""
    first = np.searchsorted(np.maximum.accumulate(np.asarray([*counts, 0])[:-1]), np.arange(len(sent_s)) + 1)
    padded = np.append(at_s, np.nan)
    return np.asarray(padded[np.minimum(first, len(at_s))] - sent_s)


def _percentiles(seconds: Floats) -> tuple[float, float] | None:
    known = seconds[np.isfinite(seconds)]
    if len(known) == 0:
        return None
    return round(1e3 * float(np.percentile(known, 50)), 1), round(1e3 * float(np.percentile(known, 99)), 1)


def _pair(median: float | None, most: float | None) -> tuple[float, float] | None:
    return None if median is None or most is None else (median, most)


def _publish(options: BenchOptions, answer: Connection) -> None:
    """Body of the publisher process: makes the frames, answers with its address, sends, answers with the times."""
    from ..stream.publisher import Publisher
    from .threads import single_threaded

    single_threaded()
    scene = make_scene(replace(options, frames=round(options.wire_s * options.rate_hz)))
    frames = [encode_frame(scene.frame(index), "bslz4") for index in range(len(scene))]
    sent: list[float] = []
    with Publisher("tcp://127.0.0.1:0", linger_s=60.0) as publisher:
        answer.send(publisher.source_uri)
        publisher.publish(_paced(scene.start, frames, options.rate_hz, sent))
    answer.send(sent)


def _paced(
    start: SeriesStart, frames: list[EncodedFrame], rate_hz: float, sent: list[float]
) -> Iterator[SeriesStart | Frame | EncodedFrame | SeriesEnd]:
    """Events at their pace; when a frame is handed over is added to `sent`."""
    yield start
    began = time.monotonic()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, began + number / rate_hz - time.monotonic()))
        sent.append(time.monotonic())
        yield frame
    yield SeriesEnd(start.series_id)
