"""The lattice site a map is built around: one site for all frames, whatever sites they were indexed on."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.kinds import FCC
from tumble.recon.rotations import CUBIC, multiply, to_matrix
from tumble.recon.site import Site

VECTORS = FCC.vectors
LATTICE_PX = 9.4
OFFSET = np.array([0.31, -0.12, 0.2]) * LATTICE_PX


def test_vectors_are_the_first_shells_of_fcc() -> None:
    length = (VECTORS**2).sum(axis=1)
    shells, counts = np.unique(length, return_counts=True)
    np.testing.assert_allclose(shells, [0, 0.5, 1, 1.5])
    assert list(counts) == [1, 12, 6, 24]
    np.testing.assert_array_equal(VECTORS[0], 0)
    keys = {tuple(v) for v in VECTORS}
    for turn in np.rint(to_matrix(CUBIC)):
        assert {tuple(v) for v in np.round(VECTORS @ turn.T, 6) + 0.0} == keys


@pytest.fixture(scope="module")
def track(synthetic):
    """Poses (400, 4) of a walk, the shifts (400, 2) of one site, and those of sites taken at random."""
    rng = np.random.default_rng(0)
    poses = synthetic.tumbling(400, 2.5, rng)
    plane = to_matrix(poses)[:, :2]
    noise = rng.normal(0, 0.5, (400, 2))  # of the tracker
    right = plane @ OFFSET + noise
    hops = VECTORS[rng.choice(13, 400)] * LATTICE_PX
    return poses, right, right + (plane @ hops[..., None])[..., 0]


def same_site(offset: np.ndarray, tolerance: float) -> bool:
    """Equal to OFFSET up to a lattice vector."""
    return bool(np.linalg.norm(offset - OFFSET + VECTORS * LATTICE_PX, axis=1).min() < tolerance)


def test_site_is_found_from_frames_on_any_site(track) -> None:
    poses, _, scattered = track
    site = Site.find(poses, scattered, LATTICE_PX)
    assert same_site(site.offset_px, 0.2)
    assert np.linalg.norm(site.offset_px) <= np.linalg.norm(OFFSET) + 0.3  # the nearest of them


def test_frames_are_brought_to_one_site(track) -> None:
    poses, right, scattered = track
    moved = Site(OFFSET, LATTICE_PX).nearest(poses, scattered)
    away = np.linalg.norm(moved - right, axis=1)
    # seen along the beam a lattice vector may be shorter than the error of the track: there the image decides
    assert (away < 1e-6).mean() > 0.7
    assert away.max() < 0.4 * LATTICE_PX
    assert np.linalg.norm(moved - (to_matrix(poses)[:, :2] @ OFFSET), axis=1).max() < 0.2 * LATTICE_PX + 2.5


def test_what_is_in_place_stays(track) -> None:
    poses, right, _ = track
    np.testing.assert_array_equal(Site(OFFSET, LATTICE_PX).nearest(poses, right), right)


def test_moves_are_projected_lattice_vectors(track) -> None:
    poses, _, scattered = track
    moved = Site(OFFSET, LATTICE_PX).nearest(poses, scattered) - scattered
    seen = np.einsum("tij,vj->tvi", to_matrix(poses)[:, :2], VECTORS * LATTICE_PX)
    assert np.linalg.norm(seen - moved[:, None], axis=2).min(axis=1).max() < 1e-9


def test_shapes_of_many_branches(track) -> None:
    poses, _, scattered = track
    site = Site(OFFSET, LATTICE_PX)
    many = np.repeat(poses[:, None], 3, axis=1), np.repeat(scattered[:, None], 3, axis=1)
    np.testing.assert_array_equal(site.nearest(*many)[:, 1], site.nearest(poses, scattered))


def test_the_misfit_is_bounded_and_smallest_at_the_truth(track) -> None:
    poses, right, scattered = track
    true = Site(OFFSET, LATTICE_PX)
    assert true.misfit(poses, scattered) <= true.misfit(poses, right) + 1e-9
    assert true.misfit(poses, right) < 400 * 2 * 0.5**2 * 1.3
    wrong = Site(OFFSET + 0.25 * LATTICE_PX, LATTICE_PX)
    assert wrong.misfit(poses, right) > 2 * true.misfit(poses, right)
    lost = scattered.copy()
    lost[::10] += 1e4  # a lost track counts no more than a bound
    assert true.misfit(poses, lost) < true.misfit(poses, scattered) + 40 * (0.2 * LATTICE_PX) ** 2 + 1


def test_refinement_is_least_squares(track) -> None:
    poses, _, scattered = track
    refined = Site(OFFSET + 0.6, LATTICE_PX).refined(poses, scattered)
    np.testing.assert_allclose(refined.offset_px, OFFSET, atol=0.15)


def test_too_few_frames_leave_the_site(track) -> None:
    poses, right, _ = track
    site = Site(OFFSET + 0.3, LATTICE_PX)
    np.testing.assert_array_equal(site.refined(poses[:4], right[:4]).offset_px, site.offset_px)


def test_the_branch_does_not_matter(track) -> None:
    # another branch of the same path turns the offset with the body
    poses, _, scattered = track
    turned = multiply(poses, CUBIC[9])
    site = Site.find(turned, scattered, LATTICE_PX)
    assert same_site(to_matrix(CUBIC[9]) @ site.offset_px, 0.2)
