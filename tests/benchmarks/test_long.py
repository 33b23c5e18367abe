"""The long-run bench: its slopes have the errors that it states, and what it feeds is bounded and right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tumble.recon.particle import ReconstructionOptions


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_long", Path(__file__).with_name("bench_long.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_a_slope_is_off_by_about_its_standard_error(bench: ModuleType, memory: float) -> None:
    rng, frame = np.random.default_rng(0), np.arange(2000, 100_001, 1000)
    off = []
    for _ in range(300):
        noise = rng.normal(0, 0.2, len(frame))
        for i in range(1, len(noise)):  # neighbours resemble each other
            noise[i] += memory * noise[i - 1]
        found = bench.slope(frame, 5.0 + 0.3 * frame / 1e5 + noise)
        off.append((found.change - 0.3) / found.error)
    assert np.mean(off) == pytest.approx(0, abs=0.2)
    assert np.std(off) == pytest.approx(1, abs=0.2)


def test_a_machine_that_slows_down_is_no_slope(bench: ModuleType) -> None:
    rng, frame = np.random.default_rng(1), np.arange(2000, 100_001, 1000)
    stick = 30 + frame / 1e4 + rng.normal(0, 3, len(frame))
    cost = 5.0 + 0.03 * stick + rng.normal(0, 0.05, len(frame))
    assert bench.slope(frame, cost).change > 0.25  # what it looks like
    found = bench.slope(frame, cost, stick)
    assert abs(found.change) < 3 * found.error < 0.15


def test_too_short_a_run_has_no_slope(bench: ModuleType) -> None:
    with pytest.raises(ValueError, match="at least"):
        bench.report([{"frame": 1000 * i} for i in range(1, 4)])


@pytest.mark.slow
def test_a_crystal_that_goes_on_tumbling_is_followed_in_bounded_memory(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"DIAMETER_A": 14.0, "PIXEL_A": 0.31, "ATOM_PX": 0.45 / 0.31, "LENS_PX": 1.0 / 0.31, "CONTRAST": 20.0}
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    options = ReconstructionOptions(
        lattice_constant_A=3.95, bootstrap_frames=150, buffer_frames=300, batch_frames=50, lag_frames=50
    )
    course = bench.Course(options)
    lines = []
    for _ in range(3):
        before = course.cpu_s
        for _ in range(3):
            course.feed(bench.CHUNK)
        lines.append(course.line(before, 150))
        assert course.particle.mapper.buffer.length <= 300
        assert len(course.truth) <= 300 + options.batch_frames  # frames whose pose is not final
    assert [line["frame"] for line in lines] == [150, 300, 450]
    assert min(line["cpu_ms"] for line in lines) > 0
    assert lines[-1]["together"] > 0.9  # poses that are final and used, in one frame with the truth
    assert lines[-1]["used"] > 0.9
