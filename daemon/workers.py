"""Reconstruction workers: a process for each compute device, and one without a process for tests and notebooks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from .checkpoints import Checkpoints, maker_of
from .config import Settings
from .devices import VISIBLE, Found
from .devices import unpack as unpack_found
from .dispatch import WorkerDied
from .errors import TumbleError
from .heap import keep_freed_memory
from .parcel_ring import TICKET, ParcelRing
from .parcels import Parcel, unpack
from .particle_files import ParticleStore
from .parts import Parts
from .stops import when_parent_ends
from .threads import size_thread_pools
from .views import memory_MiB
from .workshop import FilesLike, Report, Workshop

RING_MiB = 32.0
NICENESS = 10  # receiver, recorder and front end go first where there are not cores enough for all
GIVE_BACK_AT = 32  # parcels
LOOK_EVERY_S = 1.0
HUNG_S = 120.0  # with work, but without a word and without using the processor
LOST_S = 1800.0  # with work and without a word, whatever it does: longer than any piece of work
_TAKEN = struct.Struct("<cI")  # b"t", parcels taken out of the ring
_REPORT = struct.Struct("<cId")  # b"r", number of arrays that follow, memory in MiB; then the rest of it, pickled
_READY = b"o"  # then the packed `devices.Found`


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker process is told; plain values, because it crosses a process boundary.

    Attributes
    ----------
    visible : what ``CUDA_VISIBLE_DEVICES`` is to say; None: what it says, and the first GPU of these is taken.
    threads : of numba, BLAS and FFT together.
    """

    visible: str | None
    ring: str
    threads: int
    settings: Settings
    make_parts: Callable[[Settings], Parts]


class WorkerHere:
    """Reconstructs in the calling thread: what is offered is worked off at once."""

    where = ""

    def __init__(self, parts: Parts, files: FilesLike | None = None) -> None:
        self._told: list[Report] = []
        self.workshop = Workshop(parts, self._told.append, files)

    @property
    def reports(self) -> None:
        """Nothing to wait for."""
        return

    def offer(self, parcel: Parcel) -> bool:
        """Do all that is due because of this message."""
        self.workshop.apply(unpack(parcel))
        return True

    def receive(self) -> list[Report]:
        """What was told since the last call."""
        self.workshop.report()
        told = self._told[:]
        self._told.clear()
        return told

    def memory_MiB(self) -> float:
        """No more than that of the calling process."""
        return 0.0


