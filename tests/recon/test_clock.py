"""Step clocks add up and say which step goes on, also when a step fails."""

from __future__ import annotations

import time

import pytest

from tumble.recon.clock import StepClock


def test_seconds_of_a_step_add_up_and_outside_nothing_counts():
    clock = StepClock()
    assert clock.step == ""
    for _ in range(2):
        with clock("sleep"):
            assert clock.step == "sleep"
            time.sleep(0.01)
    first = dict(clock.wall)
    time.sleep(0.01)
    assert clock.wall == first
    assert first["sleep"] >= 0.02
    assert clock.cpu["sleep"] < first["sleep"]  # sleeping takes no processor time
    assert clock.step == ""


def test_a_failing_step_is_counted_and_ended():
    clock = StepClock()
    with pytest.raises(RuntimeError), clock("fails"):
        raise RuntimeError
    assert clock.step == ""
    assert "fails" in clock.wall


def test_waits_for_an_asynchronous_device_before_the_step_ends():
    clock = StepClock()
    seen = []
    clock.wait = lambda: seen.append(clock.step)
    with clock("launch"):
        assert seen == []
    assert seen == ["launch"]
