"""Maps between the regular ones, and when frames are decided anew for one; the parts of a particle are stand-ins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tumble.recon.device import cpu
from tumble.recon.particle import ANEW_GROWTH, ParticleReconstruction, ReconstructionOptions
from tumble.recon.records import Trust


def mapping(trusted: bool, only_unsure: bool, due: bool = True) -> tuple[ParticleReconstruction, Any, list[str]]:
    """A particle with a map, and what is done to it."""
    particle, done = ParticleReconstruction(1, 0.35, 20.0, lambda: None, ReconstructionOptions(), cpu()), []
    buffer = SimpleNamespace(
        rows=np.arange(200), length=200, number=np.arange(200), poses=np.tile([1.0, 0, 0, 0], (200, 1)),
        used=np.ones(200, bool),
    )  # fmt: skip
    mapper = SimpleNamespace(
        frames=1000, buffer=buffer, publish=lambda: done.append("map"), redecide=lambda rounds: done.append("anew")
    )
    witness = SimpleNamespace(only_unsure=only_unsure, trust=Trust(trusted))
    progress = SimpleNamespace(due=lambda *_: due, standing=lambda trust: trust)
    particle._state, particle._witness, particle._progress = "MAPPING", witness, progress  # type: ignore[assignment]
    return particle, mapper, done


@pytest.mark.parametrize(
    ("trusted", "only_unsure", "due", "expected"),
    [
        (True, True, True, ["map"]),
        (True, True, False, []),
        (False, True, True, ["anew", "map"]),
        (False, False, True, []),
    ],
)
def test_a_map_out_of_turn(trusted: bool, only_unsure: bool, due: bool, expected: list[str]) -> None:
    particle, mapper, done = mapping(trusted, only_unsure, due)
    particle._out_of_turn(mapper)
    assert done == expected


def test_frames_are_not_decided_anew_again_and_again() -> None:
    particle, mapper, done = mapping(trusted=False, only_unsure=True)
    for mapper.frames in range(1000, round(1000 * ANEW_GROWTH) + 1, 50):
        particle._out_of_turn(mapper)
    assert done == ["anew", "map"] * 2


def test_after_a_change_there_is_none() -> None:
    particle, mapper, done = mapping(trusted=True, only_unsure=True)
    particle._alarm = "atoms are gone"
    particle._out_of_turn(mapper)
    assert done == []
