"""Order, urgency and losses when the reconstruction cannot follow, without processes."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest

from tumble.daemon.dispatch import Dispatcher, Loss, WorkerDied, _Lane
from tumble.daemon.parcels import Meeting, Sighting, sighting, unpack
from tumble.daemon.pipeline import DIED, NO_DISK, NOISE_EVERY, Pipeline
from tumble.daemon.workers import WorkerHere
from tumble.recon.records import Observation, Verdict
from tumble.stream.frame import Frame


class Slow:
    """A worker that holds a few messages and works off one now and then; dies when told to."""

    reports = None
    where = ""

    def __init__(self, parts, room: int = 5) -> None:
        self.here, self.room = WorkerHere(parts), room
        self.held = []
        self.seen: list[int] = []  # particles, in the order in which they were worked off
        self.dead = False

    def offer(self, parcel):
        if self.dead:
            raise WorkerDied("died")
        if len(self.held) >= self.room:
            return False
        self.held.append(parcel)
        return True

    def work(self, count: int) -> None:
        for parcel in self.held[:count]:
            self.seen.append(unpack(parcel).particle)
            self.here.offer(parcel)
        del self.held[:count]

    def receive(self):
        if self.dead:
            raise WorkerDied("died")
        return self.here.receive()

    def memory_MiB(self):
        return 1.5


def observation(particle: int, frame: int) -> Observation:
    return Observation(particle, frame, 0.1 * frame, np.full((8, 8), frame, np.float32), (0, 0), (5.0, 5.0), 0.5)


def frames(series, count):
    return [event for event in series(count) if isinstance(event, Frame)]


def results(worker) -> list[bytes]:
    tasks = worker.here.workshop.tasks if isinstance(worker, Slow) else worker.workshop.tasks
    found = [task.result() for _, task in sorted(tasks.items())]
    return [result.map.tobytes() + repr([(row.frame, row.used) for row in result.poses]).encode() for result in found]


@pytest.mark.parametrize(("every", "count", "room"), [(1, 1, 5), (7, 3, 4), (200, 1, 50), (1, 0, 30)])
def test_no_result_depends_on_the_timing(every, count, room, series, fake_parts, tmp_path):
    unhurried = WorkerHere(fake_parts(particles=3))
    pipeline = Pipeline(fake_parts(particles=3), 16, 16, 0.5, dispatcher=Dispatcher([unhurried]))
    for frame in frames(series, 200):
        pipeline.step(frame)
    pipeline.finish()

    slow = Slow(fake_parts(particles=3), room)
    dispatcher = Dispatcher([slow], tmp_path)
    pipeline = Pipeline(
        fake_parts(particles=3), 16, 16, 0.5, dispatcher=dispatcher, between=lambda: slow.work(max(1, count))
    )
    behind = 0
    for given, frame in enumerate(frames(series, 200)):
        pipeline.step(frame)
        if given % every == 0:
            slow.work(count)
        behind = max(behind, dispatcher.on_disk_bytes)
        assert pipeline.books.used == max(0, given + 1 - 5)  # tracking waits for nobody
        for entry in pipeline.particles.values():
            status = entry.status()
            settled = status.frames_used + sum(status.frames_rejected.values()) + status.frames_in_flight
            assert status.frames_seen == settled == entry.given
    assert behind
    pipeline.finish()
    assert results(slow) == results(unhurried)
    assert pipeline.books.problems == []
    assert pipeline.waiting == dispatcher.on_disk_bytes == 0


def test_the_background_has_its_place_in_the_sequence(series, fake_parts):
    class Listening(WorkerHere):
        def __init__(self, parts):
            super().__init__(parts)
            self.kinds = []

        def offer(self, parcel):
            self.kinds.append(type(unpack(parcel)).__name__)
            return super().offer(parcel)

    worker = Listening(fake_parts())
    pipeline = Pipeline(fake_parts(), 16, 16, 0.5, dispatcher=Dispatcher([worker]))
    for frame in frames(series, 180):
        pipeline.step(frame)
    pipeline.finish()
    seen = 0
    places = []
    for kind in worker.kinds:
        seen += kind == "Sighting"
        if kind == "Background":
            places.append(seen + 1)
    assert places == [NOISE_EVERY, 2 * NOISE_EVERY, 3 * NOISE_EVERY, seen + 1]  # the last before the ending
    assert worker.kinds[0] == "Meeting"
    assert worker.kinds[-1] == "Ending"


def test_the_most_urgent_is_worked_off_first(fake_parts, tmp_path):
    """A failed one costs nothing; then those without a map, the fullest first; then the one farthest behind."""

    class Parts(fake_parts):
        def particle(self, number, *rest):
            made = super().particle(number, *rest)
            made.bootstrap = 3 if number <= 2 else 1000  # the first two have a map soon
            if number == 5:
                made.fail_at = 1
            return made

    slow = Slow(Parts(), room=4)
    dispatcher = Dispatcher([slow], tmp_path)
    for number in (1, 2, 3, 4, 5):
        dispatcher.meet(Meeting(number, 0.5, 20.0))

    def work_all() -> None:
        while slow.held:
            slow.work(10)
            list(dispatcher.reports())

    def give(number: int, count: int, arrived_s: float) -> None:
        for frame in range(count):
            assert dispatcher.give(sighting(observation(number, frame), arrived_s))

    for number, count in ((1, 6), (2, 6), (3, 8), (4, 2), (5, 1)):
        give(number, count, 100.0 - number)
        work_all()
    for task in slow.here.workshop.tasks.values():
        task.told_s = 0.0
    list(dispatcher.reports())
    slow.seen.clear()
    slow.room = 0
    for number in (1, 2, 3, 4, 5):
        give(number, 2, 200.0)
    slow.room = 1
    work_all()
    list(dispatcher.reports())
    work_all()
    assert slow.seen == [5, 5, 3, 3, 4, 4, 2, 1, 1, 2]  # 2 came first; then all are equally far behind
    dispatcher.close()


def test_nearest_to_a_verdict_comes_before_farthest_behind_and_the_settled_come_last():
    def lane(word: str | None, proposals: int = 0, sent_s: float = 0.0, state: str = "MAPPING") -> _Lane:
        verdict = None if word is None else Verdict(word, proposals=proposals)
        return _Lane(1, Slow(None), None, state=state, verdict=verdict, sent_s=sent_s)

    ordered = [
        lane(None, state="FAILED", sent_s=9.0),
        lane("SEARCHING", state="INDEXING", sent_s=9.0),
        lane("CONTINUE", proposals=2, sent_s=9.0),
        lane("CONTINUE", proposals=1, sent_s=1.0),
        lane("STARVED", sent_s=1.0),
        lane(None, sent_s=2.0),
        lane("ENOUGH", sent_s=0.0),
    ]
    mixed = ordered[::-1]
    mixed.sort(key=_Lane.urgency)
    assert mixed == ordered


def test_a_full_disk_is_said_once_and_counted(series, fake_parts, tmp_path, monkeypatch):
    said: list[str] = []
    slow = Slow(fake_parts(), room=5)
    dispatcher = Dispatcher([slow], tmp_path)
    pipeline = Pipeline(fake_parts(), 16, 16, 0.5, dispatcher=dispatcher, between=lambda: slow.work(1), say=said.append)
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda number, parts, at: write(number, parts, at) if at < 20_000 else 0)
    for frame in frames(series, 200):
        pipeline.step(frame)
    lost = pipeline.particles[1].lost[NO_DISK]
    assert lost > 50
    assert sum("loses frames" in words for words in said) == 1
    pipeline.finish()
    status = pipeline.particles[1].status()
    assert status.frames_rejected[NO_DISK] >= lost
    assert status.frames_seen == status.frames_used + sum(status.frames_rejected.values())
    assert status.state == "DONE"
    assert pipeline.books.problems == []


def test_particles_are_dealt_out_and_a_dead_worker_takes_only_its_own(series, fake_parts, tmp_path):
    said: list[str] = []
    workers = [Slow(fake_parts(particles=3)), Slow(fake_parts(particles=3))]
    dispatcher = Dispatcher(workers, tmp_path)

    def work() -> None:
        for worker in workers:
            if not worker.dead:
                worker.work(10)

    pipeline = Pipeline(fake_parts(particles=3), 16, 16, 0.5, dispatcher=dispatcher, between=work, say=said.append)
    for number, frame in enumerate(frames(series, 200)):
        pipeline.step(frame)
        work()
        workers[0].dead = number >= 100
    assert set(workers[0].seen) == {1, 3}
    assert set(workers[1].seen) == {2}
    pipeline.finish()
    assert "died" in said
    assert {number: entry.status().state for number, entry in pipeline.particles.items()} == {
        1: "FAILED", 2: "DONE", 3: "FAILED",
    }  # fmt: skip
    for number in (1, 3):
        entry = pipeline.particles[number]
        assert entry.lost[DIED] > 90
        assert entry.status().frames_in_flight == 0
        assert entry.failure == "died"
    assert pipeline.books.used == 200
    assert pipeline.books.problems == []
    assert dispatcher.workers == 1


def test_a_newcomer_goes_to_the_worker_with_fewest_particles(fake_parts, tmp_path):
    workers = [Slow(fake_parts()) for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.where = f"GPU {number}"
    dispatcher = Dispatcher(workers, tmp_path)
    assert [dispatcher.meet(Meeting(n, 0.5, 20.0)) for n in range(1, 7)] == 2 * ["GPU 0", "GPU 1", "GPU 2"]
    dispatcher.forget(2)  # the operator has excluded it
    dispatcher.end(5)
    workers[1].work(10)
    assert any(report.ended for report in dispatcher.reports())
    workers[2].dead = True
    assert [loss.particles for loss in dispatcher.reports() if isinstance(loss, Loss)] == [(3, 6)]
    assert [dispatcher.meet(Meeting(n, 0.5, 20.0)) for n in range(7, 10)] == ["GPU 1", "GPU 1", "GPU 0"]
    assert [(view.where, view.alive, view.particles) for view in dispatcher.shifts()] == [
        ("GPU 0", True, 3), ("GPU 1", True, 2), ("GPU 2", False, 0),
    ]  # fmt: skip
    dispatcher.close()


def test_with_no_worker_left_new_particles_fail_at_once(fake_parts, tmp_path):
    slow = Slow(fake_parts())
    dispatcher = Dispatcher([slow], tmp_path)
    dispatcher.meet(Meeting(1, 0.5, 20.0))
    slow.dead = True
    assert list(dispatcher.reports()) == [Loss((1,), "died")]
    assert dispatcher.give(sighting(observation(1, 3), 0.0))  # to nobody
    dispatcher.end(1)
    with pytest.raises(WorkerDied):
        dispatcher.meet(Meeting(2, 0.5, 20.0))
    dispatcher.close()


def test_what_cannot_be_read_back_ends_that_particle_only(series, fake_parts, tmp_path, monkeypatch):
    slow = Slow(fake_parts(particles=2), room=5)
    pipeline = Pipeline(
        fake_parts(particles=2), 16, 16, 0.5, dispatcher=Dispatcher([slow], tmp_path), between=lambda: slow.work(5)
    )
    for frame in frames(series, 100):
        pipeline.step(frame)
    read = os.pread
    broken = pipeline.dispatcher._lanes[2].spool._segments[0].file.fileno()
    monkeypatch.setattr(os, "pread", lambda number, size, at: b"" if number == broken else read(number, size, at))
    monkeypatch.setattr("tumble.daemon.workshop.REPORT_EVERY_S", 0.0)  # it is heard of after its loss, too
    pipeline.finish()
    assert pipeline.particles[1].status().state == "DONE"
    failed = pipeline.particles[2].status()
    assert failed.state == "FAILED"
    assert "read back" in failed.note
    assert failed.frames_seen == failed.frames_used + Counter(failed.frames_rejected).total()


def test_observations_that_are_not_accepted_take_no_room(series, fake_parts, tmp_path):
    dispatcher = Dispatcher([Slow(fake_parts(), room=1)], tmp_path)
    dispatcher.meet(Meeting(1, 0.5, 20.0))
    seen = observation(1, 5)
    dispatcher.give(sighting(seen, 0.0))
    with_box = dispatcher.on_disk_bytes
    refused = Observation(1, 6, 0.6, seen.box, (0, 0), (5.0, 5.0), 0.5, accepted=False, reason="edge")
    dispatcher.give(sighting(refused, 0.0))
    assert dispatcher.on_disk_bytes - with_box < with_box
    assert isinstance(sighting(refused, 0.0), Sighting)
    dispatcher.close()
    assert dispatcher.on_disk_bytes == 0
