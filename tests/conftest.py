"""What every test may lean on: where the development data lie, skips for what is not installed here, threads."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TUMBLE_SHARED", ROOT.parent / "shared"))
# Threads that wait in circles take the cores from the other half of the suite. Here because libraries read it when they
# are loaded.
for _name, _value in (("OPENBLAS_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded streams with known truth, too large for the repository; for tests marked `shared` only."""
    return SHARED / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip("no development data beside the checkout (TUMBLE_SHARED names another place)")
    if item.get_closest_marker("multislice") and importlib.util.find_spec("abtem") is None:
        pytest.skip("abTEM is not installed (the multislice extra)")
