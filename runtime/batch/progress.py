"""Progress of a batch run: on a terminal one line that is renewed, elsewhere a log line."""

from __future__ import annotations

import logging
import sys
import time

from feredge.runtime.batch.plan import Remaining
from feredge.runtime.batch.tasks import Outcome

TERMINAL_S, LOG_S = 0.5, 30.0  # between two reports
LOG = logging.getLogger(__name__)


class Progress:
    """Counts what the workers report, and prints rate and time left.

    Args:
        remaining: the chunks and units of this run.
    """

    def __init__(self, remaining: Remaining) -> None:
        self.remaining = remaining
        self.total = Outcome()
        self.chunks = 0
        self.started_s: float | None = None  # of the first outcome's task: workers are there
        self.printed_s = time.monotonic()

    def add(self, outcome: Outcome | None, finished: bool) -> None:
        """Count an outcome, if there is one, and print now and then."""
        if outcome is not None:
            self.chunks += finished
            for name in ("rows", "faces", "errors"):
                value = getattr(self.total, name) + getattr(outcome, name)
                setattr(self.total, name, value)
            for stage, seconds in outcome.seconds.items():
                self.total.seconds[stage] = self.total.seconds.get(stage, 0.0) + seconds
        every_s = TERMINAL_S if sys.stderr.isatty() else LOG_S
        if time.monotonic() - self.printed_s >= every_s:
            self.printed_s = time.monotonic()
            self.print()

    def start(self) -> None:
        """Start the clock of the rate."""
        self.started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since the first task was given to a worker."""
        return 0.0 if self.started_s is None else time.monotonic() - self.started_s

    def line(self) -> str:
        """Return counts, rate and time left."""
        rate = self.total.rows / self.seconds if self.seconds else 0.0
        left_s = self.seconds / self.chunks * (self.remaining.chunks - self.chunks) if (
            self.chunks) else None
        left = "" if left_s is None else f", {duration(left_s)} left"
        return (f"{self.chunks} of {self.remaining.chunks} chunks, {self.total.rows} rows, "
                f"{rate:.1f} rows/s{left}, {self.total.errors} errors")

    def print(self) -> None:
        """Print the line."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{self.line()}", end="", file=sys.stderr, flush=True)
        else:
            LOG.info("%s", self.line())

    def close(self) -> None:
        """Clear the line on a terminal."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
