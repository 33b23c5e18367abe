"""The fake snapshots as a fixture: test folders are no packages, so they cannot be imported."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The module fakes.py."""
    spec = importlib.util.spec_from_file_location("tumble_dashboard_fakes", Path(__file__).with_name("fakes.py"))
    if spec is None or spec.loader is None:
        raise ImportError("fakes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
