"""The bench measures what it says it does: counts are checked, times are not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tumble.daemon import bench_model as model
from tumble.daemon import bench_wire
from tumble.daemon.bench import run_bench
from tumble.daemon.bench_model import CPU_CORE, INSERT_FLOPS, SCORE_FLOPS, Roof
from tumble.daemon.bench_report import STREAMING, WIDTH, Launch, Report, Row, read_report, table
from tumble.daemon.bench_scene import BenchOptions
from tumble.daemon.bench_wire import Latency, latency, measure_latency
from tumble.daemon.cli import main
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.metering import Meter, metered
from tumble.daemon.snapshot import ParticleView, Snapshot, StreamHealth
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
        launches=(Launch("refine lattice", "score_pairs", 12345.678, 1234.567, 1234.567, 54321e6, 98765e3),),
        first_map_frames=400,
        first_map=dict.fromkeys((*STREAMING, "lattice constant", "bootstrap"), (100.0, 200.0)),
        finish_s=(1234.5, 2345.6),
        compiled_s=99.9,
        memory_MiB=12345.0,
        resolution_A=1.04,
        atoms=12345,
        frames_used=99999,
        latency=Latency(
            rate_hz=1600.0,
            sent_hz=1599.9,
            frames=99999,
            snapshot_ms=1234.5,
            seen=(12345.6, 123456.7),
            posed=(12345.6, 123456.7),
            followed=None,
            told=((12345.6, 123456.7), None),
            first_map_s=123.4,
            behind_s=123.4,
            lost={"queue full": 12345, "ring full": 12345},
            memory_MiB=12345.6,
        ),
    )


def test_the_table_fits_and_names_every_step(report):
    words = table(report, report, detail=True)
    assert [line for line in words.splitlines() if len(line) > WIDTH] == []
    for name in STREAMING.values():
        assert name in words
    assert "trust CPU" in words
    assert " 1.00" in words.splitlines()[-1]


def test_a_saved_run_reads_back_as_it_was(report, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(report.to_json(), encoding="utf-8")
    again = read_report(path)
    assert table(again, detail=True) == table(report, detail=True)
    assert json.loads(path.read_text())["total"]["wall_ms"] == pytest.approx(sum(r.wall_ms for r in report.rows))


def test_runs_saved_before_there_was_a_latency_can_be_compared(report, root):
    before = read_report(root / "tests" / "benchmarks" / "results" / "2026-11-21-bench-2-cores.json")
    assert before.latency is None
    assert "against 0.1.0 b22529e" in table(report, before)


def test_a_step_that_nobody_named_is_in_the_table(report):
    more = dataclasses.replace(report, rows=(*report.rows, Row("trust", 1.0, 2.0, 0.0, 0.0, 0.0)))
    lines = table(more, report).splitlines()
    assert sum(line.startswith("trust ") for line in lines) == 2  # in the table and in the comparison
    assert more.total.cpu_ms == pytest.approx(report.total.cpu_ms + 2.0)
    assert more.sum("", frame=True).cpu_ms + more.sum("", frame=False).cpu_ms == pytest.approx(more.total.cpu_ms)


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


def test_the_model_counts_what_is_written_in_the_bodies():
    assert model.scores(7, 3, 100, 1000).flops == 7 * 100 * SCORE_FLOPS
    assert model.insertions(5, 10, 400).bytes == 2 * 400 + 8 * 10 * 5  # sums read and written, coefficients read
    # one axis after the other comes to the operations of the whole transform, but for its complex lines
    whole, parts = model.transform((64, 64, 64)), [model.lines((64, 64, 33), axis, real=False) for axis in (0, 1)]
    total = sum((part.flops for part in parts), model.lines((64, 64, 64), 2, real=True).flops)
    assert total == pytest.approx(whole.flops, rel=0.05)
    sizes = model.FrontEndSizes(256, 96, 128, 4, 2, 0.5, 15, 40e3)
    costs = model.front_end(sizes)
    assert costs["keep"].bytes == 4 * 256**2
    larger = model.front_end(dataclasses.replace(sizes, frame_px=512))
    assert larger["keep"].bytes == 4 * costs["keep"].bytes
    assert larger["track"] == costs["track"]  # a crop


def snapshot_of(analysed: int, posed: int, resolution_A: float | None = None) -> Snapshot:
    view = ParticleView(
        "P001", "MAPPING", (0, 0), 20.0, frames_seen=analysed, frames_in_flight=analysed - posed,
        resolution_A=resolution_A,
    )  # fmt: skip
    return Snapshot(1, "0", 1, 0.0, 0.0, "DONE", "", StreamHealth(used=analysed), particles=(view,))


def test_latency_is_from_the_sending_to_the_first_snapshot_that_counts_the_frame(monkeypatch):
    monkeypatch.setattr(bench_wire, "UNHURRIED", 0)
    sent = np.arange(10) * 0.01  # 100 frames a second
    seen = [(0.055, 4, 0, None), (0.105, 8, 3, 1.0), (0.205, 10, 10, 1.0)]
    looks = []
    for at_s, analysed, posed, resolution in seen:
        monkeypatch.setattr(bench_wire.time, "monotonic", lambda at_s=at_s: at_s)
        looks.append(bench_wire._look(snapshot_of(analysed, posed, resolution)))
    found = latency(100.0, sent, looks, snapshot_of(10, 10, 1.0))
    exact = 1e3 * (np.repeat([0.055, 0.105, 0.205], [4, 4, 2]) - sent)
    assert found.seen == pytest.approx((np.percentile(exact, 50), np.percentile(exact, 99)), abs=0.1)
    exact = 1e3 * (np.repeat([0.105, 0.205], [3, 7]) - sent)
    assert found.posed == pytest.approx((np.percentile(exact, 50), np.percentile(exact, 99)), abs=0.1)
    assert found.followed is None  # the map came when everything was sent
    assert (found.sent_hz, found.first_map_s, found.behind_s) == pytest.approx((100.0, 0.105, 0.115), abs=0.006)
    never = latency(100.0, sent, looks[:1], snapshot_of(4, 0))
    assert never.seen == pytest.approx((1e3 * 0.04, 1e3 * 0.055), abs=0.5)  # of the four that came
    assert (never.posed, never.first_map_s, never.behind_s) == (None, None, None)


@pytest.mark.slow
def test_latency_of_the_whole_program_on_the_wire():
    said: list[str] = []
    options = BenchOptions(atoms=100, size_px=160, rate_hz=100.0, wire_s=1.3, threads=1)
    found = measure_latency(options, said.append)
    assert found.lost == {}
    assert found.frames == 130
    assert found.seen is not None
    assert 0 < found.seen[0] <= found.seen[1]
    assert found.memory_MiB > 0
    assert said


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

    shape = (2, *volume.shape[:2], grid.half + 1)
    sums = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
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
    assert list(rows)[: len(STREAMING)] == list(STREAMING)  # what nobody named comes after
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
    assert [line for line in table(report, report, detail=True).splitlines() if len(line) > WIDTH] == []
