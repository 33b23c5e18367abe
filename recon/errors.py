"""Why a particle has no first map."""

from __future__ import annotations


class NoLatticeError(Exception):
    """Nothing can be indexed; the message says why."""


class TwinnedError(Exception):
    """Two grains are seen: the branches of a twin are told apart by its shape alone, which takes more frames."""
