"""A folder for what numba compiles: where it finds none that can be written it does not even begin."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from .endpoints import runtime_folder

CHOSEN = "NUMBA_CACHE_DIR"
_COMPILED_HERE = ("stream", "recon")  # parts of the package with kernels, which numba keeps beside their source


def ensure_folder() -> Path:
    """Where compiled code is kept; numba, imported after this, and the processes that are started agree.

    Numba asks `NUMBA_CACHE_DIR`, then the folder of the source, then the user's. A service or a container may have none
    of them; the runtime folder is the user's own as well, though it need not outlive the machine's next start.

    Raises
    ------
    TumbleError : the runtime folder is not ours alone.
    OSError : it cannot be made.
    """
    package = Path(__file__).parents[1]
    chosen = os.environ.get(CHOSEN)
    if chosen and _writable(Path(chosen)):
        return Path(chosen)
    if all(_writable(package / part / "__pycache__") for part in _COMPILED_HERE):
        return package
    users = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "numba"  # noqa: PTH111  # raises nothing
    if users.is_absolute() and _writable(users):
        return users
    folder = runtime_folder() / "compiled"
    folder.mkdir(exist_ok=True)
    os.environ[CHOSEN] = str(folder)
    return folder


def is_kept(kernel: Any) -> bool:
    """Whether numba keeps a kernel compiled since its source was last changed.

    It is asked for the file, because a call would compile and keep it.
    """
    function = kernel.py_func
    changed_s = Path(function.__code__.co_filename).stat().st_mtime
    kept = Path(kernel.stats.cache_path).glob(f"*.{function.__name__}-*.nbi")
    return any(index.stat().st_mtime >= changed_s for index in kept)


def _writable(folder: Path) -> bool:
    """Whether a file can be made there, the folder included."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
