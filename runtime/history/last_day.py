"""The last day of a history, for the live page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feredge.runtime.history.queries import DEFAULT_MIN_PEOPLE, HistoryReport, read_report
from feredge.runtime.history.store import DAY_S

KEEP_S = 30.0  # for which all viewers get the same numbers


class LastDay:
    """Reads the hours of the last day from a history file; any thread may call it.

    Args:
        path: the history file.
        clock: returns Unix time in seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = path, clock
        self.lock, self.read_s = threading.Lock(), 0.0
        self.rows: list[dict[str, Any]] = []

    def __call__(self) -> list[dict[str, Any]]:
        """Return one row per hour and source, the newest first; see `hour_rows`.

        Raises:
            SourceError: there is no file yet.
            OutputError: the file is damaged.
        """
        with self.lock:
            now_s = self.clock()
            if not 0 <= now_s - self.read_s < KEEP_S:
                since = int(now_s) - DAY_S
                self.rows = hour_rows(read_report(self.path, since, DEFAULT_MIN_PEOPLE))
                self.read_s = now_s
            return self.rows


def hour_rows(report: HistoryReport) -> list[dict[str, Any]]:
    """Return people, shares of the labels, frames/s and dropped frames by hour and source.

    `shares` is None where fewer people were in view than the report asks for.
    """
    shares = {(hour.hour, hour.source): hour for hour in report.hours}
    rows = []
    for health in reversed(report.health):
        hour = shares.get((health["hour"], health["source"]))
        rows.append({"hour": health["hour"], "source": health["source"],
                     "people": 0 if hour is None else hour.people,
                     "shares": None if hour is None else hour.shares,
                     "fps": health["fps"], "dropped": health["dropped"]})
    return rows
