"""Watching and asking over real sockets: before there is a daemon, after it was started anew, by many at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from tumble.daemon.control import ControlServer
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.following import Watch
from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth, from_json
from tumble.daemon.told import last_told

ANY = "tcp://127.0.0.1:0"


def snapshot(sequence: int, session: str = "here", phase: str = "RUNNING") -> Snapshot:
    particle = ParticleView("P001", "MAPPING", (1.0, 2.0), 20.0, fsc=(1.0, 0.5), slice_xy=(b"\1\2", b"\3\xff"))
    return Snapshot(SCHEMA_VERSION, "0", sequence, 0.0, 0.0, phase, session, StreamHealth(), (particle,))


def until(watch: Watch, wanted: Callable[[Snapshot], bool], seconds: float = 60.0) -> Snapshot:
    """Poll as a dashboard does until something comes that is wanted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = watch.poll()
        if seen is not None and wanted(seen):
            return seen
        time.sleep(0.02)
    raise AssertionError("nothing came")


def test_watching_may_begin_before_the_daemon() -> None:
    with Watch(None) as watch:
        assert watch.poll() is None
        with ControlServer(ANY, "here") as server:
            server.publish(snapshot(1))
            assert until(watch, lambda seen: seen.sequence >= 1).session == "here"


def test_the_next_daemon_is_found_where_the_last_one_is_not() -> None:
    with Watch(None) as watch:
        for session in ("first", "second"):
            with ControlServer(ANY, session) as server:
                server.publish(snapshot(5, session))
                until(watch, lambda seen, session=session: seen.session == session)


def test_a_daemon_that_comes_back_at_its_address_is_heard_again() -> None:
    with ControlServer(ANY, "first") as server:
        server.publish(snapshot(7, "first"))
        endpoint = server.endpoint
        with Watch(endpoint) as watch:
            until(watch, lambda seen: seen.session == "first")
            server.__exit__(None, None, None)
            with ControlServer(endpoint, "second") as again:
                again.publish(snapshot(1, "second"))
                assert until(watch, lambda seen: seen.session == "second").sequence == 1


def test_no_address_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="not an address"):
        Watch("here:5")


def test_twenty_viewers_see_the_last_snapshot() -> None:
    with ControlServer(ANY, "here") as server:
        server.publish(snapshot(1))
        watches = [Watch(server.endpoint) for _ in range(20)]
        for watch in watches:
            until(watch, lambda _: True)
        for number in range(2, 30):
            server.publish(snapshot(number))
        for watch in watches:
            until(watch, lambda seen: seen.sequence == 29)
            watch.__exit__(None, None, None)


def ask(*words: str) -> list[str]:
    return [sys.executable, "-m", "tumble", "status", *words]


def test_status_is_one_line_of_json_with_a_version_and_units() -> None:
    with ControlServer(ANY, "here") as server:
        server.publish(snapshot(3))
        done = subprocess.run(ask("--json"), capture_output=True, text=True, timeout=300, check=True)
    (line,) = done.stdout.splitlines()
    data = json.loads(line)
    assert data["version"] == SCHEMA_VERSION
    assert set(data) == {field.name for field in fields(Snapshot)}
    assert set(data["stream"]) == {field.name for field in fields(StreamHealth)}
    assert data["particles"][0]["slice_xy"] == ["0102", "03ff"]
    assert from_json(line).particles[0].slice_xy == (b"\1\2", b"\3\xff")
    assert set(data["particles"][0]) == {field.name for field in fields(ParticleView)}


def test_follow_prints_at_once_though_nothing_changes_and_says_again_only_what_is_new() -> None:
    with ControlServer(ANY, "here") as server:
        server.publish(snapshot(1))
        environment = {**os.environ, "PYTHONUNBUFFERED": ""}
        with subprocess.Popen(ask("--follow"), stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("RUNNING")  # nothing more is published until it has come
            for number in range(2, 40):
                server.publish(snapshot(number))
            server.publish(snapshot(40, phase="FINISHING"))
            server.publish(snapshot(41, phase="DONE"))
            rest = process.stdout.read().splitlines()
            assert process.wait(300) == 0
        assert rest[-1].startswith("DONE")
        assert len([line for line in rest if line.startswith("RUNNING")]) < 10  # one a second, not one a snapshot


def test_a_session_folder_tells_how_it_went(tmp_path: Path) -> None:
    lines = [snapshot(1).to_json(), snapshot(2, phase="DONE").to_json(), '{"version":1,"tum']  # torn by a kill
    (tmp_path / "timeline.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for words in (("--json",), ("--json", "--follow")):
        done = subprocess.run(ask(str(tmp_path), *words), capture_output=True, text=True, timeout=300, check=True)
        assert json.loads(done.stdout)["sequence"] == 2
    assert last_told(tmp_path).phase == "DONE"
    (tmp_path / "timeline.jsonl").write_text("x" * 200_000, encoding="utf-8")
    with pytest.raises(TumbleError, match="no snapshot"):
        last_told(tmp_path)
    (tmp_path / "timeline.jsonl").write_text(snapshot(1).to_json().replace('"version":1', '"version":99'))
    with pytest.raises(TumbleError, match="schema 99"):
        last_told(tmp_path)
    with pytest.raises(UsageError, match="no session"):
        last_told(tmp_path / "elsewhere")


def test_asking_loads_neither_numpy_nor_the_configuration() -> None:
    words = "import sys, tumble.daemon.books, tumble.daemon.viewer_commands, tumble.daemon.told, tumble.daemon.viewer"
    words += "; print({'numpy', 'tumble.daemon.config'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "set()"


def test_follow_gives_each_line_at_once_and_ends_with_the_daemon() -> None:
    with ControlServer(ANY, "here") as server:
        server.publish(snapshot(1))
        environment = {**os.environ, "PYTHONUNBUFFERED": ""}
        with subprocess.Popen(ask("--json", "--follow"), stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["sequence"] == 1  # comes while there is nothing more
            server.publish(snapshot(2))
            assert json.loads(process.stdout.readline())["sequence"] == 2
            server.publish(snapshot(3, phase="DONE"))
            rest = [json.loads(line) for line in process.stdout]
            assert rest[-1]["phase"] == "DONE"
            assert process.wait(300) == 0


UNITS = ("_px", "_A", "_A2", "_deg", "_s", "_ms", "_hz", "_MiB", "_per_A", "_per_s", "_percent")
# counts, words, shares and records, which have none
BARE = {
    "version", "tumble", "sequence", "phase", "session", "stream", "particles", "log", "verdict", "name",
    "state", "note", "source", "series_id", "expected", "received", "used", "rejected", "dropped", "missing",
    "in_flight", "recorded", "queue", "queue_size", "waiting", "frames_seen", "frames_used", "frames_rejected",
    "frames_in_flight", "frames_waiting", "paused", "mark", "resolution_trend", "fsc_k", "fsc", "coverage", "slice_xy",
    "slice_xz", "slice_yz", "atoms", "ms_per_frame", "elements", "metals", "tilts", "lattice", "twinned",
    "device", "workers", "where",
}  # fmt: skip


@pytest.mark.parametrize("record", [Snapshot, StreamHealth, ParticleView])
def test_fields_with_a_unit_say_it(record: type) -> None:
    unknown = [field.name for field in fields(record) if not field.name.endswith(UNITS) and field.name not in BARE]
    assert [name for name in unknown if not re.search("verdict|metrics|forecast|trust|reason", name)] == []
