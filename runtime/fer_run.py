"""Detect faces in pictures, videos or live sources and classify their expressions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from feredge.runtime.command import (
    EXIT_ERROR,
    EXIT_PARTLY,
    end_process,
    is_broken_pipe,
    new_parser,
    run_command,
    with_flags,
)
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import FeredgeError, UsageError
from feredge.runtime.logs import Console, show_logs
from feredge.runtime.observer import Observer
from feredge.runtime.options import RunOptions
from feredge.runtime.signals import RunSignals

if TYPE_CHECKING:
    from feredge.runtime.outputs.base import AnnotatedOutput, Output
    from feredge.runtime.pipeline import Pipeline
    from feredge.runtime.sources.base import Source
    from feredge.runtime.timing import Summary

PROGRAM = "fer-run"


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = new_parser(PROGRAM, __doc__)
    RunOptions.add_arguments(parser)
    parser.add_argument("--json", action="store_true",
                        help="print the summary of the run as JSON on standard output")
    parser.add_argument("--log-json", action="store_true",
                        help="print log lines, warnings and errors as JSON objects")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    parsed = arguments().parse_args(argv)
    quiet_opencv()
    show_logs(parsed.log_json)
    return run_command(PROGRAM, lambda: run_source(parsed), parsed.debug, parsed.log_json)


class CommandObserver(Observer):
    """Ends the run on signals, prints the address of the live page, and keeps the summary."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.signals = RunSignals(self.close_outputs)
        self.outputs: list[AnnotatedOutput | Output] = []
        self.summary: Summary | None = None

    def on_source(self, source: Source) -> None:
        """Let signals end the process while the engine and the detector are opened."""
        self.signals.use_default_actions()

    def on_page(self, address: str) -> None:
        """Print the address of the live page."""
        self.console.note(f"live page: {address}")

    def on_start(self, pipeline: Pipeline) -> None:
        """Let signals stop the source."""
        self.outputs += [*pipeline.outputs, *pipeline.annotated_outputs]
        self.signals.stop_source(pipeline.source)

    def on_end(self, summary: Summary) -> None:
        """Keep the summary; the run has ended in time."""
        self.summary = summary
        self.signals.ended.set()

    def close_outputs(self) -> None:
        """Close the outputs of a run that does not end in time."""
        self.console.error("the current frame did not end in time after the signal")
        for output in self.outputs:
            output.close()


def run_source(parsed: argparse.Namespace) -> int:
    """Run the pipeline, and print its problems and its summary.

    An error after the first frame is printed together with what was done until then.
    """
    options = RunOptions.from_arguments(parsed)
    if parsed.json and "-" in (options.outputs.jsonl, options.outputs.csv):
        raise UsageError("`json` and results on standard output cannot be told apart: name a file "
                         "for the results")
    from feredge.runtime.runner import run

    console = Console(PROGRAM, parsed.log_json)
    observer, code = CommandObserver(console), 0
    try:
        with observer.signals:
            summary = run(options, observer)
    except FeredgeError as error:
        done = observer.summary
        if parsed.debug or is_broken_pipe(error) or done is None or not done.frames:
            raise
        console.error(with_flags(str(error)))
        summary, code = done, EXIT_ERROR
    print_summary(summary, console, parsed.json)
    return code or (EXIT_PARTLY if summary.problems else 0)


def print_summary(summary: Summary, console: Console, as_json: bool) -> None:
    """Print the problems and the totals of a run on stderr, and as JSON on standard output."""
    for problem in summary.problems:
        console.note(with_flags(problem))
    console.summarize(str(summary))
    if as_json:
        print(json.dumps(summary.to_dict()))


def script() -> NoReturn:
    """Run the command as the process, and end it even if the reader of a camera hangs."""
    try:
        code = main()
    except SystemExit as ended:  # from argparse, or from a signal while sources are opened
        code = int(ended.code or 0)
    end_process(code)


if __name__ == "__main__":
    script()
