"""Numbers for Prometheus, health for containers, words for systemd: over real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tumble.daemon.config import load
from tumble.daemon.errors import TumbleError
from tumble.daemon.logs import as_json
from tumble.daemon.monitoring import Monitoring
from tumble.daemon.notify import Notifier
from tumble.daemon.observers import observers
from tumble.daemon.progress import STALLED_S, Progress
from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth, WorkerView

STREAM = StreamHealth(
    received=100,
    used=90,
    rejected={"blank": 3},
    dropped={"ring full": 2},
    missing=4,
    in_flight=5,
    recorded=98,
    latency_p50_ms=12.0,
    latency_p99_ms=80.0,
)
PARTICLE = ParticleView("P001", "MAPPING", (1.0, 2.0), 30.0, frames_seen=80, frames_used=70, resolution_A=1.1)
SNAPSHOT = Snapshot(SCHEMA_VERSION, "0", 1, 0.0, 9.0, "RUNNING", "here", STREAM, (PARTICLE,), {"front end": 2.0}, 64.0)


def test_a_worker_that_has_died_is_a_number(monitoring):
    workers = (WorkerView("GPU 0"), WorkerView("GPU 0"), WorkerView("GPU 1", alive=False))
    monitoring.see(replace(SNAPSHOT, workers=workers))
    _, text = get(monitoring, "/metrics")
    assert 'tumble_workers{device="GPU 0"} 2.0' in text
    assert 'tumble_workers{device="GPU 1"} 0.0' in text


@pytest.fixture
def monitoring():
    with Monitoring(0) as server:
        yield server


def get(monitoring: Monitoring, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitoring.port}{path}", timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_what_prometheus_reads_is_the_snapshot(monitoring):
    monitoring.see(SNAPSHOT)
    status, text = get(monitoring, "/metrics")
    assert status == 200
    read = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert read["tumble_frames_received_total",] == 100
    assert read["tumble_frames_rejected_total", ("reason", "blank")] == 3
    assert read["tumble_frames_dropped_total", ("reason", "ring full")] == 2
    assert read["tumble_latency_seconds", ("percentile", "99")] == pytest.approx(0.08)
    assert read["tumble_particle_resolution_angstrom", ("particle", "P001")] == 1.1
    assert read["tumble_particles", ("state", "MAPPING")] == 1
    assert ("tumble_particle_atoms", ("particle", "P001")) not in read  # not known yet is not zero
    assert read["tumble_memory_bytes",] == 64 * 2**20


def test_the_sum_of_the_frames_can_be_checked_outside(monitoring):
    monitoring.see(SNAPSHOT)
    samples = [
        sample for family in text_string_to_metric_families(get(monitoring, "/metrics")[1]) for sample in family.samples
    ]
    total = {name: sum(s.value for s in samples if s.name == f"tumble_frames_{name}") for name in (
        "received_total", "used_total", "rejected_total", "dropped_total", "in_flight")}  # fmt: skip
    assert total.pop("received_total") == sum(total.values())


def test_health(monitoring):
    assert get(monitoring, "/healthz")[0] == 503
    monitoring.see(SNAPSHOT)
    status, text = get(monitoring, "/healthz")
    assert status == 200
    assert json.loads(text)["phase"] == "RUNNING"
    monitoring.see(replace(SNAPSHOT, phase="FAILED"))
    assert get(monitoring, "/healthz")[0] == 503


def test_nothing_else_is_served(monitoring):
    assert get(monitoring, "/")[0] == 404
    assert get(monitoring, "/../etc/passwd")[0] == 404
    assert monitoring._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_nobody_changes_anything_over_http(method, monitoring):
    monitoring.see(SNAPSHOT)
    before = get(monitoring, "/healthz")
    for path in ("/metrics", "/healthz", "/stop", "/control"):
        asked = HTTPConnection("127.0.0.1", monitoring.port, timeout=60)
        asked.request(method, path, body=b"stop")
        assert asked.getresponse().status == 501  # not implemented
        asked.close()
    assert get(monitoring, "/healthz")[0] == before[0] == 200


@pytest.mark.parametrize(
    "bytes_", [b"\x00\xff" * 500, b"GET /metrics", b"POST /metrics HTTP/1.1\r\n\r\n", b"G" * 70000]
)
def test_hostile_http_leaves_it_answering(bytes_, monitoring):
    monitoring.see(SNAPSHOT)
    with socket.create_connection(("127.0.0.1", monitoring.port)) as rude:
        with contextlib.suppress(OSError):  # it may hang up on us
            rude.sendall(bytes_)
        assert get(monitoring, "/healthz")[0] == 200


def test_a_taken_port_is_named(monitoring):
    with pytest.raises(TumbleError, match=r"monitoring\.port"):
        Monitoring(monitoring.port)


def test_it_is_off_unless_asked_for():
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    with ExitStack() as stack:
        assert len(observers(load(None), stack, print)) == 1
        assert set(threading.enumerate()) <= before
        on = load(None, {"monitoring": {"port": 0}})
        assert len(observers(on, stack, lambda _: None)) == 2


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_frames_that_are_worked_off():
    clock = Clock()
    progress = Progress(clock)
    progress.see(SNAPSHOT)
    clock.now = 50.0
    progress.see(SNAPSHOT)
    assert progress.still_s == 50.0
    progress.see(replace(SNAPSHOT, stream=replace(STREAM, used=91, in_flight=4)))
    assert progress.still_s == 0.0
    clock.now = 500.0
    progress.see(replace(SNAPSHOT, stream=StreamHealth()))  # nothing to do is no stall
    assert progress.still_s == 0.0


@pytest.fixture
def systemd(tmp_path):
    """The end of the socket that systemd holds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(tmp_path / "notify"))
        ours.settimeout(60)
        yield ours


def test_systemd_hears_of_readiness_state_and_life(systemd):
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()}, Progress(clock))
    notifier.see(SNAPSHOT)
    first = systemd.recv(4096).decode().splitlines()
    assert first[0] == "READY=1"
    assert first[1].startswith("STATUS=RUNNING: received 100 = used 90")
    assert first[-1] == "WATCHDOG=1"
    notifier.see(SNAPSHOT)
    assert systemd.recv(4096) == b"WATCHDOG=1"
    clock.now = STALLED_S
    notifier.see(SNAPSHOT)  # frames lie there and nothing moves: silence
    notifier.see(replace(SNAPSHOT, phase="DONE"))
    assert b"STOPPING=1" in systemd.recv(4096)


def test_an_abstract_socket_is_understood(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(f"\0tumble-test-{tmp_path.name}")
        ours.settimeout(60)
        Notifier({"NOTIFY_SOCKET": f"@tumble-test-{tmp_path.name}"}).see(SNAPSHOT)
        assert ours.recv(4096).startswith(b"READY=1")


def test_without_systemd_nothing_happens(tmp_path):
    Notifier({}).see(SNAPSHOT)
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).see(SNAPSHOT)


def test_a_log_line_as_json():
    record = json.loads(as_json("   12.3 s  P001 first map: resolution 1.10 Å"))
    assert record["uptime_s"] == 12.3
    assert record["message"] == "P001 first map: resolution 1.10 Å"
    assert record["time"].endswith("+00:00")
    assert "uptime_s" not in json.loads(as_json("session here"))
