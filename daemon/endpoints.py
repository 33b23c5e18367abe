"""Addresses: what may be listened on without keys, and where the daemons of this user are."""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import TumbleError, Unreachable, UsageError

ANYWHERE = ("0.0.0.0", "*", "::")  # noqa: S104  # names of it; nothing is bound here


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach `endpoint`.

    Raises
    ------
    UsageError : it is not ``tcp://host:port`` or ``ipc://path``.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "ipc" and len(endpoint) > len("ipc://"):
        return True
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if parts.scheme != "tcp" or not host or port is None:
        raise UsageError(f"endpoint {endpoint!r} is not an address: give tcp://127.0.0.1:PORT (port 0: any)")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_loopback(endpoint: str) -> str:
    """`endpoint`, when it is on this machine.

    Raises
    ------
    UsageError : it could be reached from elsewhere, or is no address.
    """
    if not is_local(endpoint):
        raise UsageError(
            f"refusing to listen on {endpoint}: it has no keys, so loopback only; use an ssh tunnel from elsewhere"
        )
    return endpoint


def any_port(endpoint: str) -> str:
    """`endpoint` in ZeroMQ's words, where port 0 means any."""
    return endpoint[:-1] + "*" if endpoint.startswith("tcp://") and endpoint.endswith(":0") else endpoint


def from_here(endpoint: str) -> str:
    """How this machine itself reaches what listens on `endpoint`."""
    host = urlsplit(endpoint).hostname
    if endpoint.startswith("tcp://") and host in ANYWHERE:
        return f"tcp://{'[::1]' if host == '::' else '127.0.0.1'}:{endpoint.rpartition(':')[2]}"
    return endpoint


def runtime_folder() -> Path:
    """Where running daemons leave their address: private to the user.

    Raises
    ------
    TumbleError : the folder belongs to somebody else, or others can look into it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "tumble" if base else Path(tempfile.gettempdir()) / f"tumble-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise TumbleError(f"{folder} belongs to another user: remove it or set XDG_RUNTIME_DIR")
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)  # cards hold the keys of this user's daemons
    return folder


def write_card(card: dict[str, Any]) -> Path:
    """Leave the address of this process, for this user only."""
    path = runtime_folder() / f"{os.getpid()}.json"
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"pid": os.getpid(), **card}, file)
    draft.replace(path)
    return path


def running() -> list[dict[str, Any]]:
    """Daemons of this user that are alive, the newest last. Cards of dead ones are removed."""
    found = []
    for path in runtime_folder().glob("*.json"):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            os.kill(int(card["pid"]), 0)
            found.append((float(card["begun"]), card))
        except (ValueError, KeyError, TypeError, ProcessLookupError):
            path.unlink(missing_ok=True)
        except OSError:
            continue
    return [card for _, card in sorted(found, key=lambda pair: pair[0])]


def newest() -> dict[str, Any]:
    """The card of the newest daemon that runs here.

    Raises
    ------
    Unreachable : none runs.
    """
    cards = running()
    if not cards:
        raise Unreachable("no daemon of yours runs on this machine: start one, or give its endpoint (tcp://host:port)")
    return cards[-1]


def find(endpoint: str | None) -> str:
    """`endpoint`, or that of the newest daemon that runs here.

    Raises
    ------
    Unreachable : none runs.
    """
    return endpoint or str(newest()["endpoint"])
