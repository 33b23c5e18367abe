"""What the tests of the daemon share: small series on a real socket, and a service that runs on stand-ins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tumble.daemon.config import Settings
from tumble.daemon.control import ControlServer
from tumble.daemon.dispatch import Dispatcher
from tumble.daemon.intake import Intake
from tumble.daemon.keys import KeyFolder
from tumble.daemon.particle_files import ParticleStore
from tumble.daemon.reporter import Reporter
from tumble.daemon.service import Service
from tumble.daemon.session import Session, prepare
from tumble.daemon.stops import StopRequests
from tumble.daemon.workers import WorkerHere
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import Publisher

from .stand_ins import FakeParts


@pytest.fixture
def fake_parts() -> type[FakeParts]:
    """Factory of stand-ins for front end and reconstruction."""
    return FakeParts


def make_events(
    count: int, *, blank: tuple[int, ...] = (), skip: tuple[int, ...] = (), end: bool = True, size: int = 16
):
    """A small series: a start, frames of Poisson counts, an end."""
    rng = np.random.default_rng(3)
    physics = {"tumble": {"pixel_size_angstrom": 0.5}}
    dtype = np.dtype(np.uint16)
    yield SeriesStart(
        1,
        width=size,
        height=size,
        dtype=dtype,
        number_of_images=count,
        frame_time_s=0.0025,
        pixel_size_A=0.5,
        user_data=physics,
    )
    for index in range(count):
        data = rng.poisson(10.0, (size, size)).astype(np.uint16)
        if index in blank:
            data[:] = 0
        if index not in skip:
            yield Frame(1, index, data, index * 0.0025)
    if end:
        yield SeriesEnd(1)


@pytest.fixture
def series() -> Callable:
    """Factory of small series of events."""
    return make_events


@pytest.fixture(autouse=True)
def _own_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons of a test are found by that test only."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # and have no keys


@contextmanager
def publishing(events, **options) -> Iterator[str]:
    """Publish events from a thread over a real socket; gives the source address."""
    with Publisher(linger_s=5.0, **options) as publisher:
        stop = threading.Event()
        thread = threading.Thread(target=lambda: publisher.publish(events, "max", stop), daemon=True)
        thread.start()
        try:
            yield publisher.source_uri
        finally:
            stop.set()
            thread.join(10.0)


@pytest.fixture
def publish() -> Callable:
    """A context that publishes events."""
    return publishing


@pytest.fixture
def here(tmp_path: Path) -> KeyFolder:
    """Keys of the machine at the microscope, on which the daemon runs."""
    folder = KeyFolder(tmp_path / "here")
    folder.make()
    return folder


@pytest.fixture
def there(tmp_path: Path) -> KeyFolder:
    """Keys of somebody on another machine."""
    folder = KeyFolder(tmp_path / "there")
    folder.make()
    return folder


@pytest.fixture
def run_service(tmp_path: Path) -> Callable:
    """Run a whole service on a source in this process; returns (exit code, lines, session folder, service)."""

    def run(uri: str, parts=None, *, folder: str = "session", during=lambda service, intake, stops: None, **stream):
        record = stream.pop("record", False)
        settings = Settings.model_validate(
            {
                "stream": {"source": uri, "when_full": "block", "timeout_s": 60.0, "ring_MiB": 4.0, **stream},
                "session": {"files_every_s": 0.0, "record": record},
            }
        )
        path = prepare(tmp_path / folder, overwrite=False)
        lines: list[str] = []
        with (
            Session(path, settings, "test") as session,
            ControlServer(settings.status.endpoint, str(path)) as control,
            Intake(settings.stream, path, record=record, scaled=False) as intake,
        ):
            reporter = Reporter(settings, intake, session, control, lines.append)
            stops = StopRequests()
            parts = parts or FakeParts()
            worker = WorkerHere(parts, ParticleStore(path, 0.0))
            service = Service(settings, parts, intake, reporter, stops, dispatcher=Dispatcher([worker]))
            during(service, intake, stops)
            code = service.run()
        return SimpleNamespace(code=code, lines=lines, folder=path, service=service, text="\n".join(lines))

    return run
