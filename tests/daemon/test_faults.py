"""What goes wrong around the daemon: disks, folders, streams that are none. One line says so, and the rest goes on."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import zmq

from tumble.daemon import reporter as reporter_module
from tumble.daemon import session as session_module
from tumble.daemon.books import IntakeBooks
from tumble.daemon.calibration import DetectorTables
from tumble.daemon.checkpoints import Checkpoints, Course
from tumble.daemon.config import DetectorSettings, StreamSettings
from tumble.daemon.dispatch import Dispatcher
from tumble.daemon.errors import TumbleError
from tumble.daemon.folders import LOCK, lock
from tumble.daemon.intake import Batch, End, Intake, Over
from tumble.daemon.parcels import Sighting
from tumble.daemon.resuming import recorded_start
from tumble.daemon.ring import FrameRing
from tumble.daemon.session import append
from tumble.daemon.snapshot import from_json
from tumble.stream import dectris2
from tumble.stream.frame import SeriesEnd, SeriesStart
from tumble.stream.readers import open_recording
from tumble.stream.series import SeriesTracker

from .programs import LINUX, held, read_until, wait_for

PROGRAM = Path(__file__).with_name("fake_daemon.py")
NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def program(uri: str, folder: Path, *more: str) -> subprocess.Popen:
    words = [sys.executable, str(PROGRAM), uri, str(folder), "0.0", "--timeout", "60", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_stream_that_is_none_is_named_while_the_daemon_waits(series, tmp_path):
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with program(f"zmq+tcp://127.0.0.1:{port}", tmp_path / "session") as process:
            socket.send(b"\xffHELO")
            text = read_until(process, "message 1 (5 bytes) cannot be read: not a CBOR message")
            assert "begins" not in text
            for event in series(60):
                socket.send(dectris2.encode(event))
            text, _ = process.communicate(timeout=240)
            assert process.returncode == 0, text
    assert "received 60 = used 60" in text
    assert "message 1" not in text  # it was said once


def test_a_wrong_size_in_the_start_costs_no_frame(series, publish, run_service):
    def events():
        for event in series(60):
            yield replace(event, width=99, height=7) if isinstance(event, SeriesStart) else event

    with publish(events()) as uri:
        run = run_service(uri, record=True)
    assert run.code == 0, run.text
    assert "received 60 = used 60" in run.text
    assert "announced with 99 x 7 pixels, but its frames have 16 x 16" in run.text
    last = from_json((run.folder / "timeline.jsonl").read_text().splitlines()[-1])
    assert (last.stream.frame_width_px, last.stream.frame_height_px, last.stream.recorded) == (16, 16, 60)


def test_frames_that_are_too_large_are_recorded_all_the_same(series, publish, run_service):
    with publish(series(12, size=512)) as uri:
        run = run_service(uri, record=True, ring_MiB=0.05)
    assert run.code == 1, run.text
    assert "a frame of 512 x 512 uint16 (0.5 MiB) does not fit twice" in run.text
    assert "12 frames were recorded only: they are too large for the shared memory (stream.ring_MiB)" in run.text
    assert "received 12 = used 0 + rejected 12 (too large for the shared memory 12)" in run.text
    with open_recording(run.folder / "frames.h5") as recording:
        assert len(recording) == 12
    with publish(series(12, size=512)) as uri:  # nothing is left to do
        run = run_service(uri, folder="other", ring_MiB=0.05)
    assert run.code == 1, run.text
    assert "raise stream.ring_MiB" in run.text


def test_a_full_disk_stops_the_timeline_and_not_the_run(series, publish, run_service, monkeypatch):
    monkeypatch.setattr(reporter_module, "TIMELINE_EVERY_S", 0.0)
    lines = []

    def full(file, line):  # one line: between two others the file of a beginning series may be written
        lines.append(line)
        if len(lines) == 2:
            raise NO_ROOM
        append(file, line)

    monkeypatch.setattr(session_module, "append", full)
    with publish(series(100)) as uri:
        run = run_service(uri, record=True)
    assert run.code == 0, run.text
    assert len(lines) > 2
    assert run.text.count("No space left on device: make room or restore it; the run goes on") == 1
    assert f"{run.folder} can be written again" in run.text
    assert len((run.folder / "timeline.jsonl").read_text().splitlines()) == len(lines) - 1
    assert (run.folder / "particles" / "P001" / "map.mrc").is_file()


def test_a_disk_that_stays_full_costs_the_session_file_only(series, publish, run_service, monkeypatch):
    def full(path, data):
        if data.get("phase") != "WAITING":
            raise NO_ROOM
        path.write_text(json.dumps(data, default=str))

    monkeypatch.setattr(session_module, "write_json", full)
    with publish(series(100)) as uri:
        run = run_service(uri)
    assert run.code == 1, run.text
    assert "received 100 = used 100" in run.text
    assert "the session looks unfinished, and can be gone on with by --resume" in run.lines[-1]
    assert (run.folder / "particles" / "P001" / "map.mrc").is_file()


def test_a_line_that_does_not_fit_leaves_no_half(tmp_path):
    class Full(FileIO):
        def write(self, line):
            return super().write(line[: len(line) // 2])

    path = tmp_path / "timeline.jsonl"
    path.write_bytes(b"{}\n")
    with Full(path, "ab+") as file, pytest.raises(OSError, match="No space"):
        append(file, b'{"a": 1}\n')
    assert path.read_bytes() == b"{}\n"


@LINUX
def test_a_session_folder_that_is_deleted_during_the_run_is_missed(series, publish, tmp_path):
    """What was in it is gone; what comes is still received and analysed, and nothing is said to be recorded."""
    folder, go = tmp_path / "session", threading.Event()
    with publish(held(series(200), 100, go)) as uri, program(uri, folder, "--record") as process:
        wait_for((folder / "particles" / "P001" / "summary.json").exists, "files of the particle")
        wait_for(lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists(), "the end of the folder")
        go.set()
        text, _ = process.communicate(timeout=240)
    assert process.returncode == 1, text
    assert "Traceback" not in text
    assert "received 200 = used 200 + rejected 0 + dropped 0 + in flight 0" in text
    assert "frames.h5 was removed while it was written" in text
    assert "frames are not in the recording: the recording was removed" in text
    assert text.count(f"cannot write to {folder}") < 8


def test_frames_without_room_to_wait_are_counted_once_more_at_the_end(series, publish, run_service, monkeypatch):
    give = Dispatcher.give

    def full(self, message):
        if isinstance(message, Sighting) and 20 <= message.observation.frame < 27:
            raise NO_ROOM
        return give(self, message)

    monkeypatch.setattr(Dispatcher, "give", full)
    with publish(series(60)) as uri:
        run = run_service(uri)
    assert run.code == 1
    assert run.text.count("P001 loses frames: no room to wait on disk (No space left on device)") == 1
    assert "7 frames of P001 are not in its map: no room to wait on disk" in run.text
    assert "received 60 = used 60" in run.text


def test_a_receiver_that_stands_still_is_said(series, publish, run_service, monkeypatch):
    """As a disk that hangs makes it do; here a signal does."""
    monkeypatch.setattr(reporter_module, "STANDS_STILL_S", 0.5)
    told = threading.Event()

    def events():
        for event in series(60):
            if isinstance(event, SeriesEnd):
                told.wait(60.0)
            yield event

    def during(service, intake, stops):
        def watch():
            said = service._reporter._log
            wait_for(lambda: any("begins" in line for line in said), "the series")
            os.kill(intake.pid, signal.SIGSTOP)
            wait_for(lambda: any("stood still" in line for line in said), "a word")
            os.kill(intake.pid, signal.SIGCONT)
            wait_for(lambda: any("goes on" in line for line in said), "another")
            told.set()

        threading.Thread(target=watch, daemon=True).start()

    with publish(events()) as uri:
        run = run_service(uri, record=True, during=during)
    assert run.code == 0, run.text
    assert run.text.count("the receiver has stood still for ") == run.text.count("the receiver goes on") == 1
    assert f"the disk of {run.folder} takes no frames" in run.text
    assert "received 60 = used 60" in run.text


@LINUX
def test_many_series_that_wait_take_no_files_and_lose_no_frame(series, publish, tmp_path):
    """Single images in a row, while the daemon is busy with the first of them."""
    count, each = 40, 3

    def events():
        for number in range(1, count + 1):
            for event in series(each):
                yield replace(event, series_id=number)

    settings = StreamSettings(source="zmq+tcp://127.0.0.1:9", series=count, ring_MiB=0.05)
    folder = tmp_path / "session"
    folder.mkdir()
    with publish(events()) as uri:
        settings = settings.model_copy(update={"source": uri})
        with Intake(settings, folder, record=True) as intake:
            last = tmp_path / f"session-{count}" / "frames.h5"
            wait_for(last.exists, "the last series")
            assert len(list(Path(f"/proc/{intake.pid}/fd").iterdir())) < 2 * count
            frames, ends = [], 0
            while not isinstance(message := intake.get(60.0), Over):
                if isinstance(message, Batch):
                    frames += [frame.index for frame, _ in intake.frames(message)]
                ends += isinstance(message, End)
    assert (ends, frames) == (count, list(range(each)) * count)
    with open_recording(last) as recording:
        assert len(recording) == each


def test_what_cannot_be_read_is_put_aside_and_never_overwritten(tmp_path):
    for content in (b"one", b"two", b"three", b"four"):
        (tmp_path / "frames.h5").write_bytes(content)
        assert recorded_start(tmp_path) is None
        if content == b"three":
            (tmp_path / "frames.unreadable.h5").unlink()
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.h5")}
    assert kept == {
        "frames.unreadable.h5": b"four",
        "frames.unreadable-2.h5": b"two",
        "frames.unreadable-3.h5": b"three",
    }


def test_a_recording_that_cannot_be_opened_is_not_put_aside(tmp_path):
    (tmp_path / "frames.h5").mkdir()  # as good as one that belongs to somebody else
    with pytest.raises(TumbleError, match=r"cannot go on with .*frames\.h5: .*; make it readable and writable"):
        recorded_start(tmp_path)
    assert (tmp_path / "frames.h5").exists()


def test_a_lock_that_was_removed_is_no_lock(tmp_path):
    """Who had it removes it when it is given back; who has waited for it must not hold a file that is gone."""
    first = lock(tmp_path)
    (tmp_path / LOCK).unlink()
    with lock(tmp_path) as second, (tmp_path / LOCK).open("ab") as third:
        first.close()
        with pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.fstat(second.fileno()).st_ino == os.fstat(third.fileno()).st_ino


def test_file_systems_without_locks_keep_nobody_out(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    lock(tmp_path).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(TumbleError, match="cannot record into "):
        lock(tmp_path / "file")


def test_a_checkpoint_without_a_folder_stops_nothing(tmp_path):
    folder = tmp_path / "session"
    checkpoints = Checkpoints(folder, "this one")
    checkpoints.keep(1, {}, Course(), 0, {})  # there is none
    folder.write_text("a file where the folder was")
    checkpoints.keep(1, {}, Course(), 0, {})
    assert checkpoints.returning(1) is None


KEEPS = """
import resource, sys
from pathlib import Path
import numpy as np
from tumble.daemon.checkpoints import Checkpoints, Course

