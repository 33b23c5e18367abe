"""Every socket on which a daemon listens is known, on this machine only unless told otherwise, and has tests.

| socket | what a client without a key can do | tests |
|---|---|---|
| status | see snapshots, on loopback; nothing beyond it | `test_security`, `test_control` |
| control | nothing, wherever it listens | `test_security`, `test_operating` |
| tee | see frames, on loopback; nothing beyond it | `test_doorkeeper`, `tests/stream/test_tee.py` |
| metrics and health | read them, on loopback, where alone it listens | `test_monitoring` |

Frames come in over a socket that connects to the detector and on which nobody can call: `tests/stream/test_source.py`.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

from tumble.daemon.endpoints import running

from .programs import LINUX, wait_for

LISTENS = "0A"


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses on which a process or one that it started listens: host, as the kernel writes it, and port."""
    own = set()
    for one in family(pid):
        for file in Path(f"/proc/{one}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                own.add(file.readlink().name)
    found = set()
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        for address, state, inode in ((line.split()[1], line.split()[3], line.split()[9]) for line in lines):
            if state == LISTENS and f"socket:[{inode}]" in own:
                host, port = address.split(":")
                found.add((host, int(port, 16)))
    return found


def free_ports(number: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@LINUX
def test_a_daemon_listens_where_it_says_and_nowhere_else(tmp_path):
    nobody, tee, monitoring = free_ports(3)
    config = tmp_path / "tumble.toml"
    config.write_text(
        f'[stream]\nsource = "zmq+tcp://127.0.0.1:{nobody}"\ntee = "tcp://127.0.0.1:{tee}"\n'
        f"[monitoring]\nport = {monitoring}\n[reconstruction]\npixel_size_A = 0.4\n"
    )
    words = ["run", "--config", str(config), "--session", str(tmp_path / "session"), "--headless"]
    with subprocess.Popen(
        [sys.executable, "-m", "tumble", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:

            def settled() -> bool:
                assert process.poll() is None
                return bool(running()) and {tee, monitoring} <= {port for _, port in listening(process.pid)}

            wait_for(settled, "all sockets of the daemon")
            (card,) = running()
            said = {int(str(card[name]).rpartition(":")[2]) for name in ("endpoint", "control")}
            found = listening(process.pid)
            process.terminate()
            process.communicate(timeout=240)
        finally:
            process.kill()
    assert {port for _, port in found} == said | {tee, monitoring}
    assert {host for host, _ in found} == {"0100007F"}  # 127.0.0.1
