"""Time exported networks and the whole pipeline against other runtimes and the device's peak."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from feredge.benchmarks.bench.options import BenchOptions
from feredge.runtime.command import new_parser, run_command
from feredge.runtime.environment import quiet_opencv

PROGRAM = "fer-bench"


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    BenchOptions.add_arguments(parser)
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    given = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(given), given.debug)


def run(given: argparse.Namespace) -> int:
    """Run the benchmark and print its report."""
    from feredge.benchmarks.bench.run import benchmark
    from feredge.benchmarks.bench.text import report_text

    print(report_text(benchmark(BenchOptions.from_arguments(given)), given.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
