"""Atoms of rendered maps: all found, none extra, centred; what is published sits where it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tumble.recon.atoms import (
    Peaks,
    Smooth,
    find_peaks,
    nearest_neighbour_constant,
    position_errors,
    select_atoms,
)
from tumble.recon.device import cpu
from tumble.recon.kinds import FCC, KINDS, Kind, Lattice, guess_element
from tumble.recon.maps import SolvedMap
from tumble.recon.output import central_layer, publish

BOX, VOXEL_A, LATTICE_A = 64, 0.42, 3.95
NEIGHBOUR_A = LATTICE_A / np.sqrt(2)


def render(atoms_A: np.ndarray, sigma_A: float = 0.5, heights: np.ndarray | None = None) -> np.ndarray:
    """(64, 64, 64) ``[z, y, x]`` map of Gaussian atoms (n, 3) ``(x, y, z)`` A about voxel n // 2."""
    axis = (np.arange(BOX) - BOX // 2) * VOXEL_A
    x, y, z = (np.exp(-0.5 * ((axis[:, None] - atoms_A[:, i]) / sigma_A) ** 2) for i in range(3))
    if heights is not None:
        z = z * heights
    return np.einsum("zn,yn,xn->zyx", z, y, x, optimize=True).astype(np.float32)


def crystal(synthetic) -> np.ndarray:
    """Off the voxels, and turned so that no axis is special."""
    from tumble.recon.rotations import random_rotations, to_matrix

    turn = to_matrix(random_rotations(1, np.random.default_rng(0))[0])
    return synthetic.fcc_crystal() @ turn.T + np.array([0.13, -0.21, 0.07])


def match(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Recall, precision and RMSD of atoms within 0.6 A, no alignment."""
    there = cKDTree(found).query(truth)[0]
    back = cKDTree(truth).query(found)[0]
    return (there < 0.6).mean(), (back < 0.6).mean(), np.sqrt((there[there < 0.6] ** 2).mean())


def test_all_atoms_to_a_hundredth_of_an_angstrom(synthetic) -> None:
    truth = crystal(synthetic)
    positions, confidence = select_atoms(find_peaks(render(truth), VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
    recall, precision, rmsd = match(positions, truth)
    assert len(positions) == len(truth)
    assert (recall, precision) == (1, 1)
    assert rmsd < 0.01
    assert confidence.min() > 0.9


@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_all_atoms_in_noise(synthetic, noise: float) -> None:
    # noise of the resolution of a map, not single voxels
    from scipy.ndimage import gaussian_filter

    truth = crystal(synthetic)
    grain = gaussian_filter(np.random.default_rng(1).normal(size=(BOX,) * 3), 0.8)
    volume = render(truth) + (noise * grain / grain.std()).astype(np.float32)
    positions, _ = select_atoms(find_peaks(volume, VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
    recall, precision, rmsd = match(positions, truth)
    assert (recall, precision) == (1, 1)
    assert len(positions) == len(truth)
    assert rmsd < 1.2 * noise


def test_weak_surface_atoms_are_kept_and_lone_bumps_are_not(synthetic) -> None:
    truth = crystal(synthetic)
    heights = np.ones(len(truth))
    rim = np.argsort(-np.linalg.norm(truth, axis=1))[:15]
    heights[rim] = 0.7
    bumps = np.array([[11.5, 0.3, 0.2], [-0.4, -11.8, 1.0]])  # as strong, but no neighbours
    volume = render(np.concatenate([truth, bumps]), heights=np.concatenate([heights, [0.9, 0.9]]))
    distance = cKDTree(truth).query(bumps)[0]
    assert distance.min() > 1.35 * NEIGHBOUR_A
    positions, confidence = select_atoms(find_peaks(volume, VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
    assert match(positions, truth)[:2] == (1, 1)
    weak = cKDTree(positions).query(truth[rim])[1]
    assert confidence[weak].max() < np.median(confidence)


def test_positions_are_x_y_z() -> None:
    truth = np.array([[3.0, -2.0, 1.0]])
    peaks = find_peaks(render(truth), VOXEL_A, NEIGHBOUR_A)
    np.testing.assert_allclose(peaks.positions_A[0], truth[0], atol=0.02)
    assert (np.diff(peaks.heights) <= 0).all()


def test_light_atoms_among_heavy_ones_are_found_at_any_place_between_voxels(synthetic) -> None:
    # the corners of a box about a light atom reach the flank of its heavy neighbour, which is brighter than that atom
    truth = synthetic.fcc_crystal()
    light = np.round(truth[:, 0] / (LATTICE_A / 2)).astype(int) % 2 == 0
    for shift_A in (0.0, 0.1, 0.2):
        heights = np.where(light, 0.5, 1.0)
        volume = render(truth + shift_A, 0.6, heights)
        positions, _ = select_atoms(find_peaks(volume, VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
        assert match(positions, truth + shift_A)[:2] == (1, 1)


def test_ghosts_between_atoms_are_none(synthetic) -> None:
    truth = crystal(synthetic)
    ghosts = truth[::4] + np.array([1.5, 0.1, 0.3])  # what a map of few frames has between its atoms
    volume = render(np.concatenate([truth, ghosts]), 0.35, np.repeat([1.0, 0.6], [len(truth), len(ghosts)]))
    positions, _ = select_atoms(find_peaks(volume, VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
    assert match(positions, truth)[:2] == (1, 1)


def test_two_atoms_too_close_are_one() -> None:
    near = render(np.array([[0.0, 0, 0], [0.9, 0, 0]]), sigma_A=0.3)
    assert (find_peaks(near, VOXEL_A, NEIGHBOUR_A).heights > 0.3).sum() == 1


@pytest.mark.parametrize("volume", [np.zeros((BOX,) * 3, np.float32), np.full((BOX,) * 3, -1, np.float32)])
def test_empty_maps_have_no_atoms(volume: np.ndarray) -> None:
    positions, confidence = select_atoms(find_peaks(volume, VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
    assert positions.shape == (0, 3)
    assert confidence.shape == (0,)
    assert nearest_neighbour_constant(positions, Lattice(FCC, LATTICE_A)) is None


def test_confidences_are_shares() -> None:
    rng = np.random.default_rng(2)
    peaks = Peaks(rng.uniform(-4, 4, (80, 3)), np.sort(rng.uniform(0.1, 2, 80))[::-1])
    positions, confidence = select_atoms(peaks, NEIGHBOUR_A)
    assert len(positions) == len(confidence)
    assert (confidence >= 0.5).all()
    assert (confidence <= 1).all()


def test_errors_of_positions_are_those_of_the_noise(synthetic) -> None:
    from scipy.ndimage import gaussian_filter

    truth = crystal(synthetic)
    rng = np.random.default_rng(9)
    clean = render(truth)
    halves = []
    for _ in range(2):
        grain = gaussian_filter(rng.normal(size=(BOX,) * 3), 0.8)
        halves.append(clean + (0.08 * grain / grain.std()).astype(np.float32))
    positions, _ = select_atoms(find_peaks((halves[0] + halves[1]) / 2, VOXEL_A, NEIGHBOUR_A), NEIGHBOUR_A)
    errors = position_errors((Smooth.of(halves[0], VOXEL_A), Smooth.of(halves[1], VOXEL_A)), positions, VOXEL_A)
    distance = cKDTree(truth).query(positions)[0]
    assert np.sqrt((errors**2).mean()) == pytest.approx(np.sqrt((distance**2).mean() / 3), rel=0.15)
    assert errors.shape == (len(positions),)
    same = Smooth.of(clean, VOXEL_A)
    assert position_errors((same, same), positions, VOXEL_A).max() < 1e-6
    assert len(position_errors((same, same), np.zeros((0, 3)), VOXEL_A)) == 0


@pytest.mark.parametrize("lattice", [3.6, 3.95, 4.08])
def test_lattice_constant_from_neighbours(lattice: float) -> None:
    rng = np.random.default_rng(3)
    atoms = Lattice(FCC, lattice).ball(19.0)
    noisy = atoms + rng.normal(0, 0.04, atoms.shape)
    found = nearest_neighbour_constant(noisy, Lattice(FCC, 3.95))
    assert found == pytest.approx(lattice, rel=3e-3)


def test_lattice_constant_needs_coordinated_atoms() -> None:
    assert nearest_neighbour_constant(np.zeros((5, 3)), Lattice(FCC, LATTICE_A)) is None
    line = np.stack([np.arange(40) * NEIGHBOUR_A, np.zeros(40), np.zeros(40)], axis=1)
    assert nearest_neighbour_constant(line, Lattice(FCC, LATTICE_A)) is None


@pytest.mark.parametrize(("kind", "element"), [(kind, element) for kind in KINDS for element in kind.metals])
def test_element_by_its_lattice(kind: Kind, element: str) -> None:
    assert guess_element(Lattice(kind, kind.metals[element] * 1.0002)) == element


# ---------------------------------------------------------------- published


def test_published_maps_and_atoms_share_their_origin(synthetic) -> None:
    truth = crystal(synthetic) + np.array([1.1, -0.8, 0.6])
    volume = render(truth)
    half1, half2 = volume + np.float32(0.01), volume - np.float32(0.01)
    fsc = np.clip(np.linspace(1.5, -0.2, 29), -1, 1)
    made = publish(SolvedMap(volume, half1, half2, fsc), VOXEL_A, Lattice(FCC, LATTICE_A), None, cpu(1))
    positions = np.array([atom.position_A for atom in made.atoms])
    np.testing.assert_allclose(positions.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(made.centre_A, truth.mean(axis=0), atol=0.02)
    assert match(positions, truth - truth.mean(axis=0))[:2] == (1, 1)
    # the moved map has its peaks at the positions of the atoms
    again = find_peaks(made.map, VOXEL_A, NEIGHBOUR_A)
    assert match(again.positions_A[: len(positions)], positions)[2] < 0.02
    assert made.half1.mean() > made.half2.mean()
    assert made.lattice.constant_A == pytest.approx(LATTICE_A, rel=2e-3)
    assert {atom.element for atom in made.atoms} == {guess_element(Lattice(FCC, LATTICE_A))}
    assert made.fsc_k[1] == pytest.approx(1 / (BOX * VOXEL_A))
    assert made.resolution_A is not None
    assert 1 / made.fsc_k[-1] < made.resolution_A < 2.5


def test_atoms_are_named_by_the_constant_that_they_show_not_by_that_which_the_search_began_with(synthetic) -> None:
    volume = render(crystal(synthetic) * (3.924 / LATTICE_A))
    fsc = np.ones(29)
    made = publish(SolvedMap(volume, volume, volume, fsc), VOXEL_A, Lattice(FCC, 3.90), None, cpu(1))
    assert guess_element(Lattice(FCC, 3.90)) == "Pd"
    assert {atom.element for atom in made.atoms} == {"Pt"}


def test_the_operator_names_the_element(synthetic) -> None:
    volume = render(crystal(synthetic))
    made = publish(SolvedMap(volume, volume, volume, np.ones(29)), VOXEL_A, Lattice(FCC, LATTICE_A), "Au", cpu(1))
    assert {atom.element for atom in made.atoms} == {"Au"}


def test_an_empty_map_is_published_without_atoms() -> None:
    nothing = np.zeros((BOX,) * 3, np.float32)
    made = publish(SolvedMap(nothing, nothing, nothing, np.zeros(29)), VOXEL_A, Lattice(FCC, LATTICE_A), None, cpu(1))
    assert made.atoms == ()
    assert made.resolution_A is None
    assert made.lattice.constant_A == LATTICE_A
    np.testing.assert_array_equal(made.centre_A, 0)


def test_central_layer_shows_the_atoms_about_the_middle() -> None:
    volume = render(np.array([[2.0, 3.0, 1.0], [-3.0, 0.0, -1.0], [0.0, 0.0, 8.0]]))
    layer = central_layer(volume, VOXEL_A)
    assert layer.shape == (BOX, BOX)

    def at(x: float, y: float) -> float:
        return float(layer[BOX // 2 + round(y / VOXEL_A), BOX // 2 + round(x / VOXEL_A)])

    assert at(2, 3) > 0.8
    assert at(-3, 0) > 0.8
    assert at(0, 0) < 0.1  # 8 A above


@pytest.mark.parametrize(("axis", "column"), [(1, 0.8), (2, -0.6)])
def test_central_layers_along_the_other_axes(axis: int, column: float) -> None:
    volume = render(np.array([[0.8, -0.6, 3.0]]))
    layer = central_layer(volume, VOXEL_A, axis)  # rows are z, columns x or y
    row, place = np.unravel_index(layer.argmax(), layer.shape)
    assert (row, place) == (BOX // 2 + round(3.0 / VOXEL_A), BOX // 2 + round(column / VOXEL_A))
