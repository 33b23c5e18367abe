"""What the tests of the reconstruction share: the processor as device, boxes with known truth, and their scorer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tumble.recon.device import Device, cpu


def _beside(name: str) -> ModuleType:
    """Import a module that lies beside this file: pytest's importlib mode puts no folder on the path."""
    full = f"tests_recon_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def device() -> Device:
    """The processor."""
    return cpu()


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """Boxes of a small tumbling crystal with known truth."""
    return _beside("synthetic")


@pytest.fixture(scope="session")
def ideal() -> ModuleType:
    """Boxes and map of atoms that are known exactly."""
    return _beside("ideal")


@pytest.fixture(scope="session")
def scoring() -> ModuleType:
    """Scores of poses and atoms against the truth."""
    return _beside("scoring")


@pytest.fixture(scope="session")
def strict() -> ModuleType:
    """A stand-in for cupy, on which host and device arrays never mix."""
    return _beside("strict")
