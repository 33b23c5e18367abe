"""What is true of a simulated recording, and the truth file beside it. Only scorers and tests read it.

HDF5: attributes `conventions` and `imaging`; one group per particle (P, Q, R ...) with `atoms_xyz_A` (n, 3) and
`elements` (n,) in the body frame, centroid 0, `centres_px` (frames, 2) x = column, y = row, `quaternions_wxyz`
(frames, 4), `z_A` (frames,); `beam_rel` (frames,) and `stage_drift_A` (frames, 2) at the root.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .crystal import Crystal
from .options import SceneOptions


@dataclass(frozen=True, slots=True, eq=False)
class ParticleTruth:
    """One particle: atoms and its path.

    Attributes
    ----------
    centres_px : (frames, 2) float64, x = column, y = row of the centroid; (0, 0) is the centre of pixel (0, 0).
    heights_A : (frames,) float64, height of the centroid above the mid-plane, + is further along the beam.
    quaternions_wxyz : (frames, 4) float64, ``r_lab = R(q) r_body + centre``.
    rotation_deg_per_axis : rotational diffusion, degrees per axis and frame.
    """

    name: str
    crystal: Crystal
    centres_px: NDArray[np.float64]
    heights_A: NDArray[np.float64]
    quaternions_wxyz: NDArray[np.float64]
    rotation_deg_per_axis: float


@dataclass(frozen=True, slots=True, eq=False)
class SceneTruth:
    """Everything true of a scene: particles, relative beam current (frames,), stage displacement (frames, 2) in A."""

    options: SceneOptions
    particles: tuple[ParticleTruth, ...]
    beam: NDArray[np.float64]
    stage_drift_A: NDArray[np.float64]


def truth_path(path: str | Path) -> Path:
    """Where the truth file of the recording `path` lies: ``movie.h5`` -> ``movie_truth.h5``."""
    path = Path(path)
    return path.with_name(f"{path.stem}_truth.h5")


def conventions(pixel_size_A: float) -> str:
    """The conventions of the truth file in words."""
    return (
        "Lab frame right-handed: x=column index, y=row index of the stored frame [row,col], electrons travel along +z. "
        "r_lab=R(q) r_body + centre. quaternions (w,x,y,z). centres_px=(x,y), (0,0)=centre of pixel row0,col0; "
        f"A=px*{pixel_size_A:g}. z_A: particle height relative to scene mid-plane (+ = further along the beam). "
        "atoms_xyz_A body frame, centroid 0."
    )


def write_truth(truth: SceneTruth, path: str | Path) -> None:
    """Write the truth file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    settings = asdict(truth.options)
    settings["optics"]["aperture_per_A"] = str(truth.options.optics.aperture_per_A)
    with h5py.File(path, "w") as file:
        file.attrs["conventions"] = conventions(truth.options.pixel_size_A)
        file.attrs["imaging"] = json.dumps(settings)
        file["beam_rel"] = truth.beam
        file["stage_drift_A"] = truth.stage_drift_A
        for particle in truth.particles:
            group = file.create_group(particle.name)
            group.attrs["description"] = particle.crystal.description
            group.attrs["rot_diffusion_deg_per_axis_per_frame"] = particle.rotation_deg_per_axis
            group["atoms_xyz_A"] = particle.crystal.positions_A
            group["elements"] = np.array(particle.crystal.elements, dtype="S2")
            group["centres_px"] = particle.centres_px
            group["z_A"] = particle.heights_A
            group["quaternions_wxyz"] = particle.quaternions_wxyz


def read_truth(path: str | Path) -> tuple[tuple[ParticleTruth, ...], dict[str, Any]]:
    """Particles and root attributes of a truth file.

    Raises
    ------
    OSError
        If the file cannot be opened.
    KeyError
        If it lacks a data set that belongs to a particle.
    """
    with h5py.File(path, "r") as file:
        particles = []
        for name in sorted(name for name in file if isinstance(file[name], h5py.Group)):
            group = file[name]
            elements = tuple(element.decode("ascii") for element in group["elements"][:])
            crystal = Crystal(elements, group["atoms_xyz_A"][:], str(group.attrs.get("description", "")))
            particles.append(
                ParticleTruth(
                    name,
                    crystal,
                    group["centres_px"][:],
                    group["z_A"][:],
                    group["quaternions_wxyz"][:],
                    float(group.attrs["rot_diffusion_deg_per_axis_per_frame"]),
                )
            )
        return tuple(particles), dict(file.attrs)
