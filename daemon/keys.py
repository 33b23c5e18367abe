"""Keys on disk: the daemon's own, the user's own, the clients that are let in, and the daemons that are trusted.

    FOLDER/server.key          public and secret key of daemons on this machine, mode 0600
    FOLDER/client.key          public and secret key with which this user comes to other machines, mode 0600
    FOLDER/clients/NAME.pub    who is let in, and whether it may watch only or control as well
    FOLDER/servers/NAME.pub    public keys of daemons elsewhere

Keys are those of CurveZMQ (RFC 26): 32 bytes, written as 64 hexadecimal digits, which no shell misunderstands.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .errors import TumbleError, UsageError

KEY_BYTES = 32
MAX_FILE = 1024  # bytes; a key file has less than 200
REREAD_S = 1.0  # how long a revoked key may still be believed in
Right = Literal["watch", "control"]
_RIGHTS: dict[str, Right] = {"watch": "watch", "control": "control"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, raw bytes."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody who is let in."""

    name: str
    right: Right


def new_pair() -> KeyPair:
    """A fresh random key pair."""
    import zmq
    from zmq.utils import z85

    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public), z85.decode(secret))


def read_key(digits: str) -> bytes:
    """A key from its 64 hexadecimal digits.

    Raises
    ------
    UsageError : something else.
    """
    try:
        key = bytes.fromhex(digits.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise UsageError(f"{digits[:80]!r} is not a key: 64 hexadecimal digits, as `tumble keys list` shows them")
    return key


def default_folder() -> Path:
    """``~/.config/tumble/keys``, or where XDG_CONFIG_HOME says."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tumble" / "keys"


class KeyFolder:
    """The keys of one user. Nothing is made before `make`, `allow` or `trust`.

    Parameters
    ----------
    folder : default is `default_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self._clients: dict[bytes, Client] = {}
        self._read_at: float | None = None

    def server(self) -> KeyPair | None:
        """The key pair of daemons here; ``None``: not made.

        Raises
        ------
        TumbleError : the file is damaged, or others could read it.
        """
        return _read_pair(self.folder / "server.key")

    def client(self) -> KeyPair | None:
        """The user's own key pair; ``None``: not made.

        Raises
        ------
        TumbleError : the file is damaged, or others could read it.
        """
        return _read_pair(self.folder / "client.key")

    def make(self) -> list[str]:
        """Make the key pairs that are not there yet; returns the names of the files made.

        Raises
        ------
        TumbleError : the folder cannot be written.
        """
        made = []
        for name in ("server.key", "client.key"):
            if _read_pair(self.folder / name) is None:
                pair = new_pair()
                _write(self.folder / name, f"public {pair.public.hex()}\nsecret {pair.secret.hex()}\n")
                made.append(name)
        return made

    def allow(self, name: str, key: bytes, right: Right) -> None:
        """Let a client in.

        Raises
        ------
        UsageError : a name that is none, or the key of somebody else.
        TumbleError : the folder cannot be written.
        """
        other = self.clients().get(key)
        if other is not None and other.name != name:
            raise UsageError(f"this key is that of {other.name} already: revoke it first")
        _write(self.folder / "clients" / f"{_checked(name)}.pub", f"public {key.hex()}\nmay {right}\n")
        self._read_at = None

    def revoke(self, name: str) -> None:
        """Let a client in no more; daemons that run notice it within a second or two.

        Raises
        ------
        UsageError : there is none of this name.
        """
        try:
            (self.folder / "clients" / f"{_checked(name)}.pub").unlink()
        except FileNotFoundError:
            known = ", ".join(sorted(client.name for client in self.clients().values())) or "nobody"
            raise UsageError(f"there is no client {name}: allowed are {known}") from None
        self._read_at = None

    def trust(self, endpoint: str, key: bytes) -> None:
        """Remember the public key of a daemon elsewhere.

        Raises
        ------
        UsageError : no address.
        TumbleError : the folder cannot be written.
        """
        _write(self.folder / "servers" / f"{_file_name(endpoint)}.pub", f"public {key.hex()}\n")

    def trusted(self, endpoint: str) -> bytes | None:
        """The public key of the daemon at `endpoint`, if it is known.

        Raises
        ------
        TumbleError : the file is damaged.
        """
        if not endpoint.startswith("tcp://"):
            return None  # on this machine
        path = self.folder / "servers" / f"{_file_name(endpoint)}.pub"
        return _key_of(path, "public") if path.is_file() else None

    def servers(self) -> dict[str, bytes]:
        """Public keys of daemons elsewhere, by the name of their file."""
        return {path.stem: _key_of(path, "public") for path in sorted((self.folder / "servers").glob("*.pub"))}

    def clients(self) -> dict[bytes, Client]:
        """Who is let in, by key; read anew after a second. A damaged file lets nobody in."""
        now = time.monotonic()
        if self._read_at is None or now - self._read_at > REREAD_S:
            self._read_at = now
            self._clients = dict(_read_clients(self.folder / "clients"))
        return self._clients


def _read_clients(folder: Path) -> list[tuple[bytes, Client]]:
    found = []
    for path in sorted(folder.glob("*.pub")):
        try:
            right = _RIGHTS.get(_fields(path).get("may", ""))
            if right is not None:
                found.append((_key_of(path, "public"), Client(path.stem, right)))
        except TumbleError:
            continue
    return found


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a client: letters, digits, dot, dash and underscore")
    return name


def _file_name(endpoint: str) -> str:
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", endpoint.removeprefix("tcp://"))
    if not _NAME.fullmatch(name):
        raise UsageError(f"{endpoint!r} is not an address: give tcp://host:port")
    return name


def _fields(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise TumbleError(f"cannot read {path}: {error}") from None
    lines = (line.strip().partition(" ") for line in text.splitlines())
    return {name: value for name, _, value in lines}


def _key_of(path: Path, name: str) -> bytes:
    try:
        return read_key(_fields(path).get(name, ""))
    except UsageError:
        raise TumbleError(f"{path} holds no {name} key: make or allow it again") from None


def _read_pair(path: Path) -> KeyPair | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TumbleError(f"cannot read {path}: {error.strerror or error}") from None
    if facts.st_uid not in (os.getuid(), 0) or stat.S_IMODE(facts.st_mode) & 0o077:
        raise TumbleError(f"{path} holds a secret that others can read: chmod 600 {path}, or make a new one")
    return KeyPair(_key_of(path, "public"), _key_of(path, "secret"))


def _write(path: Path, text: str) -> None:
    """Write a whole file, readable for this user only, or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        raise TumbleError(f"cannot write {path}: {error.strerror or error}") from None
