"""Reconstruction in processes of its own: behind the stream, on several devices, killed, stopped in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumble.daemon.devices import ORDER, VISIBLE, Found, number_as_nvidia_smi, own_device, summary, unpack
from tumble.daemon.errors import UsageError
from tumble.daemon.snapshot import Snapshot, from_json

from .programs import LINUX, read_until, wait_for

PROGRAM = Path(__file__).with_name("fake_daemon.py")


@contextmanager
def daemon(uri: str, folder: Path, *more: str, **parts) -> Iterator[subprocess.Popen]:
    words = [sys.executable, str(PROGRAM), uri, str(folder), "0.001", "--parts", json.dumps(parts), *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def timeline(folder: Path) -> list[Snapshot]:
    path = folder / "timeline.jsonl"
    return [from_json(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def niceness(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])


def workers(pid: int) -> list[int]:
    """Child processes that are nicer than the daemon."""
    family = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in family if niceness(child) > niceness(pid)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def unhurried(series, publish, run_service, fake_parts):
    """Files of particles of a run in one process that has all the time it needs."""

    def run(frames: int, particles: int) -> dict[str, bytes]:
        with publish(series(frames)) as uri:
            done = run_service(uri, fake_parts(particles=particles), folder="unhurried")
        assert done.code == 0, done.text
        return bytes_of(done.folder / "particles")

    return run


def test_behind_the_stream_nothing_is_lost_and_no_bit_changes(series, publish, tmp_path, unhurried):
    expected = unhurried(700, 1)
    folder = tmp_path / "behind"
    awaited = tmp_path / "go on"
    with publish(series(700)) as uri, daemon(uri, folder, "--record", work_until=str(awaited)) as process:
        wait_for(lambda: timeline(folder) and timeline(folder)[-1].phase == "FINISHING", "the end of the series")
        awaited.touch()
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    course = timeline(folder)
    at_end = next(snapshot for snapshot in course if snapshot.phase == "FINISHING")
    assert at_end.stream.received == at_end.stream.recorded == 700
    assert at_end.stream.used >= 695  # tracked; the front end holds the last five
    assert at_end.stream.waiting == at_end.particles[0].frames_waiting > 600
    assert at_end.stream.waiting_on_disk_MiB > 0
    assert at_end.particles[0].lag_s > 0
    assert at_end.particles[0].frames_in_flight >= at_end.particles[0].frames_waiting
    last = course[-1]
    assert (last.stream.waiting, last.stream.in_flight, last.particles[0].frames_waiting) == (0, 0, 0)
    assert last.stream.pose_latency_p99_ms > last.stream.latency_p50_ms
    assert "received 700 = used 700 + rejected 0 + dropped 0 + in flight 0" in text
    assert bytes_of(folder / "particles") == expected
    assert not list(folder.glob("*backlog*"))


@pytest.mark.parametrize(("visible", "own"), [("", "1"), ("0,1,2", "1"), ("5, 3", "3"), ("GPU-ab,GPU-cd", "GPU-cd")])
def test_every_further_worker_sees_its_own_device(visible, own):
    assert own_device(1, visible) == own


def test_a_gpu_that_the_environment_hides_is_refused():
    with pytest.raises(UsageError, match="there is no GPU 2: CUDA_VISIBLE_DEVICES is 4,5, so they are 0 to 1"):
        own_device(2, "4,5")


@pytest.mark.parametrize(("visible", "order", "after"), [("", "", "PCI_BUS_ID"), ("1", "", ""), ("", "a", "a")])
def test_gpus_are_counted_as_nvidia_smi_does_unless_the_operator_counts_himself(monkeypatch, visible, order, after):
    for name, value in ((VISIBLE, visible), (ORDER, order)):
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    number_as_nvidia_smi()
    assert os.environ.get(ORDER, "") == after


def test_what_a_process_has_found_crosses_a_pipe():
    found = Found("NVIDIA \u00e9, 139 GiB", 2, "")
    assert unpack(found.pack()) == found
    assert found.is_gpu
    assert not Found("cpu", 2, "no GPU").is_gpu
    assert summary(["a", "b", "a"]) == "2 x a + b"


def test_on_two_devices_as_on_one(series, publish, tmp_path, unhurried):
    expected = unhurried(150, 3)
    folder = tmp_path / "two"
    with publish(series(150)) as uri, daemon(uri, folder, particles=3, devices=2) as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert json.loads((folder / "session.json").read_text())["device"] == "2 x stand-in"
    assert "reconstruction on GPU 0 (stand-in); GPU 1 (stand-in), 2 workers" in text
    last = timeline(folder)[-1]
    assert last.device == "2 x stand-in"
    assert [(worker.where, worker.alive) for worker in last.workers] == [("GPU 0", True), ("GPU 1", True)]
    assert [view.where for view in last.particles] == ["GPU 0", "GPU 1", "GPU 0"]
    assert bytes_of(folder / "particles") == expected


@pytest.mark.parametrize(
    ("options", "parts", "visible", "places", "said"),
    [
        ((), {"devices": 2, "crashes": 1}, "", ["GPU 0", "GPU 0"], "process died (exit code 7)"),
        (("--gpus", "2,1"), {"devices": 9}, "4,6,8", ["GPU 2", "GPU 1"], "GPU 2 (stand-in); GPU 1 (stand-in)"),
    ],
)
def test_gpus_that_work_are_used_and_of_the_others_it_is_said(
    series, publish, tmp_path, monkeypatch, options, parts, visible, places, said
):
    """All cases are in test_crew.py; here they are processes."""
    folder = tmp_path / "chosen"
    monkeypatch.setenv(VISIBLE, visible)
    with publish(series(60)) as uri, daemon(uri, folder, *options, particles=2, **parts) as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    last = timeline(folder)[-1]
    assert [view.where for view in last.particles] == places
    assert said in text


def test_gpus_that_are_asked_for_must_work(tmp_path):
    with daemon("zmq+tcp://127.0.0.1:9", tmp_path / "none", "--device", "gpu") as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode != 0, text
    assert "GPU 0 is not used: no GPU: deliberate" in text


def test_a_gpu_that_dies_takes_its_particles_and_newcomers_go_to_the_others(series, publish, tmp_path):
    """The first particle fails, and the GPU with it; the process ends instead of failing one after the other."""
    folder = tmp_path / "dies"
    parts = {"particles": 3, "devices": 2, "dies": 0, "fail_at": 25}
    with publish(series(60)) as uri, daemon(uri, folder, **parts) as process:
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 1, text
    assert "GPU 0: the reconstruction process failed: deliberately broken" in text
    last = timeline(folder)[-1]
    assert [(view.where, view.state) for view in last.particles] == [
        ("GPU 0", "FAILED"), ("GPU 1", "DONE"), ("GPU 0", "FAILED"),
    ]  # fmt: skip
    assert [(worker.where, worker.alive) for worker in last.workers] == [("GPU 1", True), ("GPU 0", False)]
    assert last.particles[0].note == "GPU 0: the reconstruction process failed: deliberately broken"
    assert last.stream.used == 60
    assert last.particles[1].frames_in_flight == 0


@LINUX
def test_several_workers_share_the_processor(series, publish, tmp_path, unhurried):
    expected = unhurried(150, 3)
    folder = tmp_path / "shared"
    with publish(series(150)) as uri, daemon(uri, folder, "--workers", "3", particles=3) as process:
        wait_for(lambda: len(workers(process.pid)) == 3 or process.poll() is not None, "three workers")
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert json.loads((folder / "session.json").read_text())["device"] == "cpu"
    assert bytes_of(folder / "particles") == expected


@LINUX
def test_a_killed_worker_is_said_and_the_recording_goes_on(series, publish, tmp_path):
    folder = tmp_path / "killed"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder, "--record") as process:
        wait_for((folder / "particles" / "P001" / "map.mrc").exists, "a map")
        (worker,) = workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: [view.state for view in timeline(folder)[-1].particles] == ["FAILED"], "it to be noticed")
        recorded = timeline(folder)[-1].stream.recorded
        wait_for(lambda: timeline(folder)[-1].stream.recorded > recorded + 100, "the recording to go on")
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 1, text
    assert "the reconstruction process died (signal 9)" in text
    facts = json.loads((folder / "session.json").read_text())
    books = facts["accounting"]
    assert books["in_flight"] == 0
    assert books["received"] == books["used"] + sum(books["dropped"].values())
    summary = json.loads((folder / "particles" / "P001" / "summary.json").read_text())
    assert summary["state"] == "FAILED"
    assert summary["frames_rejected"]["lost with the reconstruction"] > 100
    assert summary["frames_seen"] == summary["frames_used"] + sum(summary["frames_rejected"].values())
    assert (folder / "particles" / "P001" / "map.mrc").exists()


@LINUX
def test_without_a_worker_and_a_recording_nothing_is_left_to_do(series, publish, tmp_path):
    folder = tmp_path / "killed"
    with publish(series(100_000, end=False)) as uri, daemon(uri, folder) as process:
        wait_for((folder / "particles" / "P001" / "map.mrc").exists, "a map")
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 1, text
    assert "nothing is left to do" in text


@LINUX
def test_stopped_twice_in_the_middle_of_a_long_piece_it_ends_at_once(series, publish, tmp_path):
    folder = tmp_path / "stopped"
    with publish(series(300)) as uri, daemon(uri, folder, work_s=3600.0) as process:
        wait_for(lambda: timeline(folder) and timeline(folder)[-1].phase == "FINISHING", "the end of the series")
        found = workers(process.pid)
        process.send_signal(signal.SIGINT)
        read_until(process, "asked to stop")  # two signals at once would count as one
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 1, text
    assert "stopped at once" in text
    assert "received 300 = used 300" in text
    summary = json.loads((folder / "particles" / "P001" / "summary.json").read_text())
    assert summary["frames_rejected"] == {"stopped": 296}
    assert summary["note"] == "296 frames were not worked off: stopped"
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)


@LINUX
def test_a_worker_that_hangs_is_noticed_and_everything_else_goes_on(series, publish, tmp_path):
    folder = tmp_path / "session"
    hung = ("--record", "--hung", "5")
    with publish(series(400)) as uri, daemon(uri, folder, *hung, work_s=0.1) as process:
        wait_for((folder / "particles" / "P001" / "summary.json").exists, "a map")
        (worker,) = workers(process.pid)
        os.kill(worker, signal.SIGSTOP)
        text, _ = process.communicate(timeout=300)
    assert process.returncode == 1, text
    assert "the reconstruction process hung for" in text
    facts = json.loads((folder / "session.json").read_text())
    books = facts["accounting"]
    assert (books["received"], books["used"], books["recorded"], books["in_flight"]) == (400, 400, 400, 0)
    assert json.loads((folder / "particles" / "P001" / "summary.json").read_text())["state"] == "FAILED"
