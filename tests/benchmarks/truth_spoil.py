"""A right reconstruction spoilt afterwards, twelve times over: frames put on wrong branches, maps made of them, judged.

One reconstruction costs as much as six or seven of these. Frames are turned in the first map alone, or the same frames
in the witness's map as well, which is the worst case: both maps are then the same mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from truth_ways import FIRST, FRAMES, ForcedMapper, Forcing, Wrong

from tumble.recon.particle import ParticleReconstruction
from tumble.recon.records import Trust
from tumble.recon.witness import _account


@dataclass(frozen=True)
class Spoiling:
    """Frames that go to a wrong branch; `both`: in the witness, too."""

    name: str
    wrong: Wrong
    both: bool


def _stretch(start: int, length: int) -> Forcing:
    return lambda number: (number >= start) & (number < start + length)


def _blocks(length: int) -> Forcing:
    return lambda number: (number // length) % 2 == 1


def spoilings(seed: int, draw: int, order: int) -> tuple[Spoiling, ...]:
    """Six ways for each seed and draw; the first half of the `order` branches are rotations, the others mirrored."""
    rng, half = np.random.default_rng([seed, 31 + draw]), order // 2
    turns, mirrors = rng.permutation(np.arange(1, half)), half + rng.permutation(half)
    starts = rng.integers(FIRST, FRAMES - 150, 3)
    first, second, third = (int(start) for start in starts)
    block = (25, 50, 100)[(seed + draw) % 3]
    return (
        Spoiling("100 frames on a wrong branch", Wrong(_stretch(first, 100), int(turns[0])), both=False),
        Spoiling("150 frames on a wrong branch in both", Wrong(_stretch(second, 150), int(turns[1])), both=True),
        Spoiling("90 frames on a mirror branch in both", Wrong(_stretch(third, 90), int(mirrors[0])), both=True),
        Spoiling("half on a mirror branch", Wrong(_blocks(block), int(mirrors[1])), both=False),
        Spoiling("half on a mirror branch in both", Wrong(_blocks(block), int(mirrors[2])), both=True),
        Spoiling("half on a wrong branch in both", Wrong(_blocks(block), int(turns[2])), both=True),
    )


def _remake(mapper: ForcedMapper, poses: NDArray[np.float64], shifts: NDArray[np.float64], wrong: Wrong | None) -> None:
    """A map of these poses, those of some frames on a wrong branch."""
    buffer = mapper.buffer
    rows = buffer.rows
    buffer.poses[rows], buffer.shifts[rows] = poses, shifts
    if wrong is not None:
        type(mapper).wrong = wrong
        mapper._turn(rows[wrong.frames(buffer.number[rows])], undo=False)
        type(mapper).wrong = None
    mapper.publish(thorough=True)


def spoilt(
    particle: ParticleReconstruction, first: ForcedMapper, second: ForcedMapper, seed: int
) -> Iterator[tuple[str, Trust]]:
    """Every way of a seed, twice, on a finished reconstruction and the mapper of its witness: name and verdict.

    While an item is handed out the maps and poses of `first` are the spoilt ones, and so are its likelihood and margin.
    """
    witness = particle._witness
    if witness is None:
        return
    kept = [(m, m.buffer.poses[m.buffer.rows].copy(), m.buffer.shifts[m.buffer.rows].copy()) for m in (first, second)]
    centres = [m._centre.copy() for m in (first, second)]
    touched = [False, False]
    order = first._site.kind.symmetry.order
    for spoiling in (*spoilings(seed, 0, order), *spoilings(seed, 1, order)):
        involved = (True, spoiling.both)
        for n, (mapper, poses, shifts) in enumerate(kept):
            if involved[n] or touched[n]:
                mapper._centre = centres[n]
                _remake(mapper, poses, shifts, spoiling.wrong if involved[n] else None)
            touched[n] = involved[n]
        first.measure()
        witness._other, witness._scorer, witness._gauges = _account(second), second.scorer, None
        witness._trust, witness._failure = Trust(None), ""
        witness._judge(first, branches=True)
        yield spoiling.name, witness._trust
