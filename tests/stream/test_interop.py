"""Against detector simulators that were not written here. TUMBLE_INTEROP_PYTHON names interpreters that have them.

libertem-dectris (MIT, `pip install libertem-live flask`) sends SIMPLON v1, with the header in two messages and the
12-byte header of every bitshuffle payload left zero; libertem-live's simulator of a detector is that, armed over REST.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.readers import open_recording
from tumble.stream.recorder import Recorder
from tumble.stream.source import PullSource

pytestmark = pytest.mark.interop

LIBERTEM = """
import sys
from libertem_dectris import DectrisSim
sender = DectrisSim.new_mocked(uri="tcp://127.0.0.1", num_frames=int(sys.argv[1]), dwelltime=200, random_port=True)
print(sender.get_uri(), flush=True)
sender.send_headers()
sender.send_frames()
sender.send_footer()
if sys.argv[2] == "wait":
    sys.stdin.readline()
"""

DETECTOR = """
import sys
from libertem_live.detectors.dectris.sim import DectrisSim
if __name__ == "__main__":
    detector = DectrisSim(port=0, zmqport=0, num_mock_frames=int(sys.argv[1]), dwelltime=200, verbose=False)
    detector.start()
    detector.wait_for_listen()
    print(detector.port, detector.zmqport, flush=True)
    sys.stdin.readline()
    detector.stop()
"""


@lru_cache
def interpreter_with(module: str) -> str | None:
    """This interpreter, or one of those named (separated as in PATH), or None: they want other versions of things."""
    for python in (sys.executable, *os.environ.get("TUMBLE_INTEROP_PYTHON", "").split(os.pathsep)):
        if (
            python
            and subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
        ):
            return python
    return None


@contextmanager
def libertem(frames: int, manner: str = "wait") -> Iterator[str]:
    python = interpreter_with("libertem_dectris")
    if python is None:
        pytest.skip("libertem-dectris is not installed")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([python, "-c", LIBERTEM, str(frames), manner], **pipes) as sender:
        try:
            yield "zmq+" + sender.stdout.readline().strip()
        finally:
            sender.kill()


def test_every_frame_of_libertem_arrives():
    with libertem(1500) as uri, PullSource(uri) as source:
        start = source.get(30)
        assert isinstance(start, SeriesStart)
        assert (start.width, start.height, start.number_of_images) == (512, 512, 1500)
        for index in range(1500):
            frame = source.get(30)
            assert isinstance(frame, Frame)
            assert (frame.index, frame.data.shape, frame.data.dtype) == (index, (512, 512), np.uint16)
        assert source.get(30) == SeriesEnd(start.series_id, "end")
        counters = source.counters
    assert (counters.received, counters.delivered, counters.missing, counters.malformed) == (1500, 1500, 0, 0)
    assert (counters.ignored, counters.warnings, counters.balance()) == (0, (), 0)


def test_its_payloads_become_a_file_that_plain_h5py_reads(tmp_path: Path):
    with libertem(50) as uri, PullSource(uri, encoded=True) as source:
        start = source.get(30)
        with Recorder(tmp_path / "a.h5", start) as recorder:
            while not isinstance(event := source.get(30), SeriesEnd):
                recorder.write(event)
    with h5py.File(tmp_path / "a.h5") as file, open_recording(tmp_path / "a.h5") as recording:
        assert file["/entry/data/data"].shape == (50, 512, 512)
        np.testing.assert_array_equal(file["/entry/data/data"][49], recording.frame(49).data)


def test_a_sender_that_leaves_after_its_last_message():
    """It takes the tail with it; the series ends all the same, and the books say how much came."""
    with libertem(300, "leave") as uri, PullSource(uri, end_timeout_s=4.0) as source:
        events = []
        while not events or not isinstance(events[-1], SeriesEnd):
            event = source.get(30)
            assert event is not None
            events.append(event)
        assert events[-1].reason in ("end", "timeout")
        assert source.counters.received == len(events) - 2 <= 300
        assert source.counters.balance() == 0


@contextmanager
def detector(frames: int) -> Iterator[tuple[str, str]]:
    """The simulated detector: address of its commands, and of its stream."""
    python = interpreter_with("libertem_live.detectors.dectris.sim")
    if python is None:
        pytest.skip("libertem-live is not installed")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([python, "-c", DETECTOR, str(frames)], **pipes) as process:
        try:
            commands, stream = process.stdout.readline().split()
            yield f"http://localhost:{commands}/detector/api/1.8.0/command", f"zmq+tcp://127.0.0.1:{stream}"
        finally:
            process.communicate("\n", timeout=120)


def test_a_detector_that_is_armed_over_rest_sends_series_after_series():
    with detector(400) as (commands, stream), PullSource(stream) as source:
        for _ in range(2):
            for command in ("arm", "trigger"):
                request = urllib.request.Request(f"{commands}/{command}", method="PUT")  # noqa: S310  # loopback
                urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
            start = source.get(60)
            assert isinstance(start, SeriesStart)
            frames = [source.get(60) for _ in range(400)]
            assert all(isinstance(frame, Frame) for frame in frames)
            assert [frame.index for frame in frames] == list(range(400))
            assert source.get(60) == SeriesEnd(start.series_id, "end")
        counters = source.counters
    assert (counters.received, counters.delivered, counters.missing, counters.malformed) == (800, 800, 0, 0)
    assert (counters.rejected, counters.warnings, counters.balance()) == ({}, (), 0)
