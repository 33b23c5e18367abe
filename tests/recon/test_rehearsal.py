"""What is made up to have everything compiled goes all the way: a crystal is found, followed and mapped."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
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


def compiled(monkeypatch: pytest.MonkeyPatch, **misses: int) -> None:
    """As if numba had kept everything, or missed something."""

    def read(*_: Any) -> None:
        return None

    read.stats = SimpleNamespace(cache_misses=Counter(misses))  # type: ignore[attr-defined]
    monkeypatch.setattr(rehearsal, "read_images", read)


@pytest.mark.slow
def test_a_rehearsal_ends_with_a_map(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(monkeypatch, something=1)
    pieces = sum(1 for _ in rehearsal.rehearse(cpu()))
    (particle,) = made
    assert pieces > 1  # it can be left off in between
    assert particle.status().state == "MAPPING"
    assert particle.status().frames_used > 0.9 * rehearsal.FIRST
    assert particle.result() is not None


def test_there_is_none_where_everything_has_been_kept(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(monkeypatch)
    assert list(rehearsal.rehearse(cpu())) == []
    assert made == []


def test_what_numba_says_of_its_cache_is_understood() -> None:
    """`rehearse` asks the kernel that is compiled last."""
    rehearsal.read_images(np.zeros((1, 4, 4), np.float32), np.zeros((1, 1, 2)), np.zeros((1, 1)))
    stats = rehearsal.read_images.stats
    assert sum(stats.cache_hits.values()) + sum(stats.cache_misses.values()) >= 1


def test_a_crystal_is_found_and_followed(made: list[Any]) -> None:
    assert sum(1 for _ in rehearsal.rehearse_front_end(FrontEndOptions(), threads=1)) == rehearsal.FIELD_FRAMES
    (front_end,) = made
    (particle,) = front_end.particles()
    assert np.allclose(particle.centre_px, rehearsal.FIELD_PX / 2, atol=2)
    assert front_end.flush().observations
