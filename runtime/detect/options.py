"""The options of face detection: every command adds and reads these arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from feredge.runtime.command import fraction, positive

YUNET = "yunet"


@dataclass(frozen=True)
class DetectorOptions:
    """Which face detector runs, and how.

    Attributes:
        path: a YuNet-format ONNX file or its plan; `yunet` is YuNet, downloaded at its first use;
            None is the bundled detector.
        size_px: the long side to which a frame is scaled before detection.
        min_score: detections with a lower score are dropped, from 0 to 1.
    """

    path: str | Path | None = None
    size_px: int = 320
    min_score: float = 0.6

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add `--detector`, `--detector-size` and `--min-score` to a command."""
        group = parser.add_argument_group("face detection")
        group.add_argument("--detector", metavar="PATH",
                           help="a YuNet-format ONNX file or plan, or `yunet` to download YuNet "
                                "(default: the bundled detector)")
        group.add_argument("--detector-size", type=positive, default=cls.size_px, metavar="PX",
                           help="long side to which a frame is scaled before detection "
                                f"({cls.size_px})")
        group.add_argument("--min-score", type=fraction, default=cls.min_score, metavar="S",
                           help=f"drop detections with a lower score ({cls.min_score:g})")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> DetectorOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(arguments.detector, arguments.detector_size, arguments.min_score)
