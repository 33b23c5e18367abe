"""The model of a GPU: it counts what was launched, and says that it measured nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tumble.daemon.bench_model import GPU, REFINE_FLOPS

SAVED = Path(__file__).with_name("results") / "2026-11-21-bench-2-cores.json"


def beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu_model() -> ModuleType:
    return beside("gpu_model")


def test_the_slowest_of_what_a_launch_has_to_do_counts(gpu_model: ModuleType) -> None:
    coefficients = 1e6
    line = gpu_model.kernel_line("refine", "refine_poses", coefficients * REFINE_FLOPS, 0.0)
    instructions = coefficients * gpu_model.KERNELS["refine_poses"][0] / (132 * 128 * 1.98e9)
    gathered = coefficients * 64 / gpu_model.CACHE_BYTES
    assert line.micro == pytest.approx(1e6 * max(instructions, gathered) / gpu_model.REACHED)
    moved = gpu_model.kernel_line("solve", "fft", 1.0, 4.8e6)
    assert (moved.bound, moved.micro) == ("memory", pytest.approx(1e6 * 4.8e6 / GPU.bytes / gpu_model.REACHED))


def test_a_saved_run_is_read_and_nothing_is_called_measured(
    gpu_model: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_model.py", str(SAVED)])
    gpu_model.main()
    words = capsys.readouterr().out
    assert "NOT MEASURED" in words
    assert "device busy" in words
    assert "a worker of one thread" in words


def test_what_stays_on_the_host_bounds_the_particles(gpu_model: ModuleType) -> None:
    report = gpu_model.read_report(SAVED)
    for on_device in (False, True):
        most = gpu_model.most_particles(on_device=on_device)
        room = 1e3 / gpu_model.TARGET_HZ
        assert gpu_model.front_ms(most + 1, on_device=on_device) > room
        assert most == 0 or gpu_model.front_ms(most, on_device=on_device) <= room
    one, four = (gpu_model.front_ms(16, on_device=False, threads=threads) for threads in (1, 4))
    assert one / 4 < four < one
    host = gpu_model.host_ms(report)
    assert min(host.values()) >= 0
    rows = {row.step: row.cpu_ms for row in report.rows}
    assert host["re-decide, at most"] < rows["re-decide"]


def test_what_frames_cost_is_told_apart_by_where_it_would_be_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_frames.py", "--rows", "200", "--columns", "240", "--spacing", "9"])
    beside("bench_frames").main()
    words = capsys.readouterr().out
    assert words.count("stays on the host") == 4
    assert words.count("to the GPU") == 6  # and the copy there
