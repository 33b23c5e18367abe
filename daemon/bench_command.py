"""The words of `tumble bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import UsageError


def bench(
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")] = None,
    compare: Annotated[Path | None, typer.Option("--compare", help="A file that --json wrote before.")] = None,
    detail: Annotated[bool, typer.Option("--detail", help="The kernels within the steps as well.")] = False,
    frames: Annotated[int, typer.Option("--frames", min=320, help="Of the simulated movie.")] = 830,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all cores.")] = None,
    rate: Annotated[
        float, typer.Option("--rate", min=0, help="Frames per second over the wire, for the latency; 0: leave it out.")
    ] = 100.0,
) -> int:
    """Measure every step of the path on this machine, beside the least it could take."""
    from .threads import size_thread_pools

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: give auto, cpu or cuda")
    size_thread_pools(threads)  # before anything is imported that has threads
    from .bench import run_bench
    from .bench_report import read_report, table
    from .bench_scene import BenchOptions

    before = None if compare is None else read_report(compare)
    options = BenchOptions(
        frames=frames,
        bootstrap_frames=min(400, frames // 2),
        seed=seed,
        device=device,
        rate_hz=rate,
        threads=threads,
    )
    report = run_bench(options, lambda words: typer.echo(words, err=True))
    typer.echo(table(report, before, detail=detail))
    if as_json is not None:
        as_json.write_text(report.to_json() + "\n", encoding="utf-8")
    return 0
