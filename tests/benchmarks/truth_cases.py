"""Crystals and movies of boxes for `truth_study.py`: the simulator's physics on the boxes alone, known truth, seeded.

A box is what the front end would cut: the exit wave of the crystal through the lens at its height of the moment, on two
drifting sheets of graphene in moving water, Poisson counts, off centre by what the tracker errs; divided by the dose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ase.build import bulk
from ase.cluster import Decahedron, Icosahedron
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tumble.recon.geometry import box_size_px
from tumble.recon.records import NoiseSpectrum, Observation
from tumble.recon.rotations import from_rotation_vector, multiply, random_rotations, to_matrix
from tumble.recon.spectra import noise_from_boxes
from tumble.stream.simulator.background import Graphene, GrapheneSheet, Liquid
from tumble.stream.simulator.counts import frame_seed, poisson_counts
from tumble.stream.simulator.crystal import wulff_crystal
from tumble.stream.simulator.exit_wave import PhaseRenderer
from tumble.stream.simulator.motion import settling, tumbling
from tumble.stream.simulator.optics import Optics
from tumble.stream.simulator.presets import ROUGH
from tumble.stream.simulator.render import LinearRenderer

Floats = NDArray[np.float64]
Elements = tuple[str, ...]
FePt_A, Ru_A = 3.84, 2.706  # lattice constants: chemically disordered FePt, hcp ruthenium (a)
BCC_A = {"Fe-bcc": 2.866, "Mo-bcc": 3.147, "Ta-bcc": 3.303}
NOISE_BOXES = 300
STACKINGS: dict[str, Callable[[int], int]] = {  # a close-packed layer on the one below: a third of a period on, or back
    "Pt-fault": lambda layer: -1 if layer == 1 else 1,
    "Pt-lamella": lambda layer: -1 if -2 < layer < 2 else 1,  # between two twin planes
}
GRAPHENE_HEIGHT_A = 35.0
LIQUID_A = 15.0
HEIGHT_MEMORY = 150.0  # frames
STEP_PX = 0.6  # Brownian, per axis and frame
ROUGH_NEIGHBOURS = 8  # surface atoms with at most this many may be missing


@dataclass(frozen=True)
class Case:
    """One movie to reconstruct: crystal, how it is seen, how it turns.

    `dose` electrons / A^2 and frame. `linear` images are sums of those of single atoms, twice as fast to make.
    `height_A` is the standard deviation of the crystal's height; `told`: the program knows `cs_um` and `defocus_A`.
    """

    crystal: str = "Pt"
    atoms: int = 200
    dose: float = 80.0
    step_deg: float = 2.5
    frames: int = 800
    pixel_size_A: float = 0.42
    tracking_px: float = 0.6
    linear: bool = False
    cs_um: float = -10.0
    defocus_A: float = -54.0
    told: bool = False
    height_A: float = 4.0
    seed: int = 0

    @property
    def name(self) -> str:
        """The case in one word, a key of the results."""
        lens = f"-Cs{self.cs_um:g}um{self.defocus_A:+g}A" if (self.cs_um, self.defocus_A) != (-10.0, -54.0) else ""
        height = f"-height{self.height_A:g}A" if self.height_A != 4.0 else ""
        return (
            f"{self.crystal}-{self.atoms}-{self.dose:g}e-{self.step_deg:g}deg-{self.frames}f"
            f"-{self.pixel_size_A:g}A{'-linear' * self.linear}{lens}{'-told' * self.told}{height}-s{self.seed}"
        )


@dataclass(frozen=True, eq=False)
class Movie:
    """Observations of one particle, the background's spectrum, and what is true of them.

    `poses` (t, 4) and `centres_px` (t, 2) belong to the body frame of `atoms_A` (n, 3).
    """

    observations: tuple[Observation, ...]
    noise: NoiseSpectrum
    elements: Elements
    atoms_A: Floats
    poses: Floats
    centres_px: Floats
    pixel_size_A: float
    diameter_A: float


# ---------------------------------------------------------------- crystals


def _neighbours(positions: Floats, bond: float) -> NDArray[np.int64]:
    return cKDTree(positions).query_ball_point(positions, 1.2 * bond, return_length=True) - 1


def _roughened(positions: Floats, count: int, bond: float, rng: np.random.Generator) -> Floats:
    """Exactly `count` atoms: cut by planes at random distances, some of the surface missing, atoms off their sites."""
    normals = rng.normal(size=(9, 3))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    centre = rng.uniform(-0.6, 0.6, 3)
    depth = ((positions - centre) @ normals.T / rng.uniform(0.8, 1.25, 9)).max(axis=1)
    depth = np.maximum(depth, 0.8 * np.linalg.norm(positions - centre, axis=1))
    kept = positions[np.sort(np.argsort(depth, kind="stable")[: round(1.1 * count)])]
    weak = np.flatnonzero(_neighbours(kept, bond) <= ROUGH_NEIGHBOURS)
    kept = np.delete(kept, rng.choice(weak, min(len(weak), len(kept) - count), replace=False), axis=0)
    kept = kept[_neighbours(kept, bond) >= 3]
    kept = kept + 0.04 * rng.normal(size=kept.shape)
    return kept - kept.mean(axis=0)


def _ball(primitive: str, structure: str, constant: float, count: int, **more: float) -> Floats:
    cell = bulk(primitive, structure, a=constant, **more)
    per_atom = cell.get_volume() / len(cell)
    radius = (3 * 3.0 * count * per_atom / (4 * np.pi)) ** (1 / 3)
    reach = int(np.ceil(radius / min(np.abs(np.linalg.inv(cell.cell.array)).max(axis=0) ** -1))) + 6
    block = cell.repeat((2 * reach,) * 3).get_positions()
    block -= block[np.linalg.norm(block - block.mean(axis=0), axis=1).argmin()]
    return block[np.linalg.norm(block, axis=1) < radius]


def _fcc(element: str, count: int, seed: int, **changes: object) -> Floats:
    return wulff_crystal(element, count, **{**ROUGH, **changes}, seed=seed).positions_A  # type: ignore[arg-type]


def _twin(count: int, rng: np.random.Generator) -> Floats:
    """Pt with one (111) twin plane off its middle."""
    ball = _ball("Pt", "fcc", 3.924, count)
    normal = np.ones(3) / np.sqrt(3)
    height = ball @ normal
    upper = ball[height >= -0.1]
    mirrored = upper - 2 * np.outer(upper @ normal, normal)
    both = np.concatenate([upper, mirrored[mirrored @ normal < -0.1]])
    both = both + normal * 3.924 / np.sqrt(3) * rng.integers(0, 2)
    return _roughened(both, count, 3.924 / np.sqrt(2), rng)


def _stacked(count: int, step: Callable[[int], int], rng: np.random.Generator) -> Floats:
    """Pt of close-packed layers ..., -1, 0, 1, ..., each a third of a period on from the one below or back: `step`."""
    bond = 3.924 / np.sqrt(2)
    radius = (3 * 3.0 * count * bond**3 / np.sqrt(2) / (4 * np.pi)) ** (1 / 3)
    reach = int(np.ceil(radius / bond / 0.8)) + 2
    first, second = np.array([bond, 0.0]), np.array([bond / 2, bond * np.sqrt(3) / 2])
    flat = np.stack(np.meshgrid(*2 * [np.arange(-2 * reach, 2 * reach + 1)]), axis=-1).reshape(-1, 2) @ [first, second]
    layers = range(-reach, reach + 1)
    sites = np.cumsum([step(layer) for layer in layers]) % 3
    block = np.concatenate([
        np.column_stack([flat + site * (first + second) / 3, np.full(len(flat), layer * bond * np.sqrt(2 / 3))])
        for layer, site in zip(layers, sites, strict=True)
    ])  # fmt: skip
    return _roughened(block[np.linalg.norm(block, axis=1) < radius], count, bond, rng)


def _twice_twinned(count: int, rng: np.random.Generator) -> Floats:
    """Pt with twin planes (111) and (1 -1 -1), each off the middle."""
    ball, bond = _ball("Pt", "fcc", 3.924, count), 3.924 / np.sqrt(2)
    left, parts = ball, []
    for normal in np.array([[1, 1, 1], [1, -1, -1]]) / np.sqrt(3):
        depth = -2 * 3.924 / np.sqrt(3)
        mirrored = ball - 2 * np.outer(ball @ normal - depth, normal)
        beyond = mirrored[mirrored @ normal < depth - 0.1]
        left = left[left @ normal > depth - 0.1]
        parts.append(beyond)
    parts = [part[cKDTree(left).query(part)[0] > 0.85 * bond] for part in parts]
    parts[1] = parts[1][cKDTree(parts[0]).query(parts[1])[0] > 0.85 * bond]
    return _roughened(np.concatenate([left, *parts]), count, bond, rng)


def _bicrystal(count: int, rng: np.random.Generator) -> Floats:
    """Pt of two lattices at random to each other, with a plane between them off the middle."""
    ball, bond = _ball("Pt", "fcc", 3.924, count), 3.924 / np.sqrt(2)
    turned = ball @ to_matrix(random_rotations(1, rng)[0]).T + rng.uniform(-1, 1, 3)
    normal = rng.normal(size=3)
    height = np.array([rng.uniform(-1.5, 1.5)])
    normal /= np.linalg.norm(normal)
    upper, lower = ball[ball @ normal >= height], turned[turned @ normal < height]
    lower = lower[cKDTree(upper).query(lower)[0] > 0.85 * bond]
    return _roughened(np.concatenate([upper, lower]), count, bond, rng)


def _amorphous(count: int, rng: np.random.Generator) -> Floats:
    """Random positions, at least 2.5 A apart, in a ball of the density of a metallic glass."""
    radius = (3 * 17.0 * count / (4 * np.pi)) ** (1 / 3)
    placed: list[Floats] = []
    while len(placed) < count:
        trial = rng.uniform(-radius, radius, 3)
        if np.linalg.norm(trial * (1, 1.15, 0.9)) < radius and (
            not placed or np.linalg.norm(np.array(placed) - trial, axis=1).min() > 2.25
        ):
            placed.append(trial)
    return np.array(placed)


JOINED: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "Pt-twin": _twin, "Pt-two-twins": _twice_twinned, "Pt-bicrystal": _bicrystal, "Pt-amorphous": _amorphous,
}  # fmt: skip


def make_crystal(name: str, count: int, seed: int) -> tuple[Elements, Floats]:
    """Elements (n,) and positions (n, 3) in A, centroid at the origin; the same seed gives the same crystal.

    Raises
    ------
    ValueError : a name that is not known.
    """
    rng = np.random.default_rng([seed, 77])
    if name in ("Pt", "Au", "Pd", "Ag"):
        positions, element = _fcc(name, count, seed), name
    elif name == "Pt-strained":
        positions, element = _fcc("Pt", count, seed, strain_percent=(2.0, 0.0, -1.5)), "Pt"
    elif name == "Pt-regular":  # a Wulff polyhedron without a flaw: all its sides look the same
        positions, element = _fcc("Pt", count, seed, asymmetry=0.0, terraces=0, missing_surface=0.0), "Pt"
    elif name == "FePt":
        positions, element = _fcc("Pt", count, seed, lattice_constant=FePt_A), "FePt"
    elif name in STACKINGS:
        positions, element = _stacked(count, STACKINGS[name], rng), "Pt"
    elif name in JOINED:
        positions, element = JOINED[name](count, rng), "Pt"
    elif name == "Au-decahedron":
        positions, element = _roughened(Decahedron("Au", 5, 4, 0).get_positions(), count, 2.88, rng), "Au"
    elif name == "Au-icosahedron":
        positions, element = _roughened(Icosahedron("Au", 6).get_positions(), count, 2.88, rng), "Au"
    elif name in BCC_A:
        element = name.split("-", maxsplit=1)[0]
        ball = _ball(element, "bcc", BCC_A[name], count)
        positions = _roughened(ball, count, BCC_A[name] * np.sqrt(3) / 2, rng)
    elif name == "Ru-hcp":
        positions, element = _roughened(_ball("Ru", "hcp", Ru_A, count, c=4.281), count, 2.68, rng), "Ru"
    else:
        raise ValueError(f"no crystal named {name!r}")
    elements = tuple(rng.choice(["Fe", "Pt"], len(positions))) if element == "FePt" else (element,) * len(positions)
    return elements, positions - positions.mean(axis=0)


# ---------------------------------------------------------------- movies


def about_one_axis(frames: int, step_deg: float, rng: np.random.Generator, tilt_deg: float = 12.0) -> Floats:
    """Poses (frames, 4) of a crystal that only turns about an axis `tilt_deg` off the beam: it is seen from one side
    only.
    """
    towards = rng.uniform(0, 2 * np.pi)
    axis = np.array([np.sin(np.radians(tilt_deg)) * np.cos(towards), np.sin(np.radians(tilt_deg)) * np.sin(towards), 0])
    axis[2] = np.cos(np.radians(tilt_deg))
    turn = np.cumsum(rng.normal(np.radians(step_deg), np.radians(step_deg), frames))
    return multiply(from_rotation_vector(turn[:, None] * axis), random_rotations(1, rng)[0])


def _sheets(rng: np.random.Generator) -> tuple[GrapheneSheet, ...]:
    heading = rng.uniform(0, 2 * np.pi)
    drift = (0.005 * np.cos(heading), 0.005 * np.sin(heading))
    return tuple(
        GrapheneSheet(
            float(rng.uniform(0, 60)), height, move, (float(rng.uniform(0, 2.46)), float(rng.uniform(0, 2.46)))
        )
        for height, move in ((-GRAPHENE_HEIGHT_A, (0.0, 0.0)), (GRAPHENE_HEIGHT_A, drift))
    )


def visible_diameter_A(positions: Floats) -> float:
    """What detection would measure: nearly all atoms lie within it."""
    return float(2 * np.percentile(np.linalg.norm(positions, axis=1), 95) + 1.5)


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What a movie is made of; ways to spoil it change these. `which` (t,) numbers the crystal in each frame."""

    case: Case
    crystals: tuple[tuple[Elements, Floats], ...]
    which: NDArray[np.int64]
    poses: Floats
    visible: bool = True


