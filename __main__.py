"""`python -m tumble` and the `tumble` command: the one place that knows both the daemon and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .daemon.cli import main as command_line

if TYPE_CHECKING:
    from .daemon.launch import Dashboard
    from .daemon.report_command import ReportMaker


def load_dashboard() -> Dashboard:
    """Import the dashboard when it is wanted, because help has to be fast."""
    from .dashboard.app import run

    return run


def load_report() -> ReportMaker:
    """Import what makes reports, as late."""
    from .dashboard.report.make import make

    return make


def main() -> None:
    """Run the command line."""
    command_line(load_dashboard, load_report=load_report)


if __name__ == "__main__":
    main()
