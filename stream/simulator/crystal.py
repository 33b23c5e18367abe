"""Nanocrystals to simulate: cut from a lattice after Wulff, made asymmetric, or read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.cluster import wulff_construction
from ase.data import atomic_numbers, reference_states
from ase.io import read as ase_read
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .scattering import PENG_1996

FCC_SURFACE_ENERGIES: Mapping[tuple[int, int, int], float] = {(1, 1, 1): 1.0, (1, 0, 0): 1.15, (1, 1, 0): 1.12}
ROUGH_COORDINATION = 8  # surface atoms with at most this many neighbours may be missing


@dataclass(frozen=True, slots=True, eq=False)
class Crystal:
    """Atoms of one particle in its body frame.

    Attributes
    ----------
    elements : (n,) element symbols.
    positions_A : (n, 3) float64, x y z in angstrom, centroid at the origin.
    description : one line on where it came from.
    """

    elements: tuple[str, ...]
    positions_A: NDArray[np.float64]
    description: str = ""

    def __post_init__(self) -> None:
        if self.positions_A.shape != (len(self.elements), 3) or not self.elements:
            raise ValueError(f"{len(self.elements)} elements do not match positions of shape {self.positions_A.shape}")
        unknown = sorted(set(self.elements) - set(PENG_1996))
        if unknown:
            names = ", ".join(unknown)
            raise ValueError(f"no electron scattering factor for {names} in {self.description or 'the crystal'}")

    @property
    def radius_A(self) -> float:
        """Distance of the outermost atom from the centroid, A."""
        return float(np.linalg.norm(self.positions_A, axis=1).max())


def _centred(elements: tuple[str, ...], positions: NDArray[np.float64], description: str) -> Crystal:
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    return Crystal(elements, positions - positions.mean(axis=0), description)


def lattice_constant_A(element: str) -> float:
    """Published lattice constant of an fcc element (ASE reference states), A.

    Raises
    ------
    ValueError
        If the element is unknown or not fcc.
    """
    state: Any = reference_states[atomic_numbers[element]] if element in atomic_numbers else None
    if state is None or state["symmetry"] != "fcc":
        raise ValueError(f"{element} has no fcc reference lattice: give lattice_constant_A, or a structure file")
    return float(state["a"])


def wulff_crystal(
    element: str = "Pt",
    atoms: int = 300,
    *,
    lattice_constant: float | None = None,
    surface_energies: Mapping[tuple[int, int, int], float] = FCC_SURFACE_ENERGIES,
    strain_percent: tuple[float, float, float] = (0.0, 0.0, 0.0),
    asymmetry: float = 0.0,
    terraces: int = 0,
    missing_surface: float = 0.0,
    displacement_rms_A: float = 0.0,
    seed: int = 0,
) -> Crystal:
    """Nanocrystal of fcc metal by Wulff construction (ASE ``wulff_construction``), made imperfect on request.

    Parameters
    ----------
    atoms : how many atoms; exact, the least coordinated surplus atoms go first.
    lattice_constant : in A; the published one of `element` when None.
    surface_energies : relative energy per Miller index.
    strain_percent : uniform strain along body x, y, z.
    asymmetry : relative spread of the facets' distances from the centre (0 to about 0.2).
    terraces : how many incomplete outermost {111} or {100} layers lose one side.
    missing_surface : share of the weakly bound surface atoms that is missing.
    displacement_rms_A : static random displacement per axis.
    seed : everything random follows from it.

    Raises
    ------
    ValueError
        If `element` is not fcc and no lattice constant is given, or `atoms` is below 13.
    """
    if atoms < 13:
        raise ValueError(f"a crystal needs at least 13 atoms, got {atoms}")
    spacing = lattice_constant if lattice_constant is not None else lattice_constant_A(element)
    rng = np.random.default_rng([seed, 0x57554C46])
    # what will be taken away below: half a layer per terrace, a share of the surface
    before = atoms + round((0.6 * terraces + 2.5 * missing_surface) * atoms ** (2.0 / 3.0)) + 4 * terraces
    cluster = wulff_construction(
        element,
        list(surface_energies),
        list(surface_energies.values()),
        round(before * (1.0 + 3.0 * asymmetry)) + 8,
        "fcc",
        rounding="above",
        latticeconstant=spacing,
    )
    positions = np.asarray(cluster.get_positions(), dtype=np.float64)
    positions -= positions.mean(axis=0)
    bond = spacing / np.sqrt(2.0)
    if asymmetry > 0:
        positions = _move_facets(positions, before, asymmetry, rng)
    for _ in range(terraces):
        positions = _remove_terrace(positions, spacing, rng)
    positions = _remove_surface(positions, bond, missing_surface, rng)
    positions = _trim(positions, atoms, bond)
    positions = positions * (1.0 + np.asarray(strain_percent) / 100.0)
    positions += displacement_rms_A * rng.standard_normal(positions.shape)
    words = f"fcc {element}, a = {spacing:.4g} A, {len(positions)} atoms, Wulff, asymmetry {asymmetry:g}"
    words += f", {terraces} terraces, {missing_surface:g} of the surface missing, seed {seed}"
    return _centred((element,) * len(positions), positions, words)


def _facet_normals() -> NDArray[np.float64]:
    signs = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], dtype=np.float64)
    order = np.abs(signs).sum(axis=1)
    normals = signs[(order == 1) | (order == 3)]  # six {100} and eight {111}
    unit: NDArray[np.float64] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return unit


def _move_facets(
    positions: NDArray[np.float64], target: int, asymmetry: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Cut with randomly displaced {100} and {111} planes, as deep as leaves about `target` atoms."""
    heights = positions @ _facet_normals().T
    distance = heights.max(axis=0) * (1.0 + asymmetry * rng.uniform(-1.0, 0.6, size=heights.shape[1]))
    centre = rng.uniform(-0.7, 0.7, size=3)  # the cut's centre off any lattice site: no mirror planes left
    depth = ((positions - centre) @ _facet_normals().T / distance).max(axis=1)
    keep = np.argsort(depth, kind="stable")[:target]
    return positions[np.sort(keep)]