checkpoints, course = Checkpoints(Path(sys.argv[1]), "this one", every_s=0.0), Course()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for count, size, limit in ((1, 1000, soft), (2, 500_000, 1_000_000), (3, 500_000, soft)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    checkpoints._next_s.clear()
    course.count = count
    checkpoints.keep(1, {"map": np.random.default_rng(0).random(size)}, course, 0, {})
    kept = checkpoints.returning(1).kept
    print(kept.count, checkpoints.load(kept, {})["map"].size, *(path.name for path in kept.path.parent.iterdir()))
"""


def test_a_disk_that_becomes_full_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", KEEPS, tmp_path], capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.stdout.splitlines() == ["1 1000 checkpoint.h5", "1 1000 checkpoint.h5", "3 500000 checkpoint.h5"], (
        ran.stderr
    )


def test_tables_of_the_stream_that_leave_no_pixel_are_not_used():
    shape = (6, 8)
    for values in (np.zeros(shape), np.full(shape, np.nan), np.full(shape, -1.0)):
        made = DetectorTables(DetectorSettings()).calibration(SeriesStart(1, flatfield=values), *shape)
        assert made.gain is None
        assert made.notes == ("flat field of the stream leaves no pixel: it is not used",)
    half = np.zeros(shape, np.uint32)
    half[:3] = 1
    gain = np.ones(shape)
    gain[3:] = 0.0
    made = DetectorTables(DetectorSettings()).calibration(SeriesStart(1, pixel_mask=half, flatfield=gain), *shape)
    assert (made.gain, int(made.bad.sum())) == (None, 24)


def test_as_much_as_a_series_may_leave_for_the_operator_fits_into_the_mailbox():
    tracker = SeriesTracker()
    for number in range(20):
        tracker.warn(f"{number}" + "\N{SNOWMAN}" * 5000)
    ring = FrameRing.create(1.0)
    books = IntakeBooks(2, 7, warnings=(*tracker.warnings, *["\N{SNOWMAN}" * 1000] * 8))
    ring.post(books.plain())
    back = IntakeBooks(**ring.read())
    assert (back.series, back.received, len(back.warnings)) == (2, 7, 24)
    ring.close()
