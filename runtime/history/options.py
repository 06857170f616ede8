"""Options of the history."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from feredge.runtime.command import positive_int
from feredge.runtime.errors import UsageError

DEFAULT_DAYS = 10


@dataclass(frozen=True)
class HistoryOptions:
    """Where the history is kept.

    Attributes:
        path: SQLite file, created where it does not exist.
        days: older windows and events are deleted.
    """

    path: Path
    days: int = DEFAULT_DAYS

    def __post_init__(self) -> None:
        """Check the number of days.

        Raises:
            UsageError: it is less than one.
        """
        if self.days < 1:
            raise UsageError(f"history: days is {self.days}, expected 1 or more")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the command-line arguments of these options."""
        group = parser.add_argument_group("history")
        group.add_argument("--history", type=Path, metavar="FILE",
                           help="record numbers (no pictures) in an SQLite file for fer-report")
        group.add_argument("--history-days", type=positive_int, default=DEFAULT_DAYS, metavar="N",
                           help=f"delete what is older ({DEFAULT_DAYS})")

    @staticmethod
    def from_arguments(options: argparse.Namespace) -> HistoryOptions | None:
        """Return the options that were given on the command line, None without `--history`."""
        if options.history is None:
            return None
        return HistoryOptions(options.history, options.history_days)
