"""Which workers there are, for the GPUs that were found: `Crew` with processes that are none."""

from __future__ import annotations

import os

import pytest

from tumble.daemon import crew
from tumble.daemon.config import Settings
from tumble.daemon.crew import Crew
from tumble.daemon.devices import VISIBLE, Found
from tumble.daemon.dispatch import WorkerDied
from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.options import gpu_settings
from tumble.daemon.stops import StopRequests

from .stand_ins import FakeParts


class NoProcess:
    """Finds what a worker would find that sees the devices it is told, and keeps what it was begun with."""

    begun: list[NoProcess]

    def __init__(self, visible, threads, settings, make_parts, name="") -> None:
        self.visible, self.threads, self.make_parts = visible, threads, make_parts
        self.where, self.folder, self.open = "", None, False
        self.begun.append(self)

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *_):
        self.close()

    def ready(self, timeout_s: float) -> Found:
        with pytest.MonkeyPatch.context() as patch:
            if self.visible is not None:
                patch.setenv(VISIBLE, self.visible)
            parts = self.make_parts(None)
            if parts.seen and parts.seen[0] == parts.crashes:
                raise WorkerDied("the reconstruction process died (exit code 7)")
            return parts.device()

    def assign(self, folder):
        self.folder = folder

    def close(self):
        self.open = False


@pytest.fixture
def hire(monkeypatch, tmp_path):
    """Hire a crew of eight threads; gives what was hired, and all that were begun."""
    monkeypatch.setattr(crew, "WorkerProcess", NoProcess)
    monkeypatch.setattr(NoProcess, "begun", [], raising=False)

    def hired(parts: dict, visible: str = "", **chosen):
        monkeypatch.setenv(VISIBLE, visible)
        settings = Settings.model_validate({"stream": {"source": "zmq+tcp://x:1"}, "reconstruction": chosen})
        made = Crew(settings, lambda _: FakeParts(**parts), 8, dict(os.environ)).ready(tmp_path, StopRequests())
        assert all(worker.open and worker.folder == tmp_path for worker in made.workers)
        assert [worker for worker in NoProcess.begun if worker.open] == made.workers  # nobody is left idle
        return made

    return hired


@pytest.mark.parametrize(
    ("chosen", "parts", "visible", "seen", "places", "said"),
    [
        ({}, {"devices": 1}, "", [None], ["GPU 0"], "reconstruction on GPU 0 (stand-in), 1 worker"),
        ({}, {"devices": 3, "broken": [1]}, "", [None, "2"], ["GPU 0", "GPU 2"], "GPU 1 is not used: no GPU: delib"),
        ({}, {"devices": 2, "broken": [0]}, "", ["1"], ["GPU 1"], "GPU 0 is not used: no GPU: deliberate"),
        ({}, {"devices": 2, "crashes": 1}, "", [None], ["GPU 0"], "GPU 1 is not used: the reconstruction process died"),
        ({}, {"devices": 2, "broken": [0, 1]}, "", [None], [""], "GPU 1 is not used: no GPU: deliberate"),
        ({}, {"devices": 1, "broken": [0]}, "", [None], [""], "GPU 0 is not used: no GPU: deliberate"),
        (
            gpu_settings("2,1"), {"devices": 9}, "4,6,8", ["8", "6"], ["GPU 2", "GPU 1"],
            "reconstruction on GPU 2 (stand-in); GPU 1 (stand-in), 2 workers",
        ),
        (gpu_settings("1"), {"devices": 9}, "6,8", ["8"], ["GPU 1"], "on GPU 1 (stand-in), 1 worker"),
        (
            {"workers": 4}, {"devices": 2}, "", [None, "1", "0", "1"], ["GPU 0", "GPU 1", "GPU 0", "GPU 1"],
            "reconstruction on GPU 0 (stand-in); GPU 1 (stand-in), 4 workers",
        ),
        ({"workers": 3}, {}, "", [None, None, None], ["", "", ""], ""),
        (gpu_settings("none"), {}, "", [None], [""], ""),
    ],
)  # fmt: skip
def test_gpus_that_work_are_used_and_of_the_others_it_is_said(hire, chosen, parts, visible, seen, places, said):
    made = hire(parts, visible, **{name: value for name, value in chosen.items() if value is not None})
    assert [worker.visible for worker in made.workers] == seen
    assert [worker.where for worker in made.workers] == places
    assert said in "\n".join(made.news)
    assert bool(made.news) == bool(said)


def test_workers_share_the_threads(hire):
    assert [worker.threads for worker in hire({}, workers=4).workers] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("chosen", "parts", "visible", "error", "words"),
    [
        ({"device": "gpu"}, {}, "", TumbleError, "GPU 0 is not used: no GPU: deliberate"),
        ({"gpus": [0, 1]}, {"devices": 2, "broken": [0, 1]}, "", TumbleError, "GPU 0 is not used.*; GPU 1 is not used"),
        ({"gpus": [3]}, {"devices": 9}, "6,8", UsageError, "there is no GPU 3"),
        ({}, {"devices": 1, "crashes": 0}, "", WorkerDied, "exit code 7"),  # nobody knows what else there is
    ],
)
def test_gpus_that_are_asked_for_must_work(hire, chosen, parts, visible, error, words):
    with pytest.raises(error, match=words):
        hire(parts, visible, **chosen)
