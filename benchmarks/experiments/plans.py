"""Plans that TensorRT-RTX builds from exported networks: size, build time, share of INT8.

Usage: `python -m feredge.benchmarks.experiments.plans FOLDER NAME [NAME ...] [--detector PATH]
[--json FILE]`

FOLDER holds the files of `fer-export --name NAME --int8 --fp16`. No plan is run: no GPU is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.export.fer_export import main as fer_export

FORMS = {
    "FP32": ".onnx", "FP16": ".fp16.onnx", "INT8, rest FP32": ".int8.qdq.onnx",
    "INT8, rest FP16": ".int8.fp16.onnx",
}


def build_plan(*arguments: str) -> dict[str, Any]:
    """Build one plan with fer-export, and return its part of the report."""
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(output):
        code = fer_export([*arguments, "--target", "tensorrt-rtx", "--output", folder, "--json"])
    assert code == 0, f"fer-export {' '.join(arguments)} failed"
    plan: dict[str, Any] = json.loads(output.getvalue())["plan"]
    return plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--detector")


def measure(options: argparse.Namespace) -> Results:
    """Build every plan."""
    rows = [
        {"network": name, "form": form,
         **build_plan("--onnx", str(options.folder / f"{name}{suffix}"))}
        for name in options.names for form, suffix in FORMS.items()
    ]
    if options.detector:
        rows.append({"network": "detector", "form": "FP32",
                     **build_plan("--detector", options.detector)})
    return {"rows": rows}


def describe(results: Results) -> str:
    """Return the results as text."""
    return "\n".join(f"{row['network']}, {row['form']}: {row['build_seconds']:.1f} s, "
                     f"{row['bytes'] / 1e6:.1f} MB" for row in results["rows"])


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
