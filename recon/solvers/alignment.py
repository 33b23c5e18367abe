"""Tilts brought to where their volume says they are: shifts and small turns by matching projections."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rotations import from_rotation_vector, multiply, to_matrix
from .projector import Projector

Floats = NDArray[np.float64]
STEP_RAD = 0.01  # turn for a difference quotient: half a pixel at the rim of a volume of 100 px
LONGEST_TURN, LONGEST_SHIFT = 0.02, 1.0  # radians and pixels per round
AXES = "xyz"


def match(projector: Projector, images: Any, volume: Any, *, turns: str = "yz", weights: Any = None) -> Projector:
    """One Gauss-Newton step of every pose (shift and turns) towards the images; the volume stays, and each image may be
    brighter or darker than its projection. What would move or turn all of them together is left out: their projections
    do not tell it. In turn with the solver, this is alignment by reprojection (Dengler, Ultramicroscopy 30, 337 (1989);
    jointly with the solver: Gursoy et al., Sci. Rep. 7, 11818 (2017)).

    Parameters
    ----------
    images : (m, h, w) float32. volume : (nz, ny, nx) float32. weights : (m, h, w) float32, 1 when None.
    turns : lab axes about which a pose may be corrected: "y" are errors of the tilt angle (with the axis along y), "z"
        turns in the image plane, "x" the axis leaving the plane. "" corrects shifts only; with "y" at most, poses that
        turn about y go on doing so, and stay quick to project.
    """
    to_host = projector.device.to_host
    projected = to_host(projector.forward(volume)).astype(np.float64)
    columns = [-np.gradient(projected, axis=2), -np.gradient(projected, axis=1)]  # by the shifts in x and y
    for axis in turns:
        if axis == "z":
            columns.append(_by_turns_in_plane(projector, columns))
            continue
        vector = np.zeros(3)
        vector[AXES.index(axis)] = STEP_RAD
        turned = replace(projector, quaternions=multiply(from_rotation_vector(vector), projector.quaternions))
        columns.append((to_host(turned.forward(volume)) - projected) / STEP_RAD)
    columns.append(projected)
    count = len(projected)
    design = np.stack(columns, axis=-1).reshape(count, -1, len(columns))
    rest = (to_host(images) - projected).reshape(count, -1, 1)
    heavy = design if weights is None else design * to_host(weights).reshape(count, -1, 1)
    normal = heavy.transpose(0, 2, 1) @ design
    normal += 1e-6 * normal.trace(axis1=1, axis2=2)[:, None, None] * np.eye(len(columns)) / len(columns)
    found = np.linalg.solve(normal, heavy.transpose(0, 2, 1) @ rest)[:, :-1, 0]
    shifts = np.clip(found[:, :2], -LONGEST_SHIFT, LONGEST_SHIFT)
    vectors = np.zeros((count, 3))
    vectors[:, [AXES.index(axis) for axis in turns]] = np.clip(found[:, 2:], -LONGEST_TURN, LONGEST_TURN)
    shifts, vectors = without_common(projector.quaternions, shifts, vectors)
    return replace(
        projector,
        quaternions=multiply(from_rotation_vector(vectors), projector.quaternions),
        shifts_px=projector.shifts_px + shifts,
    )


def _by_turns_in_plane(projector: Projector, by_shifts: list[Floats]) -> Floats:
    """Derivative of projections (m, h, w) by turns from x to y, of those by shifts in x and y: nothing is projected."""
    height, width = projector.image_shape
    shifts = projector.shifts_px[:, :, None, None]
    x = np.arange(width) - width // 2 - shifts[:, 0]
    y = np.arange(height)[:, None] - height // 2 - shifts[:, 1]
    return x * by_shifts[1] - y * by_shifts[0]


def without_common(quaternions: Floats, shifts: Floats, vectors: Floats) -> tuple[Floats, Floats]:
    """Shifts (m, 2) and turns (m, 3) about lab axes less those of the whole body: it moving by t moves image i by
    ``(R_i t)_xy``, it turning by w turns pose i by ``R_i w``; t and w by least squares.
    """
    rotations = to_matrix(quaternions)
    seen = rotations[:, :2].reshape(-1, 3)
    shifts = shifts - (seen @ np.linalg.lstsq(seen, shifts.ravel(), rcond=1e-6)[0]).reshape(-1, 2)
    used = np.abs(vectors).max(axis=0) > 0
    stacked = rotations[:, used].reshape(-1, 3)
    if used.any():
        common = stacked @ np.linalg.lstsq(stacked, vectors[:, used].ravel(), rcond=1e-6)[0]
        vectors = vectors.copy()
        vectors[:, used] -= common.reshape(len(vectors), -1)
    return shifts, vectors
