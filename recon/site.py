"""Which of the lattice sites a frame shows: a lattice position is known only up to a lattice vector.

Indexing finds where *a* lattice site is seen. Where the middle of the particle lies between sites, frames take
different ones, and a map of them is a mixture of copies a lattice vector apart. The tracked centre tells them apart:
along one continuous branch of poses the middle and one site are joined by a vector that is fixed in the body. A twinned
crystal has two lattices, each with sites of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .kinds import FCC, Kind
from .rotations import to_matrix
from .symmetry import CUBE, TWIN, Operations

Floats = NDArray[np.float64]
STEPS = 12  # of the search, per lattice constant
MISFIT = 0.2  # constants of an fcc lattice, three standard errors of a track; a larger distance counts no more
SAMPLE = 400  # frames that are enough for the search


@dataclass(frozen=True, slots=True, eq=False)
class Grain:
    """A lattice of the crystal, or a setting of it: how it is turned in the body (quaternion), and a vector from a site
    of the first grain to one of its own, px.
    """

    turn: Floats
    offset_px: Floats


FIRST = Grain(np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3))


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """The lattice site around which the map is built: ``shift = R(pose) offset`` from the tracked centre.

    Attributes
    ----------
    offset_px : (3,) x, y, z in the body, from the middle of the particle. lattice_px : the lattice constant.
    grain : whose lattice this is a site of. grains : all lattices of the crystal, the first one first. kind : of them.
    strain : (3, 3) uniform, symmetric, in the body; None where there is none to speak of.
    """

    offset_px: Floats
    lattice_px: float
    grain: Grain = FIRST
    grains: tuple[Grain, ...] = (FIRST,)
    kind: Kind = FCC
    strain: Floats | None = None

    @property
    def operations(self) -> Operations | None:
        """The point group of an ideal crystal like this one; None for that of the cube, without strain."""
        if self.strain is not None:
            return replace(self.kind.symmetry.operations, strain=self.strain)
        if self.kind.symmetry is not CUBE:
            return self.kind.symmetry.operations
        return TWIN if self.twinned else None

    @property
    def twinned(self) -> bool:
        """Whether there are more grains than its kind has settings."""
        return len(self.grains) > 1 + len(self.kind.mates)

    @property
    def vectors_px(self) -> Floats:
        """Lattice vectors (n, 3), zero first."""
        return np.asarray(self.kind.vectors @ to_matrix(self.grain.turn).T * self.lattice_px)

    def _away_px(self, share: float) -> float:
        """A share of the constant of the fcc lattice whose atoms are as far apart."""
        return share * self.kind.widening * self.lattice_px

    @classmethod
    def find(cls, poses: Floats, shifts: Floats, lattice_px: float, grain: Grain = FIRST, kind: Kind = FCC) -> Site:
        """The site nearest to the middle of the particle.

        Parameters
        ----------
        poses : (t, 4) one continuous branch. shifts : (t, 2) px, where a lattice site is seen from the tracked centre.
        grain : whose lattice is seen. kind : of it.
        """
        every = max(1, len(poses) // SAMPLE)
        axis = ((np.arange(STEPS) + 0.5) / STEPS - 0.5) * lattice_px
        trials = np.array(list(itertools.product(axis, repeat=3)))
        start = cls(np.zeros(3), lattice_px, grain, kind=kind)
        away = ((trials[:, None] + start.vectors_px) ** 2).sum(axis=2)
        trials = trials[away[:, 0] <= away.min(axis=1) + 1e-9]  # one of those that differ by a lattice vector
        cost = [replace(start, offset_px=trial).misfit(poses[::every], shifts[::every]) for trial in trials]
        found = replace(start, offset_px=trials[int(np.argmin(cost))]).refined(poses, shifts)
        settings = (Grain(turn, offset * lattice_px) for turn, offset in kind.mates)
        return replace(found, grains=(FIRST, *settings)) if grain is FIRST else found

    @classmethod
    def find_twinned(
        cls,
        poses: Floats,
        shifts: Floats,
        second: NDArray[np.bool_],
        turn: Floats,
        lattice_px: float,
        kind: Kind = FCC,
    ) -> Site:
        """Sites of two grains; `second` (t,) are the frames in which the other one, turned by `turn`, is seen."""
        site = cls.find(poses[~second], shifts[~second], lattice_px, kind=kind)
        other = cls.find(poses[second], shifts[second], lattice_px, Grain(turn, np.zeros(3)), kind)
        return replace(site, grains=(FIRST, Grain(turn, other.offset_px - site.offset_px)))

    def placed(self, poses: Floats, seen: Floats, grain: Grain) -> Floats:
        """Where the map's origin is, (..., 2) px, at `poses` (..., 4) when a site of `grain` is `seen` (..., 2)."""
        if grain is FIRST:
            return self.nearest(poses, seen)
        site = Site(self.offset_px + grain.offset_px, self.lattice_px, grain, kind=self.kind)
        return site.nearest(poses, seen) - to_matrix(poses)[..., :2, :] @ grain.offset_px

    def misfit(self, poses: Floats, shifts: Floats) -> float:
        """Sum over frames (t, 4), (t, 2) of the squared distance, px^2, from this site or a lattice vector from it."""
        plane = to_matrix(poses)[:, :2]
        away = (shifts - plane @ self.offset_px)[..., None] + plane @ self.vectors_px.T
        return float(np.minimum((away**2).sum(axis=1).min(axis=1), self._away_px(MISFIT) ** 2).sum())

    def refined(self, poses: Floats, shifts: Floats) -> Site:
        """The same site, its offset by least squares from the frames (t, 4), (t, 2) that fit it."""
        plane = to_matrix(poses)[:, :2]
        offset = self.offset_px
        for _ in range(3):
            away = replace(self, offset_px=offset).nearest(poses, shifts, 0.0) - plane @ offset
            fits = (away**2).sum(axis=1) < self._away_px(MISFIT) ** 2
            if fits.sum() < 10:
                break
            offset = offset + np.linalg.lstsq(plane[fits].reshape(-1, 3), away[fits].reshape(-1), rcond=None)[0]
        return replace(self, offset_px=offset)

    def nearest(self, poses: Floats, shifts: Floats, beyond: float = MISFIT) -> Floats:
        """`shifts` (..., 2) of lattice sites at `poses` (..., 4), moved by lattice vectors to this site's place.

        Seen along the beam some lattice vectors are shorter than the error of the track. What lies within that error,
        `beyond` lattice constants, of its place stays where it is: there the image itself decides.
        """
        plane = np.ascontiguousarray(to_matrix(poses)[..., :2, :])
        result = np.array(shifts, np.float64)
        least = self._away_px(beyond) ** 2
        _move_to_site(result.reshape(-1, 2), plane.reshape(-1, 2, 3), self.offset_px, self.vectors_px, least)
        return result


