"""The series of one run, one after the other: session, workers and books of their own, one receiver for them all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .config import Settings
from .control import ControlServer
from .crew import Crew
from .dispatch import Dispatcher
from .errors import DONE
from .intake import Begin, Intake
from .operating import Operator
from .orders import Order, Orders
from .parts import Parts
from .reporter import Reporter
from .service import Service
from .session import Session
from .stops import StopRequests
from .workers import WorkerProcess


@dataclass(frozen=True, slots=True)
class Chapters:
    """What the series of a run have in common.

    Attributes
    ----------
    settings, command, parts : of the run.
    intake, control, orders, stops : the receiver, viewers and operators, who stay.
    health : words when another process that is needed has failed.
    write : prints a line for the operator.
    spools : observations may wait on disk; otherwise the source is made to wait.
    hire : begins a new crew.
    """

    settings: Settings
    command: str
    parts: Parts
    intake: Intake
    control: ControlServer
    orders: Orders
    stops: StopRequests
    health: Callable[[], str]
    write: Callable[[str], None]
    spools: bool
    hire: Callable[[], Crew]

    def run(
        self,
        crew: Crew,
        session: Session,
        workers: list[WorkerProcess],
        repeat: tuple[tuple[int, Order], ...] = (),
        words: tuple[str, ...] = (),
    ) -> int:
        """Run to the end of the last series; returns the first exit code that is not 0.

        Parameters
        ----------
        crew, session, workers : of the first series.
        repeat : what operators asked for in it before it was interrupted.
        words : lines that the operator hears first.

        Raises
        ------
        TumbleError : see `Service.run`.
        """
        code, begun, reporter = DONE, None, None
        try:
            while True:
                reporter = Reporter(self.settings, self.intake, session, self.control, self.write, reporter)
                for line in words:
                    reporter.say(line)
                service, dispatcher = self._service(session.folder, reporter, workers, repeat)
                with session, closing(dispatcher):
                    found = service.run(begun)
                code = code or found
                crew.close()
                begun = None
                if not service.over:
                    crew = self.hire()
                    begun = service.next_series()
                if begun is None:
                    reporter.farewell()
                    return code
                hired = crew.ready(begun.folder, self.stops)
                session, workers = self._open(begun, hired.device), hired.workers
                repeat, words = (), (f"session {begun.folder}", *hired.news)
        finally:
            crew.close()

    def _open(self, begun: Begin, device: str) -> Session:
        """Session of a further series."""
        folder = begun.folder
        own = self.settings.session.model_copy(update={"folder": folder})
        session = Session(folder, self.settings.model_copy(update={"session": own}), self.command, device)
        self.control.move(str(folder))
        return session

    def _service(
        self,
        folder: Path,
        reporter: Reporter,
        workers: list[WorkerProcess],
        repeat: tuple[tuple[int, Order], ...],
    ) -> tuple[Service, Dispatcher]:
        dispatcher = Dispatcher(workers, folder if self.spools else None)
        operator = Operator(self.orders, self.stops, reporter.say, folder, repeat)
        service = Service(
            self.settings, self.parts, self.intake, reporter, self.stops, self.health, dispatcher, operator
        )
        return service, dispatcher
