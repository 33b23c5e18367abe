"""Where a reconstruction begins: one continuous path through the first frames, and the part of it that is believed.

Continuity alone decides the first path, and a single wrong turn at a zone axis splits it into two branches. A map of
both is a mixture in which either holds its own: re-decision then settles on a wrong answer. A map of one half of the
frames, which may hold no wrong turn, draws the rest over to its side. Which beginning was right shows in the
likelihood of frames on maps that leave them out: on 400 frames of a twinned crystal 729 per frame from a path with 54 %
on one branch, 777 from its middle half, after which every pose used was right. It is the median frame that tells: right
poses of a few per cent may still be missing, and a mixture has none that are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .branches import Path
from .chain import path_modulo
from .indexing import Candidates
from .kinds import Lattice
from .redecision import Redecision
from .rotations import angle_deg
from .site import Site
from .symmetry import CUBE
from .twin import TURN, twin_path

Floats = NDArray[np.float64]
CONSISTENT = 0.05  # share of frames that a first re-decision may change while the path is taken for one branch
PARTS = ((0.0, 0.5), (0.5, 1.0), (0.25, 0.75))  # of the frames; a wrong turn in one of them is not in another
SETTING_DEG = 1.0  # from all poses of one setting of a lattice: a frame shows the other one
ROUNDS = 3  # of re-decision, before beginnings are compared


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """A path after a round of re-decision, the lattice site it is counted from, and what the round found."""

    path: Path
    site: Site
    numbers: Redecision
    centre_px: Floats


def first_path(found: Candidates, step_deg: float, lattice: Lattice, pixel_size_A: float) -> tuple[Path, Site]:
    """One continuous branch, and the lattice site it is counted from; through both grains of a twinned crystal."""
    lattice_px, kind = lattice.constant_A / pixel_size_A, lattice.kind
    poses, chosen = path_modulo(found.poses, found.score, step_deg, symmetry=kind.alike)
    each = np.arange(len(chosen))
    shifts, score = found.shifts[each, chosen], found.score[each, chosen]
    twin = twin_path(found, step_deg) if kind.symmetry is CUBE else None
    if twin is not None:
        poses, shifts, score = twin.poses, twin.shifts, twin.score
        site = Site.find_twinned(poses, shifts, twin.second, TURN, lattice_px, kind)
        for g, grain in enumerate(site.grains):
            own = twin.second == bool(g)
            shifts[own] = site.placed(poses[own], shifts[own], grain)
    else:
        other = (
            angle_deg(kind.symmetry.equivalents(found.poses[each, chosen]), poses[:, None]).min(axis=1) > SETTING_DEG
        )
        site = Site.find(poses[~other], shifts[~other], lattice_px, kind=kind)
        for mine, grain in zip((~other, other), site.grains, strict=False):
            shifts[mine] = site.placed(poses[mine], shifts[mine], grain)
    return Path(poses, shifts, score, np.ones(len(each), np.bool_)), site


def best_beginning(
    path: Path, site: Site, decide: Callable[[Path, Site, int], Decided], *, doubted: bool = False
) -> tuple[Path, Site]:
    """The path after a few rounds from the whole of `path` or from a part of it, whichever explains the frames best.

    Parameters
    ----------
    path, site : the first path. decide : a round of re-decision of all frames, on a map of those `used`; it is told the
        number of the round. doubted : try the parts even where the whole agrees with itself.
    """
    frames = len(path.poses)
    whole = decide(path, site, 0)
    if not doubted and whole.numbers.changed <= CONSISTENT * frames:
        return whole.path, whole.site
    place = (np.arange(frames) + 0.5) / frames
    inside = (path.used & (place > low) & (place < high) for low, high in PARTS)
    starts = [whole, *(decide(replace(path, used=part), site, 0) for part in inside)]
    found = sorted((_continued(start, decide) for start in starts), key=_typical, reverse=True)
    # the best two may both still be on their way: what they come to decides
    best = max((_continued(decided, decide) for decided in found[:2]), key=_typical)
    return best.path, best.site


def _typical(decided: Decided) -> float:
    return decided.numbers.typical


def _continued(decided: Decided, decide: Callable[[Path, Site, int], Decided]) -> Decided:
    for turn in range(1, ROUNDS):
        decided = decide(decided.path, decided.site, turn)
    return decided
