"""The options of fer-eval, which add and read their own arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feredge.runtime.detect.options import DetectorOptions

STDOUT = Path("-")
# Named here so that --help imports nothing heavy; a test compares the names with the readers.
DATASET_NAMES = ("raf-db", "affectnet7", "affectnet8", "caer-s", "sfew", "ferplus")


@dataclass(frozen=True)
class EvalOptions:
    """Which networks to evaluate, and on which pictures.

    Attributes:
        engines: exported networks; each after the first is compared with the first.
        data: one folder of pictures per class, or the folder of the pictures in `csv`.
        csv: a table of pictures and their classes (columns image, label, ...), with paths relative
            to `data` or to the file.
        labels: names for the classes of the data, which are sorted by name or number.
        group_by: a column of `csv`; accuracy is reported for each of its values.
        detect: the pictures are scenes, and the best face in each counts; otherwise each picture is
            a face crop, taken whole.
        detector: the face detector for scenes.
        json: where the results are written; `-` is stdout.
        plot: where confusion matrices, reliability and risk-coverage curves are drawn, PNG or SVG
            by its suffix.
        dataset: a public data set by name, in the layout in which it is published.
        root: the folder of `dataset`.
    """

    engines: Sequence[Path]
    data: Path | None = None
    csv: Path | None = None
    labels: Sequence[str] | None = None
    group_by: str | None = None
    detect: bool = False
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    json: Path | None = None
    plot: Path | None = None
    dataset: str | None = None
    root: Path | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of every field."""
        parser.add_argument("--engine", required=True, action="append", type=Path, metavar="PATH",
                            help="a file that fer-export wrote; further ones are compared with the "
                                 "first")
        cls._add_data(parser)
        parser.add_argument("--json", type=Path, metavar="FILE",
                            help="all results, and the pictures by name; - is stdout")
        parser.add_argument("--plot", type=Path, metavar="FILE",
                            help="confusion matrices, reliability, risk-coverage curves, "
                                 ".png or .svg")
        DetectorOptions.add_arguments(parser)

    @classmethod
    def _add_data(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dataset", choices=DATASET_NAMES, metavar="NAME",
                            help=f"a public data set as it is published in --root: "
                                 f"{', '.join(DATASET_NAMES)}")
        parser.add_argument("--root", type=Path, metavar="DIR", help="the folder of --dataset")
        parser.add_argument("--data", type=Path, metavar="DIR",
                            help="one folder of pictures per class, or the folder of the pictures "
                                 "in --csv")
        parser.add_argument("--csv", type=Path, metavar="FILE",
                            help="pictures and their classes (columns image, label, ...), with "
                                 "paths relative to --data or to the file")
        parser.add_argument("--labels", type=parse_names, metavar="A,B,...",
                            help="names for the data's classes, sorted by name or number")
        parser.add_argument("--group-by", metavar="COLUMN",
                            help="accuracy by a column of --csv as well")
        parser.add_argument("--detect", action="store_true",
                            help="the pictures are scenes: take the best face in each (default: "
                                 "each picture is a face, taken whole)")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> EvalOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(
            arguments.engine, arguments.data, arguments.csv, arguments.labels, arguments.group_by,
            arguments.detect, DetectorOptions.from_arguments(arguments), arguments.json,
            arguments.plot, arguments.dataset, arguments.root,
        )


def parse_names(text: str) -> tuple[str, ...]:
    """Parse `happy,sad`."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}, expected names as happy,sad")
    return names
