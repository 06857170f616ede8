"""Time exported networks and the whole pipeline, checked first, against others and the machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from feredge.runtime.command import new_parser, run_command
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import quiet_opencv

PROGRAM = "fer-bench"
# Without importing what they need; a test holds it to the table.
BASELINES = ("torch", "torch-compile", "onnxruntime-fp32", "openvino", "session")


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--engine", required=True, action="append", type=Path, metavar="PATH",
                        help="what fer-export wrote; the first is what others are held against")
    parser.add_argument("--batch", type=batches, default=(1, 2, 4, 8, 16), metavar="N,N",
                        help="faces at once (1,2,4,8,16)")
    parser.add_argument("--duration", type=seconds, default=3.0, metavar="S",
                        help="for every engine and batch (3)")
    parser.add_argument("--warmup", type=seconds, default=0.2, metavar="S",
                        help="before that, untimed (0.2)")
    parser.add_argument("--baseline", type=baselines, default=(), metavar="A,B",
                        help=f"time these, too: {', '.join(BASELINES)}")
    parser.add_argument("--checkpoint", type=Path, metavar="PATH",
                        help="for torch: what was exported (default: bundled)")
    parser.add_argument("--source", type=Path, metavar="CLIP",
                        help="run the first engine's whole pipeline on a video, too")
    parser.add_argument("--peak", action="store_true",
                        help="share of the device's peak and of its memory bandwidth")
    parser.add_argument("--profile", action="store_true",
                        help="time by kind of operator, for ONNX engines")
    parser.add_argument("--json", type=Path, metavar="PATH",
                        help="write everything; a folder gets a file named after the conditions")
    parser.add_argument("--plot", type=plot, metavar="PATH", help="draw it: .png or .svg")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    DetectorOptions.add_arguments(parser)
    return parser


def batches(text: str) -> tuple[int, ...]:
    """Parse `1,8`."""
    if not all(part.isdecimal() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}, expected whole numbers from 1 on, as 1,8")
    return tuple(dict.fromkeys(map(int, text.split(","))))


def baselines(text: str) -> tuple[str, ...]:
    """Parse `torch,openvino`."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in BASELINES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none; there are "
                                         f"{', '.join(BASELINES)}")
    return names


def seconds(text: str) -> float:
    """Parse a time above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def plot(text: str) -> Path:
    """Parse a picture's name."""
    if not text.lower().endswith((".png", ".svg")):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a name that ends in .png or .svg")
    return Path(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    """Measure, print, write, draw."""
    from feredge.benchmarks.bench.report import Asked, conditions, measured, report_text
    from feredge.benchmarks.eval.records import results_path, write_results
    from feredge.runtime.errors import require
    from feredge.runtime.files import check_folder

    given = {**vars(options), "detector": DetectorOptions.from_arguments(options)}
    asked = Asked(**{name: given[name] for name in Asked.__dataclass_fields__})
    target = None if options.json is None else results_path(options.json, conditions(asked))
    if options.plot is not None:
        require("matplotlib", "bench")
        check_folder(options.plot)
    report = measured(asked)
    print(report_text(report, options.markdown))
    write_results(target, report)
    if options.plot is not None:
        from feredge.benchmarks.bench.plots import plot_report

        plot_report(report, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
