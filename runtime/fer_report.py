"""Report what fer-run --history recorded: expressions per hour, people, and device health."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from feredge.runtime.command import new_parser, positive_int, run_command
from feredge.runtime.history.queries import DEFAULT_MIN_PEOPLE, HistoryReport, read_report
from feredge.runtime.history.report import report_csv, report_page, report_text, write_text

PROGRAM = "fer-report"
UNIT_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def duration_s(text: str) -> int:
    """Parse a duration such as 90m, 12h, 7d or 2w; returns seconds."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None:
        raise ValueError
    return int(found[1]) * UNIT_S[found[2]]


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--history", type=Path, required=True, metavar="FILE",
                        help="what fer-run --history wrote; a run may still write to it")
    parser.add_argument("--since", type=duration_s, default=duration_s("7d"), metavar="PERIOD",
                        help="how far back: 90m, 12h, 7d or 2w (7d)")
    parser.add_argument("--min-people", type=positive_int, default=DEFAULT_MIN_PEOPLE, metavar="N",
                        help="hours with fewer people show no shares, so that nobody is followed "
                             f"({DEFAULT_MIN_PEOPLE})")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page")
    form.add_argument("--csv", type=Path, metavar="FILE", help="write one row per hour and source")
    form.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    return run_command(PROGRAM, lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    """Read the history and write or print the report."""
    since = int(time.time()) - options.since
    show(read_report(options.history, since, options.min_people), options)
    return 0


def show(report: HistoryReport, options: argparse.Namespace) -> None:
    """Write or print the report in the form that was asked for."""
    if options.html:
        write_text(options.html, report_page(report))
    elif options.csv:
        write_text(options.csv, report_csv(report))
    elif options.json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        print(report_text(report))


if __name__ == "__main__":
    sys.exit(main())
