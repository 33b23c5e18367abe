"""Messages in, work, reports and files: one workshop without processes."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.daemon.errors import TumbleError
from tumble.daemon.parcels import Ending, Meeting, sighting
from tumble.daemon.workshop import FAILED_REASON, DeviceLost, Workshop
from tumble.recon.records import Observation


def give(workshop: Workshop, frames: int, *, first: int = 0, particle: int = 1) -> None:
    for frame in range(first, first + frames):
        box = np.full((8, 8), frame, np.float32)
        workshop.apply(sighting(Observation(particle, frame, 0.1 * frame, box, (0, 0), (5.0, 5.0), 0.5), float(frame)))


def test_every_pose_is_told_once_with_the_arrival_of_its_frame(fake_parts):
    told = []
    workshop = Workshop(fake_parts(bootstrap=20), told.append)
    workshop.apply(Meeting(1, 0.5, 20.0))
    give(workshop, 19)
    assert not any(report.decided for report in told)
    give(workshop, 31, first=19)
    workshop.apply(Ending(1))
    assert [arrived_s for report in told for arrived_s in report.decided] == [float(frame) for frame in range(50)]
    assert told[-1].ended
    assert told[-1].applied == 50
    assert told[-1].reached_s == 49.0
    assert all(report.busy_s >= 0 for report in told)


def test_a_failure_keeps_the_books(fake_parts):
    told = []
    workshop = Workshop(fake_parts(fail_at=30), told.append)
    workshop.apply(Meeting(1, 0.5, 20.0))
    give(workshop, 60)
    workshop.apply(Ending(1))
    status = told[-1].status
    assert told[-1].failure == "RuntimeError: deliberate"
    assert (status.state, status.frames_seen, status.frames_in_flight) == ("FAILED", 60, 0)
    assert status.frames_used + sum(status.frames_rejected.values()) == 60
    assert status.frames_rejected[FAILED_REASON] > 30


def test_a_particle_that_cannot_be_made_fails_alone(fake_parts):
    class Parts(fake_parts):
        def particle(self, number, *rest):
            raise ValueError("no memory on the device")

    told = []
    workshop = Workshop(Parts(), told.append)
    workshop.apply(Meeting(1, 0.5, 20.0))
    give(workshop, 3)
    workshop.apply(Ending(1))
    assert told[-1].failure == "ValueError: no memory on the device"
    assert told[-1].status.frames_rejected == {FAILED_REASON: 3}


def test_files_that_cannot_be_written_are_tried_again_and_missed_at_the_end(fake_parts):
    class Full:
        tries = 0

        def refresh(self, task, *, final):
            self.tries += 1
            raise TumbleError("cannot write to here: no space left on device")

    told, files = [], Full()
    workshop = Workshop(fake_parts(), told.append, files)
    workshop.apply(Meeting(1, 0.5, 20.0))
    give(workshop, 60)
    assert files.tries > 1
    assert told[-1].status.state == "MAPPING"
    workshop.apply(Ending(1))
    assert any("no space left" in report.trouble for report in told)
    assert "no space left" in told[-1].failure


def test_a_device_without_memory_means_fewer_particles(fake_parts):
    """Whoever finds none gives back what it had, and says so; the others go on."""

    class Full(MemoryError):
        """As cupy's own, which is a MemoryError too."""

    class Parts(fake_parts):
        def particle(self, number, *rest):
            made = super().particle(number, *rest)
            push = made.push

            def crowded(observation):
                if number == 1 and observation.frame == 30:
                    raise Full("out of memory allocating 1,073,741,824 bytes")
                push(observation)

            made.push = crowded
            return made

    told = []
    workshop = Workshop(Parts(particles=2), told.append)
    for number in (1, 2):
        workshop.apply(Meeting(number, 0.5, 20.0))
        give(workshop, 60, particle=number)
        workshop.apply(Ending(number))
    last = {report.particle: report for report in told}
    assert last[1].failure.startswith("out of memory: fewer particles at once")
    assert (last[1].status.state, last[1].status.frames_seen) == ("FAILED", 60)
    assert workshop.tasks[1].reconstruction is None
    assert (last[2].failure, last[2].status.state, last[2].status.frames_seen) == ("", "DONE", 60)


def test_where_nothing_works_any_more_the_workshop_ends(fake_parts, monkeypatch):
    parts, told = fake_parts(fail_at=5), []
    workshop = Workshop(parts, told.append)
    workshop.apply(Meeting(1, 0.5, 20.0))
    monkeypatch.setattr(parts, "recover", lambda: "an illegal memory access was encountered")
    with pytest.raises(DeviceLost, match="an illegal memory access"):
        give(workshop, 5)
    assert workshop.tasks[1].reconstruction is None
