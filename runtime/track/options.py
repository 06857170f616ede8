"""The options of tracking: for sources whose frames follow each other in time."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from feredge.runtime.command import difference, positive_int
from feredge.runtime.errors import UsageError


@dataclass(frozen=True)
class TrackOptions:
    """Tracking, smoothing, and what is skipped between two detections.

    Attributes:
        track: number the faces and follow them over time.
        smooth: smooth the probabilities of each track over time; needs `track`.
        detect_every: detect and classify every N-th frame only; needs `track` if above 1.
        reuse: keep the prediction of a face while the mean difference of its gray thumbnail stays
            below this value, above 0 and at most 255; None: classify every face.
    """

    track: bool = True
    smooth: bool = True
    detect_every: int = 1
    reuse: float | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one is out of its range.
        """
        if self.detect_every < 1:
            raise UsageError(f"detect_every is {self.detect_every}, expected 1 or more")
        if self.reuse is not None and not 0 < self.reuse <= 255:
            raise UsageError(f"reuse is {self.reuse}, expected a difference above 0, at most 255")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add `--track`, `--detect-every` and `--reuse` to a command."""
        group = parser.add_argument_group("videos, streams and cameras")
        group.add_argument("--track", action=argparse.BooleanOptionalAction, default=cls.track,
                           help="number the faces and smooth their labels over time (default: yes)")
        group.add_argument("--detect-every", type=positive_int, default=cls.detect_every,
                           metavar="N", help="detect and classify every N-th frame; tracks "
                                f"predict boxes and labels in between ({cls.detect_every})")
        group.add_argument("--reuse", type=difference, metavar="T",
                           help="keep the prediction of a face while its gray thumbnail differs by "
                                "less than T of 255 on average (default: off)")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> TrackOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(arguments.track, cls.smooth, arguments.detect_every, arguments.reuse)
