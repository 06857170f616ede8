"""Find and classify the faces of millions of pictures and long videos, on one machine or many."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from feredge.runtime.command import (
    EXIT_PARTLY,
    new_parser,
    positive_int,
    run_command,
    seconds,
)
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import quiet_opencv

PROGRAM = "fer-batch"


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--source", dest="sources", action="append", required=True,
                        metavar="WHERE", help="a folder, glob, list (.txt), picture, video or "
                        "Parquet file; a path, s3://, gs:// or another URI; may be repeated")
    parser.add_argument("--output", required=True, metavar="WHERE",
                        help="folder for Parquet files; an interrupted or grown run is completed")
    parser.add_argument("--engine", metavar="PATH",
                        help="an ONNX file or plan (default: the bundled network)")
    parser.add_argument("--max-faces", type=positive_int, metavar="N",
                        help="keep the best N faces per picture")
    parser.add_argument("--track", action=argparse.BooleanOptionalAction, default=True,
                        help="number the persons in videos and smooth their labels (default: yes)")
    parser.add_argument("--landmarks", action="store_true",
                        help="write size, sharpness, roll and yaw of each face beside its "
                             "landmarks")
    parser.add_argument("--strict", action="store_true",
                        help="exit code 1 if the output contains errors (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")
    DetectorOptions.add_arguments(parser)
    add_worker_arguments(parser)
    return parser


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that do not change the rows."""
    group = parser.add_argument_group("workers")
    group.add_argument("--ray", default="local", metavar="ADDRESS",
                       help="auto or the address of a cluster; none: processes without Ray "
                            "(default: Ray on this machine)")
    group.add_argument("--workers", type=positive_int, metavar="N",
                       help="default: one per core, with a plan one per GPU")
    group.add_argument("--chunk", type=positive_int, default=512, metavar="N",
                       help="pictures per task and file, at most (512)")
    group.add_argument("--segment", type=seconds, default=60.0, metavar="SECONDS",
                       help="divide longer videos into segments (60)")
    group.add_argument("--retries", type=positive_int, default=2, metavar="N",
                       help="of an input that ends its worker process (2)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    parsed = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(parsed), parsed.debug)


def run(parsed: argparse.Namespace) -> int:
    """Run the batch and print its summary."""
    from feredge.runtime.batch import BatchOptions, batch
    from feredge.runtime.logs import show_logs

    show_logs(parsed.log_json)
    summary = batch(BatchOptions(
        sources=tuple(parsed.sources), output=parsed.output, engine=parsed.engine,
        detector=DetectorOptions.from_arguments(parsed), max_faces=parsed.max_faces,
        track=parsed.track, landmarks=parsed.landmarks, segment_s=parsed.segment,
        chunk=parsed.chunk, workers=parsed.workers, ray=parsed.ray,
        retries=parsed.retries,
    ))
    print(summary, file=sys.stderr)
    if parsed.json:
        print(json.dumps(summary.to_dict()))
    return EXIT_PARTLY if parsed.strict and summary.errors else 0


if __name__ == "__main__":
    sys.exit(main())
