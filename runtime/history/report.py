"""The report in its forms: text, CSV, JSON, and one page that needs nothing else."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from pathlib import Path

from feredge.runtime.files import atomic_write
from feredge.runtime.history.queries import HistoryReport

PAGE = Path(__file__).with_name("report.html")


def local_hour(hour: int) -> str:
    """Return an hour in local time."""
    return datetime.fromtimestamp(hour).astimezone().isoformat(timespec="minutes")


def report_text(report: HistoryReport) -> str:
    """Return the report as lines of text: one per hour and source, and the device's health."""
    if not report.hours and not report.health:
        return f"nothing was recorded since {local_hour(report.since)}"
    lines = []
    for hour in report.hours:
        shares = f"fewer than {report.min_people} people: shares are hidden"
        if hour.shares is not None:
            ordered = sorted(hour.shares.items(), key=lambda item: -item[1])
            shares = ", ".join(f"{label} {share:.0%}" for label, share in ordered)
        lines.append(f"{local_hour(hour.hour)}  {hour.source}: {hour.people} people; {shares}")
    for source, people in report.people.items():
        lines.append(f"{source}: {people['people']} tracks, in view {people['median_s']:g} s "
                     f"(median), {people['longest_s']:g} s (longest)")
    for stage, times in report.stages.items():
        lines.append(f"{stage}: {times['mean_ms']:.1f} ms (mean), {times['most_ms']:.1f} ms (most)")
    return "\n".join(lines)


def report_csv(report: HistoryReport) -> str:
    """Return one row per hour and source; hidden shares are empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["hour", "source", "people", "confidence", *report.labels])
    for hour in report.hours:
        shares = [None if hour.shares is None else hour.shares.get(label, 0.0)
                  for label in report.labels]
        rows.writerow([local_hour(hour.hour), hour.source, hour.people, hour.confidence, *shares])
    return text.getvalue()


def report_page(report: HistoryReport) -> str:
    """Return the page; names of sources and labels are data in it, never markup."""
    content = json.dumps(report.to_dict(), allow_nan=False).replace("<", "\\u003c")
    return PAGE.read_text(encoding="utf-8").replace("{report}", content)


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
