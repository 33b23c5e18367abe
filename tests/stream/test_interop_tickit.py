"""Against the Eiger simulation of tickit-devices (Apache-2.0), which sends a real EIGER2 16M capture over Stream V2.

Its PUSH socket connects to the address it is bound to. Once that connection stands it is a client of itself, and every
second message is lost; so it is started here with a socket that only listens. When it falls behind it sends several
messages as the parts of one. Version 0.4.1 wants cbor2 before 6.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumble.stream.frame import SeriesEnd, SeriesStart
from tumble.stream.source import PullSource, SourceCounters

from .test_interop import interpreter_with

pytestmark = pytest.mark.interop

LISTEN_ONLY = """
import aiozmq, zmq
from tickit.adapters.io import zeromq_push_io as push
async def listen(host, port):
    return await aiozmq.create_zmq_stream(zmq.PUSH, bind=f"tcp://{host}:{port}")
push.ZeroMqPushIo.__init__.__defaults__ = ("127.0.0.1", 5555, listen)
"""
RUN = """
import sys
from tickit.cli import main
sys.argv = ["tickit", "all", sys.argv[1]]
main()
"""
CONFIGURATION = """
- type: tickit_devices.eiger.Eiger
  name: eiger
  inputs: {{}}
  host: 127.0.0.1
  stream_host: 127.0.0.1
  port: {http}
  stream_legacy_port: {legacy}
  stream_cbor_port: {cbor}
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


class Detector:
    """Its REST interface."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports

    def call(self, path: str, value: object = None, method: str = "PUT") -> None:
        data = b"" if value is None else json.dumps({"value": value}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['http']}/{path}", data or None, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # loopback
            answer.read()

    def wait_until_up(self) -> None:
        for _ in range(1200):  # a busy machine may take a minute
            try:
                self.call("detector/api/1.8.0/status/state", method="GET")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        pytest.fail("the simulated detector did not come up")

    def take(self, frames: int, form: str) -> None:
        self.call("stream/api/1.8.0/config/format", form)
        self.call("detector/api/1.8.0/command/initialize")
        for name, value in {"nimages": frames, "trigger_mode": "ints", "frame_time": 0.01, "count_time": 0.009}.items():
            self.call(f"detector/api/1.8.0/config/{name}", value)
        self.call("detector/api/1.8.0/command/arm")
        self.call("detector/api/1.8.0/command/trigger")


@contextmanager
def tickit(folder: Path) -> Iterator[Detector]:
    python = interpreter_with("tickit_devices")
    if python is None:
        pytest.skip("tickit-devices is not installed")
    ports = dict(zip(("http", "legacy", "cbor"), free_ports(3), strict=True))
    (folder / "eiger.yaml").write_text(CONFIGURATION.format(**ports))
    with (folder / "log").open("w") as log:
        command = [python, "-c", LISTEN_ONLY + RUN, str(folder / "eiger.yaml")]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            detector = Detector(ports)
            detector.wait_until_up()
            yield detector
        finally:
            process.kill()
            process.wait()


def receive(detector: Detector, frames: int, form: str) -> tuple[list, SourceCounters]:
    port = detector.ports["cbor" if form == "cbor" else "legacy"]
    with PullSource(f"zmq+tcp://127.0.0.1:{port}", encoded=True, end_timeout_s=5.0) as source:
        detector.take(frames, form)
        events = []
        while not events or not isinstance(events[-1], SeriesEnd):
            event = source.get(60)
            assert event is not None
            events.append(event)
        return events, source.counters


@pytest.mark.parametrize("form", ["cbor", "legacy"])
def test_a_real_capture_in_both_protocols(tmp_path, form):
    with tickit(tmp_path) as detector:
        (start, *frames, end), counters = receive(detector, 30, form)
    assert isinstance(start, SeriesStart)
    assert (start.width, start.height, start.number_of_images, end.reason) == (4148, 4362, 30, "end")
    assert [frame.index for frame in frames] == list(range(30))
    image = frames[0].decode().data
    assert (image.shape, image.dtype.name) == ((4362, 4148), "uint16")
    assert 0 < (image < 60_000).mean() < 1  # counts, and a marked gap between the modules
    assert (counters.missing, counters.malformed, counters.warnings, counters.balance()) == (0, 0, (), 0)
