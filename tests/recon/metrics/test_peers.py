"""Our metrics beside public programs that were not written here; skipped where these are not installed."""

from __future__ import annotations

import numpy as np
import pytest

from tumble.recon.coverage import view_counts, view_grid
from tumble.recon.metrics.reference import view_sets
from tumble.recon.metrics.sampling import FourierSampling
from tumble.recon.metrics.surface import area_and_volume
from tumble.recon.rotations import random_rotations

pytestmark = pytest.mark.interop


def _healpix(nside: int) -> np.ndarray:
    """Centres of the equal-area pixels of one hemisphere."""
    healpix = pytest.importorskip("astropy_healpix.healpy")
    centres = np.stack(healpix.pix2vec(nside, np.arange(healpix.nside2npix(nside))), axis=1)
    return centres[centres[:, 2] > 1e-9]


def test_cells_of_the_view_map_are_of_equal_area() -> None:
    centres = _healpix(128)
    grid = view_grid()
    nearest = abs(centres @ grid.T).argmax(axis=1)
    areas = np.bincount(nearest, minlength=len(grid)) / len(centres) * len(grid)
    assert areas[grid[:, 2] > 0.1].std() < 0.06  # near the equator cells are shared with the other hemisphere
    assert areas.min() > 0.7
    assert areas.max() < 1.35


def test_view_counts_are_those_of_healpix_pixels() -> None:
    poses = random_rotations(20_000, np.random.default_rng(0))
    ours = view_counts(poses)
    healpix = pytest.importorskip("astropy_healpix.healpy")
    from tumble.recon.coverage import view_directions

    views = view_directions(poses)
    views[views[:, 2] < 0] *= -1
    pixels = np.bincount(healpix.vec2pix(8, *views.T), minlength=healpix.nside2npix(8))
    theirs = pixels[healpix.pix2vec(8, np.arange(len(pixels)))[2] > 0.1]
    # both grids are of equal area, so that uniform views scatter about their mean as counting does
    assert ours.var() / ours.mean() == pytest.approx(1, abs=0.4)
    assert theirs.var() / theirs.mean() == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("name", ["uniform", "side band", "cone 45 deg", "tilt +-60 deg"])
def test_sampling_on_healpix_points(name: str) -> None:
    points = _healpix(32)
    views = view_sets(5000)[name]
    ours = FourierSampling(50.0, points=5000)
    ours.add(views)
    theirs = (abs(points @ views.T) < 0.01).sum(axis=1)
    seen = theirs[theirs > 0]
    assert ours.sampling.empty_fraction == pytest.approx((theirs == 0).mean(), abs=0.01)
    assert ours.sampling.scf == pytest.approx(1 / (seen.mean() * (1 / seen).mean()), abs=0.1)  # hangs on the few


def test_surface_of_marching_cubes() -> None:
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(0)
    line = np.arange(40) - 20.0
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    bumps = sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 30) for a, b, c in rng.uniform(-7, 7, size=(6, 3))
    )
    area, volume = area_and_volume(bumps, 0.4)
    vertices, faces, _, _ = measure.marching_cubes(bumps, 0.4)
    assert area == pytest.approx(measure.mesh_surface_area(vertices, faces), rel=0.02)
    assert volume == pytest.approx((bumps >= 0.4).sum(), rel=0.03)
