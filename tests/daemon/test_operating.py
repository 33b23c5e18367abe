"""Pause, mark, exclude and stop: at a frame, counted, and written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tumble.daemon.endpoints import running
from tumble.daemon.errors import TumbleError
from tumble.daemon.operating import EXCLUDED, JOURNAL, PAUSED, Operator
from tumble.daemon.orders import Order, Orders
from tumble.daemon.stops import StopRequests
from tumble.daemon.viewer import Viewer, give_order

from .programs import PATIENCE_S, wait_for

PROGRAM = Path(__file__).with_name("fake_daemon.py")


def summary(run, name: str = "P001") -> dict:
    return json.loads((run.folder / "particles" / name / "summary.json").read_text())


@pytest.fixture
def run_with(run_service, series, publish):
    """Run a small series in which an operator does something after certain frames."""

    def run(*orders: tuple[int, Order], parts=None, folder: str = "session"):
        def during(service, intake, stops):
            service._operator = Operator(Orders(), stops, service._reporter.say, repeat=orders)
            service._reporter.operator = service._operator

        with publish(series(120)) as uri:
            return run_service(uri, parts, folder=folder, during=during)

    return run


def test_paused_frames_are_received_and_counted_but_not_analysed(run_with):
    run = run_with((39, Order("pause", who="anna")), (59, Order("resume", who="anna")))
    assert run.code == 0, run.text
    assert f"received 120 = used 100 + rejected 20 ({PAUSED} 20) + dropped 0 + in flight 0" in run.text
    assert "paused: frames are received and recorded, not analysed (anna)" in run.text
    poses = (run.folder / "particles" / "P001" / "poses.csv").read_text().splitlines()[1:]
    frames = {int(line.split(",")[0]) for line in poses}
    assert not frames & set(range(40, 60))
    assert 60 in frames


def test_a_pause_and_a_mark_are_in_the_snapshots(run_with):
    run = run_with((39, Order("mark", "beam moved", who="anna")), (99, Order("pause", who="anna")))
    assert run.code == 0, run.text
    last = json.loads((run.folder / "timeline.jsonl").read_text().splitlines()[-1])
    assert last["paused"] is True
    assert last["mark"].startswith("beam moved (after frame ")


def test_an_excluded_particle_gets_no_more_work_and_every_frame_a_place(run_with, fake_parts):
    run = run_with((79, Order("exclude", "P001", 1, "anna")), parts=fake_parts(particles=2))
    assert run.code == 0, run.text
    assert "received 120 = used 120" in run.text
    assert "DOES NOT ADD UP" not in run.text
    gone, other = summary(run), summary(run, "P002")
    assert gone["state"] == "EXCLUDED"
    assert gone["frames_rejected"][EXCLUDED] >= 40
    assert gone["frames_used"] + sum(gone["frames_rejected"].values()) == gone["frames_seen"] == other["frames_seen"]
    assert other["state"] == "DONE"
    assert EXCLUDED not in other["frames_rejected"]


def test_the_other_particle_is_the_same_bits(run_with, fake_parts):
    runs = [
        run_with(parts=fake_parts(particles=2), folder="without"),
        run_with((60, Order("exclude", "P001", 1, "anna")), parts=fake_parts(particles=2), folder="with"),
    ]
    maps = [(run.folder / "particles" / "P002" / "map.mrc").read_bytes() for run in runs]
    assert maps[0] == maps[1]


def test_excluding_what_is_not_there_changes_nothing(run_with):
    run = run_with((50, Order("exclude", "P009", 9, "anna")))
    assert run.code == 0, run.text
    assert "received 120 = used 120" in run.text


def test_orders_are_written_down_with_their_frame(tmp_path):
    said: list[str] = []
    orders, stops = Orders(), StopRequests()
    operator = Operator(orders, stops, said.append, tmp_path)
    for order in (Order("mark", "beam moved", who="anna"), Order("pause", who="ben"), Order("stop", who="anna")):
        orders.put(order)
    operator.listen()
    assert stops.count == 1
    operator._last = 41
    operator.act(None)
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    assert [(line["after_frame"], line["order"], line["who"]) for line in lines] == [
        (41, "mark beam moved", "anna"),
        (41, "pause", "ben"),
    ]
    assert "mark (anna): beam moved" in said


def test_a_journal_that_cannot_be_written_ends_nothing(tmp_path):
    said = []
    orders = Orders()
    operator = Operator(orders, StopRequests(), said.append, tmp_path / "gone")
    orders.put(Order("mark", "beam moved", who="anna"))
    operator.listen()
    operator.act(None)
    assert operator.mark.startswith("beam moved")
    assert said[0].endswith("'mark beam moved' is not repeated after a crash")
    assert said[1] == "mark (anna): beam moved"


def test_a_running_daemon_takes_orders_over_its_socket(series, publish, tmp_path):
    folder = tmp_path / "session"
    with publish(series(100_000, end=False)) as uri:
        words = [sys.executable, str(PROGRAM), uri, str(folder), "0.002"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                wait_for(running, "the daemon")
                with Viewer(running()[-1]["endpoint"], PATIENCE_S) as viewer:
                    wait_for(lambda: viewer.latest().particles, "a particle")
                    give_order("mark the beam was moved")
                    give_order("pause")
                    wait_for(lambda: viewer.latest().stream.rejected.get(PAUSED), "paused frames")
                    give_order("resume")
                    with pytest.raises(TumbleError, match="no particle P077"):
                        give_order("exclude 77")
                    give_order("exclude P001")
                    wait_for(lambda: viewer.latest().particles[0].state == "EXCLUDED", "the exclusion")
                give_order("stop")
                text, _ = process.communicate(timeout=300)
            finally:
                process.kill()
    assert process.returncode == 0, text
    assert "mark (this user): the beam was moved" in text
    assert "this user asks to stop" in text
    facts = json.loads((folder / "session.json").read_text())
    assert facts["phase"] == "DONE"
    journal = [json.loads(line)["order"] for line in (folder / JOURNAL).read_text().splitlines()]
    assert journal == ["mark the beam was moved", "pause", "resume", "exclude P001"]
