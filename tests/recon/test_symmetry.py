"""Point groups: they are groups, their operations leave ideal crystals and the images of them as they are."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tumble.recon.chain import distinct_modulo, path_modulo, posterior_modulo, transition_weights
from tumble.recon.clusters import decahedron, hexagonal, icosahedron
from tumble.recon.device import Device, cpu
from tumble.recon.kinds import CLUSTERS, DECAHEDRON, FCC, HCP, ICOSAHEDRON, Kind, Lattice
from tumble.recon.lattice import lattice_volume
from tumble.recon.rotations import angle_deg, fundamental_zone_grid, multiply, random_rotations, to_matrix
from tumble.recon.symmetry import CUBE, DECAHEDRAL, HEXAGONAL, ICOSAHEDRAL, RHOMBOHEDRAL, Symmetry
from tumble.recon.volume import Grid, _rotated, _whole, passes, symmetrise, symmetrise_by

GROUPS = (CUBE, DECAHEDRAL, ICOSAHEDRAL, RHOMBOHEDRAL, HEXAGONAL)
NAMES = ("cube", "decahedron", "icosahedron", "rhombohedron", "hexagon")
groups = pytest.mark.parametrize("symmetry", GROUPS, ids=NAMES)
clusters = pytest.mark.parametrize("kind", CLUSTERS, ids=repr)


@groups
def test_products_of_operations_are_operations(symmetry: Symmetry) -> None:
    proper, improper = symmetry.turns, symmetry.flips
    for first, second, product in (
        (proper, proper, proper),
        (proper, improper, improper),
        (improper, improper, proper),
    ):
        found = multiply(first[:, None], second[None]).reshape(-1, 4)
        assert np.abs(found @ product.T).max(axis=1).min() > 1 - 1e-9
    assert np.abs(np.triu(np.abs(proper @ proper.T), 1)).max() < 1 - 1e-3  # each of them once


@pytest.mark.parametrize(("symmetry", "order"), list(zip(GROUPS, (48, 20, 120, 12, 24), strict=True)), ids=NAMES)
def test_orders_of_the_groups(symmetry: Symmetry, order: int) -> None:
    assert symmetry.order == order
    operations = symmetry.operations
    assert len(operations.permutations) * (1 + len(operations.turns)) == order  # proper and improper ones


@groups
def test_permutations_and_turns_make_the_whole_group(symmetry: Symmetry) -> None:
    operations = symmetry.operations
    turns = np.concatenate([np.eye(3)[None], operations.turns])
    made = np.einsum("pij,tjk->ptik", operations.permutations, turns).reshape(-1, 9)
    every = np.concatenate([to_matrix(symmetry.turns), -to_matrix(symmetry.flips)]).reshape(-1, 9)
    assert np.abs(made[:, None] - every[None]).max(axis=2).min(axis=1).max() < 1e-6
    assert len(np.unique(np.round(made, 4), axis=0)) == symmetry.order


@clusters
def test_clusters_have_the_symmetry_of_their_kind(kind: Kind) -> None:
    atoms, symmetry = Lattice(kind, kind.widening).ball(7.2), kind.symmetry
    tree = cKDTree(atoms)
    for turn, flip in zip(symmetry.turns, symmetry.flips, strict=True):
        assert tree.query(atoms @ to_matrix(turn).T)[0].max() < 1e-6
        assert tree.query(-atoms @ to_matrix(flip).T)[0].max() < 1e-6


def test_shells_of_a_mackay_icosahedron() -> None:
    # closed shells hold 1, 13, 55, 147 atoms; their corners lie a radial bond apart
    edge = 2 / math.sqrt((1 + math.sqrt(5)) / 2 * math.sqrt(5))
    radial = 2 / (1 + edge)
    for shell, count in enumerate((1, 13, 55)):
        assert len(icosahedron(radial * shell + 1e-6)) >= count
    corners = icosahedron(radial + 1e-6)
    assert len(corners) == 13
    distance = cKDTree(corners).query(corners, k=7)[0]
    np.testing.assert_allclose(distance[0 if np.allclose(corners[0], 0) else 1, 2:], radial * edge, rtol=0.06)


@clusters
def test_atoms_inside_a_cluster_have_twelve_neighbours_at_one_distance_on_average(kind: Kind) -> None:
    lattice = Lattice(kind, 4.08 / kind.widening)
    atoms, neighbour_A = lattice.ball(28.0), lattice.neighbour_A
    inner = np.linalg.norm(atoms, axis=1) < 10.0
    distance = cKDTree(atoms).query(atoms, k=14)[0][inner]
    assert distance[:, 1:13].mean() == pytest.approx(neighbour_A, rel=0.011)
    assert distance[:, 1:13].max() < 1.06 * distance[:, 1:13].min()
    assert distance[:, 13].min() > 1.3 * neighbour_A


def test_a_decahedron_repeats_along_its_axis_and_an_icosahedron_never() -> None:
    assert ICOSAHEDRON.vectors.tolist() == [[0.0, 0.0, 0.0]]
    for kind, cluster, count in ((DECAHEDRON, decahedron, 3), (HCP, hexagonal, 27)):
        atoms, tree = cluster(2.0), cKDTree(cluster(5.0))
        assert len(kind.vectors) == count
        for vector in kind.vectors * math.sqrt(2) / kind.widening:  # in nearest-neighbour distances
            assert tree.query(atoms + vector)[0].max() < 1e-9


def test_a_hexagonal_crystal_is_the_same_in_its_other_setting() -> None:
    atoms, tree = hexagonal(2.5), cKDTree(hexagonal(5.0))
    ((turn, offset),) = HCP.mates
    assert tree.query(atoms @ to_matrix(turn).T + offset * math.sqrt(2) / HCP.widening)[0].max() < 1e-9
    assert tree.query(atoms @ to_matrix(turn).T)[0].max() > 0.5  # about another point
    assert np.abs(HCP.symmetry.turns @ turn).max() < 0.99  # and none of its own turns


@clusters
def test_bonds_point_to_neighbours(kind: Kind) -> None:
    bonds = kind.bonds
    np.testing.assert_allclose(np.linalg.norm(bonds, axis=1), 1.0, atol=1e-5)
    assert np.abs(bonds[:, None] + bonds[None]).max(axis=2).min(axis=1).max() < 1e-5  # and back again
    assert len(FCC.bonds) == 12


# ---------------------------------------------------------------- images and volumes


@pytest.mark.parametrize("kind", [FCC, *CLUSTERS], ids=repr)
def test_equivalent_poses_have_the_same_image(synthetic: ModuleType, kind: Kind) -> None:
    symmetry = kind.symmetry
    atoms = Lattice(kind, 4.0 / kind.widening).ball(17.0) / 0.5
    pose = random_rotations(1, np.random.default_rng(4))[0]
    first, *others = (
        synthetic.project(atoms, q, np.zeros(2), 48, 1.0, 2.0)
        for q in symmetry.equivalents(pose)[:: symmetry.order // 10]
    )
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-3 * first.max())


@clusters
def test_the_volume_of_a_cluster_is_symmetric(kind: Kind, device: Device) -> None:
    grid = Grid(64, 20)
    volume = lattice_volume(Lattice(kind, 4.08 / kind.widening), 17.0, grid, 0.42, device)
    assert kind.symmetry.centred == bool(np.abs(volume.imag).max() < 1e-5 * np.abs(volume).max())
    mean = symmetrise_by(kind.symmetry.operations, volume, device)
    assert np.linalg.norm(mean - volume) < 0.06 * np.linalg.norm(volume)  # trilinear interpolation


def test_the_means_over_the_cube_are_one(device: Device) -> None:
    rng = np.random.default_rng(1)
    whole = rng.normal(size=(15, 15, 15)).astype(np.float32)
    half = np.ascontiguousarray((whole + whole[::-1, ::-1, ::-1])[:, :, 7:])
    np.testing.assert_allclose(symmetrise_by(CUBE.operations, half, device), symmetrise(half), atol=1e-5)


def test_turned_volumes_are_the_same_in_array_arithmetic(device: Device) -> None:
    grid = Grid(48, 8)
    rng = np.random.default_rng(2)
    shape = (grid.edge, grid.edge, grid.half + 1)
    half = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    whole, turn = _whole(half, cpu()), ICOSAHEDRAL.operations.turns[1]
    compiled = np.zeros_like(half)
    passes.add_turned(whole, turn, compiled, 0, grid.edge)
    np.testing.assert_allclose(_rotated(whole, turn, device), compiled, atol=1e-5)


# ---------------------------------------------------------------- chains and grids


@groups
def test_distances_between_poses_modulo_a_group(symmetry: Symmetry) -> None:
    poses = random_rotations(60, np.random.default_rng(5))
    start, column = np.array([0, *([59] * 60)]), np.arange(1, 60, dtype=np.int32)
    found = transition_weights(poses, start, column, 20.0, symmetry)
    angle = angle_deg(poses[:1, None], symmetry.equivalents(poses[1:])).min(axis=1)
    np.testing.assert_allclose(found, np.exp(-0.5 * (angle / 20.0) ** 2), rtol=1e-4)


@groups
def test_a_path_modulo_a_group_is_unwrapped_into_one_branch(synthetic: ModuleType, symmetry: Symmetry) -> None:
    rng = np.random.default_rng(6)
    truth = synthetic.tumbling(80, 2.0, rng)
    anywhere = symmetry.equivalents(truth)[np.arange(80), rng.integers(0, symmetry.order, 80)]
    poses = np.stack([random_rotations(80, rng), anywhere], axis=1)
    score = np.zeros((80, 2))
    path, chosen = path_modulo(poses, score, 2.0, symmetry=symmetry)
    assert (chosen == 1).all()
    # beside a mirror plane along the beam an equivalent may be nearer than the truth, never farther
    assert (angle_deg(path[1:], path[:-1]) < angle_deg(truth[1:], truth[:-1]) + 1e-5).all()
    assert angle_deg(truth[:, None], symmetry.equivalents(path)).min(axis=1).max() < 1e-4
    assert posterior_modulo(poses, score, 2.0, symmetry=symmetry)[:, 1].min() > 0.99
    same = np.stack([anywhere, truth, random_rotations(80, rng)], axis=1)
    assert (distinct_modulo(same, 2, symmetry=symmetry)[:, 1] == 2).all()


@groups
def test_every_pose_is_near_the_grid_of_its_zone(symmetry: Symmetry) -> None:
    grid = fundamental_zone_grid(9.0, symmetry.turns, symmetry.flips)
    assert len(grid) == pytest.approx(8 * np.pi**2 / math.radians(9.0) ** 3 / symmetry.order, rel=0.08)
    poses = random_rotations(40, np.random.default_rng(7))
    images = symmetry.equivalents(grid).reshape(-1, 4)
    assert angle_deg(poses[:, None], images[None]).min(axis=1).max() < 9.0
