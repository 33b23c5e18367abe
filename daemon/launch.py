"""Puts the processes of a run together: publisher (if any), receiver, front end, reconstruction, dashboard in front.

Without a dashboard the front end runs in the calling process; with one it gets a process of its own, so that drawing
never waits for it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from .chapters import Chapters
from .config import Settings, StreamSettings
from .control import ControlServer, check_sockets
from .crew import Crew
from .devices import VISIBLE, number_as_nvidia_smi, only
from .errors import FAILED, TumbleError, UsageError
from .intake import Intake
from .keys import KeyFolder
from .observers import observers
from .orders import Orders
from .parts import Parts, RealParts
from .publishing import Plan, PublisherProcess
from .resuming import interrupted, journal, tidy
from .session import Session, prepare
from .snapshot import Snapshot
from .stops import StopRequests, when_parent_ends
from .threads import expansion_threads, reconstruction_threads, single_threaded, wait_asleep
from .viewer import Viewer

LAST_LINES = 12


class Dashboard(Protocol):
    """`dashboard.app.run`; injected from the root, because nothing here may import the dashboard."""

    def __call__(
        self,
        poll: Callable[[], Snapshot | None],
        *,
        finished: Callable[[], bool] | None,
        endpoint: str,
        exit_when_done: bool,
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One run, as plain values that can cross a process boundary. `settings.session.folder` must be set."""

    settings: Settings
    plan: Plan | None
    command: str
    make_parts: Callable[[Settings], Parts] = RealParts
    resume: bool = False  # go on with the session that is in the folder


def run_here(
    job: Job,
    write: Callable[[str], None],
    *,
    opened: Callable[[str], None] = lambda _: None,
    watch_parent: bool = False,
) -> int:
    """Run a job in this process; returns the exit code.

    Parameters
    ----------
    write : prints a line for the operator.
    opened : told the endpoint for viewers.
    watch_parent : end in order when the parent process goes away.

    Raises
    ------
    TumbleError : it could not begin, or files cannot be written.
    """
    stops = StopRequests()
    with stops.listening():  # from the first moment: an end that is asked for while things start is an orderly one too
        if watch_parent:
            when_parent_ends(stops.request)
        return _run(job, write, opened, stops)


def _run(job: Job, write: Callable[[str], None], opened: Callable[[str], None], stops: StopRequests) -> int:
    wait_asleep()  # before the first process is begun that does arithmetic
    number_as_nvidia_smi()
    threads = reconstruction_threads(job.settings.reconstruction.threads)
    known = job.settings.reconstruction.model_copy(update={"threads": threads})  # sums depend on it in the last bit
    settings = job.settings.model_copy(update={"reconstruction": known})
    check_sockets(settings)
    folder = settings.session.folder
    if folder is None:
        raise UsageError("a run needs a session folder")
    parts = job.make_parts(settings)
    environment = dict(os.environ)

    def hire() -> Crew:
        return Crew(settings, job.make_parts, threads, environment)

    with ExitStack() as stack:
        crew = hire()
        stack.callback(crew.close)
        single_threaded()  # this process and those begun from here, but the crew
        if (own := only(settings.reconstruction.gpus, environment)) is not None:
            os.environ[VISIBLE] = own  # of the front end, if it is to use one
        health: Callable[[], str] = lambda: ""  # noqa: E731
        if job.plan is not None:
            publisher = stack.enter_context(PublisherProcess(job.plan))
            health = publisher.problem
            stream = StreamSettings.model_validate({**settings.stream.model_dump(), "source": publisher.uri})
            settings = settings.model_copy(update={"stream": stream})
        hired = crew.ready(folder, stops)
        record = settings.session.record
        resumed = interrupted(folder) if job.resume and record else ()
        session = stack.enter_context(Session(folder, settings, job.command, hired.device, resumed=job.resume))
        told, orders = observers(settings, stack, write), Orders()
        control = stack.enter_context(
            ControlServer(
                settings.status.endpoint,
                str(folder),
                control=settings.control.endpoint,
                keys=KeyFolder(settings.keys.folder),
                orders=orders,
                watchers=told,
            )
        )
        scaled = settings.reconstruction.pixel_size_A is not None
        keys, expanders = settings.keys.folder, expansion_threads(threads)
        intake = stack.enter_context(
            Intake(settings.stream, folder, record=record, scaled=scaled, resume=resumed, keys=keys, threads=expanders)
        )
        opened(control.endpoint)
        # A source without a pace of its own is made to wait: otherwise all of it would come to lie on the disk.
        spools = job.plan is None or job.plan.speed != "max"
        run = Chapters(settings, job.command, parts, intake, control, orders, stops, health, write, spools, hire)
        again = f"goes on with the session in {folder}: what was recorded is worked off again" if resumed else ""
        news = (*hired.news, again) if again else hired.news
        return run.run(crew, session, hired.workers, journal(folder) if resumed else (), news)


