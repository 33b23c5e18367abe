"""Scenes: events, dose, determinism, motion as promised, bad frames, files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filter
import numpy as np
import pytest
from scipy.ndimage import center_of_mass
from scipy.spatial.transform import Rotation

from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.simulator import (
    Crystal,
    Scene,
    SceneOptions,
    demo_scene,
    read_truth,
    scene_from_options,
    truth_path,
    write_simulation,
    wulff_crystal,
)

SMALL: dict[str, Any] = {"frames": 12, "height_px": 96, "width_px": 112, "wander_px": 6.0}
BARE: dict[str, Any] = {
    "graphene_sheets": 0,
    "liquid_thickness_A": 0.0,
    "gain_residual": 0.0,
    "beam_fluctuation": 0.0,
    "stage_drift_A": 0.0,
}


def small_scene(**changes: Any) -> Scene:
    return scene_from_options(atoms=100, **{**SMALL, **changes})


def test_yields_a_series_like_any_source() -> None:
    scene = small_scene()
    start, *frames, end = list(scene)
    assert isinstance(start, SeriesStart)
    assert isinstance(end, SeriesEnd)
    assert (start.height, start.width, start.number_of_images) == (96, 112, 12)
    assert start.user_data["tumble"] == {"pixel_size_angstrom": 0.358, "dose_e_per_A2": 80.0, "voltage_kV": 300.0}
    assert [frame.index for frame in frames if isinstance(frame, Frame)] == list(range(12))
    for frame in frames:
        assert isinstance(frame, Frame)
        assert frame.data.shape == (96, 112)
        assert frame.data.dtype == np.uint16
        assert frame.time_s == pytest.approx(frame.index * 0.0025)


@pytest.mark.parametrize("mode", ["phase", "linear"])
def test_same_seed_same_frames_in_any_order(mode: str) -> None:
    first, second, other = (small_scene(mode=mode, seed=seed) for seed in (4, 4, 5))
    forward = [first.counts(index) for index in range(12)]
    for index in reversed(range(12)):
        np.testing.assert_array_equal(second.counts(index), forward[index])
    assert not np.array_equal(other.counts(0), forward[0])
    assert not np.array_equal(forward[0], forward[1])


def test_total_counts_are_dose_times_area() -> None:
    scene = scene_from_options(particles=0, frames=20, height_px=96, width_px=128, dose_e_per_A2=30.0, **BARE)
    expected = 30.0 * 0.358**2 * 96 * 128
    totals = [int(scene.counts(index).sum(dtype=np.int64)) for index in range(20)]
    assert np.mean(totals) == pytest.approx(expected, abs=4 * np.sqrt(expected / 20))
    assert np.std(totals) == pytest.approx(np.sqrt(expected), rel=0.5)


def test_particles_take_less_than_two_percent_of_the_electrons() -> None:
    scene = small_scene(**BARE)
    mean = np.mean([scene.expected(index).mean() for index in range(6)])
    assert 0.98 < mean / (80 * 0.358**2) < 1.0


def test_empty_scene_shows_graphene_spots_at_213_pm() -> None:
    scene = scene_from_options(particles=0, frames=30, height_px=192, width_px=192, dose_e_per_A2=400.0)
    power = np.mean([np.abs(np.fft.fft2(scene.counts(i) - scene.counts(i).mean())) ** 2 for i in range(30)], axis=0)
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(192, 0.358),) * 2))
    strongest = np.sort(frequency.ravel()[np.argsort(power.ravel())[-12:]])
    np.testing.assert_allclose(strongest, 1 / 2.131, atol=0.012)


def test_graphene_moves_with_stage_and_drift() -> None:
    scene = scene_from_options(
        particles=0, frames=400, graphene_sheets=1, liquid_thickness_A=0, stage_drift_A=3.0, noise=False, seed=8
    )
    drift = scene.truth.stage_drift_A
    index = int(np.argmax(np.linalg.norm(drift - drift[0], axis=1)))
    images = [scene.expected(i) / scene.expected(i).mean() - 1 for i in (0, index)]
    spectra = [np.fft.fft2(image) for image in images]
    peak = np.unravel_index(np.argmax(np.abs(spectra[0][:96])), (96, 192))
    frequency = np.array([np.fft.fftfreq(192, 0.358)[peak[1]], np.fft.fftfreq(192, 0.358)[peak[0]]])
    turned = np.angle(spectra[1][peak] / spectra[0][peak]) + 2 * np.pi * frequency @ (drift[index] - drift[0])
    assert abs((turned + np.pi) % (2 * np.pi) - np.pi) < 0.6  # the spot lies between two frequencies of the FFT


def test_rotating_the_crystal_rotates_its_projection() -> None:
    """A scene's image of a turned pose is that of a crystal whose atoms were turned beforehand."""
    scene = small_scene(noise=False, step_px=0.0, height_spread_A=0.0, **BARE)
    index = 7
    quaternion = scene.truth.particles[0].quaternions_wxyz[index]
    turned = Rotation.from_quat(quaternion[[1, 2, 3, 0]]).apply(scene.crystals[0].positions_A)
    centre_A = np.append(scene.truth.particles[0].centres_px[index] * 0.358, 0.0)
    np.testing.assert_allclose(scene.pose(0, index), turned + centre_A, atol=1e-9)


