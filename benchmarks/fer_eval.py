"""Tell how often networks are right on labelled faces, for which classes, and where they differ."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from feredge.export.fer_export import names
from feredge.runtime.command import EXIT_PARTLY, new_parser, run_command
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import SourceError, require

if TYPE_CHECKING:
    from feredge.benchmarks.eval.evaluation import Evaluation
    from feredge.benchmarks.eval.labelled import LabelledPictures

PROGRAM = "fer-eval"
STDOUT = Path("-")


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--engine", required=True, action="append", type=Path, metavar="PATH",
                        help="what fer-export wrote; given again: compared with the first")
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="one folder of pictures a class, or the folder of --csv's pictures")
    parser.add_argument("--csv", type=Path, metavar="FILE",
                        help="pictures and their classes (columns image, label, ...), relative to "
                             "--data or to the file")
    parser.add_argument("--labels", type=names, metavar="A,B,...",
                        help="the data's classes, sorted by name or number, are called so")
    parser.add_argument("--group-by", metavar="COLUMN", help="accuracy by a column of --csv, too")
    parser.add_argument("--detect", action="store_true",
                        help="the pictures are scenes: find the best face in each (default: each "
                             "is a face, taken whole)")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="all of it, and the pictures by name; - is stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE",
                        help="confusion matrices and reliability, .png or .svg")
    DetectorOptions.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    """Check what was asked for, evaluate, and write what was found."""
    check(options)
    from feredge.benchmarks.eval.evaluation import evaluate
    from feredge.runtime.detect import open_detector
    from feredge.runtime.engines import open_engine

    data = labelled(options)
    with ExitStack() as stack:
        engines = {name: stack.enter_context(open_engine(path))
                   for name, path in named(options.engine).items()}
        detector = stack.enter_context(open_detector(
            DetectorOptions.from_arguments(options)
        )) if options.detect else None
        evaluation = evaluate(data, engines, detector, options.group_by)
    write(options, evaluation)
    for problem in evaluation.broken:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
    return EXIT_PARTLY if evaluation.broken else 0


def check(options: argparse.Namespace) -> None:
    """Refuse what would fail after all the work, or cannot be meant.

    Raises:
        FeredgeError: says what.
    """
    for package in ("sklearn", "tqdm", *(["matplotlib"] if options.plot else [])):
        require(package, "bench")
    from feredge.benchmarks.eval.plot import check_plot_path
    from feredge.runtime.files import check_folder

    if not options.data and not options.csv:
        raise SourceError("no pictures: pass --data DIR with one folder a class, or --csv FILE")
    if options.detector and not options.detect:
        raise SourceError("--detector finds faces in scenes: pass --detect with it, or neither")
    for path in (options.json, options.plot):
        if path and path != STDOUT:
            check_folder(path)
    if options.plot:
        check_plot_path(options.plot)


def labelled(options: argparse.Namespace) -> LabelledPictures:
    """Return the pictures that were asked for, their classes named as by `--labels`."""
    from feredge.benchmarks.eval.labelled import pictures_in_folders, pictures_of_csv

    data = (pictures_of_csv(options.csv, options.data) if options.csv
            else pictures_in_folders(options.data))
    return data.renamed(options.labels) if options.labels else data


def named(engines: Sequence[Path]) -> dict[str, Path]:
    """Call engines by their files' names, or by their paths where two files share one."""
    alike = len({path.name for path in engines}) < len(engines)
    return {str(path) if alike else path.name: path for path in engines}


def write(options: argparse.Namespace, evaluation: Evaluation) -> None:
    """Write the files that were asked for; print the text unless stdout takes the JSON."""
    from feredge.benchmarks.eval.plot import write_plot
    from feredge.benchmarks.eval.records import environment, write_results
    from feredge.benchmarks.eval.text import evaluation_text

    results = asdict(evaluation)
    if options.json == STDOUT:
        print(json.dumps({**results, "environment": environment()}, indent=1))
    else:
        print(evaluation_text(evaluation))
        write_results(options.json, results)
    if options.plot:
        write_plot(options.plot, evaluation)


if __name__ == "__main__":
    sys.exit(main())
