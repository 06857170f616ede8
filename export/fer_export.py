"""Export a trained network to ONNX and to INT8, with a report of what that cost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from feredge.runtime.command import add_detector_arguments, new_parser, positive, run_command
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import require

PROGRAM = "fer-export"
MODELS = ("manet",)  # without importing torch; a test holds it to the registry


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--model", required=True, choices=MODELS, help="the network")
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
    add_detector_arguments(parser)
    add_checkpoint_arguments(parser)
    return parser


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
    """Export, then print the report."""
    for package in ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm"):
        require(package, "export")
    from feredge.export.exporter import ExportOptions, export
    from feredge.export.steps import Steps

    chosen = {key: value for key, value in vars(options).items() if key not in ("debug", "json")}
    report = export(ExportOptions(**chosen), Steps(quiet=options.json))
    print(json.dumps(report, indent=1) if options.json else report_text(report))
    return 0


def report_text(report: dict[str, Any]) -> str:
    """Return the report as the table that stands on the terminal."""
    parity = report["parity"]
    lines = [f"{'file':<24}{'size':>10}{'INT8 share':>12}{'same label':>12}{'mean change':>13}"
             f"{'largest':>9}"]
    int8 = report.get("int8", {})
    for file, facts in report["files"].items():
        row = f"{file:<24}{facts['bytes'] / 1e6:>7.2f} MB"
        if file in int8:
            row += f"{int8[file]['int8_share']:>12.1%}{agreement_text(int8[file]['agreement'])}"
        lines.append(row)
    lines.append(f"ONNX against torch: probabilities within {parity['largest_difference']:.1e} on "
                 f"{parity['on']}")
    if int8:
        source = "recorded with the ranges" if int8["ranges"] == "bundled" else "measured just now"
        lines.append(f"INT8 against FP32: {source}, on {int8['faces']} faces")
    lines.append(f"{sum(report['seconds'].values()):.1f} s")
    return "\n".join(lines)


def agreement_text(agreement: dict[str, float] | None) -> str:
    """Return the columns that compare an INT8 graph with FP32."""
    if agreement is None:
        return f"{'unmeasured: 8-bit weights need VNNI':>36}"
    return (f"{agreement['top1']:>12.2%}{agreement['mean_change']:>13.4f}"
            f"{agreement['largest_change']:>9.3f}")


if __name__ == "__main__":
    sys.exit(main())
