"""Where the middle of the particle is to be expected: the track, made better by the poses of the frames around.

A lattice is seen up to a lattice vector only, and along the beam some of those are hardly longer than the error of a
track at low dose. That error lasts for many frames, though, and the particle moves less from frame to frame than its
track errs: frames whose place is known tell those beside them which of the sites is theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .branches import Path
from .rotations import to_matrix
from .site import Site

Floats = NDArray[np.float64]
LEAST_SD_PX = 0.3  # of motion and track; poses are not known better
LEAST_FRAMES = 20  # of which the motion is measured


def spread_px(away: Floats) -> float:
    """Standard deviation per axis of deviations (n, 2) from zero, from their median: a minority of wrong ones does not
    count. The least there is, where there are none.
    """
    return LEAST_SD_PX if not len(away) else max(LEAST_SD_PX, float(1.4826 * np.median(np.abs(away))))


def expected(place: Floats, sure: NDArray[np.bool_], track: Floats, number: NDArray[np.int64]) -> Floats:
    """Where the middle of the particle (t, 2) is to be expected in each frame, from the frames around it and its track.

    A frame's own place, which may be wrong, does not enter: the nearest `sure` ones before and after it do, each worth
    the less the farther off it is, and the track.

    Parameters
    ----------
    place : (t, 2) px in the field, where the middle was found. sure : (t,) whether that is to be believed. track :
        (t, 2) where it was tracked. number : (t,) frame numbers, ascending.
    """
    known = np.flatnonzero(sure)
    if len(known) < LEAST_FRAMES:
        return track.copy()
    gap = np.diff(number[known])
    motion = spread_px(np.diff(place[known], axis=0) / np.sqrt(gap)[:, None])
    weight = np.full(len(place), spread_px(place[known] - track[known]) ** -2.0)
    total = weight[:, None] * track
    rows = np.arange(len(place))
    for side in (np.searchsorted(known, rows, "left") - 1, np.searchsorted(known, rows, "right")):
        there = (side >= 0) & (side < len(known))
        other = known[np.clip(side, 0, len(known) - 1)]
        worth = np.where(there, 1 / (motion**2 * np.maximum(np.abs(number[other] - number), 1)), 0.0)
        weight += worth
        total += worth[:, None] * place[other]
    return np.asarray(total / weight[:, None])


def whereabouts(path: Path, site: Site, origin_px: Floats, number: NDArray[np.int64]) -> tuple[Floats, Site]:
    """Where the particle's middle is to be expected, (t, 2) px from the middle of the box, and the site's offset anew.

    Parameters
    ----------
    path : (t,) poses. origin_px : (t, 2) the middle of the box in the field. number : (t,) frame numbers, ascending.
    """
    place = origin_px + path.shifts - to_matrix(path.poses)[:, :2] @ site.offset_px
    around = expected(place, path.used, origin_px, number) - origin_px
    return around, site.refined(path.poses[path.used], (path.shifts - around)[path.used])
