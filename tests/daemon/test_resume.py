"""SIGKILL at any moment, and on: no recorded frame lost or counted twice, the state that of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tumble.daemon.config import load
from tumble.daemon.endpoints import running
from tumble.daemon.errors import UsageError
from tumble.daemon.resuming import find_unfinished, journal, kept_settings, recorded_start
from tumble.daemon.session import unfinished
from tumble.daemon.viewer import Viewer, give_order
from tumble.stream.errors import RecordingError
from tumble.stream.frame import Frame, SeriesStart
from tumble.stream.keeper import Keeper
from tumble.stream.readers import open_recording
from tumble.stream.recorder import Recorder

from .programs import LINUX, PATIENCE_S, held, paced, wait_for

PROGRAM = Path(__file__).with_name("fake_daemon.py")
FRAMES = 900


@contextmanager
def daemon(uri: str, folder: Path, delay_s: float = 0.001) -> Iterator[subprocess.Popen]:
    words = [sys.executable, str(PROGRAM), uri, str(folder), str(delay_s), "--record", "--resume", "--timeout", "60"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, **pipes, start_new_session=True) as process:
        try:
            yield process
        finally:
            kill(process, whole=True)


def kill(process: subprocess.Popen, *, whole: bool) -> None:
    """SIGKILL for the daemon alone, or for all of its processes at once, as systemd and the OOM killer do."""
    try:
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    process.wait()


def recorded(folder: Path) -> list[int]:
    with open_recording(folder / "frames.h5") as recording:
        return [recording.frame(position).index for position in range(len(recording))]


def flushed(folder: Path) -> int:
    """How many frames have their numbers in the file, so that a kill leaves them."""
    try:
        return len(recorded(folder))
    except (RecordingError, OSError, RuntimeError, KeyError):
        return 0


def books(folder: Path) -> dict:
    return json.loads((folder / "session.json").read_text())["accounting"]


def assert_as_uninterrupted(folder: Path, again: Path, publish) -> None:
    """Every recorded frame is used once, and the files are those of a run over the recording that nobody killed."""
    numbers = recorded(folder)
    assert numbers == sorted(set(numbers))
    accounting = books(folder)
    assert accounting["received"] == accounting["recorded"] == len(numbers)
    assert accounting["used"] == len(numbers)
    assert accounting["missing"] == numbers[-1] + 1 - len(numbers)
    with open_recording(folder / "frames.h5") as recording, publish(iter(recording)) as uri, daemon(uri, again) as run:
        text, _ = run.communicate(timeout=300)
    assert run.returncode == 0, text
    assert recorded(again) == numbers
    for path in (folder / "particles" / "P001").iterdir():
        assert path.read_bytes() == (again / "particles" / "P001" / path.name).read_bytes(), path.name


@LINUX
def test_killed_twice_and_the_state_is_the_same(series, publish, tmp_path):
    folder, rng = tmp_path / "session", random.Random(5)
    killed = threading.Event()
    with publish(paced(held(series(FRAMES), 700, killed), 0.004), peer_timeout_s=300.0) as uri:
        for whole in (False, True):
            with daemon(uri, folder) as process:
                wait_for(lambda: frames_recorded(10), "frames")
                time.sleep(rng.uniform(0.0, 1.5))
                kill(process, whole=whole)
        killed.set()
        with daemon(uri, folder) as process:
            text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    facts = json.loads((folder / "session.json").read_text())
    assert facts["phase"] == "DONE"
    assert len(facts["resumed"]) == 2
    assert_as_uninterrupted(folder, tmp_path / "again", publish)


@LINUX
def test_killed_after_the_last_frame_it_does_not_wait_for_more(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100)) as uri, daemon(uri, folder, 0.1) as process:
        wait_for(lambda: flushed(folder) == 100, "the numbers of the last frame in the file")
        kill(process, whole=True)
    with daemon("zmq+tcp://127.0.0.1:9", folder) as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "the series has ended" in text  # and not: fell silent
    assert books(folder)["used"] == 100


@LINUX
def test_orders_are_repeated_where_they_were_given(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(paced(series(100_000), 0.004), peer_timeout_s=300.0) as uri:
        with daemon(uri, folder) as process:
            with Viewer(wait_for(address, "the daemon"), PATIENCE_S) as viewer:
                wait_for(lambda: viewer.latest().stream.used > 50, "frames")
                give_order("pause")
                wait_for(lambda: viewer.latest().stream.rejected, "paused frames")
                give_order("resume")
                used = viewer.latest().stream.used
                # more than a second of frames: by then the recorder has flushed those of the pause
                wait_for(lambda: viewer.latest().stream.used > used + 400, "the end of the pause")
                before = viewer.latest().stream
            kill(process, whole=False)
        with daemon(uri, folder) as process:
            with Viewer(wait_for(address, "the daemon"), PATIENCE_S) as viewer:
                wait_for(lambda: viewer.latest().stream.used > before.used, "more frames")
            give_order("stop")
            text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    after = books(folder)
    assert after["rejected"] == before.rejected
    assert after["received"] == after["used"] + sum(after["rejected"].values()) + sum(after["dropped"].values())


def address() -> str:
    cards = running()
    return cards[-1]["endpoint"] if cards else ""


def frames_recorded(least: int) -> bool:
    cards = running()
    if not cards:
        return False
    with Viewer(cards[-1]["endpoint"], PATIENCE_S) as viewer:
        return viewer.latest().stream.recorded >= least


@pytest.fixture
def killed(tmp_path) -> Path:
    """What is left of a session killed before its first frame."""
    folder = tmp_path / "sessions" / "a"
    folder.mkdir(parents=True)
    config = {"reconstruction": {"element": "Pt", "threads": 2, "device": "auto"}, "status": {"endpoint": "tcp://x:1"}}
    (folder / "session.json").write_text(json.dumps({"ended": None, "config": config, "series": None}))
    return folder


def test_the_session_of_a_killed_daemon_is_found(killed, tmp_path):
    root = tmp_path / "sessions"
    assert find_unfinished(None, root) == killed
    assert find_unfinished(killed, root) == killed
    assert find_unfinished(tmp_path / "new", root) is None
    assert kept_settings(killed) == {"reconstruction": {"element": "Pt", "threads": 2, "device": "auto"}}


def test_a_finished_session_is_left_alone(killed, tmp_path):
    (killed / "session.json").write_text(json.dumps({"ended": "2026-11-21"}))
    assert not unfinished(killed)
    assert find_unfinished(None, tmp_path / "sessions") is None
    with pytest.raises(UsageError, match="has finished"):
        find_unfinished(killed, tmp_path / "sessions")


def test_a_recording_without_a_frame_is_begun_anew(killed):
    (killed / "frames.h5").write_bytes(b"")
    assert recorded_start(killed) is None
    assert sorted(path.name for path in killed.glob("*.h5")) == ["frames.unreadable.h5"]


def test_a_recording_whose_frames_cannot_be_found_is_begun_anew(killed):
    """Killed while the file was being made: some of its objects are there, others are zeros."""
    path = killed / "frames.h5"
    with Recorder(path, SeriesStart(1)) as recorder:
        recorder.write(Frame(1, 0, np.ones((8, 8), np.uint16), 0.0))
    content = bytearray(path.read_bytes())
    first = content.index(b"OHDR")
    content[content.index(b"OHDR", first + 4) + 4] = 0
    path.write_bytes(content)
    assert recorded_start(killed) is None
    assert [found.name for found in killed.glob("*.h5")] == ["frames.unreadable.h5"]


def test_a_journal_may_end_in_half_a_line(killed):
    line = json.dumps({"after_frame": 7, "time": "", "order": "exclude P002", "who": "anna"})
    (killed / "operator.jsonl").write_text(line + "\n" + line[:20])
    ((after, order),) = journal(killed)
    assert (after, order.kind, order.particle, order.who) == (7, "exclude", 2, "anna")


def test_the_command_goes_on_by_itself_with_what_the_killed_one_was_told(tmp_path):
    """Everything had been recorded when it was killed: source, pixel size and recording come from the session."""
    folder, rng = tmp_path / "session", np.random.default_rng(2)
    folder.mkdir()
    dtype = np.dtype(np.uint16)
    with Recorder(folder / "frames.h5", SeriesStart(3, "abc", 96, 96, dtype, 60, 0.0025)) as recorder:
        for index in range(60):
            recorder.write(Frame(3, index, rng.poisson(10.0, (96, 96)).astype(dtype), index * 0.0025))
    told = {
        "stream": {"source": "zmq+tcp://127.0.0.1:9"},
        "reconstruction": {"pixel_size_A": 0.4, "threads": 1, "device": "cpu"},
        "session": {"record": True},
    }
    series = {"series_id": 3, "unique_id": "abc", "number_of_images": 60}
    facts = {"begun": "then", "ended": None, "config": load(None, told).model_dump(mode="json"), "series": series}
    (folder / "session.json").write_text(json.dumps(facts))
    command = [sys.executable, "-m", "tumble", "run", "--session", str(folder), "--resume", "--headless"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert "goes on with the session" in done.stdout
    assert books(folder)["received"] == books(folder)["used"] == 60
    facts = json.loads((folder / "session.json").read_text())
    assert (facts["begun"], facts["phase"], len(facts["resumed"])) == ("then", "DONE", 1)
    again = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert again.returncode == 2
    assert "has finished" in again.stderr


def test_a_series_killed_before_its_first_frame_keeps_what_its_start_said(killed):
    said = {"series_id": 4, "unique_id": "u", "number_of_images": 9, "width_px": 8, "height_px": 6, "pixel_size_A": 0.4}
    said |= dict.fromkeys(("frame_time_s", "dose_e_per_A2", "voltage_kV")) | {"detector": ""}
    facts = json.loads((killed / "session.json").read_text())
    (killed / "session.json").write_text(json.dumps(facts | {"series": said}))
    start = recorded_start(killed)
    assert (start.series_id, start.unique_id, start.number_of_images) == (4, "u", 9)
    assert (start.width, start.height, start.pixel_size_A) == (8, 6, 0.4)
    keeper = Keeper(killed / "frames.h5")
    assert keeper.resume(start) == (0, 0)
    assert keeper.waiting == 0
    keeper.close()
