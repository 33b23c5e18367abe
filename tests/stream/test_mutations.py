"""Some thousand of the mutated messages that `mutate` makes without end: refused or understood, nothing else."""

from __future__ import annotations

import pytest

from .mutate import memory_MiB, run


@pytest.mark.parametrize("seed", [11, 12])
def test_mutated_messages_are_refused_or_understood(seed):
    run(500, seed)
    before = memory_MiB()
    target = run(8000, seed)
    assert memory_MiB() - before < 30
    for outcome in ("refused", "understood", "damaged frame", "ignored"):
        assert target.outcomes[outcome] > 50, outcome
