"""The shape of the code is a promise too: import contracts, what a viewer loads, how long a file may get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

FOLDERS = ("stream", "recon", "daemon", "dashboard")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(root: Path, *folders: str) -> Iterator[Path]:
    """Yield the Python files of `folders`, without caches."""
    for folder in folders:
        yield from sorted((root / folder).rglob("*.py"))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without the docstring."""
    documented = ast.get_docstring(function, clean=False) is not None and len(function.body) > 1
    return (function.end_lineno or 0) - function.body[1 if documented else 0].lineno + 1


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("tumble", include_external_packages=True, cache_dir=None)


def loaded_by(module: str) -> set[str]:
    """Names of the top-level packages that a fresh interpreter has loaded after importing `module`."""
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_import_contracts_hold(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(root)
    status = lint_imports(config_filename=str(root / "pyproject.toml"), no_cache=True, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_the_dashboard_sees_only_snapshots_and_stream_types(graph: grimp.ImportGraph) -> None:
    own = {"tumble.dashboard", *graph.find_descendants("tumble.dashboard")}
    seen = {imported for module in own for imported in graph.find_modules_directly_imported_by(module)}
    foreign = {name for name in seen - own if name.startswith("tumble")}
    allowed = ("tumble", "tumble.daemon.snapshot")
    assert {name for name in foreign if name not in allowed and not name.startswith("tumble.stream")} == set()


def test_the_reconstruction_needs_numpy_scipy_numba_and_cupy_only(graph: grimp.ImportGraph) -> None:
    own = {"tumble.recon", *graph.find_descendants("tumble.recon")}
    seen = {imported for module in own for imported in graph.find_modules_directly_imported_by(module)}
    foreign = {name.partition(".")[0] for name in seen if not name.startswith("tumble")}
    assert foreign - sys.stdlib_module_names - {"numpy", "scipy", "numba", "llvmlite", "cupy", "cupyx"} == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("tumble").isdisjoint({"numpy", "numba", "zmq", "h5py", "rich"})


def test_a_viewer_loads_no_compiler_and_no_reconstruction() -> None:
    modules = loaded_by("tumble.dashboard, tumble.daemon.snapshot")
    assert modules.isdisjoint({"numba", "llvmlite", "scipy", "cupy", "h5py"})


def test_every_folder_of_python_files_is_a_package(root: Path) -> None:
    folders = {path.parent for path in sources(root, *FOLDERS)}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_only_relative_imports_inside_the_package(root: Path) -> None:
    # Absolute ones would work, but through the installed name: a graph of the tree would not see them.
    absolute = re.compile(r"^\s*(?:from|import) tumble\b", re.MULTILINE)
    assert [str(path) for path in sources(root, *FOLDERS) if absolute.search(path.read_text(encoding="utf-8"))] == []


def test_files_stay_short(root: Path) -> None:
    lengths = {
        str(path.relative_to(root)): len(path.read_text("utf-8").splitlines()) for path in sources(root, *FOLDERS)
    }
    del lengths["recon/kernels/bodies.py"]  # one factory, so that both compilers see the same helpers
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_stay_short(root: Path) -> None:
    long = {}
    for path in sources(root, *FOLDERS):
        if path.is_relative_to(root / "recon" / "kernels"):  # a kernel is one nest of loops
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, FUNCTIONS) and (length := body_lines(node)) > MAX_FUNCTION_LINES:
                long[f"{path.relative_to(root)}:{node.lineno} {node.name}"] = length
    assert long == {}


def test_no_path_of_somebodys_machine(root: Path) -> None:
    private = re.compile(r"(?<![\w.~])/(?:home|root|Users|work)/\w")
    texts = [*sources(root, *FOLDERS, "tests"), *root.glob("*.md"), root / "pyproject.toml", root / "Makefile"]
    hits = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in texts
        for line in path.read_text(encoding="utf-8").splitlines()
        if private.search(line)
    ]
    assert hits == []
