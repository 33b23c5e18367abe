"""A particle from its first box to its atoms: a small crystal with known truth, its books, and how it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest

from tumble.recon import mapper
from tumble.recon.device import Device, cpu
from tumble.recon.errors import NoLatticeError, TwinnedError
from tumble.recon.mapper import Mapper
from tumble.recon.particle import ParticleReconstruction, ReconstructionOptions
from tumble.recon.records import (
    Milestone,
    NoiseSpectrum,
    Observation,
    ParticleResult,
    ParticleStatus,
    PoseRow,
    Trust,
    Verdict,
)  # fmt: skip

FRAMES, BOOTSTRAP = 225, 150
BLURRED = 75  # every 75th frame is refused by the front end
SMALL = {"diameter_A": 14.0, "pixel_size_A": 0.31}  # few coefficients: everything takes a third of the time


@dataclass
class Run:
    """What came out of a run; `moments` are the states of all pushes and pieces of work."""

    result: ParticleResult | None
    status: ParticleStatus
    rows: list[PoseRow]
    moments: list[str] = field(default_factory=list)


def check_books(status: ParticleStatus) -> None:
    rejected = sum(status.frames_rejected.values())
    assert status.frames_seen == status.frames_used + rejected + status.frames_in_flight
    assert min(status.frames_used, status.frames_in_flight, *status.frames_rejected.values(), 0) >= 0


def restarted(particle: Any, noise: Callable, device: Device) -> Any:
    """The particle after a crash: what a checkpoint holds of it."""
    import h5py

    from tumble.daemon.freezer import freeze, thaw

    known = {"noise": noise, "device": device}
    with h5py.File("state", "w", driver="core", backing_store=False) as file:
        freeze(particle, file.create_group("state"), known)
        return thaw(file["state"], known)


def follow(
    movie: Any, options: ReconstructionOptions, device: Device, noise: Callable | None = None, crash_at: int = -1
) -> Run:
    """Push all boxes, working as a daemon does, with the books checked at every moment."""
    noise = noise or (lambda: movie.noise)
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, noise, options, device)
    rows: list[PoseRow] = []
    moments: list[str] = []

    def look() -> None:
        status = particle.status()
        check_books(status)
        if status.state == "MAPPING":
            assert status.coverage.sum() == status.frames_used
        moments.append(status.state)

    for place, observation in enumerate(movie.observations):
        if place == crash_at:
            particle = restarted(particle, noise, device)
        particle.push(observation)
        look()
        while particle.work():
            look()
            rows.extend(particle.drain_poses())
    particle.finish()
    look()
    result = particle.result()
    rows.extend(particle.drain_poses())
    rows.extend(result.poses if result else ())
    return Run(result, particle.status(), rows, moments)


@pytest.fixture(scope="module")
def movie(synthetic: ModuleType) -> Any:
    """A crystal whose centroid lies on no lattice site, with some frames refused by the front end."""
    made = synthetic.movie(FRAMES, contrast=30.0, step_deg=3.0, site=(0.3, 0.1, 0.2), seed=2, **SMALL)
    observations = tuple(
        dataclasses.replace(o, accepted=False, reason="blurred") if o.frame % BLURRED == 7 else o
        for o in made.observations
    )
    return dataclasses.replace(made, observations=observations)


@pytest.fixture(scope="module")
def run(movie: Any, device: Device) -> Run:
    return follow(movie, ReconstructionOptions(bootstrap_frames=BOOTSTRAP), device)


BUFFERED = ReconstructionOptions(bootstrap_frames=BOOTSTRAP, buffer_frames=BOOTSTRAP, batch_frames=30, lag_frames=30)


@pytest.fixture(scope="module")
def small_buffer(movie: Any, device: Device) -> Run:
    """The same movie through a buffer that holds less than it."""
    return follow(movie, BUFFERED, device)


def score(run: Run, movie: Any, scoring: ModuleType) -> tuple[Any, np.ndarray, Any]:
    """Pose score, which poses were used, and atom score."""
    frames = np.array([row.frame for row in run.rows])
    poses = scoring.score_poses(np.array([row.quaternion for row in run.rows]), movie.poses[frames])
    assert run.result is not None
    atoms = np.array([atom.position_A for atom in run.result.atoms])
    return poses, np.array([row.used for row in run.rows]), scoring.score_atoms(atoms, movie.atoms_A, poses)


@pytest.mark.slow
def test_poses_are_right_in_one_frame(run: Run, movie: Any, scoring: ModuleType) -> None:
    poses, used, _ = score(run, movie, scoring)
    assert (poses.error_deg[used] < 8).mean() > 0.95
    assert used.mean() > 0.85
    assert np.median(poses.error_deg) < 1.2
    assert run.status.step_deg == pytest.approx(3.0, rel=0.15)


@pytest.mark.slow
def test_atoms_are_found(run: Run, movie: Any, scoring: ModuleType) -> None:
    _, _, atoms = score(run, movie, scoring)
    assert atoms.recall > 0.98
    assert atoms.precision > 0.98
    assert atoms.rmsd_A < 0.15
    assert run.status.atoms == len(run.result.atoms)
    assert run.status.lattice_constant_A == pytest.approx(3.95, rel=0.01)


@pytest.mark.slow
def test_dark_atoms_give_the_map_of_bright_ones_after_a_crash_too(
    run: Run, movie: Any, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapper, "SURE_SIGN", np.inf)  # a first look that is never sure
    dark = tuple(dataclasses.replace(o, box=-o.box) for o in movie.observations)
    negative, options = dataclasses.replace(movie, observations=dark), ReconstructionOptions(bootstrap_frames=BOOTSTRAP)
    found = follow(negative, options, device, crash_at=BOOTSTRAP + 60)
    assert run.result is not None
    assert found.result is not None
    np.testing.assert_array_equal(found.result.map, run.result.map)
    assert [row.quaternion for row in found.rows] == [row.quaternion for row in run.rows]


@pytest.mark.slow
def test_centres_are_where_the_particle_was(run: Run, movie: Any) -> None:
    frames = np.array([row.frame for row in run.rows])
    off = np.array([row.centre_px for row in run.rows]) - movie.centres_px[frames]
    used = np.array([row.used for row in run.rows])
    assert np.sqrt((off[used] ** 2).mean()) < 0.4  # px; the tracker was off by 0.6
    assert abs(off[used].mean(axis=0)).max() < 0.2


@pytest.mark.slow
def test_maps_and_metrics(run: Run, movie: Any) -> None:
    result, status = run.result, run.status
    assert result is not None
    box = movie.observations[0].box.shape[0]
    for volume in (result.map, result.half1, result.half2):
        assert volume.shape == (box,) * 3
        assert volume.dtype == np.float32
        assert np.isfinite(volume).all()
    assert result.voxel_A == movie.pixel_size_A
    assert status.resolution_A is not None
    assert status.resolution_A < 1.6
    assert len(status.fsc) == len(status.fsc_k)
    assert status.slice_xy is not None
    assert status.coverage.sum() == status.frames_used
    # density where atoms are
    voxel = np.rint(np.array([a.position_A for a in result.atoms])[:, ::-1] / result.voxel_A).astype(int) + box // 2
    assert np.median(result.map[tuple(voxel.T)]) > 10 * abs(np.median(result.map))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "small_buffer"])
def test_every_frame_comes_out_exactly_once(which: str, movie: Any, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(which)
    accepted = [o.frame for o in movie.observations if o.accepted]
    assert sorted(row.frame for row in run.rows) == accepted
    times = {o.frame: o.time_s for o in movie.observations}
    assert all(row.time_s == times[row.frame] for row in run.rows)
    assert sum(row.used for row in run.rows) == run.status.frames_used
    assert run.status.frames_in_flight == 0
    assert run.status.frames_rejected["blurred"] == FRAMES // BLURRED
    assert run.status.state == "DONE"


@pytest.mark.slow
def test_states_come_in_order(run: Run) -> None:
    order = ["COLLECTING", "INDEXING", "MAPPING", "DONE"]
    ranks = [order.index(state) for state in run.moments]
    assert ranks == sorted(ranks)
    assert set(run.moments) >= {"COLLECTING", "MAPPING", "DONE"}


@pytest.mark.slow
def test_frames_that_leave_a_small_buffer_stay_in_the_map(
    small_buffer: Run, run: Run, movie: Any, scoring: ModuleType
) -> None:
    poses, used, atoms = score(small_buffer, movie, scoring)
    assert (poses.error_deg[used] < 8).mean() > 0.95
    assert (atoms.recall, atoms.precision) > (0.95, 0.95)
    assert small_buffer.status.frames_used > 0.9 * run.status.frames_used
    assert small_buffer.result is not None
    assert len(small_buffer.result.poses) <= BOOTSTRAP
    assert len(small_buffer.rows) > len(small_buffer.result.poses)


@pytest.mark.slow
def test_two_runs_are_bitwise_equal_whatever_the_threads(small_buffer: Run, movie: Any) -> None:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        again = follow(movie, BUFFERED, cpu(1))
    finally:
        numba.set_num_threads(threads)
    assert small_buffer.result is not None
    assert again.result is not None
    for name in ("map", "half1", "half2"):
        np.testing.assert_array_equal(getattr(again.result, name), getattr(small_buffer.result, name))
    for mine, other in zip(again.rows, small_buffer.rows, strict=True):
        for attribute in ("frame", "time_s", "quaternion", "centre_px", "score", "used"):
            assert getattr(mine, attribute) == getattr(other, attribute)
    assert [a.position_A for a in again.result.atoms] == [a.position_A for a in small_buffer.result.atoms]


# ---------------------------------------------------------------- failing


def test_noise_is_no_particle(synthetic: ModuleType, device: Device) -> None:
    movie = synthetic.movie(170, contrast=0.0, seed=8, **SMALL)
    run = follow(movie, ReconstructionOptions(bootstrap_frames=160), device)
    assert run.status.state == "FAILED"
    assert run.status.note
    assert "\n" not in run.status.note
    assert run.result is None
    assert run.rows == []
    assert run.status.frames_used == 0
    assert sum(run.status.frames_rejected.values()) == 170


def test_too_few_frames(synthetic: ModuleType, device: Device) -> None:
    run = follow(synthetic.movie(30, seed=9), ReconstructionOptions(), device)
    assert run.status.state == "FAILED"
    assert run.status.note == "only 30 usable frames, a lattice needs 150"
    assert run.status.frames_in_flight == 0
    assert run.result is None


def test_no_background_to_measure(synthetic: ModuleType, device: Device) -> None:
    movie = synthetic.movie(160, seed=9)
    run = follow(movie, ReconstructionOptions(bootstrap_frames=100), device, noise=lambda: None)
    assert run.status.state == "FAILED"
    assert "background" in run.status.note
    assert set(run.moments) == {"COLLECTING", "FAILED"}


def test_the_bootstrap_waits_for_enough_background(synthetic: ModuleType, device: Device) -> None:
    movie = synthetic.movie(152, seed=9)
    few = NoiseSpectrum(movie.noise.power, 99)
    particle = ParticleReconstruction(
        1, movie.pixel_size_A, movie.diameter_A, lambda: few, ReconstructionOptions(bootstrap_frames=150), device
    )
    for observation in movie.observations:
        particle.push(observation)
        assert not particle.work()
    status = particle.status()
    assert status.state == "COLLECTING"
    assert status.frames_in_flight == 152
    assert "particle-free boxes" in status.note


def test_waiting_for_background_does_not_grow(synthetic: ModuleType, device: Device) -> None:
    movie = synthetic.movie(60, seed=9)
    options = ReconstructionOptions(bootstrap_frames=5, buffer_frames=8, batch_frames=1, lag_frames=2)
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, lambda: None, options, device)
    for observation in movie.observations * 4:
        particle.push(observation)
        assert not particle.work()
        check_books(particle.status())
    assert particle.status().frames_in_flight == 150
    assert particle.status().frames_rejected == {"no background yet": 240 - 150}


def test_a_first_map_of_too_few_frames_is_never_tried(synthetic: ModuleType, device: Device) -> None:
    movie = synthetic.movie(149, seed=9)
    particle = ParticleReconstruction(
        1, movie.pixel_size_A, movie.diameter_A, lambda: movie.noise, ReconstructionOptions(bootstrap_frames=50), device
    )
    for observation in movie.observations:
        particle.push(observation)
        assert not particle.work()
    assert particle.status().note == "149 of 150 frames for the first map"


def test_boxes_that_would_poison_the_map_stay_outside(synthetic: ModuleType, device: Device) -> None:
    good = synthetic.movie(3, contrast=20.0, seed=9)
    clean = good.observations[0]
    broken, hit, weak, sparse = (clean.box.copy() for _ in range(4))
    broken[3, 4] = np.nan
    hit[30, 20], hit[31, 20] = 500.0, 400.0  # a cosmic ray
    weak[30, 20] = 30.0  # too weak to matter
    sparse[:] = np.random.default_rng(0).poisson(0.02, sparse.shape) / 0.02 - 1  # one electron in fifty pixels
    nothing = np.zeros((0, 0), np.float32)
    boxes = (broken, clean.box[1:, 1:], nothing, hit, weak, sparse, np.zeros_like(weak))
    particle = ParticleReconstruction(
        1, good.pixel_size_A, good.diameter_A, lambda: good.noise, ReconstructionOptions(), device
    )
    for box in boxes:
        particle.push(dataclasses.replace(clean, box=box))
        check_books(particle.status())
    for observation in good.observations:
        particle.push(observation)
    assert particle.status().frames_rejected == {"not finite": 1, "wrong box size": 2, "hot pixels": 1}
    assert particle.status().frames_in_flight == 6


def test_pixels_too_coarse(synthetic: ModuleType, device: Device) -> None:
    movie = dataclasses.replace(synthetic.movie(3, seed=9), pixel_size_A=1.1)
    run = follow(movie, ReconstructionOptions(), device)
    assert run.status.state == "FAILED"
    assert "use a higher magnification" in run.status.note
    assert run.status.frames_rejected == {"no lattice": 3}


@pytest.mark.parametrize(("frames", "last"), [(300, (300, 300)), (200, (200, 0))])
def test_a_twin_waits_for_twice_the_frames(
    synthetic: ModuleType, device: Device, monkeypatch: pytest.MonkeyPatch, frames: int, last: tuple[int, int]
) -> None:
    """At the end of the series it has to do with what there is."""
    asked = []

    def bootstrap(self: Mapper, observations: list[Observation], noise: NoiseSpectrum, twin_frames: int = 0) -> None:
        asked.append((len(observations), twin_frames))
        raise TwinnedError if len(observations) < twin_frames else NoLatticeError("enough for this test")

    monkeypatch.setattr(Mapper, "bootstrap", bootstrap)
    movie = synthetic.movie(60, seed=9)
    particle = ParticleReconstruction(
        1,
        movie.pixel_size_A,
        movie.diameter_A,
        lambda: movie.noise,
        ReconstructionOptions(bootstrap_frames=150),
        device,
    )
    for observation in (movie.observations * 5)[:frames]:
        particle.push(observation)
        while particle.work():
            pass
    if frames == 200:
        status = particle.status()
        check_books(status)
        assert (status.state, status.frames_in_flight) == ("COLLECTING", 200)
        assert status.note == "200 of 300 frames for the first map of a twinned crystal"
    particle.finish()
    assert asked == [(150, 300), last]
    assert particle.status().frames_rejected == {"no lattice": frames}


@pytest.mark.parametrize("frames", [300, 200])
def test_what_shows_no_lattice_is_looked_at_once_more_with_twice_the_frames(
    synthetic: ModuleType, device: Device, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    asked = []

    def bootstrap(self: Mapper, observations: list[Observation], noise: NoiseSpectrum, twin_frames: int = 0) -> None:
        asked.append((len(observations), twin_frames))
        raise NoLatticeError("none stands out")

    monkeypatch.setattr(Mapper, "bootstrap", bootstrap)
    movie, options = synthetic.movie(60, seed=9), ReconstructionOptions(bootstrap_frames=150)
    particle = ParticleReconstruction(1, movie.pixel_size_A, movie.diameter_A, lambda: movie.noise, options, device)
    for observation in (movie.observations * 5)[:frames]:
        particle.push(observation)
        while particle.work():
            pass
    if frames == 200:
        assert particle.status().state == "COLLECTING"
        assert particle.status().note == "200 of 300 frames for the first map: none stands out"
        particle.finish()
    assert asked == [(150, 300), (300, 300) if frames == 300 else (200, 0)]
    status = particle.status()
    check_books(status)
    assert (status.state, status.note, status.frames_rejected) == ("FAILED", "none stands out", {"no lattice": frames})


def test_a_new_map_is_no_reason_for_a_word_before_its_witness_has_judged_it(device: Device) -> None:
    particle = ParticleReconstruction(1, 0.42, 20.0, lambda: None, ReconstructionOptions(), device)
    first = particle.status().verdict
    assert first is not None
    judged = False
    particle._state = "MAPPING"
    particle._witness = SimpleNamespace(has_judged=lambda _: judged, trust=Trust(True))  # type: ignore[assignment]
    assert particle._judge(0) == first
    judged = True
    assert particle._judge(0) != first


def test_an_alarm_waits_for_no_witness(device: Device) -> None:
    """The word before it may be ENOUGH, and the map is not that of the crystal any more."""
    particle = ParticleReconstruction(1, 0.42, 20.0, lambda: None, ReconstructionOptions(), device)
    assert particle._progress is not None
    particle._progress.history = (Milestone(1200, 3.0, 1190, 0.9, 400.0, 0.0),)
    particle._progress.verdict = Verdict("ENOUGH", (), 1000)
    particle._state, particle._alarm = "MAPPING", "the crystal changes: atoms have gone"
    particle._witness = SimpleNamespace(has_judged=lambda _: False, trust=Trust(True))  # type: ignore[assignment]
    verdict = particle._judge(0)
    assert verdict is not None
    assert verdict.word == "CHANGING"
