"""Property tests draw the same examples in every run, so that a failure is one that anybody can have."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tumble", derandomize=True, deadline=None)
settings.load_profile("tumble")
