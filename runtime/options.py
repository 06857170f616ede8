"""The options of a run, in groups that add and read their own command-line arguments.

Messages name a parameter in backquotes; a command prints it as its flag.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feredge.runtime.command import camera_index, fraction, positive_int
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.errors import UsageError
from feredge.runtime.history.options import HistoryOptions
from feredge.runtime.output_options import OutputOptions, PageOptions
from feredge.runtime.publish.options import PublishOptions
from feredge.runtime.sources.base import SourceOptions
from feredge.runtime.track.options import TrackOptions


@dataclass(frozen=True)
class EngineOptions:
    """Which network runs, and how.

    Attributes:
        path: an ONNX file or a plan that `fer-export` wrote; None is the bundled network.
        cuda_graphs: replay the launches of a frame on a GPU as one graph.
        allow_random_weights: run a network without trained weights, to measure its speed.
        provider: onnxruntime's execution provider for an ONNX file; None: the CPU.
    """

    path: str | Path | None = None
    cuda_graphs: bool = True
    allow_random_weights: bool = False
    provider: str | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add `--engine`, `--provider`, `--cuda-graphs` and `--allow-random-weights`."""
        parser.add_argument("--engine", metavar="PATH",
                            help="an ONNX file or a plan that fer-export wrote (default: the "
                                 "bundled network)")
        parser.add_argument("--provider", metavar="NAME",
                            help="onnxruntime's execution provider for an ONNX file: cpu, "
                                 "openvino, cuda, tensorrt, tensorrt-rtx, xnnpack or qnn, if the "
                                 "installed package has it (cpu)")
        parser.add_argument("--cuda-graphs", action=argparse.BooleanOptionalAction,
                            default=cls.cuda_graphs,
                            help="replay the launches of a frame on a GPU as one graph (default: "
                                 "yes)")
        parser.add_argument("--allow-random-weights", action="store_true",
                            help="run a network without trained weights, to measure its speed")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> EngineOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(arguments.engine, arguments.cuda_graphs, arguments.allow_random_weights,
                   arguments.provider)


@dataclass(frozen=True)
class RunOptions:
    """Everything that `run` and `fer-run` can do.

    Attributes:
        sources: pictures, folders, videos, URLs, `csi:N`, `gst:PIPELINE`, or indices of cameras.
        engine: the network.
        source: how sources are opened.
        detector: face detection.
        tracks: tracking, smoothing, and what is skipped between detections.
        outputs: where results go.
        page: the live page.
        publish: messages to a broker; None: no messages.
        history: an SQLite file with numbers for `fer-report`; None: no history.
        max_faces: keep the faces with the highest scores only; None: all faces.
        min_confidence: faces below this confidence have no label; None: every face has one.
        max_silence_s: end the run when no live source delivers for this time; None: never.
    """

    sources: Sequence[str | int]
    engine: EngineOptions = field(default_factory=EngineOptions)
    source: SourceOptions = field(default_factory=SourceOptions)
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    tracks: TrackOptions = field(default_factory=TrackOptions)
    outputs: OutputOptions = field(default_factory=OutputOptions)
    page: PageOptions = field(default_factory=PageOptions)
    publish: PublishOptions | None = None
    history: HistoryOptions | None = None
    max_faces: int | None = None
    min_confidence: float | None = None
    max_silence_s: float | None = None

    def __post_init__(self) -> None:
        """Check the combination.

        Raises:
            UsageError: there is no source, or options exclude each other.
        """
        if isinstance(self.sources, str):
            raise UsageError(f"sources is {self.sources!r}, expected a tuple: ({self.sources!r},)")
        if not self.sources:
            raise UsageError("there is no source: pass `source` or `camera`")
        if self.outputs.blur and self.tracks.detect_every > 1:
            raise UsageError("`blur` needs detection in every frame, because a face that appears "
                             "in between would be shown: leave out `detect_every`")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of all groups to a command."""
        EngineOptions.add_arguments(parser)
        parser.add_argument("--source", dest="sources", action="extend", nargs="+", default=[],
                            metavar="WHERE",
                            help="pictures, a folder, video, URL, csi:N, jetson:URL, gst:PIPELINE, "
                                 "a pattern, or - for standard input; several videos and live "
                                 "sources run concurrently")
        parser.add_argument("--camera", dest="sources", action="append", type=camera_index,
                            metavar="N",
                            help="a USB or built-in camera; may be given several times")
        SourceOptions.add_arguments(parser)
        parser.add_argument("--max-silence", type=positive_int, metavar="SECONDS",
                            help="end with exit code 2 when no live source delivers for this time")
        OutputOptions.add_arguments(parser)
        parser.add_argument("--max-faces", type=positive_int, metavar="N",
                            help="keep the N faces of a frame with the highest scores")
        parser.add_argument("--min-confidence", type=fraction, metavar="C",
                            help="faces whose label is right with a lower confidence are unsure: "
                                 "they have no label (default: off)")
        DetectorOptions.add_arguments(parser)
        TrackOptions.add_arguments(parser)
        PageOptions.add_arguments(parser)
        PublishOptions.add_arguments(parser)
        HistoryOptions.add_arguments(parser)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> RunOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(
            tuple(arguments.sources), EngineOptions.from_arguments(arguments),
            SourceOptions.from_arguments(arguments), DetectorOptions.from_arguments(arguments),
            TrackOptions.from_arguments(arguments), OutputOptions.from_arguments(arguments),
            PageOptions.from_arguments(arguments), PublishOptions.from_arguments(arguments),
            HistoryOptions.from_arguments(arguments), arguments.max_faces, arguments.min_confidence,
            arguments.max_silence,
        )
