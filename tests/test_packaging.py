"""What is shipped: the wheel holds the whole tree and nothing else, the pins cover what is asked for."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tumble

FOLDERS = ("stream", "recon", "daemon", "dashboard")
IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys, tumble
assert pathlib.Path(tumble.__file__).is_relative_to(sys.argv[1]), tumble.__file__
for module in pkgutil.walk_packages(tumble.__path__, "tumble."):
    if module.name != "tumble.__main__":
        importlib.import_module(module.name)
        print(module.name)
"""


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    with (root / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tree, with the installed setuptools: no network, no trace in the checkout."""
    copy = tmp_path_factory.mktemp("tree") / "tumble"
    out = tmp_path_factory.mktemp("wheel")
    leave = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "sessions", "venv")
    shutil.copytree(root, copy, ignore=leave)
    code = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def modules_of_the_tree(root: Path) -> set[str]:
    found = [*root.glob("*.py"), *(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))]
    return {f"tumble/{path.relative_to(root).as_posix()}" for path in found}


def test_the_wheel_holds_every_module_and_nothing_else(root: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == modules_of_the_tree(root)


def test_the_root_is_the_package_and_nothing_else(root: Path) -> None:
    assert {path.name for path in root.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = email.message_from_bytes(archive.read(next(n for n in names if n.endswith("/METADATA"))))
        scripts = archive.read(next(n for n in names if n.endswith("/entry_points.txt"))).decode()
    assert metadata["Name"] == "tumble-em"
    assert metadata["Version"] == tumble.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("/LICENSE") for name in names)
    assert "tumble = tumble.__main__:main" in scripts


def test_every_module_of_the_wheel_imports(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"tumble.stream.frame", "tumble.recon.records", "tumble.daemon.cli"} <= set(done.stdout.split())


def test_the_version_is_a_release_in_the_changelog(root: Path) -> None:
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert str(Version(tumble.__version__)) == tumble.__version__
    assert f"## [{tumble.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_every_requirement_is_pinned_to_a_version_that_it_allows(root: Path, project: dict[str, Any]) -> None:
    pins: dict[str, list[Requirement]] = {}
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    wanted += [line for extra in ("gpu", "multislice", "test") for line in extras[extra]]
    for line in wanted:
        requirement = Requirement(line)
        for pin in pins[canonicalize_name(requirement.name)]:
            (specifier,) = pin.specifier
            assert specifier.operator == "=="
            assert requirement.specifier.contains(specifier.version), line


def test_the_pins_name_no_address(root: Path) -> None:
    assert re.search(r"://|--", (root / "constraints.txt").read_text(encoding="utf-8")) is None


def test_the_checks_run_what_the_readme_says(root: Path) -> None:
    assert "make test" in (root / "README.md").read_text(encoding="utf-8")
    assert (root / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
