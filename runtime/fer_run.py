"""Find faces in pictures, videos or a camera and tell their expressions."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, NoReturn

from feredge.runtime.command import (
    EXIT_ERROR,
    EXIT_PARTLY,
    difference,
    end_process,
    new_parser,
    positive,
    run_command,
)
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import has_screen, quiet_opencv
from feredge.runtime.errors import EngineError, FeredgeError, UsageError
from feredge.runtime.sources import SourceOptions

if TYPE_CHECKING:
    from feredge.runtime.engines.base import Engine
    from feredge.runtime.outputs.closing import Outputs
    from feredge.runtime.pipeline import Pipeline
    from feredge.runtime.sources.base import Source
    from feredge.runtime.spec import ModelSpec

PROGRAM = "fer-run"
MOST_AT_ONCE = 8  # frames in work; each holds memory


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--engine", required=True, metavar="PATH", help="what fer-export wrote")
    parser.add_argument("--source", dest="sources", action="extend", nargs="+", default=[],
                        metavar="WHERE",
                        help="pictures, a folder, video, URL, csi:N, gst:PIPELINE, a pattern, or - "
                        "for standard input; several videos and live sources run concurrently")
    parser.add_argument("--camera", dest="sources", action="append", type=int, metavar="N",
                        help="a USB or built-in camera; also several times")
    SourceOptions.add_arguments(parser)
    parser.add_argument("--max-silence", type=positive, metavar="SECONDS",
                        help="end with exit code 2 when no live source delivers for so long")
    parser.add_argument("--output", metavar="PATH",
                        help="annotated picture, folder or video, as the source is one; of "
                        "several sources a folder of videos")
    parser.add_argument("--jsonl", metavar="PATH", help="one JSON object a frame; - is stdout")
    parser.add_argument("--csv", metavar="PATH", help="one row a face; - is stdout")
    parser.add_argument("--summary", metavar="PATH",
                        help="JSON: for each person the time in view and each expression's share")
    parser.add_argument("--display", action=argparse.BooleanOptionalAction,
                        help="a window (default: if there is a screen and nothing else is asked)")
    parser.add_argument("--no-images", action="store_true",
                        help="nothing but numbers leaves the process: no picture, video or window")
    parser.add_argument("--blur", action="store_true",
                        help="faces are a few flat cells in all that is written or shown")
    parser.add_argument("--max-faces", type=positive, metavar="N", help="the best N of a frame")
    parser.add_argument("--cuda-graphs", action=argparse.BooleanOptionalAction, default=True,
                        help="replay a frame's launches on a GPU as one graph (default: yes)")
    parser.add_argument("--allow-random-weights", action="store_true",
                        help="run a network that learned nothing: for its speed alone")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")
    DetectorOptions.add_arguments(parser)
    add_track_arguments(parser)
    add_page_arguments(parser)
    return parser


def add_track_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that have to do with the order of frames."""
    group = parser.add_argument_group("videos, streams and cameras")
    group.add_argument("--track", action=argparse.BooleanOptionalAction, default=True,
                       help="number the persons and steady their labels over time (default: yes)")
    group.add_argument("--detect-every", type=positive, default=1, metavar="N",
                       help="search and classify every N-th frame; tracks carry boxes and labels "
                            "in between (1)")
    group.add_argument("--reuse", type=difference, metavar="T",
                       help="a face keeps its answer while its grey thumbnail differs by less "
                            "than T of 255 on average (default: off)")


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the live page."""
    group = parser.add_argument_group("live page (extra: serve)")
    group.add_argument("--serve", nargs="?", const="", metavar="HOST:PORT",
                       help="show it all in a browser (127.0.0.1:8080), with /metrics and /healthz")
    group.add_argument("--token", metavar="SECRET",
                       help="what other machines must know to look; @FILE reads it from a file")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    """Open everything, work through the source, close everything, and report."""
    from feredge.runtime.detect import open_detector
    from feredge.runtime.engines import open_engine
    from feredge.runtime.logs import show_logs
    from feredge.runtime.machine import cores
    from feredge.runtime.outputs.closing import Outputs
    from feredge.runtime.page import open_page
    from feredge.runtime.pipeline import Pipeline

    show_logs(options.log_json)
    check_privacy(options)
    with ExitStack() as stack:
        stopped = stack.enter_context(stopped_by_signals())
        source = open_source(options)
        stopped.append(source)
        stack.callback(source.close)
        tracks = has_tracks(options, source)
        at_once = frames_at_once(options, source)
        threads = max(cores() // at_once, 1) if at_once > 1 else None  # None: as onnxruntime likes
        engine = stack.enter_context(open_engine(options.engine, options.cuda_graphs, threads))
        check_trained(engine.spec, options.allow_random_weights)
        detector = stack.enter_context(open_detector(
            DetectorOptions.from_arguments(options), engine, threads
        ))
        outputs = stack.enter_context(Outputs())
        open_outputs(options, source, engine.spec.labels, outputs)
        pipeline = Pipeline(
            source, detector, reusing(engine, options.reuse), outputs.plain, options.max_faces,
            at_once,
            annotated_outputs=outputs.annotated, tracks=tracks,
            detect_every=options.detect_every, blur=options.blur,
        )
        if options.serve is not None:
            outputs.plain.append(open_page(options.serve, options.token, pipeline,
                                           has_pictures=not options.no_images))
        code = work(pipeline, source, options.max_silence)
    summary = pipeline.summary()
    print(summary, file=sys.stderr)
    if options.json:
        print(json.dumps(summary.to_dict()))
    return code


def check_privacy(options: argparse.Namespace) -> None:
    """Refuse what would show what must not be shown.

    Raises:
        UsageError: pictures with --no-images, frames that are not searched with --blur, or a token
            for nothing.
    """
    shown = "--output" if options.output else "--display" if options.display else None
    if options.no_images and shown:
        raise UsageError(f"{shown} shows images and --no-images lets none out: leave out one of "
                         "them, or hide faces with --blur")
    if options.token is not None and options.serve is None:
        raise UsageError("--token belongs to --serve")
    if options.blur and options.detect_every > 1:
        raise UsageError("--blur needs every frame searched: a face that comes into view between "
                         "two searches would be shown; leave out --detect-every")


def has_tracks(options: argparse.Namespace, source: Source) -> bool:
    """Tell whether persons are followed over time; pictures have none.

    Raises:
        UsageError: something was asked for that needs them.
    """
    tracks: bool = options.track and source.is_ordered
    asked = {"--detect-every": options.detect_every > 1, "--reuse": options.reuse is not None,
             "--summary": options.summary is not None}
    needing = [name for name, used in asked.items() if used]
    if needing and not tracks:
        why = "--no-track turns them off" if not options.track else "pictures have none"
        raise UsageError(f"{needing[0]} needs tracks, and {why}: leave it out, or pass a video or "
                         "a live source")
    return tracks


def reusing(engine: Engine, threshold: float | None) -> Engine:
    """Return the engine, or one that classifies changed faces only."""
    from feredge.runtime.track.reuse import ReusingEngine

    return engine if threshold is None else ReusingEngine(engine, threshold)


def frames_at_once(options: argparse.Namespace, source: Source) -> int:
    """Return how many frames to work on side by side.

    One, where the source is live or there are several, a GPU takes part, or a frame needs the
    answers before it.
    """
    from feredge.runtime.machine import cores

    on_gpu = any(str(path).endswith(".plan") for path in (options.engine, options.detector))
    one_at_a_time = source.is_live or len(source.parts) > 1 or on_gpu
    if one_at_a_time or options.reuse is not None:
        return 1
    return min(cores(), source.expected_frames or MOST_AT_ONCE, MOST_AT_ONCE)


def check_trained(spec: ModelSpec, allow_random_weights: bool) -> None:
    """Refuse a network whose answers say nothing.

    Raises:
        EngineError: its weights are random.
    """
    if spec.source.random_weights and not allow_random_weights:
        raise EngineError(f"this {spec.model} has random weights, so its labels mean nothing: "
                          "export it with --checkpoint, or time it with --allow-random-weights")


def open_source(options: argparse.Namespace) -> Source:
    """Open the cameras and sources that were asked for.

    Raises:
        UsageError: there is none.
    """
    from feredge.runtime.sources import open_sources

    return open_sources(options.sources, SourceOptions.from_arguments(options))


def open_outputs(
    options: argparse.Namespace, source: Source, labels: tuple[str, ...], outputs: Outputs
) -> None:
    """Open every output that is asked for; without any, a window or lines on the terminal."""
    from feredge.runtime.outputs.annotated import open_annotated
    from feredge.runtime.outputs.terminal import Progress, Text, Window
    from feredge.runtime.outputs.text import Csv, JsonLines
    from feredge.runtime.outputs.track_summary import TrackSummary

    if options.jsonl:
        outputs.plain.append(JsonLines(options.jsonl, labels))
    if options.csv:
        outputs.plain.append(Csv(options.csv, labels))
    if options.summary:
        outputs.plain.append(TrackSummary(options.summary, labels))
    if options.output:
        outputs.annotated.append(open_annotated(options.output, source))
    if has_window(options):
        outputs.annotated.append(Window(source))
    elif not has_file_output(options):
        outputs.plain.append(Text(labels))
    if has_file_output(options) and sys.stderr.isatty():
        outputs.plain.append(Progress(source.expected_frames))


def has_file_output(options: argparse.Namespace) -> bool:
    """Return whether results go anywhere but to a window or the terminal."""
    return bool(options.jsonl or options.csv or options.summary or options.output or options.json
                or options.serve is not None)


def has_window(options: argparse.Namespace) -> bool:
    """Return whether a window is asked for, or is the default."""
    by_default = has_screen() and not has_file_output(options) and not options.no_images
    return bool(options.display or (options.display is None and by_default))


def work(pipeline: Pipeline, source: Source, max_silence_s: float | None) -> int:
    """Run to the end; what could not be read is named, and what was done before is kept."""
    code = 0
    try:
        with watched(source, max_silence_s):
            pipeline.run()
    except FeredgeError as error:
        if not pipeline.frames:
            raise
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        code = EXIT_ERROR
    for problem in source.problems:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
    return code or (EXIT_PARTLY if source.problems else 0)


def watched(
    source: Source, max_silence_s: float | None
) -> AbstractContextManager[None]:
    """Watch the sources, if that was asked for, and all are live."""
    from feredge.runtime.sources.watchdog import limit_silence

    if max_silence_s is None or not all(part.is_live for part in source.parts):
        return nullcontext()
    return limit_silence(source, max_silence_s)


@contextmanager
def stopped_by_signals() -> Iterator[list[Source]]:
    """Let Ctrl-C and SIGTERM end the run after the frame that is being worked on.

    Gives the list to put the source in; before there is one, they end the process at once.
    """
    sources: list[Source] = []

    def stop(*_: object) -> None:
        if not sources:
            raise SystemExit(0)
        sources[0].stop()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in signals]
    try:
        yield sources
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


def script() -> NoReturn:
    """Be the process: as `main`, and end it although a camera's reader may hang."""
    try:
        code = main()
    except SystemExit as ended:  # of argparse, or of a signal while sources are opened
        code = int(ended.code or 0)
    end_process(code)


if __name__ == "__main__":
    script()