@njit(cache=True)
def _move_to_site(shifts: Floats, planes: Floats, offset: Floats, vectors: Floats, beyond: float) -> None:
    """Add to each of (n, 2) shifts the one of (m, 3) vectors, seen in its plane (n, 2, 3), that brings it nearest to
    where `offset` is seen; those within sqrt(`beyond`) of it stay.
    """
    for i in range(len(shifts)):
        plane = planes[i]
        x = shifts[i, 0] - (plane[0, 0] * offset[0] + plane[0, 1] * offset[1] + plane[0, 2] * offset[2])
        y = shifts[i, 1] - (plane[1, 0] * offset[0] + plane[1, 1] * offset[1] + plane[1, 2] * offset[2])
        least, nearest_x, nearest_y = x * x + y * y, 0.0, 0.0
        if least <= beyond:
            continue
        for j in range(1, len(vectors)):
            vector = vectors[j]
            along_x = plane[0, 0] * vector[0] + plane[0, 1] * vector[1] + plane[0, 2] * vector[2]
            along_y = plane[1, 0] * vector[0] + plane[1, 1] * vector[1] + plane[1, 2] * vector[2]
            square = (x + along_x) ** 2 + (y + along_y) ** 2
            if square < least - 1e-9:
                least, nearest_x, nearest_y = square, along_x, along_y
        shifts[i, 0] += nearest_x
        shifts[i, 1] += nearest_y
