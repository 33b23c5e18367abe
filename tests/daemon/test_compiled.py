"""A folder for compiled code is found wherever there is one, as numba looks for it, and made where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tumble
from tumble.daemon import compiled

PACKAGE = Path(tumble.__file__).parent


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """A user without anything; what is set on the way is taken back."""
    monkeypatch.setenv(compiled.CHOSEN, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def only(*folders: Path):
    return lambda folder: any(folder.is_relative_to(one) for one in folders)


def test_the_one_that_was_chosen_is_taken_and_made(monkeypatch, tmp_path):
    monkeypatch.setenv(compiled.CHOSEN, str(tmp_path / "chosen"))
    assert compiled.ensure_folder() == tmp_path / "chosen"
    assert (tmp_path / "chosen").is_dir()


def test_then_the_source_then_the_users_as_numba_does(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(compiled.CHOSEN, str(tmp_path / "file" / "below"))
    monkeypatch.setattr(compiled, "_writable", only(PACKAGE, tmp_path / "cache"))
    assert compiled.ensure_folder() == PACKAGE
    monkeypatch.setattr(compiled, "_writable", only(PACKAGE / "stream", tmp_path / "cache"))
    assert compiled.ensure_folder() == tmp_path / "cache" / "numba"
    assert os.environ[compiled.CHOSEN] == str(tmp_path / "file" / "below")


def test_without_any_it_is_in_the_runtime_folder_and_other_processes_hear_of_it(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "_writable", only())
    found = compiled.ensure_folder()
    assert found == tmp_path / "run" / "tumble" / "compiled"
    assert found.is_dir()
    assert found.parent.stat().st_mode & 0o077 == 0  # nobody else may leave code there
    assert os.environ[compiled.CHOSEN] == str(found)


def test_what_cannot_be_written_is_not_taken_for_a_folder(tmp_path):
    (tmp_path / "file").touch()
    assert not compiled._writable(tmp_path / "file")
    assert not compiled._writable(tmp_path / "file" / "below")
    assert compiled._writable(tmp_path / "new" / "folder")


KERNEL = """
from tumble.daemon.compiled import is_kept
import kernels
before = is_kept(kernels.doubled)
kernels.doubled(1)
print(before, is_kept(kernels.doubled))
"""


def test_a_kernel_is_kept_from_its_first_call_until_its_source_changes(tmp_path):
    source = tmp_path / "kernels.py"
    source.write_text("from numba import njit\n@njit(cache=True)\ndef doubled(x):\n    return 2 * x\n")

    def asked():
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
        done = subprocess.run(
            [sys.executable, "-c", KERNEL], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert asked() == ["False", "True"]
    assert asked() == ["True", "True"]
    later = source.stat().st_mtime + 60
    os.utime(source, (later, later))
    assert asked()[0] == "False"
