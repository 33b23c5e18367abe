"""What a reader that stands still does to the process that writes: nothing; and everything comes in order."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from tumble.daemon.config import StreamSettings
from tumble.daemon.intake import Batch, Intake, Over
from tumble.daemon.outbox import AT_ONCE, Outbox

from .programs import wait_for


@pytest.fixture
def ends():
    reader, writer = multiprocessing.Pipe(duplex=False)
    yield reader, writer
    reader.close()
    writer.close()


def test_a_reader_that_reads_costs_no_thread(ends):
    reader, writer = ends
    outbox, before = Outbox(writer), threading.active_count()
    for number in range(2000):
        outbox.send(("frames", number))
        assert reader.recv() == ("frames", number)
    assert threading.active_count() == before
    outbox.close()


def test_nothing_is_waited_for_and_all_comes_in_order(ends):
    reader, writer = ends
    outbox = Outbox(writer)
    sent = [(number, b"." * (number * 977 % (3 * AT_ONCE))) for number in range(400)]  # 2.4 MB; the pipe holds 64 kB
    for message in sent:
        outbox.send(message)
    assert [reader.recv() for _ in sent[:200]] == sent[:200]
    for message in sent:  # some go straight, some do not
        outbox.send(message)
    assert [reader.recv() for _ in range(600)] == sent[200:] + sent
    outbox.close()


def test_what_is_left_is_sent_before_it_closes(ends):
    reader, writer = ends
    outbox, found = Outbox(writer), []
    for number in range(10_000):
        outbox.send(number)
    taker = threading.Thread(target=lambda: found.extend(reader.recv() for _ in range(10_000)))
    taker.start()
    outbox.close()
    taker.join()
    assert found == list(range(10_000))


def test_a_reader_that_has_gone_is_said(ends):
    reader, writer = ends
    outbox = Outbox(writer)
    for number in range(10_000):
        outbox.send(number)
    reader.close()
    outbox.close()
    with pytest.raises(BrokenPipeError):
        outbox.send("more")


def test_a_daemon_that_stands_still_does_not_stop_the_recording(series, publish, tmp_path):
    """Announcements of 3000 frames, each alone at worst, are six times what a pipe holds."""
    count = 3000
    with publish(series(count, size=8)) as uri:
        settings = StreamSettings(source=uri, series=1, ring_MiB=8.0)
        with Intake(settings, tmp_path, record=True) as intake:
            began = intake.get(60.0)
            assert began is not None
            wait_for(lambda: intake.books(0).recorded == count, "all frames on disk, with none announced to anybody")
            frames = []
            while not isinstance(message := intake.get(60.0), Over):
                if isinstance(message, Batch):
                    frames += [frame.index for frame, _ in intake.frames(message)]
    assert frames == list(range(count))


def test_a_receiver_that_has_handed_over_all_does_not_stand_still(series, publish, tmp_path):
    with publish(series(20)) as uri:
        settings = StreamSettings(source=uri, series=1, ring_MiB=4.0)
        with Intake(settings, tmp_path, record=True) as intake:
            assert intake.get(60.0) is not None
            wait_for(
                lambda: intake.books(0).recorded == 20 and intake.silence_s() == 0.0, "silence that counts for nothing"
            )
            assert intake.books(0).handed_over == 20
