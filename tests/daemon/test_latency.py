"""Latency and time per frame."""

from __future__ import annotations

import pytest

from tumble.daemon.latency import Latency, TimePerFrame


def test_a_frame_counts_at_the_first_snapshot_after_it():
    latency = Latency()
    assert latency.percentiles_ms() == (None, None)
    for number in range(100):
        latency.add(10.0 + number / 1000)
    latency.published(10.2)
    latency.published(50.0)  # everything was in an earlier one
    half, most = latency.percentiles_ms()
    assert half == pytest.approx(150.5, abs=0.1)
    assert most == pytest.approx(199.0, abs=0.1)


def test_only_recent_frames_count():
    latency = Latency()
    for second in range(400):
        for _ in range(100):
            latency.add(float(second))
        latency.published(second + (5.0 if second < 200 else 0.1))
    assert latency.percentiles_ms() == (100.0, 100.0)


def test_a_long_piece_is_divided_by_the_frames_it_placed():
    clock = TimePerFrame(frames=1000)
    assert clock.ms is None
    for _ in range(400):
        clock.add(0, 0.0)  # gathering
    clock.add(0, 12.0)
    clock.add(400, 8.0)
    assert clock.ms == pytest.approx(50.0)
    for _ in range(20):
        clock.add(50, 0.5)
    assert clock.ms == pytest.approx(10.0)  # the first map is no longer among the last thousand
    assert len(clock._parts) <= 21
