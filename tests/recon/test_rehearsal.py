"""What is made up to have everything compiled goes all the way: a crystal is found, followed and mapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tumble.recon import rehearsal
from tumble.recon.device import cpu
from tumble.recon.frontend.options import FrontEndOptions


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The front ends and particles of a rehearsal."""
    found: list[Any] = []
    for name in ("FrontEnd", "ParticleReconstruction"):
        kind = getattr(rehearsal, name)

        def make(*given: Any, kind: type = kind, **more: Any) -> Any:
            found.append(kind(*given, **more))
            return found[-1]

        monkeypatch.setattr(rehearsal, name, make)
    return found


@pytest.mark.slow
def test_a_rehearsal_ends_with_a_map(made: list[Any]) -> None:
    pieces = sum(1 for _ in rehearsal.rehearse(cpu()))
    (particle,) = made
    assert pieces > 1  # it can be left off in between
    assert particle.status().state == "MAPPING"
    assert particle.status().frames_used > 0.9 * rehearsal.FIRST
    assert particle.result() is not None
    assert rehearsal.COMPILED_LAST.signatures


def test_a_crystal_is_found_and_followed(made: list[Any]) -> None:
    assert sum(1 for _ in rehearsal.rehearse_front_end(FrontEndOptions(), threads=1)) == rehearsal.FIELD_FRAMES
    (front_end,) = made
    (particle,) = front_end.particles()
    assert np.allclose(particle.centre_px, rehearsal.FIELD_PX / 2, atol=2)
    assert front_end.flush().observations