def _remove_terrace(positions: NDArray[np.float64], spacing: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Remove half of the outermost layer of one facet: a step runs across it."""
    normals = _facet_normals()
    normal = normals[rng.integers(len(normals))]
    layer = spacing / (np.sqrt(3.0) if np.count_nonzero(normal) == 3 else 2.0)
    height = positions @ normal
    outermost = height > height.max() - 0.5 * layer
    tangent = np.cross(normal, rng.standard_normal(3))
    along = positions @ tangent
    gone = outermost & (along > np.median(along[outermost]))
    return positions[~gone]


def _coordination(positions: NDArray[np.float64], bond: float) -> NDArray[np.int64]:
    neighbours = cKDTree(positions).query_ball_point(positions, 1.2 * bond, return_length=True)
    counts: NDArray[np.int64] = np.asarray(neighbours, dtype=np.int64) - 1
    return counts


def _remove_surface(
    positions: NDArray[np.float64], bond: float, share: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    weak = np.flatnonzero(_coordination(positions, bond) <= ROUGH_COORDINATION)
    count = round(share * len(weak))
    if count == 0:
        return positions
    return np.delete(positions, rng.choice(weak, size=count, replace=False), axis=0)


def _trim(positions: NDArray[np.float64], atoms: int, bond: float) -> NDArray[np.float64]:
    """Remove the least coordinated, then outermost atoms one by one until `atoms` are left."""
    while len(positions) > atoms:
        coordination = _coordination(positions, bond)
        rank = np.lexsort((-np.linalg.norm(positions, axis=1), coordination))
        step = max(1, min(len(positions) - atoms, 1 + (len(positions) - atoms) // 8))
        positions = np.delete(positions, rank[:step], axis=0)
    return positions


def read_structure(path: str | Path, *, diameter_A: float | None = None, element: str | None = None) -> Crystal:
    """Particle from an xyz, extended xyz, cif or pdb file, centred at its centroid.

    Parameters
    ----------
    diameter_A : cut a sphere of this diameter; a periodic structure (cif) is repeated first to fill it.
    element : use this element for every atom.

    Raises
    ------
    ValueError
        If the file cannot be read as a structure or holds no atoms.
    OSError
        If the file cannot be opened.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".pdb":
            symbols, positions = _read_pdb(path)
        else:
            symbols, positions = _read_ase(path, diameter_A)
    except OSError:
        raise
    except Exception as error:  # readers of foreign files raise anything
        raise ValueError(f"{path}: not readable as a structure ({error}); give an xyz, cif or pdb file") from error
    if not symbols:
        raise ValueError(f"{path}: no atoms found; give an xyz, cif or pdb file")
    if element is not None:
        symbols = (element,) * len(symbols)
    crystal = _centred(symbols, positions, path.name)
    if diameter_A is not None:
        keep = np.flatnonzero(np.linalg.norm(crystal.positions_A, axis=1) <= diameter_A / 2)
        if len(keep) == 0:
            raise ValueError(f"{path}: no atoms within {diameter_A} A of the centre; give a larger diameter")
        crystal = _centred(tuple(symbols[i] for i in keep), crystal.positions_A[keep], path.name)
    return replace(crystal, description=f"{path.name}, {len(crystal.elements)} atoms")


def _read_ase(path: Path, diameter_A: float | None) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    structure = ase_read(path, index=-1)
    if isinstance(structure, list):
        structure = structure[-1]
    if diameter_A is not None and structure.cell.rank == 3:
        spacing = structure.cell.volume / np.linalg.norm(
            np.cross(structure.cell[[1, 2, 0]], structure.cell[[2, 0, 1]]), axis=1
        )  # distance of opposite faces
        structure = structure.repeat(tuple(int(n) for n in np.ceil(diameter_A / spacing) + 1))
    return tuple(structure.get_chemical_symbols()), np.asarray(structure.get_positions(), dtype=np.float64)


def _read_pdb(path: Path) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """ATOM and HETATM records; fixed columns first, blank-separated where a writer did not keep them."""
    symbols: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), start=1):
        if not line.startswith(("ATOM", "HETATM")):
            if line.startswith("ENDMDL"):
                break  # one model is one particle
            continue
        symbol = _pdb_element(line)
        position = _pdb_position(line)
        if symbol is None or position is None:
            raise ValueError(f"line {number}: {line.strip()!r} has no element or position")
        symbols.append(symbol)
        rows.append(position)
    return tuple(symbols), np.array(rows, dtype=np.float64).reshape(-1, 3)


def _pdb_position(line: str) -> list[float] | None:
    fixed = [line[30:38], line[38:46], line[46:54]]
    words = line.split()
    for candidate in (fixed, words[6:9], words[5:8]):
        try:
            position = [float(word) for word in candidate]
        except ValueError:
            continue
        if len(position) == 3 and all(np.isfinite(position)) and all("." in word for word in candidate):
            return position
    return None


def _pdb_element(line: str) -> str | None:
    for word in (line[76:78], line.rsplit(maxsplit=1)[-1], line[12:16]):
        letters = "".join(letter for letter in word if letter.isalpha())
        for symbol in (letters[:2].capitalize(), letters[:1].upper()):
            if symbol in PENG_1996:
                return symbol
    return None
