"""The command line. Commands translate words into a job; the job imports heavy libraries, so that help is fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from .bench_command import bench
from .compiled import ensure_folder
from .errors import FAILED, USAGE, TumbleError, UsageError
from .in_front import line as _line
from .in_front import publish_in_front, write_scene
from .operator_commands import config_app, control, keys_app
from .options import (
    ElementOption,
    HeadlessOption,
    OverwriteOption,
    PixelOption,
    ReconstructionOptions,
    SecondsOption,
    SeedOption,
    SessionOption,
    SessionOptions,
    SpeedOption,
    TargetOption,
    ThreadsOption,
    spread,
)
from .report_command import ReportMaker, report
from .report_command import loader as report_loader
from .selftest import selftest
from .tilt_options import DatasetOption, TiltOptions, replayed_tilts
from .viewer_commands import loader as dashboard_loader
from .viewer_commands import status, watch

if TYPE_CHECKING:
    from .config import Settings
    from .launch import Dashboard
    from .publishing import Plan

app = typer.Typer(
    name="tumble",
    help="The atoms of a nanocrystal tumbling in liquid, in 3D, while the movie is still being taken.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DashboardLoader = Callable[[], "Dashboard"]


def main(
    load_dashboard: DashboardLoader | None = None,
    arguments: list[str] | None = None,
    load_report: Callable[[], ReportMaker] | None = None,
) -> None:
    """Run the command line and exit with its code.

    Parameters
    ----------
    load_dashboard : imports and returns `dashboard.app.run`; without it there are only plain lines.
    arguments : words after the program's name.
    load_report : imports and returns `dashboard.report.make.make`; without it there are no reports.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if debug:
        os.environ["TUMBLE_DEBUG"] = "1"  # for the processes that are started
    dashboard_loader[:] = [load_dashboard] if load_dashboard is not None else []
    report_loader[:] = [load_report] if load_report is not None else []
    sys.exit(_run(words, debug=debug))


def _run(words: list[str], *, debug: bool) -> int:
    try:
        with suppress(TumbleError, OSError):  # only what compiles needs it, and numba then says so
            ensure_folder()
        result = typer.main.get_command(app).main(args=words, prog_name="tumble", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except typer.Abort:
        return _fail("interrupted", 130, debug)
    except BrokenPipeError:  # the reader of our output has gone, as in `tumble status --follow | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush complains
        return 0
    except Exception as error:  # noqa: BLE001  # the operator gets one line, whatever it is
        if debug:
            import traceback

            traceback.print_exc()
        if isinstance(error, TumbleError):
            return _fail(str(error), error.code, debug)
        explain = getattr(error, "format_message", None)  # click's own: bad options and the like
        if explain is not None:
            return _fail(f"{explain() or 'tell me what to do'}; see tumble --help", USAGE, debug)
        if isinstance(error, (OSError, ValueError)):
            return _fail(f"{error}", FAILED, debug)
        return _fail(f"{type(error).__name__}: {error}; run it again with --debug and report this", FAILED, debug)


def _fail(words: str, code: int, debug: bool) -> int:
    del debug
    typer.echo("tumble: " + " ".join(words.split()), err=True)
    return code


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks; may stand anywhere in the line.")] = False,
) -> None:
    """Take the options that belong to no command."""
    del debug
    if version:
        typer.echo(f"tumble {__version__}")
        raise typer.Exit


@app.command()
def demo(
    headless: HeadlessOption = False,
    seconds: SecondsOption = None,
    session: SessionOption = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = None,
    target: TargetOption = None,
    threads: ThreadsOption = None,
) -> int:
    """Simulate a tumbling crystal and reconstruct it, on this machine, over the real wire."""
    from .publishing import Plan

    settings = _settings(
        None,
        stream={"when_full": "block", "timeout_s": 600.0, "series": 1},
        session={"record": False, "overwrite": overwrite},
        reconstruction={"threads": threads, "target_resolution_A": target},
    )
    return _execute(settings, Plan(seconds=seconds, seed=seed or 0), session, "demo", headless=headless)


@app.command()
@spread
def run(
    source: Annotated[str | None, typer.Option("--source", help="zmq+tcp://host:31001 or zmq+ipc://path.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Silence that ends a series, s.")] = None,
    series: Annotated[
        int | None, typer.Option("--series", help="End after so many series (default: when stopped).")
    ] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="text or json, without a dashboard.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a session whose daemon was killed, if there is one.")
    ] = False,
    *,
    kept: SessionOptions,
    known: ReconstructionOptions,
    tilts: TiltOptions,
) -> int:
    """Reconstruct a live stream of a detector."""
    from .config import RUN_DEFAULTS, check_source

    killed: Path | None = None
    defaults = RUN_DEFAULTS
    if resume:
        from .resuming import to_resume

        killed, defaults = to_resume(kept.config, kept.session)
    settings = _settings(
        kept.config,
        defaults,
        stream={"source": source, "timeout_s": timeout, "series": series},
        reconstruction=known.settings(),
        tilts=tilts.settings(),
        log={"format": log_format},
        **kept.settings(),
    )
    if not settings.stream.source:
        raise UsageError("no stream: give --source zmq+tcp://host:31001, or stream.source in the configuration")
    check_source(settings.stream.source)
    if settings.reconstruction.pixel_size_A is None:  # better now than when the series has begun
        _line("no --pixel-size: the stream has to say it, which detectors do not")
    return _execute(settings, None, killed or kept.session, "run", headless=kept.headless, resume=killed is not None)