def ingredients(case: Case) -> Ingredients:
    """One tumbling crystal."""
    rng = np.random.default_rng([case.seed, 1])
    crystal = make_crystal(case.crystal, case.atoms, case.seed)
    return Ingredients(case, (crystal,), np.zeros(case.frames, np.int64), tumbling(case.frames, case.step_deg, rng))


def film(parts: Ingredients) -> Movie:
    """Expose the boxes."""
    case = parts.case
    optics = Optics(spherical_aberration_um=case.cs_um, defocus_A=case.defocus_A)
    rng = np.random.default_rng([case.seed, 2])
    px = case.pixel_size_A
    diameter = max(visible_diameter_A(positions) for _, positions in parts.crystals)
    box_px = box_size_px(diameter, px)
    names = sorted({e for elements, _ in parts.crystals for e in elements})
    radius = max(float(np.linalg.norm(positions, axis=1).max()) for _, positions in parts.crystals)
    renderer = (
        LinearRenderer(names, px, optics, radius + 3 * case.height_A)
        if case.linear
        else PhaseRenderer(names, px, optics, radius)
    )
    species = [renderer.species(elements) for elements, _ in parts.crystals]
    graphene = Graphene(_sheets(rng), (box_px, box_px), px, optics)
    liquid = Liquid(LIQUID_A, (box_px, box_px), px, optics, rng)
    walk = 300 + np.cumsum(rng.normal(0, STEP_PX, (case.frames, 2)), axis=0)
    tracked = walk + rng.normal(0, case.tracking_px, walk.shape)
    corners = np.rint(tracked).astype(int) - box_px // 2
    heights = settling(case.frames, case.height_A, HEIGHT_MEMORY, rng)
    electrons = case.dose * px**2

    def expose(frame: int, corner: NDArray[np.int64], crystal: int | None) -> NDArray[np.float32]:
        field = graphene.contrast(frame, -corner * px)
        liquid.add(field, np.random.default_rng([case.seed, 3, frame]))
        field += 1.0
        if crystal is not None:
            at = np.append((walk[frame] - corner) * px, heights[frame])
            renderer.render(field, species[crystal], parts.crystals[crystal][1] @ to_matrix(parts.poses[frame]).T + at)
        mean = np.maximum(field * np.float32(electrons), np.float32(0))
        return poisson_counts(mean, frame_seed(case.seed, frame, 4)).astype(np.float32) / np.float32(electrons) - 1

    observations = tuple(
        Observation(
            1, t, 0.0025 * t, expose(t, corners[t], int(parts.which[t]) if parts.visible else None),
            (int(corners[t, 0]), int(corners[t, 1])), (float(tracked[t, 0]), float(tracked[t, 1])), case.tracking_px,
        )
        for t in range(case.frames)
    )  # fmt: skip
    places = rng.integers(0, 2000, (NOISE_BOXES, 2))
    empty = np.stack([expose(case.frames + n, place, None) for n, place in enumerate(places)])
    elements, atoms = parts.crystals[0]
    return Movie(observations, noise_from_boxes(empty), elements, atoms, parts.poses, walk, px, diameter)


def shuffled(movie: Movie, rng: np.random.Generator) -> Movie:
    """The same boxes in random order."""
    order = rng.permutation(len(movie.observations))
    boxes = tuple(replace(movie.observations[o], frame=t, time_s=0.0025 * t) for t, o in enumerate(order))
    return replace(movie, observations=boxes, poses=movie.poses[order], centres_px=movie.centres_px[order])