def daemon_child(job: Job, tell: Connection) -> None:
    """Body of the daemon process behind a dashboard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the dashboard, which then asks us
    lines: deque[str] = deque(maxlen=LAST_LINES)
    code, problem = FAILED, ""
    try:
        code = run_here(job, lines.append, opened=lambda endpoint: tell.send(("open", endpoint)), watch_parent=True)
    except TumbleError as error:
        code, problem = error.code, str(error)
    except Exception as error:  # noqa: BLE001  # the process in front prints it
        problem = f"{type(error).__name__}: {error}"
        if os.environ.get("TUMBLE_DEBUG"):
            import traceback

            problem = traceback.format_exc()
    finally:
        with contextlib.suppress(OSError):  # the terminal may be gone
            tell.send(("done", code, problem, list(lines)))
    sys.exit(code)


def run_behind(job: Job, dashboard: Dashboard, write: Callable[[str], None]) -> int:
    """Run a job in a process of its own with the dashboard in front; returns the exit code.

    Raises
    ------
    TumbleError : the daemon could not begin, or died.
    """
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    child = context.Process(target=daemon_child, args=(job, tell), name="tumble daemon")
    child.start()
    tell.close()
    try:
        endpoint = _first_answer(told)
        with Viewer(endpoint) as viewer:
            dashboard(
                lambda: viewer.poll(0.0), finished=lambda: not child.is_alive(), endpoint=endpoint, exit_when_done=True
            )
        return _last_answer(child, told, write)
    finally:
        if child.is_alive():
            child.terminate()
            child.join(10.0)
        if child.is_alive():
            child.kill()
            child.join()


def _first_answer(told: Connection) -> str:
    try:
        kind, *rest = told.recv()
    except EOFError:
        raise TumbleError("the daemon process died while starting; --headless shows more") from None
    if kind == "open":
        return str(rest[0])
    code, problem, _ = rest
    raise (UsageError if code == UsageError.code else TumbleError)(problem or "the daemon could not begin")


def _last_answer(child: multiprocessing.process.BaseProcess, told: Connection, write: Callable[[str], None]) -> int:
    """Ask the daemon to finish (when it has not yet), wait for it, and print its last words."""
    if child.is_alive() and not told.poll():
        write("finishing what was received; Ctrl-C stops at once")
        _ask_to_stop(child)
    while True:
        try:
            _, code, problem, lines = told.recv()
            break
        except KeyboardInterrupt:
            _ask_to_stop(child)
        except EOFError:
            child.join()
            raise TumbleError(f"the daemon process died (exit code {child.exitcode})") from None
    for line in lines:
        write(line)
    if problem:
        raise (UsageError if code == UsageError.code else TumbleError)(problem)
    child.join()
    return int(code)


def _ask_to_stop(child: multiprocessing.process.BaseProcess) -> None:
    if child.pid is not None and child.is_alive():
        os.kill(child.pid, signal.SIGTERM)


def prepare_folder(settings: Settings, folder: Path, *, resume: bool = False) -> Settings:
    """`settings` with the session folder `folder`, which is made ready, or with `resume` to be gone on with.

    Raises
    ------
    UsageError : see `session.prepare`.
    """
    if resume:
        tidy(folder)
    else:
        prepare(folder, overwrite=settings.session.overwrite)
    session = settings.session.model_copy(update={"folder": folder})
    return settings.model_copy(update={"session": session})
