"""Images of particles: where atoms appear, how much they weigh, how the two ways of imaging agree."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tumble.stream.simulator.crystal import wulff_crystal
from tumble.stream.simulator.exit_wave import PhaseRenderer
from tumble.stream.simulator.optics import Optics
from tumble.stream.simulator.render import LinearRenderer, Renderer

PIXEL_A = 0.358
SHAPE = (90, 120)


def renderers() -> list[Renderer]:
    return [
        LinearRenderer(["Pt"], PIXEL_A, Optics(), 20.0, scale=1.0),
        PhaseRenderer(["Pt"], PIXEL_A, Optics(), 10.0),
        PhaseRenderer(["Pt"], PIXEL_A, Optics(), 10.0, slices=4),
    ]


def image(renderer: Renderer, positions_A: np.ndarray) -> np.ndarray:
    field = np.ones(SHAPE, dtype=np.float32)
    renderer.render(field, renderer.species(["Pt"] * len(positions_A)), np.asarray(positions_A, dtype=np.float64))
    return field - 1.0


def offset_px(contrast: np.ndarray, axis: int, position: float) -> float:
    """How far from `position` the image lies along one axis, from the phases of its Fourier transform at 2.5-1.7 A."""
    profile = np.fft.rfft(contrast.sum(axis=1 - axis))
    cycles = np.fft.rfftfreq(contrast.shape[axis])
    band = (cycles > 0.14) & (cycles < 0.21)
    return float(
        np.mean(-np.angle((profile * np.exp(2j * np.pi * cycles * position))[band]) / (2 * np.pi * cycles[band]))
    )


@pytest.mark.parametrize("number", range(3))
def test_one_atom_appears_bright_at_its_column_and_row(number: int) -> None:
    """Truth convention: x is the column, y is the row, (0, 0) is the centre of pixel [0, 0]."""
    renderer = renderers()[number]
    for column, row in ((60.0, 40.0), (71.3, 22.8), (30.06, 60.66)):
        contrast = image(renderer, np.array([[column * PIXEL_A, row * PIXEL_A, 0.0]]))
        peak_row, peak_column = np.unravel_index(contrast.argmax(), SHAPE)
        assert (peak_column, peak_row) == (round(column), round(row))
        for axis, position in ((0, row), (1, column)):
            assert offset_px(contrast, axis, position) == pytest.approx(0.0, abs=0.08)


def test_one_atom_looks_the_same_both_ways() -> None:
    linear, phase, sliced = (image(renderer, np.array([[21.0, 15.0, 3.9]])) for renderer in renderers())
    assert np.corrcoef(linear.ravel(), phase.ravel())[0, 1] > 0.995
    assert phase.max() == pytest.approx(linear.max(), rel=0.05)
    assert np.corrcoef(sliced.ravel(), phase.ravel())[0, 1] > 0.99


def test_moving_by_whole_pixels_moves_the_image() -> None:
    atoms = wulff_crystal("Pt", 55).positions_A + np.array([20.0, 16.0, 0.0])
    for renderer in renderers():
        here = image(renderer, atoms)
        there = image(renderer, atoms + np.array([5 * PIXEL_A, -3 * PIXEL_A, 0.0]))
        np.testing.assert_allclose(there[10:-10, 15:-10], here[13:-7, 10:-15], atol=2e-3)


def test_turning_about_the_beam_turns_the_image() -> None:
    """A quarter turn that takes x to y (the atoms') takes columns to rows (the image's)."""
    centre = np.array([44 * PIXEL_A, 44 * PIXEL_A, 0.0])
    atoms = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).apply(wulff_crystal("Pt", 100).positions_A)
    quarter = Rotation.from_euler("z", 90, degrees=True)
    for renderer in renderers()[:2]:
        straight = image(renderer, atoms + centre)[:89, :89]
        turned = image(renderer, quarter.apply(atoms) + centre)[:89, :89]
        expected = np.rot90(straight, -1)  # [row, column]: x to y, y to -x
        assert np.corrcoef(turned.ravel(), expected.ravel())[0, 1] > 0.999


def test_columns_seen_end_on_are_brighter_than_single_atoms() -> None:
    depth = 2.77 * np.arange(6)
    column = np.stack([np.full(6, 21.0), np.full(6, 15.0), depth - depth.mean()], axis=1)
    for renderer in renderers():
        assert image(renderer, column).max() > 1.2 * image(renderer, column[:1]).max()


def test_thick_columns_saturate_in_the_exit_wave_only() -> None:
    column = np.tile([[21.0, 15.0, 0.0]], (8, 1))
    linear, phase, _ = renderers()
    assert image(linear, column).max() == pytest.approx(8 * image(linear, column[:1]).max(), rel=1e-3)
    assert image(phase, column).max() < 6 * image(phase, column[:1]).max()


def test_absorption_is_all_that_changes_the_total() -> None:
    """A lens without damping, aperture and absorption keeps every electron."""
    optics = Optics(focal_spread_A=0.0, amplitude_contrast=0.0)
    contrast = image(PhaseRenderer(["Pt"], PIXEL_A, optics, 10.0), np.array([[21.0, 15.0, 0.0]]))
    lossy = image(PhaseRenderer(["Pt"], PIXEL_A, Optics(), 10.0), np.array([[21.0, 15.0, 0.0]]))
    assert abs(contrast.sum()) < 0.03 * np.abs(contrast).sum()
    assert lossy.sum() < contrast.sum()


def test_particles_across_the_edge_are_clipped() -> None:
    atoms = wulff_crystal("Pt", 55).positions_A
    inside = atoms + np.array([20.0, 16.0, 0.0])
    for renderer in renderers():
        for corner in ((0.0, 0.0), (SHAPE[1] * PIXEL_A, SHAPE[0] * PIXEL_A)):
            assert image(renderer, atoms + np.array([*corner, 0.0])).max() > 0.1
        assert np.all(image(renderer, inside + np.array([200.0, 0.0, 0.0])) == 0)
