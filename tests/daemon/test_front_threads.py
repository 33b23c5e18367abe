"""How the cores are shared out: to receiver, front end and reconstruction."""

from __future__ import annotations

import pytest

from tumble.daemon import threads


@pytest.mark.parametrize(
    ("cores", "wanted", "front_end", "receiver"),
    [
        (1, None, 1, 1),
        (2, None, 1, 1),
        (4, None, 1, 1),
        (16, None, 1, 1),
        (2, 1, 1, 1),
        (8, 1, 4, 3),
        (8, 3, 3, 2),
        (16, 4, 8, 4),
        (16, 12, 3, 1),
        (16, 20, 1, 1),
        (64, 4, 8, 4),
    ],
)
def test_front_end_and_receiver_have_what_the_reconstruction_leaves(monkeypatch, cores, wanted, front_end, receiver):
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    monkeypatch.delenv(threads.NUMBA_VARIABLE, raising=False)
    assert (threads.front_end_threads(wanted), threads.expansion_threads(wanted)) == (front_end, receiver)
    used = front_end + receiver + threads.reconstruction_threads(wanted)
    assert used <= cores or cores < 4 or (wanted or 0) > cores
