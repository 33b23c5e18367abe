"""Kinds of lattices: what is body-centred is recognised, measured and placed as such, and fcc stays what it was."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tumble.recon.atoms import nearest_neighbour_constant
from tumble.recon.change import vacant_sites
from tumble.recon.compare import lattice_rms_A, packing, vacuum_share
from tumble.recon.device import Device
from tumble.recon.geometry import half_plane
from tumble.recon.kinds import (
    BCC,
    FCC,
    KINDS,
    USUAL,
    Kind,
    Lattice,
    guess_element,
    known_lattice,
    metals_that_fit,
    search_ranges,
)
from tumble.recon.lattice import PoseGrid, band, search_grid
from tumble.recon.limits import followed, limits
from tumble.recon.recognition import Boxes, constants, recognise_lattice
from tumble.recon.rotations import CUBIC, to_matrix
from tumble.recon.site import Site
from tumble.recon.spectra import box_coefficients, noise_weights
from tumble.recon.symmetry import CUBE
from tumble.recon.volume import Grid

IRON = Lattice(BCC, 2.866)
PIXEL_A, BOX = 0.42, 64


def test_a_ball_of_bcc_has_its_shells() -> None:
    distance = np.round(np.linalg.norm(IRON.ball(2 * 2.866 * np.sqrt(2) + 1e-6), axis=1) / 2.866, 6)
    shells, counts = np.unique(distance, return_counts=True)
    np.testing.assert_allclose(shells, [0, np.sqrt(0.75), 1, np.sqrt(2)], atol=1e-6)
    assert list(counts) == [1, 8, 6, 12]
    assert shells[1] * 2.866 == pytest.approx(IRON.neighbour_A)
    assert np.isclose(2.866 * np.average(shells[1:3], weights=counts[1:3]) * BCC.per_neighbour, 2.866)


@pytest.mark.parametrize("kind", KINDS)
def test_lattice_vectors_have_the_symmetry_of_the_cube(kind: Kind) -> None:
    np.testing.assert_array_equal(kind.vectors[0], 0)
    keys = {tuple(v) for v in kind.vectors}
    assert len(keys) == len(kind.vectors)
    for turn in np.rint(to_matrix(CUBIC)):
        assert {tuple(v) for v in np.round(kind.vectors @ turn.T, 6) + 0.0} == keys
    nearest = np.linalg.norm(kind.vectors[1:], axis=1).min()
    assert nearest == pytest.approx(Lattice(kind, 1.0).neighbour_A)


def test_what_is_known_narrows_the_search() -> None:
    assert search_ranges(None) == ((FCC, (3.45, 4.25)), (BCC, (2.75, 3.45)))
    assert [kind.name for kind, _ in search_ranges("Ru")] == ["hcp"]
    assert [kind.name for kind, _ in search_ranges("U")] == ["fcc", "bcc"]  # neither: its atoms may still be in one
    (pt,), (fe,) = search_ranges("Pt"), search_ranges("Fe")
    assert pt == (FCC, (pytest.approx(3.728, abs=1e-3), pytest.approx(4.120, abs=1e-3)))
    assert fe == (BCC, (pytest.approx(2.723, abs=1e-3), pytest.approx(3.009, abs=1e-3)))
    assert search_ranges(None, IRON) == ((BCC, (2.866, 2.866)),)
    assert known_lattice(2.866) == IRON
    assert known_lattice(3.92) == Lattice(FCC, 3.92)
    assert known_lattice(3.6, "Fe") == Lattice(BCC, 3.6)
    assert guess_element(Lattice(BCC, 3.17)) == "W"


def test_limits_follow_the_reflections() -> None:
    box_A = BOX * PIXEL_A
    start = limits(BOX, PIXEL_A, USUAL.scale_A)
    assert followed(start, Lattice(FCC, 3.6), box_A) is start
    iron = followed(start, IRON, box_A)
    low, high = band(IRON.scale_A, box_A, iron.index)
    assert low < np.sqrt(2) / 2.866 * box_A < np.sqrt(6) / 2.866 * box_A < high  # (110) and (211) inside
    assert iron.largest <= start.largest


def test_a_site_of_a_bcc_lattice_is_found(synthetic: ModuleType) -> None:
    lattice_px, offset = 6.9, np.array([0.31, -0.12, 0.2]) * 6.9
    rng = np.random.default_rng(0)
    poses = synthetic.tumbling(400, 2.5, rng)
    plane = to_matrix(poses)[:, :2]
    right = plane @ offset + rng.normal(0, 0.4, (400, 2))
    hops = BCC.vectors[rng.choice(9, 400)] * lattice_px
    scattered = right + (plane @ hops[..., None])[..., 0]
    site = Site.find(poses, scattered, lattice_px, kind=BCC)
    assert np.linalg.norm(site.offset_px - offset + BCC.vectors * lattice_px, axis=1).min() < 0.3
    moved = Site(offset, lattice_px, kind=BCC).nearest(poses, scattered)
    assert (np.hypot(*(moved - right).T) < 0.1).mean() > 0.9


# ---------------------------------------------------------------- atoms


@pytest.fixture(scope="module")
def iron(synthetic: ModuleType) -> np.ndarray:
    return synthetic.fcc_crystal(2.866, 21.0, kind=BCC)


def test_numbers_of_bcc_atoms(iron: np.ndarray) -> None:
    shaken = iron + np.random.default_rng(1).normal(0, 0.05, iron.shape)
    assert nearest_neighbour_constant(shaken, Lattice(BCC, 2.9)) == pytest.approx(2.866, rel=5e-3)
    assert packing(shaken, IRON.neighbour_A, BCC) == pytest.approx(1.0, abs=0.05)
    assert lattice_rms_A(shaken, IRON.neighbour_A, BCC) == pytest.approx(0.05, rel=0.15)
    assert vacuum_share(shaken, IRON.neighbour_A, BCC) < 0.02
    holes = iron[np.random.default_rng(2).random(len(iron)) > 0.25]
    assert packing(holes, IRON.neighbour_A, BCC) < 0.85


def test_vacant_places_beside_bcc_atoms(iron: np.ndarray) -> None:
    places = vacant_sites(iron, IRON.neighbour_A, BCC)
    assert len(places) > 20
    steps = (places[:, None] - iron[None]) / 2.866 * 2
    assert np.abs(steps - np.rint(steps)).max() < 1e-6  # all on the lattice
    assert BCC.has(np.rint(steps).astype(int)).all()


# ---------------------------------------------------------------- recognition


@pytest.fixture(scope="module")
def poses() -> PoseGrid:
    return search_grid(5.0, CUBE)


@pytest.mark.parametrize(("kind", "constant_A"), [(BCC, 2.866), (BCC, 3.303), (FCC, 3.924)])
def test_the_kind_and_its_constant_are_recognised(
    synthetic: ModuleType, device: Device, poses: PoseGrid, kind: Kind, constant_A: float
) -> None:
    atoms = synthetic.fcc_crystal(constant_A, 19.0, kind=kind)
    movie = synthetic.movie(20, contrast=15.0, atoms_A=atoms, seed=6)
    plane = half_plane(BOX, 30)
    coefficients = box_coefficients(np.stack([o.box for o in movie.observations]), plane, device)
    weight, grid = noise_weights(movie.noise, plane), Grid(BOX, 23)
    boxes = Boxes(coefficients, plane, weight, movie.diameter_A, PIXEL_A, grid, device)
    ranges = tuple((k, (constant_A * w * 0.96, constant_A * w * 1.05)) for k, w in _equally_far(kind))
    found = recognise_lattice(boxes, ranges, spacing_deg=5.0)
    assert found.lattice.kind is kind
    assert found.lattice.constant_A == pytest.approx(constant_A, rel=6e-3)
    if kind is FCC:  # nothing about fcc crystals is changed by what else is tried
        alone, *_ = constants(boxes, poses, ranges[0][1])
        assert alone.lattice == found.lattice
        assert alone.sharpness == found.sharpness


def _equally_far(kind: Kind) -> list[tuple[Kind, float]]:
    """Kinds, fcc first, and how many times its constant theirs is for the same distance of neighbours."""
    return [(other, kind.widening / other.widening) for other in KINDS]


def test_metals_are_named_as_far_as_the_constant_tells_them_apart() -> None:
    assert metals_that_fit(Lattice(FCC, 3.923)) == ("Pt",)
    assert metals_that_fit(Lattice(FCC, 3.893)) == ("Pd",)
    assert metals_that_fit(Lattice(FCC, 4.084)) == ("Ag", "Au")
    assert metals_that_fit(Lattice(FCC, 4.076)) == ("Au", "Ag")
    assert metals_that_fit(Lattice(BCC, 2.87)) == ("Fe",)
    assert metals_that_fit(Lattice(FCC, 3.97)) == ()
    assert guess_element(Lattice(FCC, 3.97)) == "Pt"
