"""Write the bundled INT8 network: what fer-export makes of the bundled checkpoint and ranges."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import feredge.runtime
from feredge.export.exporter import export
from feredge.export.models.registry import WEIGHTS, network_named
from feredge.export.options import ExportOptions
from feredge.runtime.command import new_parser, run_command
from feredge.runtime.errors import ExportError
from feredge.runtime.files import atomic_write

PROGRAM = "python -m feredge.export.bundle"
MODEL, FILE = "manet", "manet.int8.onnx"
FOLDER = Path(feredge.runtime.__file__).parent / "weights"
MIN_AGREEMENT = 0.995


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--calibration-data", required=True, metavar="DIR",
                        help="the faces of the bundled ranges, for the rounding of the weights")
    parser.add_argument("--validation-data", required=True, metavar="DIR",
                        help="labeled faces on which the network must agree with FP32")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    options = arguments().parse_args(argv)
    return run_command(PROGRAM, lambda: write_bundle(options), options.debug)


def write_bundle(options: argparse.Namespace) -> int:
    """Export the bundled checkpoint to INT8, check it, and write the graph with its card.

    Raises:
        ExportError: top-1 agreement with FP32 on the validation faces is under `MIN_AGREEMENT`.
    """
    checkpoint = WEIGHTS / str(network_named(MODEL).checkpoint)
    ranges = checkpoint.with_suffix(".ranges.json")
    with tempfile.TemporaryDirectory() as folder:
        report = export(ExportOptions(
            MODEL, int8=True, ranges=str(ranges), calibration_data=options.calibration_data,
            validation_data=options.validation_data, output=folder))
        check_agreement(report)
        with atomic_write(FOLDER / FILE) as file:
            shutil.copyfile(Path(folder) / FILE, file)
    with atomic_write(FOLDER / "manet.int8.md") as file:
        file.write_text(card(report, Path(options.validation_data).name), encoding="utf-8")
    print(card(report, Path(options.validation_data).name))
    return 0


def check_agreement(report: dict[str, Any]) -> None:
    """Check that the CPU graph predicts what FP32 predicts.

    Raises:
        ExportError: it differs too often.
    """
    top1 = cpu_cost(report)["agreement"]["top1"]
    if top1 < MIN_AGREEMENT:
        raise ExportError(f"top-1 agreement with FP32 is {top1:.2%} on the validation faces, "
                          f"expected {MIN_AGREEMENT:.1%} or more; nothing was written")


def cpu_cost(report: dict[str, Any]) -> dict[str, Any]:
    """Return the cost of the CPU graph on the validation faces."""
    costs: dict[str, dict[str, Any]] = report["int8"]["validation"]["costs"]
    return next(cost for key, cost in costs.items() if key.startswith("cpu"))


def card(report: dict[str, Any], faces: str) -> str:
    """Return the card of the bundled network as Markdown."""
    int8, model = report["int8"], report["model"]
    quality = int8["validation"]
    accuracy = next(value for key, value in quality["graphs"].items() if key.startswith("cpu"))
    rows = {
        "file": f"`{FILE}`, {report['files'][FILE]['bytes'] / 1e6:.2f} MB, SHA-256 "
                f"{report['files'][FILE]['sha256']}",
        "checkpoint": f"`{network_named(MODEL).checkpoint}`, SHA-256 "
                      f"{model['source']['checkpoint_sha256']}",
        "written by": f"`{PROGRAM} --calibration-data FACES --validation-data FACES`",
        "ranges": f"the bundled ones, {int8['method']}, {int8['faces']} faces; weights rounded by "
                  "GPTQ on the same faces",
        "INT8": f"{int8[FILE]['int8_share']:.1%} of the convolution work",
        f"on {faces}": f"{quality['fp32']['faces']} faces: top-1 agreement with FP32 "
                       f"{cpu_cost(report)['agreement']['top1']:.2%}, accuracy "
                       f"{accuracy['accuracy']:.2%} (FP32 {quality['fp32']['accuracy']:.2%})",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"# {FILE} (MA-Net in INT8 for CPUs)\n\n| | |\n| --- | --- |\n{table}\n"


if __name__ == "__main__":
    sys.exit(main())
