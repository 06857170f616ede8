"""What all commands share: one line per error, exit codes, and parsers of numbers."""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from feredge.runtime.errors import FeredgeError
from feredge.runtime.logs import Console

EXIT_PARTLY, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130
# Flags that have another name than their parameter.
FLAGS = {"size": "detector_size", "password_file": "mqtt_password_file"}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of the commands are."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        as_json = "--log-json" in sys.argv
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message and unknown[:1] != "-" and "--source" in self._option_string_actions:
            message += "; pass what to read with --source"
        Console(self.prog, as_json).error(f"{message[:200]}; see {self.prog} --help")
        sys.exit(EXIT_ERROR)


class PrintVersion(argparse.Action):
    """Print the version and exit; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the version and exit."""
        import feredge

        print(f"{parser.prog} {feredge.__version__}")
        sys.exit(0)


def new_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help starts with the first line of a docstring."""
    first_line = (description or "").strip().splitlines()[0]
    parser = Parser(prog=program, description=first_line)
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="print the version")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def number(text: str, kind: type[int] | type[float], low: float, high: float, what: str) -> float:
    """Parse a number and check its range.

    Raises:
        ArgumentTypeError: the text is no number, or out of the range.
    """
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(f"{shown!r} is not {what}")
    return value


def positive_int(text: str) -> int:
    """Parse a whole number, 1 or more."""
    return int(number(text, int, 1, sys.maxsize, "a whole number, 1 or more"))


def camera_index(text: str) -> int:
    """Parse the index of a camera."""
    return int(number(text, int, 0, 9999, "the index of a camera, 0 or more"))


def seconds(text: str) -> float:
    """Parse a duration, 0 or more; `inf` means no limit."""
    return number(text, float, 0, float("inf"), "a number of seconds, 0 or more")


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    return number(text, float, 0, 1, "a number from 0 to 1")


def difference(text: str) -> float:
    """Parse a mean difference of pixels, above 0 and at most 255."""
    return number(text, float, 1e-9, 255, "a number above 0, at most 255")


def with_flags(message: str) -> str:
    """Return a message whose parameters, in backquotes, are named as command-line flags.

    `` `max_silence_s` `` becomes `--max-silence`.
    """
    def flag(name: re.Match[str]) -> str:
        return "--" + FLAGS.get(name[1], name[1]).replace("_", "-")

    return re.sub(r"`([a-z_]+?)(_s|_px)?`", flag, message)


def run_command(
    program: str, body: Callable[[], int], debug: bool, as_json: bool = False
) -> int:
    """Run the body of a command; print an expected error as one line.

    Returns:
        The body's own exit code, 2 for an error, 130 after Ctrl-C. A reader that closes standard
        output, such as `head`, ends the command quietly with 0.
    """
    console = Console(program, as_json)
    escape_names()
    try:
        with show_warnings(console):
            code = body()
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        console.note("interrupted")
        return EXIT_INTERRUPTED
    except (FeredgeError, OSError, MemoryError) as error:
        return report(error, console, debug)


def report(error: Exception, console: Console, debug: bool) -> int:
    """Print an error as one line and return the exit code."""
    if is_broken_pipe(error):
        drop_stdout()
        return 0
    if debug:
        raise error
    drop_stdout()
    console.error(with_flags(str(error)) or f"out of memory ({type(error).__name__})")
    return EXIT_ERROR


def is_broken_pipe(error: BaseException | None) -> bool:
    """Return whether an error was caused by the reader of standard output, which went away."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__
    return error is not None


def drop_stdout() -> None:
    """Drop what standard output buffers if it cannot be written: the exit would try again."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def escape_names() -> None:
    """Let standard output and stderr escape what their encoding cannot represent.

    Python sets a stream to None if its descriptor is closed.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def show_warnings(console: Console) -> Iterator[None]:
    """Print warnings as lines of the command inside the block."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: console.warn(with_flags(str(message)))
        yield


def end_process(code: int) -> NoReturn:
    """End the process with an exit code, even if a thread does not return from a call into C++.

    If that call returned during Python's shutdown, Python before 3.14 would unwind the thread and
    C++ would abort. Nothing is shut down if there is such a thread.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
