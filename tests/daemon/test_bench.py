"""The bench measures what it says it does: counts are checked, times are not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tumble.daemon.bench import CPU_CORE, BenchOptions, run_bench
from tumble.daemon.bench_report import STREAMING, Launch, Report, Roof, Row, read_report, table
from tumble.daemon.cli import main
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.metering import INSERT_FLOPS, SCORE_FLOPS, Meter, metered
from tumble.recon.device import cpu
from tumble.recon.geometry import half_plane
from tumble.recon.volume import PAD, Grid


@pytest.fixture
def report() -> Report:
    """A run as the table prints it, the largest numbers it has to find room for."""
    row = Row("index", 1234.567, 2345.678, 98765e3, 54321e6, 543.21)
    return Report(
        date="2026-11-21 03:00 UTC",
        version="0.1.0",
        commit="0123456-dirty",
        machine="Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz",
        cores=128,
        load=(123.45, 123.45),
        device="cuda:0",
        threads=2,
        roof=Roof(67e12, 4.8e12),
        frames=100000,
        size_px=1024,
        box_px=128,
        streamed=99000,
        maps=20,
        rows=tuple(dataclasses.replace(row, step=step) for step in STREAMING),
        launches=(Launch("refine lattice", "score_pairs", 12345.678, 1234.567, 1234.567, 54321e6),),
        first_map_frames=400,
        first_map=dict.fromkeys((*STREAMING, "lattice constant", "bootstrap"), (100.0, 200.0)),
        finish_s=(1234.5, 2345.6),
        compiled_s=99.9,
        memory_MiB=12345.0,
        resolution_A=1.04,
        atoms=12345,
        frames_used=99999,
    )


def test_the_table_fits_into_80_columns_and_names_every_step(report):
    words = table(report, report, detail=True)
    assert max(map(len, words.splitlines())) <= 80, [line for line in words.splitlines() if len(line) > 80]
    for name in STREAMING.values():
        assert name in words
    assert "trust CPU" in words
    assert " 1.00" in words.splitlines()[-1]


def test_a_saved_run_reads_back_as_it_was(report, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(report.to_json(), encoding="utf-8")
    again = read_report(path)
    assert table(again) == table(report)
    assert json.loads(path.read_text())["total"]["wall_ms"] == pytest.approx(sum(r.wall_ms for r in report.rows))


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 99}', "not json"])
def test_what_is_no_saved_run_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"wrong\.json"):
        read_report(path)
    with pytest.raises(UsageError, match=r"missing\.json"):
        read_report(tmp_path / "missing.json")


def test_a_wrong_device_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments=["bench", "--device", "tpu"])
    assert end.value.code == 2
    assert "tpu" in capsys.readouterr().err


def test_the_floor_is_the_slower_of_arithmetic_and_traffic():
    roof = Roof(CPU_CORE.flops * 2, CPU_CORE.bytes * 2)
    assert roof.floor_ms(0.25e9, 0.0) == pytest.approx(2.5)  # the design's figure for pose and insert
    assert roof.floor_ms(0.25e9, 1e9) == pytest.approx(50.0)


def test_a_metered_device_counts_the_work_and_changes_no_result():
    plane, grid = half_plane(32, 12), Grid(32, 12)
    count, poses, rng = plane.count(12), 3, np.random.default_rng(0)
    volume = rng.standard_normal((grid.edge,) * 3 + (2,)).astype(np.float32)
    boxes = rng.standard_normal((2, count, 2)).astype(np.float32)
    turns = np.broadcast_to(np.eye(3, dtype=np.float32), (2, poses, 3, 3)).copy()
    weight, frames = np.ones(count, np.float32), np.arange(2)
    meter = Meter(step=lambda: "score")
    plain, counted = cpu(), metered(cpu(), meter)
    starts = np.zeros((2, poses, 2, 2), np.float32)
    arguments = (volume, PAD, frames, turns, starts, boxes, plane.kx, plane.ky, weight, count, 32)
    for ours, theirs in zip(
        counted.kernels.score_pairs(*arguments), plain.kernels.score_pairs(*arguments), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    scored = meter.done["score", "score_pairs"]
    assert scored.flops == 2 * poses * count * SCORE_FLOPS
    assert scored.bytes >= volume.nbytes + boxes.nbytes
    assert scored.launches == 1

    sums = np.zeros((2, *volume.shape), np.float32), np.zeros((2, *volume.shape[:3]), np.float32)
    counted.kernels.insert_poses(
        *sums, np.zeros(2, np.int64), PAD, frames, turns[:, 0], np.zeros((2, 2), np.float32), np.ones(2, np.float32),
        boxes, plane.kx, plane.ky, weight, count, 32,
    )  # fmt: skip
    assert meter.done["score", "insert_poses"].flops == 2 * count * INSERT_FLOPS
    assert sums[1][0].sum() == pytest.approx(2 * count, rel=1e-4)
    assert not sums[1][1].any()

    spectrum = counted.rfftn(volume[..., 0])
    np.testing.assert_array_equal(spectrum, plain.rfftn(volume[..., 0]))
    assert meter.done["score", "fft"].flops > 0


def test_too_few_frames_for_a_map_is_said_in_one_line():
    with pytest.raises(TumbleError, match="--frames"):
        run_bench(BenchOptions(frames=70, atoms=100, size_px=160, device="cpu"))


def test_every_step_of_a_small_run_is_measured():
    report = run_bench(BenchOptions(frames=225, atoms=100, size_px=160, bootstrap_frames=150, device="cpu"))
    assert report.box_px == 64
    assert report.streamed >= 50
    rows = {row.step: row for row in report.rows}
    assert list(rows) == list(STREAMING)
    each_batch = {
        "decode",
        "check",
        "keep",
        "track",
        "noise",
        "box",
        "whiten",
        "index",
        "refine lattice",
        "score",
        "decide",
    }
    for step in each_batch:
        assert rows[step].wall_ms > 0, step
        assert rows[step].floor_ms > 0, step
    assert report.total.flops > 1e6
    assert {"lattice constant", "bootstrap", "re-decide", "refine", "solve", "insert"} <= set(report.first_map)
    assert report.memory_MiB > 0
    assert report.first_map_frames >= 150
    assert any(launch.kernel == "score_pairs" and launch.step == "score" for launch in report.launches)
    assert max(map(len, table(report, report, detail=True).splitlines())) <= 80
