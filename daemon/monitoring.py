"""/metrics for Prometheus and /healthz, over HTTP on loopback. Off unless a port is configured.

There are no keys in HTTP: it listens on 127.0.0.1 only. A Prometheus elsewhere comes through an agent on this machine
or an ssh tunnel.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

from .errors import TumbleError
from .progress import STALLED_S, Progress
from .snapshot import ParticleView, Snapshot, StreamHealth

PATIENCE_S = 5.0  # with a client that does not finish its request
MAX_CONNECTIONS = 8

Values = dict[tuple[str, ...], float]  # by labels
_COUNTERS = (
    ("received", "Frames taken off the wire"),
    ("used", "Frames that were analysed"),
    ("missing", "Frames that were lost before they reached us"),
    ("recorded", "Frames written to frames.h5"),
)
_GAUGES = (
    ("tumble_frames_in_flight", "in_flight", 1.0, "Frames between wire and books"),
    ("tumble_frame_rate_hertz", "rate_hz", 1.0, "Frames received per second, lately"),
    ("tumble_lag_seconds", "lag_s", 1.0, "Age of the newest frame that is analysed"),
    ("tumble_queue_frames", "queue", 1.0, "Frames that wait for the front end"),
    ("tumble_queue_size_frames", "queue_size", 1.0, "Frames that can wait"),
    ("tumble_observations_waiting", "waiting", 1.0, "Observations that the reconstruction has not come to"),
    ("tumble_waiting_on_disk_bytes", "waiting_on_disk_MiB", 2.0**20, "Of these, what waits on disk"),
)
_LATENCIES = (
    ("tumble_latency_seconds", "latency", "From the wire to the snapshot in which a frame is analysed"),
    ("tumble_pose_latency_seconds", "pose_latency", "From the wire to the snapshot in which its pose is decided"),
)
_OF_PARTICLE = (
    ("tumble_particle_frames_seen", "frames_seen", "Frames in which the particle was tracked"),
    ("tumble_particle_frames_used", "frames_used", "Frames in its map"),
    ("tumble_particle_lag_seconds", "lag_s", "Age of the newest frame that its reconstruction has come to"),
    ("tumble_particle_resolution_angstrom", "resolution_A", "Where the FSC of its halves falls below 0.143"),
    ("tumble_particle_lattice_constant_angstrom", "lattice_constant_A", "Measured lattice constant"),
    ("tumble_particle_atoms", "atoms", "Atoms in its map"),
)


def metrics(snapshot: Snapshot, now_s: float) -> Iterator[Metric]:
    """What Prometheus is told of a snapshot; `now_s` is Unix time."""
    yield _labelled("tumble_info", "The daemon", ("version", "session"), {(snapshot.tumble, snapshot.session): 1})
    yield _labelled("tumble_phase", "What it is doing", ("phase",), {(snapshot.phase,): 1})
    yield GaugeMetricFamily("tumble_uptime_seconds", "Since the daemon began", value=snapshot.uptime_s)
    yield GaugeMetricFamily("tumble_snapshot_age_seconds", "Of these values", value=max(0.0, now_s - snapshot.time_s))
    yield GaugeMetricFamily("tumble_memory_bytes", "Memory of the daemon", value=snapshot.memory_MiB * 2**20)
    steps: Values = {(name,): spent / 1e3 for name, spent in snapshot.step_ms.items()}
    yield _labelled("tumble_step_seconds", "Time per frame", ("step",), steps)
    alive: Values = {}
    for worker in snapshot.workers:
        place = (worker.where or "cpu",)
        alive[place] = alive.get(place, 0) + worker.alive
    yield _labelled("tumble_workers", "Processes of the reconstruction that live", ("device",), alive)
    yield from _of_stream(snapshot.stream)
    yield from _of_particles(snapshot.particles)


def _of_stream(stream: StreamHealth) -> Iterator[Metric]:
    for name, words in _COUNTERS:
        yield CounterMetricFamily(f"tumble_frames_{name}", words, value=getattr(stream, name))
    for name, words in (("rejected", "Frames that were unusable"), ("dropped", "Usable frames that were lost")):
        family = CounterMetricFamily(f"tumble_frames_{name}", words, labels=("reason",))
        for reason, count in getattr(stream, name).items():
            family.add_metric((reason,), count)
        yield family
    for metric, name, unit, words in _GAUGES:
        yield GaugeMetricFamily(metric, words, value=getattr(stream, name) * unit)
    for metric, name, words in _LATENCIES:
        values: Values = {
            (percentile,): spent / 1e3
            for percentile, field in (("50", "p50"), ("99", "p99"))
            if (spent := getattr(stream, f"{name}_{field}_ms")) is not None
        }
        yield _labelled(metric, words, ("percentile",), values)


def _of_particles(particles: tuple[ParticleView, ...]) -> Iterator[Metric]:
    states: Values = {}
    for view in particles:
        states[(view.state,)] = states.get((view.state,), 0) + 1
    yield _labelled("tumble_particles", "Particles by state", ("state",), states)
    for metric, name, words in _OF_PARTICLE:
        values: Values = {(view.name,): value for view in particles if (value := getattr(view, name)) is not None}
        yield _labelled(metric, words, ("particle",), values)


def _labelled(name: str, words: str, labels: tuple[str, ...], values: Values) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


class Monitoring:
    """Answers over HTTP from threads of its own. Use as a context manager.

    Parameters
    ----------
    port : on 127.0.0.1; 0 takes a free one.

    Attributes
    ----------
    port : the one taken.

    Raises
    ------
    TumbleError : the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._progress = Progress()
        self._snapshot: Snapshot | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        try:
            self._server = _Server(("127.0.0.1", port), _handler(self))
        except OSError as error:
            words = f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another monitoring.port"
            raise TumbleError(words) from None
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="tumble monitoring", daemon=True)

    def __enter__(self) -> Monitoring:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def see(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the one that is told."""
        self._progress.see(snapshot)
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """What `prometheus_client` asks for."""
        snapshot = self._snapshot
        if snapshot is not None:
            yield from metrics(snapshot, time.time())

    def page(self, path: str) -> tuple[int, str, bytes]:
        """HTTP status, type and body of a page."""
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == "/healthz":
            return self._health()
        return 404, "text/plain", b"there are /metrics and /healthz\n"

    def _health(self) -> tuple[int, str, bytes]:
        snapshot, still_s = self._snapshot, self._progress.still_s
        healthy = snapshot is not None and snapshot.phase != "FAILED" and still_s < STALLED_S
        phase = "STARTING" if snapshot is None else snapshot.phase
        body = {"healthy": healthy, "phase": phase, "without_progress_s": round(still_s, 1)}
        return 200 if healthy else 503, "application/json", json.dumps(body).encode() + b"\n"


class _Server(HTTPServer):
    """A thread for each connection, but not more than a few."""

    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.Semaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer one client in a thread of its own; who finds no room within the patience is sent away."""
        if not self._room.acquire(timeout=PATIENCE_S):
            self.shutdown_request(request)
            return
        threading.Thread(target=self._answer, args=(request, client_address), daemon=True).start()

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away
        finally:
            self.shutdown_request(request)
            self._room.release()


def _handler(monitoring: Monitoring) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S
        server_version = "tumble"
        sys_version = ""

        def do_GET(self) -> None:
            status, kind, body = monitoring.page(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            """Requests are not worth a line."""

    return Handler
