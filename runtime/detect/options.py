"""The options of face detection: every command adds and reads these arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from feredge.runtime.command import fraction, positive_int

YUNET = "yunet"
AUTO = "auto"


@dataclass(frozen=True)
class DetectorOptions:
    """Which face detector runs, and how.

    Attributes:
        path: a YuNet-format ONNX file or its plan; `yunet` is YuNet, downloaded at its first use;
            None is the bundled detector.
        size_px: the long side to which a frame is scaled before detection; None is auto: what
            `min_face_px` needs, or, of a live source, what its frame rate allows.
        min_score: detections with a lower score are dropped, from 0 to 1.
        min_face_px: the longer side, in the frame, of the smallest face that is to be found.
    """

    path: str | Path | None = None
    size_px: int | None = None
    min_score: float = 0.6
    min_face_px: int = 40

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add `--detector`, `--detector-size`, `--min-face` and `--min-score` to a command."""
        group = parser.add_argument_group("face detection")
        group.add_argument("--detector", metavar="PATH",
                           help="a YuNet-format ONNX file or plan, or `yunet` to download YuNet "
                                "(default: the bundled detector)")
        group.add_argument("--detector-size", type=size, metavar="PX",
                           help="long side to which a frame is scaled before detection (auto: what "
                                "--min-face needs; for live sources what the frame rate allows)")
        group.add_argument("--min-face", type=positive_int, default=cls.min_face_px, metavar="PX",
                           help="longer side of the smallest face to find, in pixels of the frame "
                                f"({cls.min_face_px})")
        group.add_argument("--min-score", type=fraction, default=cls.min_score, metavar="S",
                           help=f"drop detections with a lower score ({cls.min_score:g})")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> DetectorOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(arguments.detector, arguments.detector_size, arguments.min_score,
                   arguments.min_face)


def size(text: str) -> int | None:
    """Parse a number of pixels, or `auto`."""
    return None if text == AUTO else positive_int(text)
