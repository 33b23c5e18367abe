"""Crystals: lattice, size, asymmetry, files."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tumble.stream.simulator.crystal import Crystal, lattice_constant_A, read_structure, wulff_crystal
from tumble.stream.simulator.presets import demo_crystal


def nearest_A(crystal: Crystal) -> np.ndarray:
    return cKDTree(crystal.positions_A).query(crystal.positions_A, k=2)[0][:, 1]


@pytest.mark.parametrize("atoms", [13, 100, 309, 1000])
def test_size_is_exact_and_centroid_at_the_origin(atoms: int) -> None:
    crystal = wulff_crystal("Pt", atoms, asymmetry=0.1, terraces=1, missing_surface=0.1, seed=atoms)
    assert len(crystal.elements) == atoms
    np.testing.assert_allclose(crystal.positions_A.mean(axis=0), 0.0, atol=1e-10)


@pytest.mark.parametrize("element", ["Pt", "Au", "Pd", "Ag"])
def test_nearest_neighbours_are_those_of_the_lattice(element: str) -> None:
    crystal = wulff_crystal(element, 400)
    np.testing.assert_allclose(nearest_A(crystal), lattice_constant_A(element) / np.sqrt(2), rtol=1e-9)


def test_lattice_constant_and_strain_are_used() -> None:
    crystal = wulff_crystal("Pt", 200, lattice_constant=4.1, strain_percent=(0.0, 0.0, 10.0))
    levels = np.unique(np.round(crystal.positions_A[:, 2], 6))
    np.testing.assert_allclose(np.diff(levels), 2.05 * 1.1, atol=1e-5)
    levels = np.unique(np.round(crystal.positions_A[:, 0], 6))
    np.testing.assert_allclose(np.diff(levels), 2.05, atol=1e-5)


def self_overlap(crystal: Crystal, lattice_constant: float) -> float:
    """Largest share of atoms that lie on atoms after any other operation of the cube and the best translation."""
    sites = np.rint((crystal.positions_A - crystal.positions_A[0]) / (lattice_constant / 2)).astype(int)

    def spectrum(points: np.ndarray) -> np.ndarray:
        grid = np.zeros((32, 32, 32))
        grid[tuple((points - points.min(axis=0)).T)] = 1.0
        return np.fft.fftn(grid)

    rotations = np.rint(Rotation.create_group("O").as_matrix()).astype(int)
    operations = [sign * matrix for matrix in rotations for sign in (1, -1)]
    own = spectrum(sites)
    copies = [spectrum(sites @ matrix.T) for matrix in operations if not np.array_equal(matrix, np.eye(3))]
    return max(float(np.fft.ifftn(own * copy.conj()).real.max()) for copy in copies) / len(sites)


@pytest.mark.parametrize("seed", range(8))
def test_demo_crystals_are_not_symmetric(seed: int) -> None:
    """Else no reconstruction could tell the poses apart that the lattice leaves open."""
    assert self_overlap(demo_crystal(seed), 3.92) < 0.9
    assert self_overlap(wulff_crystal("Pt", 309), 3.92) > 0.95


def test_seed_decides() -> None:
    first, again, other = (wulff_crystal("Pt", 150, asymmetry=0.1, missing_surface=0.1, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.positions_A, again.positions_A)
    assert not np.array_equal(first.positions_A, other.positions_A)


def test_displacements_have_the_size_asked_for() -> None:
    straight, shaken = wulff_crystal("Pt", 500), wulff_crystal("Pt", 500, displacement_rms_A=0.05)
    assert (shaken.positions_A - straight.positions_A).std() == pytest.approx(0.05, rel=0.1)


def test_impossible_crystals_are_refused() -> None:
    with pytest.raises(ValueError, match="13 atoms"):
        wulff_crystal("Pt", 5)
    with pytest.raises(ValueError, match="lattice_constant_A"):
        wulff_crystal("Fe", 100)
    with pytest.raises(ValueError, match="Xx"):
        Crystal(("Xx",), np.zeros((1, 3)), "test")


def test_xyz_is_read_and_centred(tmp_path: Path) -> None:
    path = tmp_path / "two.xyz"
    path.write_text("2\n\nPt 0.0 0.0 0.0\nPd 2.0 0.0 4.0\n")
    crystal = read_structure(path)
    assert crystal.elements == ("Pt", "Pd")
    np.testing.assert_allclose(crystal.positions_A, [[-1, 0, -2], [1, 0, 2]])


def test_pdb_with_upper_case_elements_and_broken_columns(tmp_path: Path) -> None:
    path = tmp_path / "odd.pdb"
    path.write_text(
        "REMARK a line of words\n"
        "ATOM      1  PT   X  A   1      19.151  29.022  30.095  1.00  0.68          PT\n"
        "ATOM 2 PT X A 2 21.151 29.022 30.095 1.00 0.68 PT\n"
        "HETATM    3 AU   UNK A   3      20.151  31.022  30.095  1.00  0.68          AU\n"
        "END\n"
    )
    crystal = read_structure(path)
    assert crystal.elements == ("Pt", "Pt", "Au")
    np.testing.assert_allclose(crystal.positions_A[1] - crystal.positions_A[0], [2.0, 0.0, 0.0], atol=1e-9)


def test_periodic_structure_is_cut_to_a_sphere(tmp_path: Path) -> None:
    ase_build = pytest.importorskip("ase.build")
    path = tmp_path / "gold.cif"
    ase_build.bulk("Au", cubic=True).write(path)
    crystal = read_structure(path, diameter_A=20.0)
    assert crystal.radius_A <= 11.0
    assert len(crystal.elements) == pytest.approx(4 / 4.08**3 * np.pi / 6 * 20**3, rel=0.15)
    np.testing.assert_allclose(nearest_A(crystal), 4.08 / np.sqrt(2), rtol=1e-3)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nonsense.pdb"
    path.write_text("nothing here\n")
    with pytest.raises(ValueError, match=r"nonsense\.pdb: no atoms"):
        read_structure(path)
    path.write_text("ATOM      1  PT   X  A   1      a  b  c\n")
    with pytest.raises(ValueError, match="line 1"):
        read_structure(path)
    with pytest.raises(OSError, match="missing"):
        read_structure(tmp_path / "missing.xyz")


@pytest.mark.shared
def test_measured_structures_are_read(shared_data: Path) -> None:
    expected = {"snu_pt_stage2.pdb": 264, "snu_pt_stage3.pdb": 233, "snu_pt_stage4.pdb": 119, "pdpt_epb.xyz": 5377}
    for name, atoms in expected.items():
        crystal = read_structure(shared_data / "real" / name)
        assert len(crystal.elements) == atoms
        assert np.median(nearest_A(crystal)) == pytest.approx(2.7, abs=0.2)
