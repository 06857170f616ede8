"""Export a trained network to ONNX and to INT8, with a report of what that cost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from feredge.calibration.measure.methods import METHODS
from feredge.export.report.text import report_text
from feredge.runtime.command import new_parser, positive, run_command
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import ExportError, require

T = TypeVar("T")

PROGRAM = "fer-export"
# What only INT8 can use.
INT8_ARGUMENTS = ("calibration_method", "ranges", "max_accuracy_drop", "min_agreement",
                  "max_class_drop", "sensitivity", "validation_data")
# What only the export of a checkpoint can use.
MODEL_ARGUMENTS = (*INT8_ARGUMENTS, "checkpoint", "random_weights", "backbone_from",
                   "calibration_data", "detect", "labels", "side", "channels", "mean", "std",
                   "crop_scale", "crop_shift_y", "report")
CALIBRATION_METHODS = ("auto", *METHODS)


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", metavar="NAME",
                      help="a network of --list, or your own as package.module:factory")
    what.add_argument("--list", action="store_true", help="show the networks that are here")
    what.add_argument("--onnx", metavar="PATH",
                      help="build a plan from this file of an earlier export, and nothing else; "
                           "with --detector instead of both, the face detector's plan")
    add_weight_arguments(parser)
    parser.add_argument("--output", default=".", metavar="DIR", help="where the files go (.)")
    parser.add_argument("--name", help="what they are called (the model's name)")
    parser.add_argument("--report", choices=("html",),
                        help="write the report as a page, too, beside NAME.report.json")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    int8 = parser.add_argument_group("INT8")
    int8.add_argument("--int8", action="store_true", help="write INT8 graphs, too")
    int8.add_argument("--calibration-data", metavar="DIR", help="pictures of faces, 500 or more")
    int8.add_argument("--calibration-method", choices=CALIBRATION_METHODS,
                      help="how far ranges reach; auto (default) tries all on every fourth face "
                           "and keeps the simplest that none beats")
    int8.add_argument("--ranges", metavar="FILE",
                      help="ranges, instead of measuring them: NAME.ranges.json of an earlier "
                           "export, another tool's Q/DQ ONNX file, or a TensorRT calibration "
                           "cache")
    int8.add_argument("--detect", action="store_true",
                      help="the pictures are scenes: find the faces in them")
    int8.add_argument("--min-agreement", type=float, metavar="SHARE",
                      help="least share of faces with FP32's label, else the most sensitive "
                           "layers go back to float, or the export fails (0.98)")
    int8.add_argument("--max-accuracy-drop", type=float, metavar="POINTS",
                      help="most accuracy that INT8 may cost on labelled faces, as 0.5")
    int8.add_argument("--max-class-drop", type=float, metavar="POINTS",
                      help="most recall that any class may lose on labelled faces; one face it "
                           "may always (10)")
    int8.add_argument("--sensitivity", action="store_true",
                      help="measure what INT8 costs in every layer: table, PNG and SVG")
    int8.add_argument("--validation-data", metavar="DIR",
                      help="labelled faces, a folder a class, read once: what INT8 costs on them "
                           "stands in the report, and limits hold there, too")
    int8.add_argument("--cpu", choices=("avx2", "vnni", "arm"), default="avx2",
                      help="what the CPU graph is for; avx2 (default) is right on all of them")
    add_plan_arguments(parser)
    DetectorOptions.add_arguments(parser)
    add_checkpoint_arguments(parser)
    return parser


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where a network's weights come from."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", metavar="PATH",
                         help="safetensors, state dict or .pth.tar (default: the bundled one)")
    weights.add_argument("--random-weights", action="store_true",
                         help="seeded weights, to time a network before it is trained")
    parser.add_argument("--backbone-from", metavar="PATH",
                        help="take the backbone of this checkpoint, which any task trained")


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a TensorRT plan is built with."""
    group = parser.add_argument_group("TensorRT")
    group.add_argument("--target", choices=("auto", "onnx", "tensorrt", "tensorrt-rtx"),
                       default="auto", help="what builds a plan beside the ONNX files; auto: "
                       "tensorrt where it and a GPU are, else tensorrt-rtx where it is, else none")
    group.add_argument("--fp16", action="store_true", help="FP16 where it is not INT8")
    group.add_argument("--max-batch", type=positive, default=16, metavar="N",
                       help="faces that a plan takes at once (16)")
    group.add_argument("--workspace-mb", type=positive, metavar="MB",
                       help="memory that the builder may use (TensorRT's own limit)")
    group.add_argument("--dla", type=core, metavar="CORE",
                       help="build for a Jetson's DLA, at exactly --max-batch faces; what it "
                            "cannot run, the GPU does")
    group.add_argument("--calibrator", action="store_true",
                       help="INT8 by ranges instead of Q/DQ (TensorRT up to 10; a DLA does it so)")
    group.add_argument("--timing-cache", metavar="PATH",
                       help="kernel timings, kept between builds (not TensorRT-RTX)")