@app.command()
@spread
def replay(
    file: Annotated[Path, typer.Argument(help="A recording: any HDF5 file with frames.")],
    speed: SpeedOption = "1",
    publish: Annotated[str | None, typer.Option("--publish", help="Only publish, on tcp://127.0.0.1:PORT.")] = None,
    seconds: SecondsOption = None,
    dataset: DatasetOption = None,
    *,
    kept: SessionOptions,
    known: ReconstructionOptions,
    tilts: TiltOptions,
) -> int:
    """Send a recorded stream over the wire that a detector uses, and reconstruct it."""
    from .publishing import Plan, events

    told: dict[str, Any] = {} if known.pixel_size is None else {"pixel_size_A": known.pixel_size}
    angles, told["dataset"] = replayed_tilts(file, tilts.tilts, dataset)
    plan = Plan(path=file, speed=_speed(speed), seconds=seconds, known=told, tilts=angles)
    if publish is not None:
        return publish_in_front(plan, publish)
    settings = _settings(
        kept.config,
        stream={"when_full": "block", "timeout_s": 600.0, "series": 1},
        reconstruction=known.settings(),
        tilts=tilts.settings(replayed=bool(angles)),
        **kept.settings(),
    )
    with events(plan) as opened:  # says what is wrong with the file before anything is started
        start: Any = next(opened)
    if settings.reconstruction.pixel_size_A is None and start.pixel_size_A is None:
        raise UsageError(f"{file} does not say the pixel size at the specimen: give it with --pixel-size, in A")
    return _execute(settings, plan, kept.session, "replay", headless=kept.headless)


@app.command()
def simulate(
    out: Annotated[Path | None, typer.Argument(help="File to write; the truth goes beside it.")] = None,
    publish: Annotated[str | None, typer.Option("--publish", help="Publish on tcp://127.0.0.1:PORT instead.")] = None,
    structure: Annotated[Path | None, typer.Option("--structure", help="Atoms from an xyz, cif or pdb file.")] = None,
    element: ElementOption = None,
    atoms: Annotated[int | None, typer.Option("--atoms", min=13, help="Atoms of the fcc crystal.")] = None,
    diameter_nm: Annotated[float | None, typer.Option("--diameter", help="Or its diameter, nm.")] = None,
    lattice_constant: Annotated[float | None, typer.Option("--lattice-constant", help="Of the fcc crystal, A.")] = None,
    particles: Annotated[int, typer.Option("--particles", min=0, help="How many.")] = 1,
    no_particles: Annotated[bool, typer.Option("--no-particles", help="An empty movie.")] = False,
    frames: Annotated[int | None, typer.Option("--frames", min=1)] = None,
    dose: Annotated[float | None, typer.Option("--dose", help="Electrons per A^2 in every frame.")] = None,
    rotation: Annotated[
        float | None, typer.Option("--rotation", help="Rotation per axis and frame, degrees rms.")
    ] = None,
    pixel_size: PixelOption = None,
    size: Annotated[int | None, typer.Option("--size", min=32, help="Width and height of a frame, pixels.")] = None,
    frame_time_ms: Annotated[float | None, typer.Option("--frame-time", help="ms.")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="phase or linear.")] = None,
    seed: SeedOption = None,
    speed: SpeedOption = "1",
    overwrite: OverwriteOption = False,
) -> int:
    """Make frames with a known truth: into a file, or published as a detector does."""
    from .publishing import Plan

    changes = {
        "frames": frames,
        "dose_e_per_A2": dose,
        "rotation_deg_per_axis": rotation,
        "pixel_size_A": pixel_size,
        "height_px": size,
        "width_px": size,
        "frame_time_s": None if frame_time_ms is None else frame_time_ms / 1e3,
        "mode": mode,
        "seed": seed,
        "structure": structure,
        "element": element,
        "atoms": atoms,
        "diameter_nm": diameter_nm,
        "lattice_constant_A": lattice_constant,
    }
    scene = {key: value for key, value in changes.items() if value is not None}
    plan = Plan(speed=_speed(speed), scene={**scene, "particles": 0 if no_particles else particles})
    if (out is None) == (publish is None):
        raise UsageError("say where the frames go: a file to write, or --publish tcp://127.0.0.1:PORT")
    return publish_in_front(plan, publish) if publish is not None else write_scene(plan, out, overwrite=overwrite)


@app.command()
def doctor() -> int:
    """Say what is installed and working here."""
    from .doctor import examine

    return examine(typer.echo)


app.command()(bench)
app.command()(control)
app.add_typer(keys_app, name="keys")
app.add_typer(config_app, name="config")
app.command()(report)
app.command()(selftest)
app.command()(status)
app.command()(watch)


def _settings(config: Path | None, defaults: dict[str, dict[str, Any]] | None = None, **overrides: Any) -> Settings:
    from .config import load

    return load(config, overrides, defaults)


def _speed(words: str) -> Any:
    if words == "max":
        return "max"
    try:
        speed = float(words)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UsageError(f"--speed {words}: give 1, 2, another positive number, or max")
    return speed


def _dashboard() -> Dashboard | None:
    """The dashboard, where there is a terminal to show it in."""
    if not (dashboard_loader and sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return dashboard_loader[0]()


def _execute(
    settings: Settings, plan: Plan | None, session: Path | None, name: str, *, headless: bool, resume: bool = False
) -> int:
    from .control import check_sockets
    from .launch import Job, prepare_folder, run_behind, run_here
    from .session import default_folder

    check_sockets(settings)
    folder = session or settings.session.folder or default_folder(name)
    job = Job(prepare_folder(settings, folder, resume=resume), plan, name, resume=resume)
    dashboard = None if headless else _dashboard()
    from .logs import as_json

    write = (lambda words: _line(as_json(words))) if settings.log.format == "json" else _line
    code = run_here(job, write) if dashboard is None else run_behind(job, dashboard, write)
    write(f"session {folder}")
    return code