def test_bright_atoms_lie_where_the_truth_says() -> None:
    """x is the column, y the row: the brightest pixels of a noise-free frame sit on projected atoms."""
    atoms = np.array([[-4.0, -2.5, 0.0], [4.0, -2.5, 1.0], [-4.0, 2.5, -1.0], [7.0, 5.0, 0.0]])
    crystal = Crystal(("Pt",) * 4, atoms - atoms.mean(axis=0))
    scene = Scene((crystal,), SceneOptions(noise=False, rotation_deg_per_axis=20.0, **SMALL, **BARE))
    truth = scene.truth.particles[0]
    for index in range(12):
        matrix = Rotation.from_quat(truth.quaternions_wxyz[index][[1, 2, 3, 0]]).as_matrix()
        projected = (crystal.positions_A @ matrix.T)[:, :2] / 0.358 + truth.centres_px[index]
        gaps = np.linalg.norm(projected[:, None] - projected[None], axis=2) + 100 * np.eye(4)
        image = scene.counts(index).astype(float)
        for (x, y), gap in zip(projected, gaps.min(axis=1), strict=True):
            if gap < 7:
                continue  # overlapping atoms
            column, row = round(x), round(y)
            part = image[row - 2 : row + 3, column - 2 : column + 3]
            core = np.maximum(part - np.quantile(part, 0.4), 0.0)
            assert center_of_mass(core) == pytest.approx((y - row + 2, x - column + 2), abs=0.3)


def test_motion_has_the_size_asked_for() -> None:
    scene = small_scene(frames=4000, rotation_deg_per_axis=2.5, step_px=0.3, height_spread_A=3.0, stage_drift_A=0.0)
    truth = scene.truth.particles[0]
    path = Rotation.from_quat(truth.quaternions_wxyz[:, [1, 2, 3, 0]])
    steps = np.degrees((path[1:] * path[:-1].inv()).as_rotvec())
    np.testing.assert_allclose(np.sqrt((steps**2).mean(axis=0)), 2.5, rtol=0.05)
    assert np.diff(truth.centres_px, axis=0).std() == pytest.approx(0.3, rel=0.1)
    assert truth.heights_A.std() == pytest.approx(3.0, rel=0.4)


@pytest.mark.parametrize("particles", [1, 2, 3, 4, 5])
def test_particles_stay_inside_and_apart(particles: int) -> None:
    scene = scene_from_options(
        atoms=100, particles=particles, frames=3000, height_px=260, width_px=320, wander_px=None, step_px=1.0
    )
    truths = scene.truth.particles
    for truth in truths:
        reach = truth.crystal.radius_A / 0.358
        assert np.all(truth.centres_px.min(axis=0) > reach)
        assert np.all(truth.centres_px.max(axis=0) < np.array([319, 259]) - reach)
    for number, first in enumerate(truths):
        for second in truths[:number]:
            gap = np.linalg.norm(first.centres_px - second.centres_px, axis=1).min() * 0.358
            assert gap > first.crystal.radius_A + second.crystal.radius_A


def test_homes_are_where_they_were_put() -> None:
    scene = small_scene(homes_px=((60.0, 50.0),), step_px=0.0, stage_drift_A=0.0)
    np.testing.assert_array_equal(scene.truth.particles[0].centres_px, np.tile([[60.0, 50.0]], (12, 1)))
    with pytest.raises(ValueError, match="homes_px"):
        small_scene(homes_px=((60.0, 50.0), (1.0, 2.0)))


def test_too_many_particles_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="do not fit") as caught:
        scene_from_options(particles=9, height_px=96, width_px=96)
    assert "\n" not in str(caught.value)


def test_blank_double_and_dropped_frames() -> None:
    scene = small_scene(frames=300, blank_share=0.1, double_dose_share=0.1, dropped_share=0.1, mode="linear")
    beam = scene.truth.beam
    assert 10 < np.sum(beam == 0) < 60
    assert 10 < np.sum(beam > 1.8) < 60
    frames = [event for event in scene if isinstance(event, Frame)]
    assert 240 < len(frames) < 295
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert all((frame.data.sum() == 0) == (beam[frame.index] == 0) for frame in frames)


def test_motion_within_the_exposure_blurs() -> None:
    sharp, blurred = (
        small_scene(noise=False, rotation_deg_per_axis=15.0, step_px=0.0, sub_frames=n, **BARE) for n in (1, 7)
    )
    contrast = [np.mean([scene.expected(i).std() for i in range(12)]) for scene in (sharp, blurred)]
    assert contrast[1] < 0.9 * contrast[0]
    assert sharp.expected(3).mean() == pytest.approx(blurred.expected(3).mean(), rel=2e-3)


