"""Files for other programs: a ChimeraX script per particle, and its atoms in PDB with the confidence as B-factor."""

from __future__ import annotations

import os
from pathlib import Path

from .density import Density
from .material import Particle

PDB_LARGEST = 99_999  # serial numbers of the format have five digits


def pdb_text(particle: Particle) -> str:
    """The atoms as HETATM records (PDB 3.3), A in the body frame; B-factor 0 to 100 is the confidence in per cent."""
    lines = [f"REMARK   1 TUMBLE {particle.name}, B-FACTOR IS CONFIDENCE IN PER CENT"]
    rows = zip(particle.elements[:PDB_LARGEST], particle.positions_A, particle.confidence, strict=False)
    for serial, (element, (x, y, z), confidence) in enumerate(rows, 1):
        symbol = element.upper()[:2]
        residue = min(serial, 9999)
        lines.append(
            f"HETATM{serial:5d} {symbol:>2}   {symbol:>3} A{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00"
            f"{100 * confidence:6.2f}          {symbol:>2}"
        )
    return "\n".join([*lines, "END", ""])


def chimerax_text(particle: Particle, density: Density, map_path: str, atoms_path: str) -> str:
    """A ChimeraX script: map as transparent surface, atoms as balls coloured by confidence, both on the same origin.

    Parameters
    ----------
    map_path, atoms_path : as ChimeraX opens them, from the folder of the script; no atoms when empty.
    """
    size = 0 if particle.volume is None else particle.volume.shape[0]
    middle = size // 2
    lines = [
        f"# {particle.name}: open this file in ChimeraX, from where it lies",
        f'open "{map_path}"',
        f"volume #1 originIndex {middle},{middle},{middle}",
        f"volume #1 style surface step 1 level {density.level:.6g} color #d6b25e",
        "transparency #1 45",
    ]
    if atoms_path:
        lines += [
            f'open "{atoms_path}"',
            "delete bonds #2",
            "style #2 sphere",
            "size #2 atomRadius 0.45",
            "color byattribute a:bfactor #2 target a palette 0,#00224e:50,#707173:100,#fee838",
        ]
    return "\n".join([*lines, "set bgColor white", "lighting soft", "view", ""])


def write(folder: Path, session: Path, particle: Particle, density: Density | None) -> list[Path]:
    """Write the files of one particle to `folder`; returns them. None without a map.

    Raises
    ------
    OSError : cannot be written.
    """
    if density is None:
        return []
    folder.mkdir(exist_ok=True)
    written = []
    atoms_name = ""
    if len(particle.positions_A):
        atoms_name = f"{particle.name}_atoms.pdb"
        written.append(folder / atoms_name)
        written[-1].write_text(pdb_text(particle), encoding="ascii", errors="replace", newline="\n")
    where = os.path.relpath(session / "particles" / particle.name / "map.mrc", folder)
    written.append(folder / f"{particle.name}.cxc")
    text = chimerax_text(particle, density, Path(where).as_posix(), atoms_name)
    written[-1].write_text(text, encoding="utf-8", newline="\n")
    return written
