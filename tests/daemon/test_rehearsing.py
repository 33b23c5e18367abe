"""Rehearsals fill the time of who waits, and no more than that."""

from __future__ import annotations

from multiprocessing import Pipe
from types import SimpleNamespace

from tumble.daemon import workers


def rehearsed(pieces, then=lambda: None):
    """How many pieces a worker does, to whom somebody sends something in the third."""
    done = []
    taker, giver = Pipe(duplex=False)

    def rehearse():
        for number in range(pieces):
            if number == 2:
                giver.send_bytes(b"a parcel")
                then()
            done.append(number)
            yield

    with taker, giver:
        workers._rehearse(SimpleNamespace(rehearse=rehearse), taker)
        assert pieces < 3 or taker.recv_bytes() == b"a parcel"  # left for whom it concerns
    return len(done)


def test_a_worker_rehearses_until_there_is_something_to_do():
    assert rehearsed(0) == 0
    assert rehearsed(2) == 2
    assert rehearsed(9) == 3


def test_a_mistake_ends_a_rehearsal_and_nothing_else():
    def fail():
        raise RuntimeError("deliberate")

    assert rehearsed(9, fail) == 2