def test_beam_and_gain_vary_as_asked() -> None:
    scene = scene_from_options(particles=0, frames=500, noise=False, **{**BARE, "beam_fluctuation": 0.03})
    assert 0.01 < np.abs(scene.truth.beam - 1).max() <= 0.03
    still = scene_from_options(particles=0, frames=2, **{**BARE, "gain_residual": 0.01})
    frame = still.expected(0)
    assert frame.std() / frame.mean() == pytest.approx(0.01, rel=0.05)
    np.testing.assert_array_equal(frame, still.expected(1))


def test_liquid_speckle_is_new_in_every_frame() -> None:
    scene = scene_from_options(particles=0, frames=20, **{**BARE, "liquid_thickness_A": 50.0})
    speckle = [scene.expected(i).ravel() for i in range(20)]
    assert speckle[0].std() / speckle[0].mean() > 0.02
    correlation = np.corrcoef(speckle)[np.triu_indices(20, 1)]
    assert np.abs(correlation).max() < 0.1


def test_frames_beyond_the_end_do_not_exist() -> None:
    with pytest.raises(IndexError, match="12 frames"):
        small_scene().counts(12)


@pytest.mark.parametrize(
    "wrong",
    [{"frames": 0}, {"dose_e_per_A2": 0.0}, {"mode": "exact"}, {"blank_share": 2.0}, {"seed": -1}, {"step_px": -1.0}],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SceneOptions(**wrong)


def test_demo_scene_is_one_rough_platinum_crystal() -> None:
    scene = demo_scene(3)
    assert (len(scene), len(scene.crystals)) == (800, 1)
    crystal = scene.crystals[0]
    assert set(crystal.elements) == {"Pt"}
    assert 16 < 2 * crystal.radius_A < 26
    reach = scene.truth.particles[0].centres_px[:, 0].max() + crystal.radius_A / 0.358
    assert 256 - reach > 1.4 * 2 * crystal.radius_A / 0.358  # an empty box of the particle's size fits beside it
    counts = scene.counts(0)
    assert counts.shape == (256, 256)
    assert counts.mean() == pytest.approx(80 * 0.358**2, rel=0.05)


def test_size_can_be_given_in_nanometres() -> None:
    scene = scene_from_options(diameter_nm=2.0, element="Au", frames=1)
    assert 2 * scene.crystals[0].radius_A == pytest.approx(20.0, rel=0.2)
    assert set(scene.crystals[0].elements) == {"Au"}


def test_structure_file_becomes_the_particle(tmp_path: Path) -> None:
    path = tmp_path / "dimer.xyz"
    path.write_text("2\n\nPt 0 0 0\nPd 2.8 0 0\n")
    scene = scene_from_options(structure=path, **SMALL)
    assert scene.crystals[0].elements == ("Pt", "Pd")
    assert scene.counts(0).sum() > 0


def test_recording_and_truth_round_trip(tmp_path: Path) -> None:
    scene = scene_from_options(atoms=60, particles=2, frames=5, height_px=96, width_px=192, mode="linear")
    seen: list[tuple[int, int]] = []
    report: Callable[[int, int], None] = lambda done, total: seen.append((done, total))  # noqa: E731
    recording, beside = write_simulation(scene, tmp_path / "movie.h5", report)
    assert beside == truth_path(recording) == tmp_path / "movie_truth.h5"
    assert seen[-1] == (5, 5)
    with h5py.File(recording) as file:
        frames = file["frames"]
        assert frames.chunks == (1, 96, 192)
        assert "32008" in frames._filters
        assert dict(file.attrs) == dict(frames.attrs)
        assert file.attrs["pixel_size_A"] == 0.358
        assert file.attrs["dose_e_per_A2_per_frame"] == 80.0
        for index in range(5):
            np.testing.assert_array_equal(frames[index], scene.counts(index))
    particles, attributes = read_truth(beside)
    assert "r_lab=R(q) r_body + centre" in attributes["conventions"]
    assert [particle.name for particle in particles] == ["P", "Q"]
    for particle, known in zip(particles, scene.truth.particles, strict=True):
        assert particle.crystal.elements == known.crystal.elements
        np.testing.assert_array_equal(particle.crystal.positions_A, known.crystal.positions_A)
        np.testing.assert_array_equal(particle.centres_px, known.centres_px)
        np.testing.assert_array_equal(particle.heights_A, known.heights_A)
        np.testing.assert_array_equal(particle.quaternions_wxyz, known.quaternions_wxyz)
    with h5py.File(beside) as file:
        assert file["beam_rel"].shape == (5,)
        assert file["stage_drift_A"].shape == (5, 2)
        assert file["P/elements"].dtype == np.dtype("S2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["movie.h5", "movie_truth.h5"]


def test_unwritable_place_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_simulation(small_scene(), tmp_path / "nowhere" / "movie.h5")
    assert list(tmp_path.iterdir()) == []


def test_crystals_of_several_elements_are_imaged() -> None:
    crystal = wulff_crystal("Pd", 100)
    mixed = Crystal(("Pd",) * 50 + ("Au",) * 50, crystal.positions_A)
    for mode in ("phase", "linear"):
        plain, alloy = (Scene((c,), SceneOptions(mode=mode, noise=False, **SMALL, **BARE)) for c in (crystal, mixed))
        assert alloy.expected(0).std() > 1.05 * plain.expected(0).std()
