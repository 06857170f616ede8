"""Export a trained network to ONNX and to INT8, with a report of what that cost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from feredge.runtime.command import add_detector_arguments, new_parser, positive, run_command
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import ExportError, require

T = TypeVar("T")

PROGRAM = "fer-export"
# What only the export of a checkpoint can use.
MODEL_ARGUMENTS = ("checkpoint", "calibration_data", "detect", "labels", "side", "channels", "mean",
                   "std", "crop_scale", "crop_shift_y")
MODELS = ("manet",)  # without importing torch; a test holds it to the registry


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", choices=MODELS, help="the network")
    what.add_argument("--onnx", metavar="PATH",
                      help="build a plan from this file of an earlier export, and nothing else; "
                           "with --detector instead of both, the face detector's plan")
    parser.add_argument("--checkpoint", metavar="PATH",
                        help="its weights: safetensors, state dict or .pth.tar (default: bundled)")
    parser.add_argument("--output", default=".", metavar="DIR", help="where the files go (.)")
    parser.add_argument("--name", help="what they are called (the model's name)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    int8 = parser.add_argument_group("INT8")
    int8.add_argument("--int8", action="store_true", help="write INT8 graphs, too")
    int8.add_argument("--calibration-data", metavar="DIR", help="pictures of faces, 500 or more")
    int8.add_argument("--detect", action="store_true",
                      help="the pictures are scenes: find the faces in them")
    int8.add_argument("--cpu", choices=("avx2", "vnni", "arm"), default="avx2",
                      help="what the CPU graph is for; avx2 (default) is right on all of them")
    add_plan_arguments(parser)
    add_detector_arguments(parser)
    add_checkpoint_arguments(parser)
    return parser


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
    report = export_model(options) if options.model else build_plan(options)
    print(json.dumps(report, indent=1) if options.json else report_text(report))
    return 0


def export_model(options: argparse.Namespace) -> dict[str, Any]:
    """Export a network: this needs torch."""
    for package in ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm"):
        require(package, "export")
    from feredge.export.exporter import ExportOptions, export
    from feredge.export.plans import PlanOptions
    from feredge.export.steps import Steps

    return export(chosen(ExportOptions, options), Steps(quiet=options.json),
                  chosen(PlanOptions, options))


def build_plan(options: argparse.Namespace) -> dict[str, Any]:
    """Build the plan of an exported network or of a face detector: this needs TensorRT alone.

    Raises:
        ExportError: neither was named, or an argument belongs to `--model`.
    """
    check_plan_arguments(options)
    from feredge.export.plan_files import build_detector, build_from_onnx
    from feredge.export.plans import PlanOptions
    from feredge.export.steps import Steps

    plan, steps = chosen(PlanOptions, options), Steps(quiet=options.json)
    output = Path(options.output)
    if options.onnx:
        return build_from_onnx(Path(options.onnx), plan, output, options.name, steps)
    return build_detector(Path(options.detector), options.detector_size, plan, output,
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
    given = [name for name in MODEL_ARGUMENTS if getattr(options, name) not in (None, False)]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ExportError(f"{named} belong to --model; the ONNX file is built as it is")


def chosen(kind: type[T], options: argparse.Namespace) -> T:
    """Return the part of the arguments that a dataclass of options has fields for."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(options).items() if name in names})


def report_text(report: dict[str, Any]) -> str:
    """Return the report as the table that stands on the terminal."""
    lines = [f"{'file':<24}{'size':>10}{'INT8 share':>12}{'same label':>12}{'mean change':>13}"
             f"{'largest':>9}"]
    int8 = report.get("int8", {})
    for file, facts in report["files"].items():
        row = f"{file:<24}{facts['bytes'] / 1e6:>7.2f} MB"
        if file in int8:
            row += f"{int8[file]['int8_share']:>12.1%}{agreement_text(int8[file]['agreement'])}"
        lines.append(row)
    if "parity" in report:
        lines.append(f"ONNX against torch: probabilities within "
                     f"{report['parity']['largest_difference']:.1e} on {report['parity']['on']}")
    if int8:
        source = "recorded with the ranges" if int8["ranges"] == "bundled" else "measured just now"
        lines.append(f"INT8 against FP32: {source}, on {int8['faces']} faces")
    if "fp16" in report:
        half = report["fp16"]
        lines.append(f"FP16 against FP32: probabilities within {half['largest_difference']:.1e} on "
                     f"{half['on']}, by onnxruntime, which computes most of it in FP32; largest "
                     f"activation {half['largest_activation']:.0f} of 65504")
    if "plan" in report:
        lines.append(plan_text(report["plan"]))
    lines.append(f"{sum(report['seconds'].values()):.1f} s")
    return "\n".join(lines)


def plan_text(plan: dict[str, Any]) -> str:
    """Return what the table says of a plan."""
    text = (f"{plan['file']}: {plan['precision'].upper()}, {plan['kind']} {plan['version']}, "
            f"compute capability {', '.join(plan['compute_capabilities'])}, batch "
            f"{plan['profile'][0]} to {plan['profile'][2]}, {plan['bytes'] / 1e6:.2f} MB, built in "
            f"{plan['build_seconds']:.1f} s")
    if plan.get("int8_share") is not None:
        text += f"; INT8 {plan['int8_share']:.1%}, by the {plan['int8_share_from']}"
    if "size_against_fp16_weights" in plan:
        text += f", {plan['size_against_fp16_weights']:.2f} of the size of FP16 weights"
    return text


def agreement_text(agreement: dict[str, float] | None) -> str:
    """Return the columns that compare an INT8 graph with FP32."""
    if agreement is None:
        return f"{'unmeasured: 8-bit weights need VNNI':>36}"
    return (f"{agreement['top1']:>12.2%}{agreement['mean_change']:>13.4f}"
            f"{agreement['largest_change']:>9.3f}")


if __name__ == "__main__":
    sys.exit(main())