def core(text: str) -> int:
    """Parse a whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a checkpoint without metadata does not tell."""
    group = parser.add_argument_group("what the checkpoint does not say itself")
    group.add_argument("--labels", type=names, metavar="A,B,...", help="classes, in output order")
    group.add_argument("--side", type=positive, metavar="PX", help="side of the network's input")
    group.add_argument("--channels", choices=("rgb", "bgr"), help="channel order of the input")
    group.add_argument("--mean", type=triple, metavar="R,G,B", help="on the [0, 1] scale")
    group.add_argument("--std", type=triple, metavar="R,G,B", help="on the [0, 1] scale")
    group.add_argument("--crop-scale", type=float, metavar="X",
                       help="side of the crop, as a multiple of the face box's longer side")
    group.add_argument("--crop-shift-y", type=float, metavar="X",
                       help="how far the crop moves down, as a share of its side")


def names(text: str) -> tuple[str, ...]:
    """Parse `a,b,c`."""
    return tuple(name.strip() for name in text.split(","))


def triple(text: str) -> tuple[float, ...]:
    """Parse `0.5,0.5,0.5`."""
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 3:
        raise ValueError
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(options), options.debug)


def run(options: argparse.Namespace) -> int:
    """Export, or build a plan alone; then print the report."""
    if options.list:
        sizes = network_sizes()
        print(json.dumps(sizes, indent=1) if options.json else sizes_text(sizes))
        return 0
    report = export_model(options) if options.model else build_plan(options)
    print(json.dumps(report, indent=1) if options.json else report_text(report))
    return 0


def network_sizes() -> list[dict[str, Any]]:
    """Count every network that can be exported by its name: this needs torch."""
    require("torch", "export")
    from feredge.export.models.registry import known_networks
    from feredge.export.network.size import size_of

    return [asdict(size_of(network)) for network in known_networks().values()]


def sizes_text(sizes: list[dict[str, Any]]) -> str:
    """Return the networks as the table that stands on the terminal."""
    lines = [f"{'network':<16}{'parameters':>12}{'MACs a face':>13}  input"]
    for size in sizes:
        lines.append(f"{size['name']:<16}{size['parameters'] / 1e6:>10.2f} M"
                     f"{size['macs'] / 1e9:>11.2f} G  {size['side']} px, {size['channels']}"
                     f"{', weights bundled' if size['bundled'] else ''}")
    return "\n".join(lines)


def export_model(options: argparse.Namespace) -> dict[str, Any]:
    """Export a network: this needs torch.

    Raises:
        ExportError: an argument belongs to `--int8`, which was not given.
    """
    if not options.int8:
        refuse(INT8_ARGUMENTS, options, "belong to --int8")
    for package in ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm", "jinja2"):
        require(package, "export")
    from feredge.export.job import ExportOptions, export
    from feredge.export.steps import Steps
    from feredge.export.tensorrt.builder import PlanOptions

    plan, detector = chosen(PlanOptions, options), DetectorOptions.from_arguments(options)
    chosen_options = replace(chosen(ExportOptions, options), detector=detector)
    return export(chosen_options, Steps(quiet=options.json), plan)


def build_plan(options: argparse.Namespace) -> dict[str, Any]:
    """Build the plan of an exported network or of a face detector: this needs TensorRT alone.

    Raises:
        ExportError: neither was named, or an argument belongs to `--model`.
    """
    check_plan_arguments(options)
    from feredge.export.steps import Steps
    from feredge.export.tensorrt.builder import PlanOptions
    from feredge.export.tensorrt.plan_files import build_detector, build_from_onnx
    from feredge.runtime.detect.weights import detector_path

    plan, steps = chosen(PlanOptions, options), Steps(quiet=options.json)
    output = Path(options.output)
    if options.onnx:
        return build_from_onnx(Path(options.onnx), plan, output, options.name, steps)
    return build_detector(detector_path(options.detector), options.detector_size, plan, output,
                          options.name, steps)


def check_plan_arguments(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant.

    Raises:
        ExportError: says which arguments do not go together.
    """
    if not options.onnx and not options.detector:
        raise ExportError("nothing to export: pass --model NAME for a network, --onnx FILE for the "
                          "plan of an exported one, or --detector FILE for a face detector's plan")
    if options.onnx and options.detector:
        raise ExportError("--onnx and --detector name two networks: build one plan after the other")
    refuse(MODEL_ARGUMENTS, options, "belong to --model; the ONNX file is built as it is")


def refuse(names: Sequence[str], options: argparse.Namespace, why: str) -> None:
    """Refuse arguments that were given.

    Raises:
        ExportError: names them, and says why.
    """
    given = [name for name in names if getattr(options, name) not in (None, False)]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ExportError(f"{named} {why}")


def chosen(kind: type[T], options: argparse.Namespace) -> T:
    """Return the part of the arguments that a dataclass of options has fields for."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(options).items() if name in names})


if __name__ == "__main__":
    sys.exit(main())
