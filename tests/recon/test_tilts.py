"""Tilt series with known truth: conventions of axis and pose, alignment, halves that do not depend on the order."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tumble.recon.device import cpu
from tumble.recon.rotations import angle_deg, conjugate, from_rotation_vector, multiply, to_matrix
from tumble.recon.solvers import cpu as kernels
from tumble.recon.solvers.projector import Projector
from tumble.recon.tilts import TiltVolume, half_by_rank, lab_poses, mirrored, ring_correlation, tilt_angles_deg
from tumble.stream.poses import tilted

from .tilting import crystal_A, density, likeness, tilt_images

ANGLES = np.arange(-60.0, 61.0, 5.0)


def solved(images, poses, axis_deg, *, align=False):
    volume = TiltVolume(*images.shape[1:], axis_deg, cpu(), align=align)
    for image, pose in zip(images, poses, strict=True):
        volume.add(image, pose)
    return volume, volume.solve(half_by_rank(tilt_angles_deg(poses, axis_deg)), final=True)


def shift_error_px(volume, poses, shifts_px):
    """Root mean square, but for where the origin of the body is, which is free."""
    rest = (volume.shifts_px - shifts_px).ravel()
    seen = to_matrix(poses)[:, :2].reshape(-1, 3)
    return float(np.sqrt(((rest - seen @ np.linalg.lstsq(seen, rest)[0]) ** 2).mean()))


def test_poses_of_a_tilt_axis():
    poses = lab_poses([tilted(30.0), tilted(-20.0)], 90.0)
    np.testing.assert_allclose(poses, from_rotation_vector(np.radians([[0, 30.0, 0], [0, -20.0, 0]])), atol=1e-12)
    np.testing.assert_allclose(tilt_angles_deg(poses, 90.0), [30, -20])
    np.testing.assert_allclose(tilt_angles_deg(lab_poses([tilted(-50.0)], 37.0), 37.0), [-50])
    np.testing.assert_allclose(tilt_angles_deg(-poses, 90.0), [30, -20])


def test_exchanging_x_and_y_of_a_pose():
    rng = np.random.default_rng(0)
    poses = from_rotation_vector(rng.normal(size=(20, 3)))
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(to_matrix(mirrored(poses)), swap @ to_matrix(poses) @ swap, atol=1e-12)
    np.testing.assert_allclose(angle_deg(mirrored(mirrored(poses)), poses), 0, atol=1e-5)


def test_halves_are_neighbours_in_angle_whatever_the_order():
    dose_symmetric = np.array([0.0, 3, -3, 6, -6, 9, -9])
    order = np.argsort(dose_symmetric)
    assert half_by_rank(dose_symmetric)[order].tolist() == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(("axis_deg", "shape"), [(90.0, (48, 40)), (0.0, (40, 47)), (-180.0, (48, 48))])
def test_a_map_comes_out_as_the_crystal_lies(axis_deg, shape):
    atoms = crystal_A()
    images, poses = tilt_images(atoms, ANGLES, axis_deg, shape=shape)
    volume, maps = solved(images, poses, axis_deg)
    truth = density(atoms, volume.edge)
    assert likeness(maps.joint, truth) > 0.8  # what the wedge of 60 degrees leaves
    assert likeness(maps.joint, truth[::-1]) < 0.6  # its mirror image is another crystal
    np.testing.assert_allclose(volume.poses, poses, atol=1e-12)
    assert maps.predicted[4] > 0.9


def test_shifts_turns_and_angles_that_nobody_told_are_found():
    atoms, rng = crystal_A(), np.random.default_rng(2)
    shifts = rng.normal(size=(len(ANGLES), 2)) * 0.8
    turns = rng.normal(size=len(ANGLES)) * 0.7
    images, _ = tilt_images(atoms, ANGLES, shifts_px=shifts, turns_deg=turns, noise=0.1)
    _, poses = tilt_images(atoms, ANGLES)
    (_, crooked), (volume, aligned) = (solved(images, poses, 90.0, align=align) for align in (False, True))
    truth = density(atoms, volume.edge)
    assert likeness(aligned.joint, truth) > likeness(crooked.joint, truth) + 0.05
    assert shift_error_px(volume, poses, shifts) < 0.2
    in_plane = np.degrees(2 * multiply(volume.poses, conjugate(poses))[:, 3])
    assert np.corrcoef(in_plane, turns)[0, 1] > 0.7


def test_an_exchanged_axis_tells_shifts_in_the_image():
    atoms = crystal_A()
    shifts = np.zeros((len(ANGLES), 2))
    shifts[::3] = (0.9, -0.5)
    images, _ = tilt_images(atoms, ANGLES, 0.0, shifts_px=shifts)
    _, poses = tilt_images(atoms, ANGLES, 0.0)
    volume, _ = solved(images, poses, 0.0, align=True)
    assert shift_error_px(volume, poses, shifts) < 0.2


def test_ring_correlation_of_equal_and_of_unlike_images():
    rng = np.random.default_rng(1)
    image, other = rng.normal(size=(2, 40, 30)).astype(np.float32)
    np.testing.assert_allclose(ring_correlation(image, 3 * image, 16)[1:], 1, atol=1e-6)
    assert abs(ring_correlation(image, other, 16)[4:].mean()) < 0.15


def test_a_film_is_matched_at_the_end_only():
    """Of one that goes on beyond the field a new tilt shows what the map does not know yet."""
    shifts = np.random.default_rng(3).normal(size=(len(ANGLES), 2))
    images, poses = tilt_images(crystal_A(), ANGLES, shape=(30, 30), shifts_px=shifts)
    for wide, follows in ((1.0, True), (3.0, False)):
        volume = TiltVolume(30, 30, 90.0, cpu(), wide=wide)
        for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
            volume.add(image, pose)
            if number in (5, 6):
                volume.solve(half_by_rank(np.arange(number + 1.0)))
        assert volume.shifts_px.any() == follows
    volume.solve(half_by_rank(tilt_angles_deg(poses, 90.0)), final=True)
    assert shift_error_px(volume, poses, shifts) < 0.3


def test_poses_stay_as_they_were_told_unless_matched_ones_tell_other_images_better():
    """Noise can be matched, too; images that had no part in it are not told better by that."""
    images, poses = tilt_images(crystal_A(), ANGLES, shape=(40, 40), noise=0.3)
    volume, maps = solved(images, poses, 90.0, align=True)
    assert not maps.matched
    assert not volume.shifts_px.any()
    np.testing.assert_array_equal(volume.poses, poses)


def test_a_thin_film_has_no_place_beyond_its_thickness():
    images, poses = tilt_images(crystal_A(), ANGLES[::3], shape=(40, 44))
    volume = TiltVolume(40, 44, 90.0, cpu(), align=False, wide=2.0, thick=0.5)
    for image, pose in zip(images, poses, strict=True):
        volume.add(image, pose)
    maps = volume.solve(half_by_rank(tilt_angles_deg(poses, 90.0)), final=True)
    layers = np.flatnonzero(maps.half1.any(axis=(1, 2)))
    assert (layers.min(), layers.max(), volume.edge) == (11, 32, 44)
    seen, unseen = maps.misfit
    assert seen < unseen < 1


def test_total_variation_follows_few_noisy_tilts():
    """After every tilt from the map before, and to the end: the density is nearer to the truth."""
    images, poses = tilt_images(crystal_A(60), np.arange(-70.0, 71.0, 20.0), shape=(30, 30), noise=0.2)
    truth, found = density(crystal_A(60), 30), {}
    for variation in (0.0, 1.0):
        volume = TiltVolume(30, 30, 90.0, cpu(), align=False, variation=variation)
        for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
            volume.add(image, pose)
            if number > 2:
                maps = volume.solve(half_by_rank(np.arange(number + 1.0)), final=number + 1 == len(images))
        found[variation] = likeness(maps.unfiltered, truth)
    assert found[1.0] > found[0.0] + 0.05


def test_on_a_device_the_same_map_comes_out(strict, monkeypatch):
    """On a stand-in for cupy, to the end: with shifts that are followed, and poses that are judged."""

    def launcher(function):
        return lambda *arguments: function(*(a.inner for a in arguments))

    launchers = SimpleNamespace(forward=launcher(kernels.forward), adjoint=launcher(kernels.adjoint))
    angles = np.arange(-60.0, 61.0, 20.0)
    images, poses = tilt_images(crystal_A(40), angles, shape=(16, 18))
    halves = half_by_rank(angles)

    def mapped(device):
        volume = TiltVolume(16, 18, 90.0, device)
        for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
            volume.add(image, pose)
            if number == 5:
                volume.solve(halves[:6])
        shifts = volume.shifts_px
        return shifts, volume.solve(halves, final=True)

    shifts, expected = mapped(cpu())
    monkeypatch.setattr(Projector, "_kernels", lambda _: launchers)
    followed, found = mapped(strict.device())
    assert shifts.any()
    np.testing.assert_allclose(followed, shifts, atol=1e-3)
    assert found.matched == expected.matched
    assert np.abs(found.joint - expected.joint).max() < 0.02 * expected.joint.max()
