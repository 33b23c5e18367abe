"""Rotations, quaternions and the symmetry of a cubic lattice image; the one place where conventions are written down.

Lab frame right-handed: x = column, y = row, electrons travel along +z. ``r_lab = R(q) r_body + centre``. Quaternions
are ``(w, x, y, z)``, unit length, q and -q the same rotation; arrays of them are ``(..., 4)`` float64.

A projection of a centrosymmetric crystal lattice is unchanged by 48 operations on its pose: the 24 proper rotations of
the cube acting in the body frame (``q -> q c``) times a half turn about the beam (``q -> C2Z q``), because the image of
a centrosymmetric body is centrosymmetric.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

C2Z: FloatArray = np.array([0.0, 0.0, 0.0, 1.0])
GROUP_ORDER = 48


def multiply(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Hamilton product ``a b`` (rotate by b, then by a); (..., 4) arrays that broadcast."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    aw, ax, ay, az = (a[..., i] for i in range(4))
    bw, bx, by, bz = (b[..., i] for i in range(4))
    out = np.empty((*np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), 4))
    out[..., 0] = aw * bw - ax * bx - ay * by - az * bz
    out[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    out[..., 2] = aw * by - ax * bz + ay * bw + az * bx
    out[..., 3] = aw * bz + ax * by - ay * bx + az * bw
    return out


def conjugate(q: ArrayLike) -> FloatArray:
    """Inverse rotation."""
    return np.asarray(q, np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def to_matrix(q: ArrayLike) -> FloatArray:
    """Rotation matrices (..., 3, 3) acting on column vectors (x, y, z)."""
    q = np.asarray(q, np.float64)
    w, x, y, z = (q[..., i] for i in range(4))
    xx, yy, zz, xy, xz, yz, wx, wy, wz = x * x, y * y, z * z, x * y, x * z, y * z, x * w, y * w, z * w
    out = np.empty((*q.shape[:-1], 3, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = 1 - 2 * (yy + zz), 2 * (xy - wz), 2 * (xz + wy)
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = 2 * (xy + wz), 1 - 2 * (xx + zz), 2 * (yz - wx)
    out[..., 2, 0], out[..., 2, 1], out[..., 2, 2] = 2 * (xz - wy), 2 * (yz + wx), 1 - 2 * (xx + yy)
    return out


def from_matrix(matrix: ArrayLike) -> FloatArray:
    """Quaternions (..., 4) of rotation matrices (..., 3, 3), by the largest diagonal (Shepperd 1978)."""
    m = np.asarray(matrix, np.float64)
    trace = np.trace(m, axis1=-2, axis2=-1)
    diagonal = np.stack([trace, m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]], axis=-1)
    # outer product 4 q q^T: pick the column with the largest diagonal, it is never small
    outer = np.empty((*m.shape[:-2], 4, 4))
    for i in range(4):
        outer[..., i, i] = 1 + (2 * diagonal[..., i] - trace if i else trace)
    outer[..., 0, 1] = outer[..., 1, 0] = m[..., 2, 1] - m[..., 1, 2]
    outer[..., 0, 2] = outer[..., 2, 0] = m[..., 0, 2] - m[..., 2, 0]
    outer[..., 0, 3] = outer[..., 3, 0] = m[..., 1, 0] - m[..., 0, 1]
    outer[..., 1, 2] = outer[..., 2, 1] = m[..., 0, 1] + m[..., 1, 0]
    outer[..., 1, 3] = outer[..., 3, 1] = m[..., 0, 2] + m[..., 2, 0]
    outer[..., 2, 3] = outer[..., 3, 2] = m[..., 1, 2] + m[..., 2, 1]
    best = np.argmax(diagonal, axis=-1)
    q = np.take_along_axis(outer, best[..., None, None], axis=-1)[..., 0]
    return normalise(q)


def from_rotation_vector(vector: ArrayLike) -> FloatArray:
    """Quaternions (..., 4) of rotation vectors (..., 3) in radians."""
    v = np.asarray(vector, np.float64)
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.concatenate([np.cos(angle / 2), 0.5 * np.sinc(angle / (2 * np.pi)) * v], axis=-1)


def normalise(q: ArrayLike) -> FloatArray:
    """Unit quaternions."""
    q = np.asarray(q, np.float64)
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def angle_deg(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Rotation angle between two poses in degrees, 0..180; arrays broadcast."""
    dot = np.abs((np.asarray(a) * np.asarray(b)).sum(axis=-1))
    return 2 * np.degrees(np.arccos(np.minimum(dot, 1.0)))


