"""The daemon on real sockets, with a real receiver process and stand-ins for the stages."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import h5py
import hdf5plugin  # noqa: F401
import mrcfile
import numpy as np
import pytest

from tumble.daemon.snapshot import from_json

from .programs import wait_for


def accounting(run) -> dict:
    return json.loads((run.folder / "session.json").read_text())["accounting"]


def test_a_series_comes_out_as_a_session(series, publish, run_service):
    with publish(series(100, blank=(50, 60))) as uri:
        run = run_service(uri)
    assert run.code == 0, run.text
    assert "received 100 = used 98 + rejected 2 (blank 2) + dropped 0 + in flight 0" in run.text
    facts = json.loads((run.folder / "session.json").read_text())
    assert facts["phase"] == "DONE"
    assert facts["series"]["pixel_size_A"] == 0.5
    assert facts["accounting"]["received"] == 100
    particle = run.folder / "particles" / "P001"
    names = {"map.mrc", "half1.mrc", "half2.mrc", "atoms.xyz", "poses.csv", "fsc.csv", "coverage.csv", "summary.json"}
    assert {path.name for path in particle.iterdir()} == names
    with mrcfile.open(particle / "map.mrc") as file:
        assert file.voxel_size.x == pytest.approx(0.5)
    frames = [int(line.split(",")[0]) for line in (particle / "poses.csv").read_text().splitlines()[1:]]
    assert frames == [frame for frame in range(4, 100) if frame not in (50, 60)]
    snapshots = [from_json(line) for line in (run.folder / "timeline.jsonl").read_text().splitlines()]
    assert snapshots[-1].phase == "DONE"
    assert all(snapshot.stream.balance() == 0 for snapshot in snapshots)


def test_the_same_frames_give_the_same_bytes(series, publish, run_service):
    folders = []
    for name, ring_MiB in (("first", 4.0), ("second", 0.05)):
        with publish(series(120, blank=(7,))) as uri:
            run = run_service(uri, folder=name, ring_MiB=ring_MiB)
        assert run.code == 0, run.text
        folders.append(run.folder / "particles" / "P001")
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_an_empty_movie_says_so(series, publish, run_service, fake_parts):
    with publish(series(40)) as uri:
        run = run_service(uri, fake_parts(particles=0))
    assert run.code == 0
    assert "no particle in this movie" in run.text
    assert not (run.folder / "particles").exists()


def test_a_series_without_frames_is_no_failure(series, publish, run_service):
    with publish(series(0)) as uri:
        run = run_service(uri)
    assert run.code == 0, run.text
    assert "received 0 = used 0 + rejected 0 + dropped 0 + in flight 0" in run.text


def test_frames_are_recorded_as_they_came(series, publish, run_service):
    with publish(series(30)) as uri:
        run = run_service(uri, record=True)
    sent = np.array([event.data for event in series(30) if hasattr(event, "data")])
    with h5py.File(run.folder / "frames.h5") as file:
        assert np.array_equal(file["entry/data/data"][()], sent)
    assert accounting(run)["recorded"] == 30


def test_lost_image_numbers_are_counted_apart(series, publish, run_service):
    with publish(series(60, skip=(20, 21, 30))) as uri:
        run = run_service(uri)
    assert accounting(run)["missing"] == 3
    assert "received 57 = used 57" in run.text
    assert "3 lost before they reached us" in run.text


def test_silence_ends_the_series_with_code_3_and_files(series, publish, run_service):
    with publish([event for event in series(70, end=False) if getattr(event, "index", 0) < 60]) as uri:
        run = run_service(uri, timeout_s=4.0)
    assert run.code == 3
    assert "fell silent before its end; 10 of the 70 announced frames never came" in run.text
    assert "received 60 = used 60" in run.text
    assert (run.folder / "particles" / "P001" / "map.mrc").exists()


def test_a_pixel_size_is_needed(series, publish, run_service):
    from dataclasses import replace

    first, *rest = series(20)
    with publish([replace(first, pixel_size_A=None, user_data={}), *rest]) as uri:
        run = run_service(uri)
    assert run.code == 2
    assert "--pixel-size" in run.text
    assert "no frame was analysed" in run.text
    assert "no particle" not in run.text  # nobody has looked


def test_a_failing_particle_does_not_take_the_others_along(series, publish, run_service, fake_parts):
    with publish(series(80)) as uri:
        run = run_service(uri, fake_parts(particles=2, fail_at=30))
    assert run.code == 1
    assert "P001 failed: RuntimeError: deliberate" in run.text
    summary = json.loads((run.folder / "particles" / "P001" / "summary.json").read_text())
    assert summary["state"] == "FAILED"
    other = json.loads((run.folder / "particles" / "P002" / "summary.json").read_text())
    assert other["state"] == "DONE"
    assert "in flight 0" in run.text


def wait_for_frames(service, count: int) -> None:
    while service.frames < count:
        time.sleep(0.01)


class Endless:
    """A series that goes on until it is told to stop."""

    def __init__(self, series) -> None:
        self.events = series(100_000, end=False)
        self.given = 0

    def __iter__(self):
        for event in self.events:
            self.given += 1
            yield event
            if self.given > 60:
                time.sleep(0.002)


def test_asked_to_stop_it_finishes_what_it_has(series, publish, run_service):
    endless = Endless(series)

    def during(service, intake, stops) -> None:
        def later() -> None:
            wait_for_frames(service, 100)
            stops.request()

        threading.Thread(target=later, daemon=True).start()

    with publish(endless) as uri:
        run = run_service(uri, during=during)
    assert run.code == 0, run.text
    books = accounting(run)
    assert books["in_flight"] == 0
    assert books["received"] == books["used"] + sum(books["dropped"].values()) >= 100
    assert (run.folder / "particles" / "P001" / "map.mrc").exists()


def test_a_killed_receiver_is_noticed_and_the_rest_is_written(series, publish, run_service):
    endless = Endless(series)

    def during(service, intake, stops) -> None:
        def later() -> None:
            wait_for_frames(service, 100)
            os.kill(intake.pid, signal.SIGKILL)

        threading.Thread(target=later, daemon=True).start()

    with publish(endless) as uri:
        run = run_service(uri, during=during)
    assert run.code == 1
    assert "the receiver process died (signal 9)" in run.text
    books = accounting(run)
    assert books["in_flight"] == 0
    assert books["received"] == books["used"] + sum(books["dropped"].values())
    assert (run.folder / "particles" / "P001" / "map.mrc").exists()


@pytest.mark.parametrize("record", [False, True])
def test_a_full_ring_drops_with_a_reason_when_it_may(series, publish, run_service, fake_parts, record):
    """With a recording, frames wait on disk instead, and every one of them is used."""

    intakes = []

    class Slow(fake_parts):
        def front_end(self, height, width, pixel_size_A):
            made = super().front_end(height, width, pixel_size_A)
            step = made.step

            def late(index, time_s, data):
                if index == 0:
                    wait_for(lambda: intakes[0].books(0).received == 300, "all frames")
                return step(index, time_s, data)

            made.step = late
            return made

    with publish(series(300)) as uri:
        keep = lambda service, intake, stops: intakes.append(intake)  # noqa: E731
        run = run_service(uri, Slow(), when_full="drop", ring_MiB=0.02, queue=30, record=record, during=keep)
    assert run.code == 0, run.text
    books = accounting(run)
    lost = books["dropped"].get("ring full", 0) + books["dropped"].get("queue full", 0)
    assert (lost == 0) if record else (lost > 0)
    assert books["received"] == 300 == books["used"] + sum(books["dropped"].values())
    assert books["recorded"] == (300 if record else 0)
