"""What of the cores is left to the front end."""

from __future__ import annotations

import pytest

from tumble.daemon import threads


@pytest.mark.parametrize(
    ("cores", "reconstruction", "expected"),
    [(1, None, 1), (2, None, 1), (4, None, 1), (16, None, 1), (16, 12, 3), (16, 4, 8), (16, 20, 1), (2, 1, 1)],
)
def test_the_front_end_has_what_reconstruction_and_receiver_leave(monkeypatch, cores, reconstruction, expected):
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    monkeypatch.delenv(threads.NUMBA_VARIABLE, raising=False)
    assert threads.front_end_threads(reconstruction) == expected
