"""What the operator is told when something cannot be done: one line and an exit code."""

from __future__ import annotations

DONE, FAILED, USAGE, STREAM_ENDED = 0, 1, 2, 3


class TumbleError(Exception):
    """An error with a line for the operator: what, where, what to do. `code` is the exit code."""

    code = FAILED


class Unreachable(TumbleError):
    """No daemon answers now; one may later."""


class UsageError(TumbleError):
    """The command or the configuration cannot be right; nothing was started."""

    code = USAGE
