"""The options of fer-bench, which add and read their own arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feredge.runtime.detect.options import DetectorOptions

# Named here so that --help imports none of them; a test compares the names with the functions.
BASELINES = ("torch", "torch-compile", "onnxruntime-fp32", "openvino", "session")


@dataclass(frozen=True)
class BenchOptions:
    """What to time, and how.

    Attributes:
        engines: exported networks; the others and the baselines are compared with the first.
        batches: numbers of faces per inference.
        duration_s: timed seconds per engine and batch.
        warm_up_s: seconds before that, not timed.
        baselines: names in `BASELINES`: the same network in other runtimes.
        checkpoint: the weights for torch's baselines; None is the bundled checkpoint.
        source: a video; the first engine's whole pipeline is timed on it.
        detector: the face detector of that pipeline.
        peak: add each time as a share of the device's peak and of its memory bandwidth.
        profile: add the time per kind of operator of ONNX engines.
        json: where the report is written; in a folder the file is named after the conditions.
        plot: where the report is drawn, PNG or SVG by its suffix.
    """

    engines: Sequence[Path]
    batches: Sequence[int] = (1, 2, 4, 8, 16)
    duration_s: float = 3.0
    warm_up_s: float = 0.2
    baselines: Sequence[str] = ()
    checkpoint: Path | None = None
    source: Path | None = None
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    peak: bool = False
    profile: bool = False
    json: Path | None = None
    plot: Path | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of every field."""
        cls._add_what(parser)
        cls._add_results(parser)
        DetectorOptions.add_arguments(parser)

    @classmethod
    def _add_what(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--engine", required=True, action="append", type=Path, metavar="PATH",
                            help="a file that fer-export wrote; the first is the reference")
        parser.add_argument("--batch", type=parse_batches, default=cls.batches, metavar="N,N",
                            help=f"faces per inference ({','.join(map(str, cls.batches))})")
        parser.add_argument("--duration", type=parse_duration, default=cls.duration_s, metavar="S",
                            help=f"timed seconds per engine and batch ({cls.duration_s:g})")
        parser.add_argument("--warmup", type=parse_duration, default=cls.warm_up_s, metavar="S",
                            help=f"seconds before that, not timed ({cls.warm_up_s:g})")
        parser.add_argument("--baseline", type=parse_baselines, default=cls.baselines,
                            metavar="A,B", help=f"time these as well: {', '.join(BASELINES)}")
        parser.add_argument("--checkpoint", type=Path, metavar="PATH",
                            help="for torch: the checkpoint of the export (default: bundled)")
        parser.add_argument("--source", type=Path, metavar="CLIP",
                            help="time the first engine's whole pipeline on a video as well")

    @classmethod
    def _add_results(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--peak", action="store_true",
                            help="share of the device's peak and of its memory bandwidth")
        parser.add_argument("--profile", action="store_true",
                            help="time per kind of operator, for ONNX engines")
        parser.add_argument("--json", type=Path, metavar="PATH",
                            help="write the report; in a folder the file is named after the "
                                 "conditions")
        parser.add_argument("--plot", type=parse_plot, metavar="PATH",
                            help="draw the report: .png or .svg")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> BenchOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(
            arguments.engine, arguments.batch, arguments.duration, arguments.warmup,
            arguments.baseline, arguments.checkpoint, arguments.source,
            DetectorOptions.from_arguments(arguments), arguments.peak, arguments.profile,
            arguments.json, arguments.plot,
        )


def parse_batches(text: str) -> tuple[int, ...]:
    """Parse `1,8`."""
    if not all(part.isdecimal() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}, expected whole numbers from 1 on, as 1,8")
    return tuple(dict.fromkeys(map(int, text.split(","))))


def parse_baselines(text: str) -> tuple[str, ...]:
    """Parse `torch,openvino`."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in BASELINES]:
        raise argparse.ArgumentTypeError(f"unknown baseline {', '.join(unknown)}; the baselines "
                                         f"are {', '.join(BASELINES)}")
    return names


def parse_duration(text: str) -> float:
    """Parse a time above 0, in seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def parse_plot(text: str) -> Path:
    """Parse the name of a plot."""
    if not text.lower().endswith((".png", ".svg")):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a name that ends in .png or .svg")
    return Path(text)
