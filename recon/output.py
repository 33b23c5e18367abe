"""What is published of a particle: maps and atoms centred on the atoms' centroid, and poses in that same body frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .alloy import PHASE, named, select
from .atoms import Smooth, find_peaks, nearest_neighbour_constant, position_errors
from .buffer import FrameBuffer
from .device import Device
from .kinds import Lattice, guess_element
from .maps import SolvedMap
from .metrics.density import agreement_with_atoms, weakest_shell
from .records import Atom, PoseRow
from .rotations import to_matrix
from .volume import resolution_A

Floats = NDArray[np.float64]
SIGNAL_FROM = (
    0.85  # of the first reflection, (111) of fcc: below it the lens passes little and there is no lattice to see
)
LAYER_A = 2.4  # no fcc metal has two layers of atoms farther apart than this (111 of gold: 2.36 A)


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Maps ``[z, y, x]`` with the atoms' centroid at voxel ``n // 2``; `centre_A` is that centroid in the working
    frame, `weakest_shell` see `records.Trust`.
    """

    map: NDArray[np.float32]
    half1: NDArray[np.float32]
    half2: NDArray[np.float32]
    centre_A: Floats
    atoms: tuple[Atom, ...]
    lattice: Lattice
    resolution_A: float | None
    fsc_k: tuple[float, ...]
    fsc: tuple[float, ...]
    weakest_shell: float | None = None


def central_layer(volume: NDArray[np.float32], voxel_A: float, axis: int = 0) -> NDArray[np.float32]:
    """What an operator is shown of a map: the brightest density along an axis within a layer of atoms about the centre.

    A single plane is no picture of a crystal: as often as not it lies between two layers of atoms and shows nothing.

    Parameters
    ----------
    volume : (n, n, n) float32 ``[z, y, x]``.
    voxel_A : sampling.
    axis : of the volume that is looked along: 0 is z, 1 y, 2 x.

    Returns
    -------
    (n, n) float32 ``[y, x]``, ``[z, x]`` or ``[z, y]``, the maximum over ``LAYER_A`` along the axis.
    """
    middle, half = volume.shape[0] // 2, max(0, round(LAYER_A / voxel_A / 2))
    layer = np.moveaxis(volume, axis, 0)[max(0, middle - half) : middle + half + 1]
    brightest: NDArray[np.float32] = layer.max(axis=0)
    return brightest


def publish(
    solved: SolvedMap,
    pixel_size_A: float,
    lattice: Lattice,
    element: str | None,
    device: Device,
    elements: tuple[str, ...] = (),
) -> Published:
    """Trace atoms and move everything to their centroid; `elements`, lightest first, are those of an alloy."""
    neighbour_A = lattice.neighbour_A
    apart_A = lattice.constant_A / np.sqrt(2)  # along the axes neighbours are half a constant apart or more
    maps = solved.joint, solved.half1, solved.half2
    steps = (lambda v: find_peaks(v, pixel_size_A, apart_A), *2 * (lambda v: Smooth.of(v, pixel_size_A),))
    peaks, half1, half2 = device.each(lambda _, i: steps[i](maps[i]), range(3))
    positions, confidence = select(peaks, neighbour_A, elements, PHASE)
    centre = positions.mean(axis=0) if len(positions) >= 13 else np.zeros(3)
    errors = position_errors((half1, half2), positions, pixel_size_A)
    measured = Lattice(lattice.kind, nearest_neighbour_constant(positions, lattice) or lattice.constant_A)
    symbols = elements or (element or guess_element(measured),)
    names, sure = named(solved.joint, pixel_size_A, positions, neighbour_A, symbols, PHASE)
    atoms = tuple(
        Atom(name, (float(p[0]), float(p[1]), float(p[2])), float(c), float(e), float(s))
        for name, p, c, e, s in zip(names, positions - centre, confidence, errors, sure, strict=True)
    )
    box_A = solved.joint.shape[0] * pixel_size_A
    first = round(SIGNAL_FROM * np.sqrt(3) / lattice.scale_A * box_A)
    moved = device.each(lambda _, volume: _moved(volume, centre / pixel_size_A), maps)
    agreement = agreement_with_atoms(moved[0], positions - centre, pixel_size_A) if len(positions) else np.zeros(0)
    return Published(
        map=moved[0],
        half1=moved[1],
        half2=moved[2],
        centre_A=centre,
        atoms=atoms,
        lattice=measured,
        resolution_A=resolution_A(solved.fsc, box_A, first=first),
        fsc_k=tuple(float(k) for k in np.arange(len(solved.fsc)) / box_A),
        fsc=tuple(float(f) for f in solved.fsc),
        weakest_shell=weakest_shell(agreement, solved.fsc, first),
    )


def _moved(volume: NDArray[np.float32], centre_px: Floats) -> NDArray[np.float32]:
    """Volume shifted so that `centre_px` (x, y, z from the middle) comes to the middle; band-limited interpolation."""
    edge, spectrum = volume.shape[0], scipy.fft.rfftn(volume)
    axes = scipy.fft.rfftfreq(edge), scipy.fft.fftfreq(edge), scipy.fft.fftfreq(edge)
    x, y, z = (np.exp(2j * np.pi * k * to).astype(np.complex64) for k, to in zip(axes, centre_px, strict=True))
    spectrum *= (z[:, None] * y)[:, :, None]
    spectrum *= x
    return np.ascontiguousarray(scipy.fft.irfftn(spectrum, s=volume.shape, overwrite_x=True), np.float32)


def pose_rows(
    buffer: FrameBuffer, rows: NDArray[np.int64], published: Published | None, pixel_size_A: float
) -> tuple[PoseRow, ...]:
    """Lines of poses.csv for rows of the buffer, in the published body frame."""
    centre = published.centre_A if published is not None else np.zeros(3)
    poses = buffer.poses[rows]
    seen = buffer.origin_px[rows] + buffer.shifts[rows] + (to_matrix(poses)[:, :2] @ centre) / pixel_size_A
    return tuple(
        PoseRow(
            frame=int(buffer.number[r]),
            time_s=float(buffer.time_s[r]),
            quaternion=(float(q[0]), float(q[1]), float(q[2]), float(q[3])),
            centre_px=(float(xy[0]), float(xy[1])),
            score=float(buffer.score[r]),
            used=bool(buffer.used[r]),
        )
        for r, q, xy in zip(rows, poses, seen, strict=True)
    )