def random_rotations(count: int, rng: np.random.Generator) -> FloatArray:
    """(count, 4) rotations, uniform on SO(3)."""
    return normalise(rng.normal(size=(count, 4)))


def super_fibonacci(count: int, start: int = 0, stop: int | None = None) -> FloatArray:
    """Rotations `start`..`stop` of a nearly uniform set of `count` on SO(3), (stop - start, 4) (Alexa, CVPR 2022)."""
    phi, psi = math.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(start, count if stop is None else stop) + 0.5
    t, d = s / count, 2 * np.pi * s
    inner, outer = np.sqrt(t), np.sqrt(1 - t)
    a, b = d / phi, d / psi
    return np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], axis=-1)


def _cubic_group() -> FloatArray:
    matrices = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), axes] = signs
            if np.linalg.det(matrix) > 0:
                matrices.append(matrix)
    group = from_matrix(np.array(matrices))
    return group[np.argsort(-np.abs(group[:, 0]), kind="stable")]


CUBIC: FloatArray = _cubic_group()  # (24, 4), identity first


def equivalents(q: ArrayLike, turns: FloatArray = CUBIC, flips: FloatArray = CUBIC) -> FloatArray:
    """Poses with the same lattice image, the pose itself first: (..., 4) -> (..., 48, 4) of a cubic lattice.

    Of another crystal m `turns` (m, 4) and m `flips`, see `symmetry.Symmetry`: index ``i`` is ``q turns[i]``, ``m + i``
    is ``C2Z q flips[i]``.
    """
    q = np.asarray(q, np.float64)[..., None, :]
    turned = multiply(q, turns)
    return np.concatenate([turned, multiply(C2Z, turned if flips is turns else multiply(q, flips))], axis=-2)


def angle_modulo_deg(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Smallest angle between `a` and the 48 equivalents of `b`, degrees; (..., 4) arrays that broadcast."""
    return angle_deg(np.asarray(a)[..., None, :], equivalents(b)).min(axis=-1)


def nearest_equivalent(
    reference: ArrayLike, q: ArrayLike, turns: FloatArray = CUBIC, flips: FloatArray = CUBIC
) -> FloatArray:
    """The equivalent of each `q` (..., 4) that lies closest to `reference` (..., 4); see `equivalents`."""
    alternatives = equivalents(q, turns, flips)
    best = np.abs((alternatives * np.asarray(reference)[..., None, :]).sum(axis=-1)).argmax(axis=-1)
    return np.take_along_axis(alternatives, best[..., None, None], axis=-2)[..., 0, :]


# A base point that no element of the group leaves in place, so that every class has one member nearest to it.
_BASE = normalise([0.83, 0.23, 0.31, 0.41])


def fundamental_zone_grid(spacing_deg: float, turns: FloatArray = CUBIC, flips: FloatArray = CUBIC) -> FloatArray:
    """Nearly uniform poses of SO(3) modulo their `equivalents`, about `spacing_deg` apart: (n, 4)."""
    if spacing_deg <= 0:
        raise ValueError(f"spacing_deg must be positive, got {spacing_deg}")
    count = round(8 * np.pi**2 / math.radians(spacing_deg) ** 3)
    # the group acts by isometries, so instead of the images of every pose, compare it with those of the base point
    bases = equivalents(_BASE, turns, flips).T
    keep = []
    for start in range(0, count, 50_000):
        q = super_fibonacci(count, start, min(start + 50_000, count))
        keep.append(q[np.abs(q @ bases).argmax(axis=1) == 0])
    return np.concatenate(keep)


def midpoints(q: ArrayLike) -> FloatArray:
    """For a path (n, 4): the rotation half way between the neighbours of each pose; the ends keep their own."""
    q = np.asarray(q, np.float64)
    middle = q.copy()
    before, after = q[:-2], q[2:]
    sign = np.where((before * after).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    middle[1:-1] = normalise(before + sign * after)
    return middle
