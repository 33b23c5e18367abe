"""Signals, sudden death and viewers of a daemon that is a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import pytest

from tumble.daemon.endpoints import find, running
from tumble.daemon.viewer import Viewer

from .programs import LINUX, PATIENCE_S, held, read_until, wait_for

PROGRAM = Path(__file__).with_name("fake_daemon.py")


@contextmanager
def daemon(uri: str, folder: Path, delay_s: float = 0.002, *more: str) -> Iterator[subprocess.Popen]:
    words = [sys.executable, str(PROGRAM), uri, str(folder), str(delay_s), *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("tumble-*")}


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number, series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder) as process:
        wait_for((folder / "particles" / "P001" / "map.mrc").exists, "a map")
        process.send_signal(number)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "what was received is finished first" in text
    facts = json.loads((folder / "session.json").read_text())
    assert facts["phase"] == "DONE"
    books = facts["accounting"]
    assert books["in_flight"] == 0
    assert books["received"] == books["used"] + sum(books["dropped"].values())


def test_a_second_signal_ends_it_at_once(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder, 0.05) as process:
        wait_for((folder / "particles" / "P001" / "map.mrc").exists, "a map")
        process.send_signal(signal.SIGINT)
        read_until(process, "asked to stop")  # two signals at once would count as one
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 1, text
    assert "stopped at once" in text
    facts = json.loads((folder / "session.json").read_text())
    assert facts["phase"] == "FAILED"
    assert facts["accounting"]["in_flight"] == 0
    assert facts["accounting"]["dropped"]["stopped"] > 0


@LINUX
def test_a_killed_daemon_leaves_the_last_map_and_no_processes(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder) as process:
        wait_for((folder / "particles" / "P001" / "summary.json").exists, "a map")
        family = children(process.pid)
        assert family
        process.kill()
        process.communicate()
        wait_for(lambda: not any(map(alive, family)), "the receiver to end")
    with mrcfile.open(folder / "particles" / "P001" / "map.mrc") as file:
        assert file.data.any()
    assert json.loads((folder / "session.json").read_text())["phase"] == "RUNNING"
    assert (folder / "timeline.jsonl").read_text()


def test_viewers_ask_and_follow(series, publish, tmp_path):
    folder = tmp_path / "session"
    seen = threading.Event()
    with publish(held(series(600), 500, seen)) as uri, daemon(uri, folder) as process:
        wait_for(running, "the address of the daemon")
        with Viewer(find(None), PATIENCE_S) as one, Viewer(find(None), PATIENCE_S) as other:
            wait_for(lambda: one.latest().stream.received > 50, "frames")
            assert one.latest().stream.balance() == 0
            seen.set()
            phases = {snapshot.phase for snapshot in other.follow(60.0)}
        process.communicate(timeout=300)
    assert "DONE" in phases
    assert process.returncode == 0
    assert not running()


def test_two_daemons_do_not_disturb_each_other(series, publish, tmp_path):
    both = threading.Event()
    with (
        publish(held(series(200), 100, both)) as first,
        publish(held(series(200), 100, both)) as second,
        daemon(first, tmp_path / "a") as one,
        daemon(second, tmp_path / "b") as other,
    ):
        wait_for(lambda: len(running()) == 2, "both")
        both.set()
        one.communicate(timeout=300)
        other.communicate(timeout=300)
    maps = [(tmp_path / name / "particles" / "P001" / "map.mrc").read_bytes() for name in "ab"]
    assert maps[0] == maps[1]


@LINUX
def test_the_environment_is_cleaned_up(tmp_path):
    before = shared_memory()
    with daemon("zmq+tcp://127.0.0.1:9", tmp_path / "session") as process:
        wait_for(running, "the daemon")
        wait_for(lambda: shared_memory() - before, "its shared memory")
        mine = {name for name in shared_memory() - before if name in mapped(process.pid)}
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "received 0" in text
    assert process.pid not in [card["pid"] for card in running()]
    assert not (mine & shared_memory())


def test_behind_a_dashboard_it_runs_to_the_end(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(150)) as uri, daemon(uri, folder, 0.002, "watch") as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "received 150 = used 150 + rejected 0 + dropped 0 + in flight 0" in text
    assert (folder / "particles" / "P001" / "map.mrc").exists()


def test_leaving_the_dashboard_finishes_in_order(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder, 0.002, "quit") as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "operator quits" in text
    facts = json.loads((folder / "session.json").read_text())
    assert facts["phase"] == "DONE"
    assert facts["accounting"]["in_flight"] == 0


@LINUX
def test_when_the_terminal_dies_the_daemon_behind_it_finishes(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder, 0.002, "watch") as process:
        wait_for((folder / "particles" / "P001" / "summary.json").exists, "a map")
        family = children(process.pid)
        process.kill()
        process.communicate()
        wait_for(lambda: not any(map(alive, family)), "the daemon to end")
    assert json.loads((folder / "session.json").read_text())["phase"] == "DONE"
