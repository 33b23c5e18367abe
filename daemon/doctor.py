"""What is installed and working on this machine: every line says ok, missing or broken, and what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from .compiled import ensure_folder
from .devices import number_as_nvidia_smi
from .errors import DONE, FAILED
from .threads import available_cores

State = Literal["ok", "missing", "broken"]
PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "h5py",
    "hdf5plugin",
    "cbor2",
    "pyzmq",
    "pydantic",
    "mrcfile",
    "ase",
    "rich",
    "typer",
)
WANTED_SHM_MiB = 512


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    name: str
    state: State
    words: str
    required: bool = True


def examine(say: Callable[[str], None]) -> int:
    """Examine this machine and print a line for each finding; returns 1 when something required does not work."""
    findings = []
    for check in CHECKS:
        try:
            found = check()
        except Exception as error:  # noqa: BLE001  # a check that fails is a finding, whatever it is
            found = Finding(check.__name__.strip("_"), "broken", f"{type(error).__name__}: {error}")
        findings.append(found)
        say(f"{found.state:8}{found.name:14}{found.words}")
    bad = [found.name for found in findings if found.required and found.state != "ok"]
    say(f"not working: {', '.join(bad)}" if bad else "everything that is needed works")
    return FAILED if bad else DONE


def _python() -> Finding:
    words = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < (3, 11):  # noqa: UP036  # started past the check of pip
        return Finding("python", "broken", f"{words}: needs 3.11 or newer")
    return Finding("python", "ok", words)


def _packages() -> Finding:
    found, absent = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding("packages", "missing", f"{', '.join(absent)}: run pip install tumble-em again")
    return Finding("packages", "ok", ", ".join(found))


def _threads() -> Finding:
    import numba
    import numpy as np

    @numba.njit
    def total(values):  # type: ignore[no-untyped-def]
        return values.sum()

    if total(np.ones(10)) != 10:
        return Finding("compiler", "broken", "numba compiles, but what it compiles is wrong: reinstall numba")
    words = f"numba compiles; {numba.get_num_threads()} threads, {available_cores()} cores; kept in {ensure_folder()}"
    return Finding("compiler", "ok", words)


def _filters() -> Finding:
    import h5py
    import hdf5plugin
    import numpy as np

    frames = np.arange(2 * 64 * 64, dtype=np.uint16).reshape(2, 64, 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round_trip.h5"
        for options in (hdf5plugin.Bitshuffle(), hdf5plugin.LZ4()):
            with h5py.File(path, "w") as file:
                file.create_dataset("frames", data=frames, chunks=(1, 64, 64), **options)
            with h5py.File(path, "r") as file:
                if not np.array_equal(file["frames"][()], frames):
                    return Finding(
                        "hdf5 filters", "broken", "what was written is not what is read: reinstall hdf5plugin"
                    )
    return Finding("hdf5 filters", "ok", "bitshuffle/LZ4 and LZ4, written and read back")


def _sockets() -> Finding:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        for socket in (push, pull):
            socket.setsockopt(zmq.LINGER, 0)
        port = push.bind_to_random_port("tcp://127.0.0.1")
        pull.connect(f"tcp://127.0.0.1:{port}")
        push.send(b"tumble")
        if not pull.poll(3000) or pull.recv() != b"tumble":
            return Finding("sockets", "broken", "nothing comes back over 127.0.0.1: a firewall on loopback?")
    return Finding("sockets", "ok", f"ZeroMQ {zmq.zmq_version()} over 127.0.0.1")


def _shared_memory() -> Finding:
    from .ring import FrameRing

    ring = FrameRing.create(1.0)
    ring.close()
    mount = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory lives
    if not mount.is_dir():
        return Finding("shared memory", "ok", "works")
    free = shutil.disk_usage(mount).free / 2**20
    if free < WANTED_SHM_MiB:
        words = f"only {free:.0f} MiB: enough for small frames; in a container give it more (--shm-size)"
        return Finding("shared memory", "ok", words)
    return Finding("shared memory", "ok", f"{free:.0f} MiB free")


def _gpu() -> Finding:
    from ..recon.device import card, gpu, gpus_seen

    number_as_nvidia_smi()
    count = gpus_seen()
    if not count:
        if find_spec("cupy") is None:
            hint = "for NVIDIA, pip install 'tumble-em[gpu]'"
        else:
            hint = "cupy is installed and finds no driver; a container has to be given GPUs (--gpus all)"
        return Finding("gpu", "missing", f"none that works: everything runs on the processor; {hint}", required=False)
    found, broken = [], False
    for number in range(count):
        try:
            found.append(f"{number}: {card(gpu(number))}")
        except RuntimeError as error:
            broken = True
            found.append(f"{number}: {error}")
    return Finding("gpu", "broken" if broken else "ok", "; ".join(found), required=False)


def _reconstruction() -> Finding:
    from .config import Settings
    from .parts import RealParts

    RealParts(Settings()).front_end(64, 64, 0.4)
    return Finding("stages", "ok", "front end and reconstruction can be loaded")


def _terminal() -> Finding:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Finding("terminal", "missing", "none: plain lines instead of the dashboard", required=False)
    columns, rows = shutil.get_terminal_size()
    words = f"{columns} x {rows}, TERM={os.environ.get('TERM', '')}, {sys.stdout.encoding}"
    if columns < 80 or rows < 24:
        return Finding("terminal", "broken", f"{words}: the dashboard wants 80 x 24", required=False)
    return Finding("terminal", "ok", words, required=False)


def _runtime_folder() -> Finding:
    from .endpoints import runtime_folder

    folder = runtime_folder()
    if not os.access(folder, os.W_OK):
        return Finding("addresses", "broken", f"{folder} cannot be written: set XDG_RUNTIME_DIR")
    return Finding("addresses", "ok", f"of running daemons in {folder}")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _threads,
    _filters,
    _sockets,
    _shared_memory,
    _reconstruction,
    _gpu,
    _runtime_folder,
    _terminal,
)
