"""Evaluate networks on labeled faces: accuracy, calibration, and how networks differ."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from feredge.benchmarks.eval.options import STDOUT, EvalOptions
from feredge.runtime.command import EXIT_PARTLY, new_parser, run_command
from feredge.runtime.environment import quiet_opencv

PROGRAM = "fer-eval"


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    EvalOptions.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    given = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(given), given.debug)


def run(given: argparse.Namespace) -> int:
    """Evaluate, and print the text, or the JSON if that goes to stdout."""
    from feredge.benchmarks.eval.run import evaluate, results_of
    from feredge.benchmarks.eval.text import evaluation_text

    options = EvalOptions.from_arguments(given)
    evaluation = evaluate(options)
    print(json.dumps(results_of(evaluation), indent=1) if options.json == STDOUT
          else evaluation_text(evaluation))
    for problem in evaluation.broken:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
    return EXIT_PARTLY if evaluation.broken else 0


if __name__ == "__main__":
    sys.exit(main())
