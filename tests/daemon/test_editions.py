"""What viewers are not told again."""

from __future__ import annotations

import json
import threading
from copy import copy
from dataclasses import replace

import pytest
import zmq

from tumble.daemon.editions import KEPT, Editions, Reader
from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth
from tumble.daemon.viewer import Viewer

PICTURE = (bytes(range(4)), bytes(range(4, 8)))


def view(number: int, **given) -> ParticleView:
    known = {"coverage": (1, 2, 3), "slice_xy": PICTURE, "fsc": (1.0, 0.5), "resolution_trend": ((100, 1.5),)}
    return ParticleView(f"P{number:03d}", "MAPPING", (1.0, 2.0), 20.0, **known | given)


def snapshot(sequence: int, *views: ParticleView) -> Snapshot:
    return Snapshot(SCHEMA_VERSION, "0", sequence, 0.0, 0.0, "RUNNING", "here", StreamHealth(), views)


def test_only_what_changed_is_told_and_the_reader_has_all_of_it():
    editions, reader = Editions(), Reader()
    moments = [
        snapshot(1),
        snapshot(2, view(1)),
        snapshot(3, view(1, frames_used=7), view(2)),
        snapshot(4, view(1, coverage=(1, 2, 4)), view(2, slice_xy=())),
        snapshot(5, view(2, slice_xy=())),
        snapshot(6, view(1), view(2, fsc=())),
    ]
    for moment in moments:
        editions.add(moment)
        assert reader.read(editions.text(reader.edition)) == moment
        assert reader.edition == editions.number
    editions.add(replace(moments[-1], sequence=7))
    told = json.loads(editions.text(reader.edition))["particles"]
    assert all("slice_xy" not in particle and particle["frames_used"] == 0 for particle in told)
    assert reader.read(editions.text(reader.edition)) == replace(moments[-1], sequence=7)


def test_a_slow_viewer_is_told_all_that_changed_meanwhile():
    editions, reader = Editions(), Reader()
    editions.add(snapshot(1, view(1), view(2)))
    reader.read(editions.text(reader.edition))
    for number in range(2, KEPT + 5):
        editions.add(snapshot(number, view(1, coverage=(number,)), view(2)))
        late = copy(reader)
        assert late.read(editions.text(late.edition)) == snapshot(number, view(1, coverage=(number,)), view(2))


def test_editions_of_another_daemon_are_not_known():
    first, second = Editions(), Editions()
    reader = Reader()
    first.add(snapshot(1, view(1)))
    second.add(snapshot(1, view(1, coverage=(9,))))
    reader.read(first.text(0))
    assert "known" not in json.loads(second.text(reader.edition))
    assert reader.read(second.text(reader.edition)).particles[0].coverage == (9,)
    second.add(snapshot(2, view(1, coverage=(9,))))
    with pytest.raises(ValueError, match="since another"):
        Reader().read(second.text(second.number - 1))


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{}", b"\xff", b'{"known":"x","version":1}'])
@pytest.mark.parametrize("before", [False, True])
def test_what_is_no_snapshot(text, before):
    reader, editions = Reader(), Editions()
    editions.add(snapshot(1, view(1)))
    if before:
        reader.read(editions.text(0))
    with pytest.raises(ValueError, match="not a snapshot"):
        reader.read(text)


def test_an_edition_is_a_number():
    editions = Editions()
    editions.add(snapshot(1, view(1)))
    data = json.loads(editions.text(0)) | {"edition": "newest"}
    with pytest.raises(ValueError, match="no number"):
        Reader().read(json.dumps(data))


def test_before_the_first_snapshot_there_is_nothing_to_tell():
    assert not Editions()
    with pytest.raises(ValueError, match="no snapshot"):
        Editions().text()


def test_an_older_daemon_is_asked_for_all():
    asked: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")

        def serve() -> None:
            while len(asked) < 4 and socket.poll(30_000):
                *route, words = socket.recv_multipart()
                asked.append(words)
                about = (
                    b'{"daemon":"tumble"}' if words == b"hello" else b'{"error":"unknown request: ask for snapshot"}'
                )
                known = words == b"snapshot" or words.startswith(b"next ")
                socket.send_multipart([*route, snapshot(5, view(1)).to_json().encode() if known else about])

        thread = threading.Thread(target=serve)
        thread.start()
        with Viewer(f"tcp://127.0.0.1:{port}", timeout_s=30.0) as viewer:
            assert viewer.poll(30.0) == snapshot(5, view(1))
            thread.join()
    assert asked == [b"hello", b"changes 0", b"snapshot", b"next 5"]