class WorkerProcess:
    """The daemon's end of a worker process. Once it is `ready`, `assign` says where its files go.

    Parameters
    ----------
    visible, threads, settings, make_parts : see `WorkerPlan`.
    name : of the process.

    Attributes
    ----------
    where : the GPU that it computes on, for people; empty for the processor.

    Raises
    ------
    TumbleError : there is no shared memory for it.
    """

    def __init__(
        self,
        visible: str | None,
        threads: int,
        settings: Settings,
        make_parts: Callable[[Settings], Parts],
        name: str = "tumble worker",
    ) -> None:
        self.where = ""
        self._ring = ParcelRing.create(RING_MiB)
        context = multiprocessing.get_context("spawn")
        tickets, self._tickets = context.Pipe(duplex=False)
        self._told, tell = context.Pipe(duplex=False)
        plan = WorkerPlan(visible, self._ring.name, threads, settings, make_parts)
        self._process = context.Process(target=work_on, args=(plan, tickets, tell), name=name, daemon=True)
        self._process.start()
        tickets.close()  # so that the end of the worker is seen as the end of the pipe
        tell.close()
        self._memory_MiB = 0.0
        self._given = 0  # parcels that it has not yet said to be done with
        self._looked_s = time.monotonic()
        self._silent_s = self._still_s = 0.0  # for how long it has said nothing, and done nothing
        self._cpu_s = 0.0

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._process.pid

    @property
    def reports(self) -> Connection:
        """Readable when there is something to `receive`."""
        return self._told

    def ready(self, timeout_s: float) -> Found | None:
        """What it computes on, when it is ready to work; ``None`` while it is not.

        Raises
        ------
        WorkerDied : it could not begin.
        """
        try:
            if not self._told.poll(timeout_s):
                return None
            message = self._told.recv_bytes()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        self._check(message)
        return unpack_found(message[len(_READY) :])

    def assign(self, folder: Path) -> None:
        """Say which session the files of its particles belong to; before anything is offered.

        Raises
        ------
        WorkerDied : nobody hears it.
        """
        try:
            self._tickets.send_bytes(os.fsencode(folder))
        except (BrokenPipeError, OSError):
            raise self._died() from None

    def offer(self, parcel: Parcel) -> bool:
        """Put a message into shared memory; False when there is no room now.

        Raises
        ------
        TumbleError : it will never fit.
        WorkerDied : nobody takes it.
        """
        if not self._ring.fits(parcel):
            raise TumbleError(f"a box of {parcel.values.nbytes / 2**20:.1f} MiB does not fit into shared memory")
        ticket = self._ring.put(parcel)
        if ticket is None:
            return False
        try:
            self._tickets.send_bytes(ticket)
        except (BrokenPipeError, OSError):
            raise self._died() from None
        if not self._given:
            self._silent_s = self._still_s = 0.0
        self._given += 1
        return True

    def receive(self) -> list[Report]:
        """Reports that have come.

        Raises
        ------
        WorkerDied : the process is gone, or it hangs and was ended.
        """
        found: list[Report] = []
        try:
            while self._told.poll():
                message = self._told.recv_bytes()
                self._silent_s = self._still_s = 0.0
                if message[:1] == b"t":
                    taken = _TAKEN.unpack(message)[1]
                    self._given -= taken
                    self._ring.taken(taken)
                    continue
                self._check(message)
                _, arrays, self._memory_MiB = _REPORT.unpack_from(message)
                buffers = [self._told.recv_bytes() for _ in range(arrays)]
                found.append(pickle.loads(message[_REPORT.size :], buffers=buffers))  # noqa: S301  # from our own child
        except (EOFError, ConnectionResetError):
            if not found:
                raise self._died() from None
        if not found and self._given:
            self._watch()
        return found  # what it said before it died; its end is seen the next time

    def _watch(self) -> None:
        """Look at a worker that has work and says nothing: a long piece of work uses the processor, a deadlock not."""
        now = time.monotonic()
        if now - self._looked_s < LOOK_EVERY_S:
            return
        passed = min(now - self._looked_s, 5 * LOOK_EVERY_S)  # who was stopped ourselves has not seen it hang
        self._looked_s = now
        cpu_s = processor_s(self._process.pid)
        moved = cpu_s is None or cpu_s > self._cpu_s
        self._cpu_s = cpu_s or 0.0
        self._silent_s += passed
        self._still_s = 0.0 if moved else self._still_s + passed
        if self._still_s > HUNG_S or self._silent_s > LOST_S:
            self._process.kill()
            self._process.join()
            raise self._dead(f"hung for {self._silent_s:.0f} s and was ended")

    def _check(self, message: bytes) -> None:
        if message[:1] == b"f":
            raise self._dead(f"failed: {message[1:].decode()}")

    def _died(self) -> WorkerDied:
        self._process.join(5.0)
        code = self._process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return self._dead(f"died ({how})")

    def _dead(self, how: str) -> WorkerDied:
        return WorkerDied(f"{self.where}{': ' * bool(self.where)}the reconstruction process {how}")

    def memory_MiB(self) -> float:
        """Its peak resident memory as it last said."""
        return self._memory_MiB

    def close(self) -> None:
        """End the process at once: its files are whole at every moment."""
        if self._told.closed:
            return
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._tickets.close()
        self._told.close()
        self._ring.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def work_on(plan: WorkerPlan, tickets: Connection, tell: Connection) -> None:
    """Body of a worker process: takes parcels by their tickets, and tells what comes of them."""
    for number in (signal.SIGINT, signal.SIGTERM):  # terminals and service managers send them to everybody
        signal.signal(number, signal.SIG_IGN)  # the daemon decides
    when_parent_ends(lambda: os._exit(1))
    os.nice(NICENESS)
    keep_freed_memory()
    size_thread_pools(plan.threads)
    if plan.visible is not None:
        os.environ[VISIBLE] = plan.visible
    ring = ParcelRing.attach(plan.ring)
    try:
        parts = plan.make_parts(plan.settings)
        tell.send_bytes(_READY + parts.device().pack())
        folder = Path(os.fsdecode(tickets.recv_bytes()))
        files = ParticleStore(folder, plan.settings.session.files_every_s)
        checkpoints = Checkpoints(folder, maker_of(plan.settings))
        _rehearse(parts, tickets)
        _work(ring, Workshop(parts, lambda report: _send(tell, report), files, checkpoints), tickets, tell)
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the daemon is gone; nobody is left to tell
    except Exception as error:
        words = str(error) if isinstance(error, (TumbleError, OSError)) else f"{type(error).__name__}: {error}"
        tell.send_bytes(b"f" + words.encode())
        if os.environ.get("TUMBLE_DEBUG"):
            raise
    finally:
        ring.close()


def processor_s(pid: int | None) -> float | None:
    """Processor time that a process has used, seconds; ``None`` where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _rehearse(parts: Parts, tickets: Connection) -> None:
    """While there is nothing to do. What fails here a particle will meet as well, and say."""
    with suppress(Exception):
        for _ in parts.rehearse():
            if tickets.poll():
                return


def _work(ring: ParcelRing, workshop: Workshop, tickets: Connection, tell: Connection) -> None:
    taken = 0
    while True:
        if taken >= GIVE_BACK_AT or (taken and not tickets.poll()):
            tell.send_bytes(_TAKEN.pack(b"t", taken))
            taken = 0
        if not tickets.poll(workshop.next_report_s()):
            workshop.report()
            continue
        parcel = ring.take(tickets.recv_bytes(TICKET.size))
        taken += 1
        workshop.apply(unpack(parcel))


def _send(tell: Connection, report: Report) -> None:
    """Arrays go as they are, only what holds them together is pickled."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(report, protocol=5, buffer_callback=buffers.append)
    tell.send_bytes(_REPORT.pack(b"r", len(buffers), memory_MiB()) + text)
    for buffer in buffers:
        tell.send_bytes(buffer.raw())
