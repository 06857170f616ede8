"""Export a trained network to ONNX and to INT8, with a report of what that cost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from feredge.export.exporter import export
from feredge.export.models.registry import SIZES
from feredge.export.options import ExportOptions
from feredge.export.report.text import report_text
from feredge.export.staging import check_name
from feredge.export.tensorrt.options import PlanOptions
from feredge.runtime.command import new_parser, positive_int, run_command
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import ExportError

PROGRAM = "fer-export"
DETECTOR_PX = 640  # the largest canvas of a detector's plan where --detector-size is auto
# Arguments that only INT8 uses.
INT8_ARGUMENTS = ("calibration_method", "ranges", "max_accuracy_drop", "min_agreement",
                  "max_class_drop", "sensitivity", "validation_data", "force")
# Arguments that only the export of a checkpoint uses.
MODEL_ARGUMENTS = (*INT8_ARGUMENTS, "checkpoint", "random_weights", "backbone_from",
                   "calibration_data", "detect", "labels", "side", "channels", "mean", "std",
                   "crop_scale", "crop_shift_y", "crop_align", "report", "serving",
                   "calibrate_confidence", "confidence", "sweep_precisions")


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", metavar="NAME",
                      help="a network of --list, or your own as package.module:factory")
    what.add_argument("--list", action="store_true", help="show the available networks")
    what.add_argument("--onnx", metavar="PATH",
                      help="build only a plan, from this file of an earlier export; with "
                           "--detector instead of both, the face detector's plan")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    ExportOptions.add_arguments(parser)
    add_plan_arguments(parser)
    DetectorOptions.add_arguments(parser)
    return parser


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a TensorRT plan."""
    group = parser.add_argument_group("TensorRT")
    group.add_argument("--target", choices=("auto", "onnx", "tensorrt", "tensorrt-rtx"),
                       default="auto", help="builder of a plan beside the ONNX files; auto: "
                       "tensorrt if it and a GPU are present, else tensorrt-rtx if installed, "
                       "else none")
    group.add_argument("--fp16", action="store_true", help="FP16 for what is not INT8")
    group.add_argument("--max-batch", type=positive_int, default=16, metavar="N",
                       help="largest batch of a plan, in faces (16)")
    group.add_argument("--workspace-mb", type=positive_int, metavar="MB",
                       help="memory limit of the builder (TensorRT's own limit)")
    group.add_argument("--dla", type=core, metavar="CORE",
                       help="build for a Jetson's DLA, at exactly --max-batch faces; unsupported "
                            "layers run on the GPU")
    group.add_argument("--calibrator", action="store_true",
                       help="INT8 by ranges instead of Q/DQ (TensorRT up to 10; a DLA needs it)")
    group.add_argument("--timing-cache", metavar="PATH",
                       help="file of kernel timings, kept between builds (not TensorRT-RTX)")


def core(text: str) -> int:
    """Parse an integer from 0 on."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    """Export, or build a plan alone; then print the report."""
    if options.list:
        sizes = bundled_sizes()
        print(json.dumps(sizes, indent=1) if options.json else sizes_text(sizes))
        return 0
    if options.name is not None:
        check_name(options.name)
    report = export_model(options) if options.model else build_plan(options)
    print(json.dumps(report, indent=1) if options.json else report_text(report))
    return 0


def bundled_sizes() -> list[dict[str, Any]]:
    """Return the sizes of every network that can be exported by its name, from their record."""
    sizes: list[dict[str, Any]] = json.loads(SIZES.read_text())
    return sizes


def sizes_text(sizes: list[dict[str, Any]]) -> str:
    """Return the networks as a table for the terminal."""
    lines = [f"{'network':<16}{'parameters':>12}{'MACs a face':>13}  input"]
    for size in sizes:
        lines.append(f"{size['name']:<16}{size['parameters'] / 1e6:>10.2f} M"
                     f"{size['macs'] / 1e9:>11.2f} G  {size['side']} px, {size['channels']}"
                     f"{', weights bundled' if size['bundled'] else ''}")
    return "\n".join(lines)


def export_model(arguments: argparse.Namespace) -> dict[str, Any]:
    """Export a network.

    Raises:
        ExportError: an argument belongs to `--int8`, which was not given.
    """
    if arguments.sweep_precisions:
        arguments.int8 = arguments.fp16 = True
    if not arguments.int8:
        other = {"validation_data"} if arguments.calibrate_confidence else set()
        refuse([name for name in INT8_ARGUMENTS if name not in other], arguments,
               "belong to --int8")
    return export(ExportOptions.from_arguments(arguments, plan_options(arguments)))


def plan_options(arguments: argparse.Namespace) -> PlanOptions:
    """Read the arguments of a TensorRT plan."""
    names = {field.name for field in fields(PlanOptions)}
    return PlanOptions(**{name: value for name, value in vars(arguments).items() if name in names})


def build_plan(options: argparse.Namespace) -> dict[str, Any]:
    """Build the plan of an exported network or of a face detector; this needs TensorRT alone.

    Raises:
        ExportError: neither was given, or an argument belongs to `--model`.
    """
    check_plan_arguments(options)
    from feredge.export.steps import Steps
    from feredge.export.tensorrt.plan_files import build_detector, build_from_onnx
    from feredge.runtime.detect.weights import detector_path

    plan, steps = plan_options(options), Steps(quiet=options.json)
    output = Path(options.output)
    if options.onnx:
        return build_from_onnx(Path(options.onnx), plan, output, options.name, steps)
    detector_size = options.detector_size or DETECTOR_PX
    return build_detector(detector_path(options.detector), detector_size, plan, output,
                          options.name, steps)


def check_plan_arguments(options: argparse.Namespace) -> None:
    """Check the arguments of a plan without a network.

    Raises:
        ExportError: names the arguments that do not go together.
    """
    if not options.onnx and not options.detector:
        raise ExportError("nothing to export: pass --model NAME for a network, --onnx FILE for the "
                          "plan of an exported one, or --detector FILE for a face detector's plan")
    if options.onnx and options.detector:
        raise ExportError("--onnx and --detector name two networks: build one plan after the other")
    refuse(MODEL_ARGUMENTS, options, "belong to --model; the ONNX file is built as it is")


def refuse(names: Sequence[str], options: argparse.Namespace, why: str) -> None:
    """Refuse the given ones of some arguments.

    Raises:
        ExportError: names them with the reason.
    """
    given = [name for name in names 
             if (value := getattr(options, name)) is not None and value is not False]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ExportError(f"{named} {why}")


if __name__ == "__main__":
    sys.exit(main())
