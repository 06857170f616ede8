"""The command line that all experiments share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feredge.benchmarks.eval.records import write_results
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import quiet_opencv

Results = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """An experiment as a command: `--json FILE` writes its results.

    Attributes:
        doc: the module's docstring, whose first line is the help.
        add_arguments: adds the experiment's own arguments.
        measure: returns the results, as they are written to JSON.
        describe: returns the results as text for the terminal.
    """

    doc: str | None
    add_arguments: Callable[[argparse.ArgumentParser], object]
    measure: Callable[[argparse.Namespace], Results]
    describe: Callable[[Results], str]

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the experiment, print its results, and write them."""
        quiet_opencv()
        parser = argparse.ArgumentParser(description=(self.doc or "").splitlines()[0])
        self.add_arguments(parser)
        parser.add_argument("--json", type=Path, metavar="FILE")
        options = parser.parse_args(argv)
        results = self.measure(options)
        print(self.describe(results))
        write_results(options.json, results)
        return 0


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--engine` and the detector's arguments."""
    parser.add_argument("--engine", required=True, type=Path, metavar="PATH")
    DetectorOptions.add_arguments(parser)
