"""The command line: exit codes, one-line errors, and the main paths with the real stages on small movies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import tumble
from tumble.daemon.cli import main

COMMANDS = ("demo", "run", "replay", "simulate", "watch", "status", "report", "doctor")


def call(*words: str | Path, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess:
    """Run `tumble` as a program."""
    command = [sys.executable, "-m", "tumble", *map(str, words)]
    settings = {**os.environ, "NUMBA_NUM_THREADS": "1", "TUMBLE_DEVICE": "cpu", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=settings, check=False)


@pytest.fixture
def ask(capfd):
    """Run a command in this process; returns (exit code, standard output, standard error)."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(None, [str(word) for word in words])
        out, error = capfd.readouterr()
        return int(caught.value.code or 0), out, error

    return run


@pytest.fixture(scope="module")
def empty_movie(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("movie") / "empty.h5"
    made = call("simulate", path, "--frames", "70", "--size", "96", "--no-particles")
    assert made.returncode == 0, made.stderr
    return path


def test_help_names_every_command_and_loads_nothing_heavy(ask):
    code, out, _ = ask("--help")
    assert code == 0
    assert all(re.search(rf"^  {name} ", out, re.MULTILINE) for name in COMMANDS)
    heavy = ("numba", "scipy", "h5py", "zmq", "ase")
    probe = f"import sys, tumble.__main__; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, ask):
    code, out, _ = ask(name, "--help")
    assert code == 0
    assert "Usage: tumble" in out


def test_the_version(ask):
    assert ask("--version")[:2] == (0, f"tumble {tumble.__version__}\n")


@pytest.mark.parametrize(
    ("words", "explanation"),
    [
        (["frob"], "No such command"),
        (["run"], "give --source"),
        (["run", "--source", "detector:31001"], "is not a stream address"),
        (["run", "--source", "zmq+tcp://d:1", "--config", "no_such.toml"], "no_such.toml"),
        (["run", "--source", "zmq+tcp://d:1", "--element", "platinum"], "reconstruction.element"),
        (["run", "--source", "zmq+tcp://d:1", "--target", "0.1"], "reconstruction.target_resolution_A"),
        (["demo", "--target", "12"], "reconstruction.target_resolution_A"),
        (["run", "--source", "zmq+tcp://d:1", "--pixel-size", "1", "--status", "tcp://0.0.0.0:5"], "no keys"),
        (["run", "--source", "zmq+tcp://d:1", "--threads", "many"], "--threads"),
        (["replay", "no_such.h5"], "no such file"),
        (["replay", "no_such.h5", "--speed", "fast"], "--speed fast"),
        (["replay", "no_such.h5", "--publish", "tcp://*:31001"], "no keys"),
        (["simulate"], "say where the frames go"),
        (["simulate", "out.h5", "--dose", "-1"], "dose_e_per_A2"),
        (["simulate", "out.h5", "--structure", "no_such.xyz"], "no_such.xyz"),
        (["simulate", "no_such_folder/out.h5"], "no folder"),
        (["watch"], "no dashboard"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(words, explanation, ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = ask(*words)
    assert code == 2
    assert out == ""
    assert error.startswith("tumble: ")
    assert error.count("\n") == 1
    assert explanation in error
    assert not list(tmp_path.glob("*.h5"))


def test_a_missing_pixel_size_is_told_before_the_stream_begins(ask):
    live = ("run", "--source", "tcp://127.0.0.1:9", "--status", "tcp://0.0.0.0:9")  # refused: not loopback
    assert "no --pixel-size" in ask(*live)[1]
    assert "no --pixel-size" not in ask(*live, "--pixel-size", "0.358")[1]


def test_nobody_to_ask(ask):
    code, _, error = ask("status")
    assert code == 1
    assert "no daemon" in error


def test_a_traceback_only_on_request(ask, tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("not HDF5")
    assert "Traceback" not in ask("replay", path)[2]
    code, _, error = ask("replay", path, "--debug")
    assert code == 2
    assert "Traceback" in error
    os.environ.pop("TUMBLE_DEBUG", None)


def test_an_empty_movie_is_replayed_and_nothing_is_found(empty_movie, tmp_path):
    done = call("replay", empty_movie, "--speed", "max", "--headless", "--session", tmp_path / "session")
    assert done.returncode == 0, done.stderr
    assert "no particle in this movie" in done.stdout
    assert "received 70 = used 70 + rejected 0 + dropped 0 + in flight 0" in done.stdout
    assert done.stderr == ""
    facts = json.loads((tmp_path / "session" / "session.json").read_text())
    assert facts["phase"] == "DONE"
    assert facts["series"]["pixel_size_A"] == pytest.approx(0.358)
    again = call("replay", empty_movie, "--headless", "--session", tmp_path / "session")
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_bad_frames_are_booked(empty_movie, tmp_path):
    path = tmp_path / "bad.h5"
    with h5py.File(empty_movie) as source, h5py.File(path, "w") as file:
        frames = source["frames"][()]
        frames[[20, 55]] = 0
        made = file.create_dataset("frames", data=frames)
        made.attrs.update(dict(source["frames"].attrs))
    done = call("replay", path, "--speed", "max", "--headless", "--session", tmp_path / "session")
    assert done.returncode == 0, done.stderr
    assert re.search(r"received 70 = used 68 \+ rejected 2 \([a-z ]+ 2\) \+ dropped 0 \+ in flight 0", done.stdout)


def test_published_frames_are_taken_in_by_run(empty_movie, tmp_path):
    endpoint = f"ipc://{tmp_path}/stream"
    publisher = subprocess.Popen(
        [sys.executable, "-m", "tumble", "replay", str(empty_movie), "--speed", "max", "--publish", endpoint],
        stdout=subprocess.PIPE,
        text=True,
    )
    with publisher:
        done = call(
            "run", "--series", 1, "--source", f"zmq+{endpoint}", "--headless", "--session", tmp_path / "session"
        )
        out, _ = publisher.communicate(timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "published 70 frames" in out
    with h5py.File(empty_movie) as sent, h5py.File(tmp_path / "session" / "frames.h5") as kept:
        assert np.array_equal(sent["frames"][()], kept["entry/data/data"][()])


def test_a_publisher_nobody_listens_to_can_be_stopped(empty_movie):
    publisher = subprocess.Popen(
        [sys.executable, "-m", "tumble", "replay", str(empty_movie), "--publish", "tcp://127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with publisher:
        assert publisher.stdout is not None
        assert "publishing on zmq+tcp://127.0.0.1:" in publisher.stdout.readline()
        publisher.send_signal(signal.SIGINT)
        assert publisher.wait(300) == 0


def test_a_recording_without_pixel_size_is_asked_for_it(tmp_path, ask):
    path = tmp_path / "bare.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.ones((4, 32, 32), np.uint16)
    code, _, error = ask("replay", path)
    assert code == 2
    assert "--pixel-size" in error


def test_the_simulation_has_its_truth_beside(tmp_path):
    path = tmp_path / "small.h5"
    options = ["--frames", "3", "--size", "96", "--atoms", "55", "--element", "Au", "--dose", "30", "--rotation", "1"]
    made = call("simulate", path, *options, "--seed", "4")
    assert made.returncode == 0, made.stderr
    assert sorted(found.name for found in tmp_path.glob("*.h5")) == ["small.h5", "small_truth.h5"]
    assert call("simulate", path).returncode == 2
    with h5py.File(path) as file:
        assert file["frames"].shape == (3, 96, 96)


def test_the_doctor_finds_this_machine_well():
    done = call("doctor")
    assert done.returncode == 0, done.stdout
    states = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert set(states) <= {"ok", "missing", "broken"}
    assert "everything that is needed works" in done.stdout


@pytest.mark.slow
def test_the_same_movie_twice_gives_the_same_particle(tmp_path):
    movie = tmp_path / "movie.h5"
    scene = ["--frames", "175", "--size", "112", "--atoms", "79", "--dose", "160"]  # so bright that few frames do
    assert call("simulate", movie, *scene).returncode == 0
    folders = []
    for name in ("first", "second"):
        options = ["--speed", "max", "--headless", "--bootstrap-frames", "150", "--threads", "1", "--element", "Pt"]
        done = call("replay", movie, *options, "--session", tmp_path / name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "received 175 = used 175 + rejected 0 + dropped 0 + in flight 0" in done.stdout
        folders.append(tmp_path / name / "particles" / "P001")
    files = {path.name for path in folders[0].iterdir()}
    assert {"map.mrc", "half1.mrc", "half2.mrc", "atoms.xyz", "poses.csv", "fsc.csv", "coverage.csv"} < files
    for name in files:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    summary = json.loads((folders[0] / "summary.json").read_text())
    assert summary["state"] == "DONE"
    assert summary["frames_used"] > 160
    assert 74 <= summary["atoms"] <= 84
    facts = json.loads((tmp_path / "first" / "session.json").read_text())
    assert facts["config"]["reconstruction"]["threads"] == 1
    assert facts["device"] == "cpu"
