"""`python -m tumble` and the `tumble` command: the one place that knows both the daemon and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .daemon.cli import main as command_line

if TYPE_CHECKING:
    from .daemon.launch import Dashboard


def load_dashboard() -> Dashboard:
    """Import the dashboard when it is wanted, because help has to be fast."""
    from .dashboard.app import run

    return run


def main() -> None:
    """Run the command line."""
    command_line(load_dashboard)


if __name__ == "__main__":
    main()
