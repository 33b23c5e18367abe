"""Frames to which a reconstruction and its witness gave different poses: which is right, and what the maps say."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tumble.recon.compare import compare_atoms
from tumble.recon.crosscheck import carried_over
from tumble.recon.mapper import Mapper
from tumble.recon.rotations import angle_deg

SAME_DEG = 8.0


def _atoms(mapper: Mapper) -> NDArray[np.float64]:
    found = mapper.published.atoms if mapper.published else ()
    return np.array([atom.position_A for atom in found]).reshape(-1, 3)


def _common(first: Mapper, second: Mapper) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in either buffer of the frames whose pose is sure in both."""
    rows = [m.buffer.rows[m.buffer.used[m.buffer.rows]] for m in (first, second)]
    _, mine, other = np.intersect1d(*(m.buffer.number[r] for m, r in zip((first, second), rows, strict=True)),
                                    return_indices=True)  # fmt: skip
    return rows[0][mine], rows[1][other]


def disputed(first: Mapper, second: Mapper, truth: NDArray[np.float64], scorer: ModuleType) -> dict[str, Any]:
    """Counts of the frames with sure poses in both, and a row for each that they disagree on.

    A row: frame, error of the first's pose and of the second's in degrees, log-likelihoods of both, refined, on the
    second's map and on the first's.
    """
    if first.published is None or second.published is None or first.scorer is None or second.scorer is None:
        return {}
    mine, other = _common(first, second)
    found = compare_atoms(_atoms(first), _atoms(second))
    if not len(mine) or found.gauge < 0:
        return {}
    px = first.pixel_size_A
    paths = [first.buffer.path(mine), second.buffer.path(other)]
    middles = [first.scorer.middle_px, second.scorer.middle_px]
    over = carried_over(paths[0], middles[0], found.turn, found.shift_A / px, second.scorer)
    back = carried_over(paths[1], middles[1], found.turn.T, -found.turn.T @ found.shift_A / px, first.scorer)
    number = first.buffer.number[mine]
    apart = np.flatnonzero(angle_deg(over[0], paths[1].poses) >= SAME_DEG)
    errors, right = [], []
    for mapper in (first, second):
        rows, used = mapper.buffer.rows, mapper.buffer.used[mapper.buffer.rows]
        scored = scorer.score_poses(mapper.buffer.poses[rows], truth[mapper.buffer.number[rows]]).error_deg
        errors.append(dict(zip(mapper.buffer.number[rows].tolist(), scored.tolist(), strict=True)))
        right.append(float((scored[used] < SAME_DEG).mean()))
    out: dict[str, Any] = {
        "common": len(mine), "disputed": len(apart), "disputes": [], "witness_right": right[1],
        "likelihoods": [first.likelihood, second.likelihood],
    }  # fmt: skip
    if not len(apart):
        return out
    tries = (
        (second.scorer, over), (second.scorer, (paths[1].poses, paths[1].shifts)),
        (first.scorer, (paths[0].poses, paths[0].shifts)), (first.scorer, back),
    )  # fmt: skip
    worth = [
        first._data.refine(on.volume, mine[apart], poses[apart], shifts[apart], on.k_max)[2]
        for on, (poses, shifts) in tries
    ]
    for n, at in enumerate(apart):
        frame = int(number[at])
        row = [frame, errors[0][frame], errors[1][frame], *(float(w[n]) for w in worth)]
        out["disputes"].append([round(value, 1) for value in row])
    return out
