"""Several series in one run: each complete in a folder of its own, aborted ones too, and none gets lost in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from tumble.daemon.endpoints import running
from tumble.daemon.folders import first_folder, later_folders, next_folder
from tumble.daemon.resuming import find_unfinished, interrupted
from tumble.daemon.viewer import Viewer
from tumble.stream.errors import RecordingError
from tumble.stream.frame import Frame, SeriesStart
from tumble.stream.readers import open_recording
from tumble.stream.recorder import Recorder

from .programs import LINUX, PATIENCE_S, held, paced, wait_for

PROGRAM = Path(__file__).with_name("fake_daemon.py")


@contextmanager
def daemon(uri: str, folder: Path, *more: str) -> Iterator[subprocess.Popen]:
    words = [sys.executable, str(PROGRAM), uri, str(folder), "0.0", "--timeout", "60", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, **pipes, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def numbered(events, series_id: int, **of_start):
    """The events as those of series `series_id`."""
    for event in events:
        changes = of_start if isinstance(event, SeriesStart) else {}
        yield replace(event, series_id=series_id, **changes)


def facts(folder: Path) -> dict:
    return json.loads((folder / "session.json").read_text())


def recorded(folder: Path) -> list[int]:
    with open_recording(folder / "frames.h5") as recording:
        return [recording.frame(position).index for position in range(len(recording))]


def flushed(folder: Path) -> bool:
    """Whether some frames have their numbers in the file, so that a kill leaves them."""
    try:
        return bool(recorded(folder))
    except (RecordingError, OSError, RuntimeError, KeyError):
        return False


def waiting_for_another() -> bool:
    """Whether what viewers see is a series that is over; frames are received before a series is set up, too."""
    cards = running()
    if not cards:
        return False
    with Viewer(cards[-1]["endpoint"], PATIENCE_S) as viewer:
        snapshot = viewer.latest()
    return snapshot.phase == "WAITING" and snapshot.stream.used > 0


def test_an_aborted_series_is_closed_in_order_and_the_next_one_is_taken(series, publish, tmp_path):
    """No end message, then another start with frames of another size, then a whole series; stale frames in between."""

    def events():
        yield from numbered(series(120, end=False), 4)
        yield from numbered(series(90, size=24), 5)
        yield Frame(4, 119, last, 0.0)
        yield from numbered(series(60), 6)

    last = list(series(1))[1].data
    folder = tmp_path / "session"
    with publish(events()) as uri, daemon(uri, folder, "--record", "--series", "3") as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 3, text  # the first series had no end
    assert "a new series began before this one had ended" in text
    folders = [folder, tmp_path / "session-2", tmp_path / "session-3"]
    assert [facts(place)["phase"] for place in folders] == ["FAILED", "DONE", "DONE"]
    for place, series_id, frames in zip(folders, (4, 5, 6), (120, 90, 60), strict=True):
        found = facts(place)
        assert found["series"]["series_id"] == series_id
        books = found["accounting"]
        assert (books["used"], books["recorded"], books["in_flight"], books["missing"]) == (frames, frames, 0, 0)
        assert recorded(place) == list(range(frames))
        assert (place / "particles" / "P001" / "map.mrc").exists()
    assert facts(folders[2])["accounting"]["rejected"] == {"of a series that is over": 1}
    assert [facts(place)["accounting"]["received"] for place in folders] == [120, 90, 61]


def test_it_waits_for_the_next_series_until_it_is_stopped(series, publish, tmp_path):
    """Without a recording as well. What viewers see meanwhile is the last series, waiting."""
    folder = tmp_path / "session"
    with publish(series(60)) as uri, daemon(uri, folder, "--series", "0") as process:
        wait_for(waiting_for_another, "the wait")
        with Viewer(running()[-1]["endpoint"], PATIENCE_S) as viewer:
            snapshot = viewer.latest()
            books = snapshot.stream  # what finds no room is dropped where nothing is recorded
            assert (books.used + sum(books.dropped.values()), snapshot.session) == (60, str(folder))
            assert [view.name for view in snapshot.particles] == ["P001"]
            assert (folder / "particles" / "P001" / "map.mrc").exists()
            assert facts(folder)["phase"] == "DONE"
            process.send_signal(signal.SIGTERM)
            assert [seen.phase for seen in viewer.follow(60.0)][-1] == "DONE"
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("session")] == ["session"]


@LINUX
def test_killed_while_one_series_is_finished_and_the_next_recorded(series, publish, tmp_path):
    """Both are gone on with: the first to its end, the second with what still comes."""
    folder, later = tmp_path / "session", tmp_path / "session-2"
    slow = ("--parts", json.dumps({"work_s": 2.0}))  # it is killed long before it is done, on any machine

    def events():
        yield from numbered(series(100), 1)
        yield from held(paced(numbered(series(400), 2), 0.01), 300, killed)

    killed = threading.Event()  # the last frames come only then, however long that takes
    with publish(events(), peer_timeout_s=300.0) as uri:
        with daemon(uri, folder, "--record", "--resume", "--series", "2", *slow) as process:
            wait_for((later / "frames.h5").exists, "the second series")
            wait_for(lambda: flushed(later), "frames that a kill leaves")
            assert not (later / "session.json").exists()  # the first series takes a minute
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        killed.set()
        with daemon(uri, folder, "--record", "--resume", "--series", "2") as process:
            text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert recorded(folder) == list(range(100))
    assert facts(folder)["accounting"]["used"] == 100
    numbers = recorded(later)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 399, text
    books = facts(later)["accounting"]
    assert (books["received"], books["used"], books["missing"]) == (len(numbers), len(numbers), 400 - len(numbers))


def test_folders_are_numbered_and_found_again(tmp_path):
    first = tmp_path / "tonight-7"
    first.mkdir()
    (first / "session.json").write_text(json.dumps({"ended": "then"}))
    (tmp_path / "tonight-7-3").mkdir()  # somebody else's
    second = next_folder(first)
    third = next_folder(second)
    assert (second.name, third.name) == ("tonight-7-2", "tonight-7-4")
    assert first_folder(third) == first_folder(first) == first
    assert [path.name for path in later_folders(second)] == ["tonight-7-3", "tonight-7-4"]
    assert [path.name for path in later_folders(first)] == ["tonight-7-2", "tonight-7-3", "tonight-7-4"]
    (second / "session.json").write_text(json.dumps({"ended": None}))
    assert find_unfinished(first, tmp_path) == second


def test_a_series_that_was_only_recorded_is_gone_on_with_too(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "session.json").write_text(json.dumps({"ended": None, "series": None}))
    assert interrupted(folder) == ()
    first, frame = SeriesStart(7, "u", 8, 6), Frame(7, 0, np.zeros((6, 8), np.uint16), 0.0)
    for place in (folder, next_folder(folder), next_folder(folder)):
        if not place.name.endswith("3"):  # killed between the folder and the first frame
            with Recorder(place / "frames.h5", first) as recorder:
                recorder.write(frame)
    assert [(place.name, start.series_id) for place, start in interrupted(folder)] == [("session", 7), ("session-2", 7)]
