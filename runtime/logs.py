"""Lines on stderr: text for people, or JSON objects for log collectors."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

FIELDS = ("event", "source", "reason", "seconds")
logger = logging.getLogger("feredge")


def escape_unprintable(text: str) -> str:
    """Return a text with control characters, line breaks and invalid Unicode escaped.

    A name from a file, a stream or a network can then neither start a new line nor control the
    terminal.
    """
    return "".join(character if character.isprintable() else
                   character.encode("unicode_escape").decode() for character in text)


class JsonLine(logging.Formatter):
    """One JSON object per line: time (UTC), level, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created, timezone.utc)
        line = {"time": when.isoformat(timespec="milliseconds"), "level": record.levelname.lower(),
                "message": record.getMessage()}
        line |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        return json.dumps(line)


class TextLine(logging.Formatter):
    """One line of text with the time; control characters in the message are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # overwrites the progress line
        return f"{clear}{self.formatTime(record)} {escape_unprintable(record.getMessage())}"


def show_logs(as_json: bool) -> None:
    """Print the log of this package on stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if as_json else TextLine())
    logger.handlers = [handler]  # a second call replaces the handler of the first
    logger.setLevel(logging.INFO)


class Console:
    """The lines that a command prints on stderr about itself.

    Args:
        program: the name of the command.
        as_json: print JSON objects, as the log does.
    """

    def __init__(self, program: str, as_json: bool = False) -> None:
        self.program, self.as_json = program, as_json

    def error(self, message: str) -> None:
        """Print the error that ended the command."""
        self.print("error: ", message, logging.ERROR)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self.print("warning: ", message, logging.WARNING)

    def note(self, message: str) -> None:
        """Print information."""
        self.print("", message, logging.INFO)

    def summarize(self, text: str) -> None:
        """Print the summary of a run, as it is if it is for people."""
        if self.as_json:
            self.print("", text, logging.INFO)
        else:
            print(text, file=sys.stderr, flush=True)

    def print(self, prefix: str, message: str, level: int) -> None:
        """Print one line."""
        record = logging.LogRecord("feredge", level, "", 0, "%s", (message,), None)
        text = f"{self.program}: {prefix}{escape_unprintable(message)}"
        print(JsonLine().format(record) if self.as_json else text, file=sys.stderr, flush=True)
