"""After a restart a checkpoint stands for the messages before it; where it does not fit, they are worked off again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from tumble.daemon.checkpoints import FILE, Checkpoints, maker_of, remove
from tumble.daemon.config import Settings
from tumble.daemon.parcels import Background, Ending, Meeting, sighting
from tumble.daemon.particle_files import SETTLED, ParticleStore
from tumble.daemon.resuming import tidy
from tumble.daemon.workshop import Workshop
from tumble.recon.records import NoiseSpectrum, Observation

FRAMES = 120


@pytest.fixture(autouse=True)
def _now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint at every tenth message, whatever the clock says."""
    asked = Counter()

    def due(self, particle: int) -> bool:
        asked[self] += 1
        return asked[self] % 10 == 0 and self._next_s.get(particle) != float("inf")

    monkeypatch.setattr(Checkpoints, "due", due)


def messages(*, without: int | None = None):
    """All messages of one particle: boxes of noise, a background now and then."""
    rng = np.random.default_rng(4)
    found = [Meeting(1, 0.5, 20.0)]
    for frame in range(FRAMES):
        box = rng.normal(size=(8, 8)).astype(np.float32)
        if frame % 30 == 29:
            found.append(Background(1, NoiseSpectrum(np.full((8, 8), frame, np.float32), frame)))
        seen = Observation(1, frame, 0.1 * frame, box, (0, 0), (5.0, 5.0), 0.5)
        if frame != without:
            found.append(sighting(seen, float(frame)))
    return [*found, Ending(1)]


class Bench:
    """A workshop in a session folder, its reports, and whether it began a particle."""

    def __init__(self, parts, folder: Path, maker: str = "this one") -> None:
        self.told = []
        bench = self

        class Counting(parts):
            def particle(self, *arguments):
                made = super().particle(*arguments)
                bench.begun = True
                return made

        self.begun = False
        made = Counting(bootstrap=20)
        packages = (type(made.particle(1, 0.5, 20.0, lambda: None)).__module__, "tumble.recon")
        self.begun = False
        checkpoints = Checkpoints(folder, maker, packages=packages)
        self.files = ParticleStore(folder, 0.0)
        self.workshop = Workshop(made, self.told.append, self.files, checkpoints)

    def apply(self, given) -> None:
        for count, message in enumerate(given):
            self.workshop.apply(message)
            task = self.workshop.tasks[1]
            if count % 8 == 0 and task.returning is None and not task.ended:
                self.files.refresh(task, final=False)  # the stand-in does its work in one piece


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "particles" / "P001").iterdir() if path.name != FILE}


@pytest.fixture
def whole(fake_parts, tmp_path) -> dict[str, bytes]:
    """The files of a run that nobody killed."""
    bench = Bench(fake_parts, tmp_path / "whole")
    bench.apply(messages())
    return files(tmp_path / "whole")


def killed(fake_parts, folder: Path, after: int, **options) -> None:
    """A process that ends without a word after so many messages."""
    bench = Bench(fake_parts, folder, **options)
    bench.apply(messages()[:after])
    for task in bench.workshop.tasks.values():
        if task.returning is not None:
            task.returning.close()
    tidy(folder)


@pytest.mark.parametrize("after", [30, 70, 100, FRAMES + 5])
def test_it_goes_on_as_if_nothing_had_been(after, fake_parts, tmp_path, whole):
    folder = tmp_path / "session"
    killed(fake_parts, folder, after)
    with h5py.File(folder / FILE) as links:
        assert after - 30 < links["P001"].attrs["messages"] <= after
        assert links["P001"].attrs["frame"] <= after
    again = Bench(fake_parts, folder)
    again.apply(messages())
    assert not again.begun  # nothing was made anew
    assert files(folder) == whole
    last = again.told[-1]
    assert (last.ended, last.applied, last.status.state) == (True, FRAMES, "DONE")
    late = [arrived_s for report in again.told for arrived_s in report.decided]
    assert late == sorted(late)
    assert late[-1] == FRAMES - 1


def test_it_may_be_killed_again_on_the_way_and_behind_it(fake_parts, tmp_path, whole):
    folder = tmp_path / "session"
    for after in (60, 40, 90, 95):
        killed(fake_parts, folder, after)
    again = Bench(fake_parts, folder)
    again.apply(messages())
    assert not again.begun
    assert files(folder) == whole


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def lose_poses(path: Path) -> None:
    path.with_name(SETTLED).write_bytes(b"")


@pytest.mark.parametrize("damage", [spoil, lose_poses, Path.unlink])
def test_a_checkpoint_that_cannot_be_read_costs_time_only(damage, fake_parts, tmp_path, whole):
    folder = tmp_path / "session"
    killed(fake_parts, folder, 100)
    damage(folder / "particles" / "P001" / FILE)
    again = Bench(fake_parts, folder)
    again.apply(messages())
    assert again.begun
    assert files(folder) == whole


def test_frames_that_had_been_used_and_were_not_recorded_are_found_out(fake_parts, tmp_path):
    """What comes again is not what the checkpoint has behind it: everything is done anew, without that frame."""
    folder, straight = tmp_path / "session", tmp_path / "straight"
    killed(fake_parts, folder, 100)
    for place in (folder, straight):
        bench = Bench(fake_parts, place)
        bench.apply(messages(without=50))
        assert bench.begun
    assert files(folder) == files(straight)


def test_a_series_that_ends_before_its_checkpoint_is_done_anew(fake_parts, tmp_path):
    folder, straight = tmp_path / "session", tmp_path / "straight"
    killed(fake_parts, folder, 100)
    for place in (folder, straight):
        Bench(fake_parts, place).apply([*messages()[:80], Ending(1)])
    assert files(folder) == files(straight)


def test_another_program_or_other_settings_do_not_believe_in_it(fake_parts, tmp_path, whole):
    folder = tmp_path / "session"
    killed(fake_parts, folder, 100, maker="another one")
    again = Bench(fake_parts, folder)
    again.apply(messages())
    assert again.begun
    assert files(folder) == whole
    settings = Settings()
    other = Settings.model_validate({"reconstruction": {"element": "Pt"}})
    assert maker_of(settings) == maker_of(Settings()) != maker_of(other)


def test_a_full_disk_and_state_that_cannot_be_kept_stop_nothing(fake_parts, tmp_path, whole, monkeypatch):
    folder = tmp_path / "session"
    bench = Bench(fake_parts, folder)
    bench.apply(messages()[:60])
    bench.workshop.tasks[1].reconstruction.strange = object()
    bench.apply(messages()[60:])
    assert files(folder) == whole
    monkeypatch.setattr("tumble.daemon.checkpoints.RESERVE_BYTES", 1 << 62)
    monkeypatch.setattr("tumble.daemon.spool.RESERVE_BYTES", 1 << 62)
    other = tmp_path / "other"
    Bench(fake_parts, other).apply(messages())
    assert files(other) == whole
    assert not (other / FILE).exists()


def test_at_the_end_nothing_is_left_of_them(fake_parts, tmp_path, whole):
    folder = tmp_path / "session"
    killed(fake_parts, folder, 100)
    remove(folder)
    assert not list(folder.rglob(FILE))
