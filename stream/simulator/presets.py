"""Scenes ready to use: the demo, and what the command line asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .crystal import Crystal, read_structure, wulff_crystal
from .options import SceneOptions
from .scene import Scene

ROUGH: dict[str, Any] = {"asymmetry": 0.2, "terraces": 1, "missing_surface": 0.2, "displacement_rms_A": 0.04}
DEMO_ATOMS = 309
# Seeds of the least symmetric crystals among the first 100: at most 89 % of the atoms coincide with the crystal's own
# copy under any of the other 47 operations of the cube (an ordinary rough crystal: 93 %), so poses can be told apart.
DEMO_CRYSTALS = (4, 51, 44, 68, 77, 36, 69, 26)
DEMO_FRAMES = 800


def demo_crystal(seed: int = 0) -> Crystal:
    """One Pt crystal of about 2 nm, facets uneven, a terrace and some surface atoms missing."""
    return wulff_crystal("Pt", DEMO_ATOMS, **ROUGH, seed=DEMO_CRYSTALS[seed % len(DEMO_CRYSTALS)])


def demo_scene(seed: int = 0) -> Scene:
    """The scene of ``tumble demo``: one tumbling Pt crystal in a graphene liquid cell, 800 frames of 256 x 256 px.

    The crystal keeps to the left, so that boxes of its size fit beside it: the background is measured there.
    """
    return Scene(
        (demo_crystal(seed),),
        SceneOptions(frames=DEMO_FRAMES, height_px=256, width_px=256, homes_px=((86.0, 118.0),), seed=seed),
    )


def scene_from_options(
    *,
    structure: str | Path | None = None,
    element: str | None = None,
    atoms: int = DEMO_ATOMS,
    diameter_nm: float | None = None,
    particles: int = 1,
    lattice_constant_A: float | None = None,
    options: SceneOptions | None = None,
    **changes: Any,
) -> Scene:
    """Scene from the words of a command line.

    Parameters
    ----------
    structure : an xyz, cif or pdb file with the atoms of every particle; a rough fcc crystal when None.
    element : of the fcc crystal (Pt when None); with `structure`: replaces the file's elements.
    atoms, diameter_nm : size of the fcc crystal, the diameter wins; with `structure` a diameter cuts a sphere.
    particles : how many; fcc crystals differ from each other.
    lattice_constant_A : of the fcc crystal; the published one when None.
    options : where to start from; `changes` replace single fields of it, by their names in `SceneOptions`.

    Raises
    ------
    ValueError
        If something is out of range, not readable as a structure, or does not fit into the field.
    TypeError
        If `changes` name no field of `SceneOptions`.
    OSError
        If `structure` cannot be opened.
    """
    if particles < 0:
        raise ValueError(f"particles must not be negative, got {particles}")
    recipe = replace(options if options is not None else SceneOptions(), **changes)
    crystals: list[Crystal] = []
    for number in range(particles):
        if structure is not None:
            diameter = None if diameter_nm is None else 10.0 * diameter_nm
            crystals.append(read_structure(structure, diameter_A=diameter, element=element))
            continue
        symbol = element if element is not None else "Pt"
        count = atoms if diameter_nm is None else _atoms_of_diameter(symbol, diameter_nm, lattice_constant_A)
        crystals.append(
            wulff_crystal(
                symbol,
                count,
                lattice_constant=lattice_constant_A,
                **ROUGH,
                seed=recipe.seed * 1000 + number,
            )
        )
    return Scene(crystals, recipe)


def _atoms_of_diameter(element: str, diameter_nm: float, lattice_constant: float | None) -> int:
    """Atoms of a sphere of this diameter, four per cubic cell."""
    from .crystal import lattice_constant_A

    cell = lattice_constant if lattice_constant is not None else lattice_constant_A(element)
    return max(13, round(4.0 / cell**3 * np.pi / 6.0 * (10.0 * diameter_nm) ** 3))
