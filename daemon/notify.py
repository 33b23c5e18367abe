"""Tells systemd that the daemon is ready, what it does, and that it lives: the protocol of sd_notify(3).

The watchdog is fed by frames that are worked off, not by a timer: a daemon that hangs is restarted.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from .books import in_words
from .progress import STALLED_S, Progress
from .snapshot import Snapshot


class Notifier:
    """Sends states to the socket that systemd names; without one it does nothing.

    Parameters
    ----------
    environment : where NOTIFY_SOCKET is looked for.
    progress : what decides whether the watchdog is fed.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, progress: Progress | None = None) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._progress = progress or Progress()
        self._ready = False
        self._said = ""

    def see(self, snapshot: Snapshot) -> None:
        """Tell what a snapshot means."""
        if not self._address:
            return
        self._progress.see(snapshot)
        lines = []
        if not self._ready:
            lines.append("READY=1")
            self._ready = True
        status = f"{snapshot.phase}: {in_words(snapshot.stream)}"
        if status != self._said:
            lines.append(f"STATUS={status}")
            self._said = status
        if snapshot.phase in ("DONE", "FAILED"):
            lines.append("STOPPING=1")
        if self._progress.still_s < STALLED_S:
            lines.append("WATCHDOG=1")
        if lines:
            self._send("\n".join(lines))

    def _send(self, words: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.sendto(words.encode(), self._address)
        except OSError:
            return  # systemd is busy or gone; the next snapshot comes soon
