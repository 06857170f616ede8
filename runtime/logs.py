"""Log lines on stderr: for people, or as JSON for what collects them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

FIELDS = ("event", "source", "reason", "seconds")


class JsonLine(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, and what the event brought along."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created, timezone.utc)
        line = {"time": when.isoformat(timespec="milliseconds"), "level": record.levelname.lower(),
                "message": record.getMessage()}
        line |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        return json.dumps(line)


def show_logs(as_json: bool) -> None:
    """Print what this package logs on stderr, from now on."""
    handler = logging.StreamHandler(sys.stderr)
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # of the progress that stands there
    text = logging.Formatter(clear + "%(asctime)s %(message)s")
    handler.setFormatter(JsonLine() if as_json else text)
    logger = logging.getLogger("feredge")
    logger.handlers = [handler]  # a second call replaces the first one's
    logger.setLevel(logging.INFO)
