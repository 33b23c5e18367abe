"""Whether all frames show one and the same crystal, or some of them another: atoms that come and go together.

Two crystals that take turns in one track make one map. Most of their atoms are in both, their poses come out right, and
a second map from other frames is the same mixture. But at the places where they differ the map is too strong in the
frames of the one and too weak in those of the other, everywhere at the same times. So blocks of frames are split in two
along the directions in which what they show beyond the map varies most, its principal components (Penczek, Kimmel &
Spahn, Structure 19, 1582 (2011)). They are split by every other frame, and compared in the frames between: the noise of
these is another, and what both halves find alike is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .change import vacant_sites
from .crosscheck import sampled
from .residual import Held

Floats = NDArray[np.float64]
BLOCK_FRAMES = 10  # that are taken to show the same crystal
LEAST_BLOCKS = 4  # on either side, and
LEAST_SHARE = 0.1  # of all: fewer put no atoms into the map, and frames of one view share what the map gets wrong in it
COMPONENTS = 3  # that are tried: a few odd frames may make the first
DIFFERENT = 0.3  # of a typical atom, geometric mean of what two halves find; one that comes and goes gave 0.4 to 0.8
SURE = 5.0  # standard errors by which what two halves find must be alike
ROUNDS = 50  # of the division in two


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """How unlike the frames of a map are, between the two groups that differ most.

    Attributes
    ----------
    share : places that only one of the groups shows, of as many as the map has atoms; 0 where it may be noise.
    alike : correlation, over all places, of the differences that two halves of the frames find, each when divided by
        the other; about 0 where all frames show the same.
    """

    share: float
    alike: float


def heterogeneity(values: Floats, atoms: int) -> Heterogeneity | None:
    """Divide frames in two by what they show; None with too few of them.

    Parameters
    ----------
    values : (t, places) what frames, in the order of time, show beyond their map, of what a typical atom shows.
    atoms : how many of the places are atoms of the map.
    """
    blocks = len(values) // BLOCK_FRAMES
    if blocks < 2 * LEAST_BLOCKS or atoms == 0:
        return None
    means = values[: blocks * BLOCK_FRAMES].reshape(blocks, BLOCK_FRAMES // 2, 2, -1).mean(axis=1)
    means[..., :atoms] -= np.median(means[..., :atoms], axis=-1, keepdims=True)  # contrast and defocus are all atoms'
    halves = means[:, 0], means[:, 1]
    first = [_difference(halves[1], group) for group in _divisions(halves[0])]
    second = [_difference(halves[0], group) for group in _divisions(halves[1])]
    pairs = [(one, other) for one in first for other in second]
    if not pairs:
        return Heterogeneity(0.0, 0.0)
    alike = [float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))) for one, other in pairs]
    best = int(np.abs(alike).argmax())
    common = pairs[best][0] * pairs[best][1] * np.sign(alike[best])  # which group is which is arbitrary
    sure = abs(alike[best]) > SURE / np.sqrt(values.shape[1])
    return Heterogeneity(float((common > DIFFERENT**2).sum()) / atoms if sure else 0.0, abs(alike[best]))


def find_heterogeneity(held: Held) -> Heterogeneity | None:
    """The same of frames held against a map, at its atoms and beside them; of many frames, whole stretches of them."""
    atoms, rows, lattice = held.atoms_A, held.rows, held.published.lattice
    if len(rows) == 0 or len(atoms) == 0:
        return None
    vacant = vacant_sites(atoms, lattice.neighbour_A, lattice.kind)
    shown = held.beyond(sampled(rows, held.buffer.number[rows]), atoms, vacant)
    return heterogeneity(shown.values / shown.typical, len(atoms))


def _divisions(shown: Floats) -> list[NDArray[np.bool_]]:
    """Groups of blocks (b, places), one by each of the first principal components: (b,), which blocks belong to one.

    Two means of the component, to which blocks are assigned in turn (Lloyd, IEEE Trans. Inf. Theory 28, 129 (1982)).
    """
    components = np.linalg.svd(shown - shown.mean(axis=0), full_matrices=False)[0][:, :COMPONENTS]
    groups = [_two_means(component) for component in components.T]
    least = max(LEAST_BLOCKS, LEAST_SHARE * len(shown))
    return [group for group in groups if min(group.sum(), (~group).sum()) >= least]


def _two_means(values: Floats) -> NDArray[np.bool_]:
    group = values > (values.min() + values.max()) / 2
    for _ in range(ROUNDS):
        before = group
        group = values > (values[group].mean() + values[~group].mean()) / 2
        if (group == before).all():
            break
    return np.asarray(group)


def _difference(shown: Floats, group: NDArray[np.bool_]) -> Floats:
    """By how much the blocks (b, places) of a group show more than the others: (places,)."""
    return np.asarray(shown[group].mean(axis=0) - shown[~group].mean(axis=0))
