"""Who is told of every snapshot besides the viewers: systemd, and Prometheus where a port is configured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from .config import Settings
from .notify import Notifier
from .snapshot import Snapshot


def observers(settings: Settings, stack: ExitStack, say: Callable[[str], None]) -> list[Callable[[Snapshot], None]]:
    """What `ControlServer` tells of snapshots; `stack` closes it again.

    Raises
    ------
    TumbleError : the monitoring port is taken.
    """
    told: list[Callable[[Snapshot], None]] = [Notifier().see]
    if settings.monitoring.port is not None:
        from .monitoring import Monitoring

        monitoring = stack.enter_context(Monitoring(settings.monitoring.port))
        say(f"metrics at http://127.0.0.1:{monitoring.port}/metrics")
        told.append(monitoring.see)
    return told
