"""What every command shares: one line an error, exit codes, and common arguments."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn

from feredge.runtime.errors import FeredgeError

EXIT_PARTLY, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def new_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help starts with the first line of a docstring."""
    first_line = (description or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog=program, description=first_line)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def seconds(text: str) -> float:
    """Parse a duration, 0 or more; `inf` is for ever."""
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def difference(text: str) -> float:
    """Parse a mean difference of pixels, above 0 and at most 255."""
    value = float(text)
    if not 0 < value <= 255:
        raise ValueError
    return value


def run_command(program: str, body: Callable[[], int], debug: bool) -> int:
    """Run a command's body; print an expected error as one line.

    Returns:
        The body's own exit code, 2 for an error of the user's, 130 after Ctrl-C.
    """
    warnings.showwarning = lambda message, *_: print(f"{program}: warning: {message}",
                                                     file=sys.stderr)
    try:
        return body()
    except FeredgeError as error:
        if debug:
            raise
        print(f"{program}: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def end_process(code: int) -> NoReturn:
    """End the process with an exit code, also while a thread hangs in a call into C++.

    Should that call return while Python shuts down, then Python before 3.14 unwinds the thread, at
    which C++ aborts. So where there is such a thread, nothing is shut down.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
