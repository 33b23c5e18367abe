"""The pipeline without threads, sockets or processes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tumble.daemon.dispatch import Dispatcher
from tumble.daemon.particles import ParticleEntry
from tumble.daemon.pipeline import Pipeline
from tumble.daemon.service import Service
from tumble.recon.records import TrackedParticle
from tumble.stream.frame import Frame


def frames(series, count, **options):
    return [event for event in series(count, **options) if isinstance(event, Frame)]


def test_every_frame_is_somewhere_at_every_moment(series, fake_parts):
    pipeline = Pipeline(fake_parts(), 16, 16, 0.5)
    for given, frame in enumerate(frames(series, 60, blank=(4, 30)), start=1):
        pipeline.step(frame)
        books = pipeline.books
        assert books.stepped == given == books.used + sum(books.rejected.values()) + len(books.held)
    pipeline.finish()
    assert pipeline.books.held == set()
    assert pipeline.books.used == 58
    assert pipeline.books.rejected == {"blank": 2}
    assert pipeline.books.problems == []


def test_frames_that_cannot_be_are_rejected_by_name(series, fake_parts):
    pipeline = Pipeline(fake_parts(), 16, 16, 0.5)
    good = frames(series, 3)
    pipeline.step(good[1])
    pipeline.step(good[1])
    pipeline.step(good[0])
    pipeline.step(Frame(1, 2, np.ones((8, 8), np.uint16), 0.0))
    pipeline.finish()
    assert pipeline.books.rejected == {"repeated image number": 2, "wrong size": 1}
    assert pipeline.books.used == 1


def test_the_frame_may_be_overwritten_after_the_step(series, fake_parts):
    maps = []
    for overwrite in (False, True):
        pipeline = Pipeline(fake_parts(), 16, 16, 0.5)
        for frame in frames(series, 50):
            pipeline.step(frame)
            if overwrite:
                frame.data[:] = 0
        pipeline.finish()
        maps.append(pipeline.dispatcher._workers[0].workshop.tasks[1].result().map)
    assert np.array_equal(*maps)


def test_a_front_end_that_loses_a_frame_is_found_out(series, fake_parts):
    class Forgetful(fake_parts):
        def front_end(self, height, width, pixel_size_A):
            made = super().front_end(height, width, pixel_size_A)
            step = made.step
            made.step = lambda index, time_s, data: made._output() if index == 3 else step(index, time_s, data)
            return made

    pipeline = Pipeline(Forgetful(), 16, 16, 0.5)
    for frame in frames(series, 20):
        pipeline.step(frame)
    pipeline.finish()
    assert pipeline.books.problems == ["the front end kept 1 frames, the first is 3"]


def test_a_particle_that_loses_an_observation_is_found_out(series, fake_parts):
    class Forgetful(fake_parts):
        def particle(self, number, pixel_size_A, diameter_A, noise):
            made = super().particle(number, pixel_size_A, diameter_A, noise)
            push = made.push
            made.push = lambda observation: None if observation.frame == 15 else push(observation)
            return made

    pipeline = Pipeline(Forgetful(), 16, 16, 0.5)
    for frame in frames(series, 30):
        pipeline.step(frame)
    pipeline.finish()
    assert any("observations given" in words for words in pipeline.books.problems)


def test_the_operator_hears_few_words(series, fake_parts):
    said: list[str] = []
    pipeline = Pipeline(fake_parts(), 16, 16, 0.5, say=said.append)
    for frame in frames(series, 200):
        pipeline.step(frame)
    pipeline.finish()
    assert said[0].startswith("particle 1 found")
    assert said[1].startswith("P001 first map: resolution")
    assert all(words.startswith("P001 resolution 1.") for words in said[2:])  # 2.00 A at first, 1.83 A at the end
    assert 3 <= len(said) <= 4


def test_the_trend_is_bounded(series, fake_parts):
    pipeline = Pipeline(fake_parts(), 16, 16, 0.5)
    for frame in frames(series, 1500, size=8):
        pipeline.step(Frame(1, frame.index, np.ones((16, 16), np.uint16), 0.0))
    assert len(pipeline.particles[1].trend) <= 64


class Busy:
    """A worker that never has room again after its first messages."""

    where = ""
    reports = None

    def __init__(self, room: int) -> None:
        self.room = room

    def offer(self, parcel):
        self.room -= 1
        return self.room >= 0

    def receive(self):
        return []

    def memory_MiB(self):
        return 0.0


def test_a_source_that_can_wait_is_made_to_wait_and_can_be_stopped_meanwhile(series, fake_parts):
    class Stop(Exception):
        pass

    calls = []

    def between() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    pipeline = Pipeline(fake_parts(), 16, 16, 0.5, dispatcher=Dispatcher([Busy(20)]), between=between)

    def run() -> None:
        for frame in frames(series, 60):
            pipeline.step(frame)

    with pytest.raises(Stop):
        run()
    assert pipeline.waiting == 20  # the meeting, nineteen given, and the one it was waiting with
    pipeline.abandon("stopped")
    status = pipeline.particles[1].status()
    assert status.frames_in_flight == 0
    assert status.frames_rejected == {"stopped": 20}
    assert pipeline.books.dropped["stopped"] > 0


def test_a_lag_is_said_when_it_doubles_and_when_it_is_over():
    entry = ParticleEntry(TrackedParticle(1, (5.0, 5.0), 20.0, 9.0), given=10, applied=4, reached_s=100.0)
    said = [entry.lag_news(100.0 + seconds) for seconds in range(45)]
    assert [words for words in said if words] == [
        f"P001 is {seconds} s behind: 6 frames wait for the reconstruction" for seconds in (5, 10, 20, 40)
    ]
    entry.applied = 10
    assert entry.lag_s(200.0) == 0.0
    calm = [entry.lag_news(200.0 + seconds) for seconds in range(20)]
    assert [words for words in calm if words] == ["P001 has caught up"]


def test_frames_that_come_in_bursts_are_not_told_again_and_again():
    entry = ParticleEntry(TrackedParticle(1, (5.0, 5.0), 20.0, 9.0), given=10, applied=4, reached_s=100.0)
    said = []
    for second in range(40):
        entry.applied = 10 if second % 4 == 3 else 4
        said.append(entry.lag_news(190.0 + second))
    assert [words for words in said if words] == ["P001 is 90 s behind: 6 frames wait for the reconstruction"]


def test_the_lag_is_the_age_of_the_newest_frame_and_not_the_time_since_the_last_step():
    service = SimpleNamespace(
        _pipeline=SimpleNamespace(step=lambda *_: None),
        _operator=SimpleNamespace(admits=lambda *_: True),
        _intake=SimpleNamespace(frames=lambda _: iter([(SimpleNamespace(index=n), 100.0 + n) for n in range(3)])),
        _reporter=SimpleNamespace(fresh=0.0),
        _between=lambda: None,
    )
    Service._take(service, None)
    assert service._reporter.fresh == 102.0
