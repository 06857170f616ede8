"""Plans that TensorRT-RTX builds from exported networks: size, seconds, share of the work in INT8.

Usage: `python -m feredge.benchmarks.experiments.plans FOLDER NAME [NAME ...] [--detector PATH]
[--json FILE]`

FOLDER holds what `fer-export --name NAME --int8 --fp16` wrote. Nothing is run: no GPU is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feredge.benchmarks.eval.records import write_results
from feredge.export.fer_export import main as fer_export

FORMS = {
    "FP32": ".onnx", "FP16": ".fp16.onnx", "INT8, rest FP32": ".int8.qdq.onnx",
    "INT8, rest FP16": ".int8.fp16.onnx",
}


def built(*arguments: str) -> dict[str, Any]:
    """Build one plan with the command, and return what it reports."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        code = fer_export([*arguments, "--target", "tensorrt-rtx", "--output", folder, "--json"])
    assert code == 0, f"fer-export {' '.join(arguments)} failed"
    plan: dict[str, Any] = json.loads(said.getvalue())["plan"]
    return plan


def main(argv: Sequence[str] | None = None) -> int:
    """Build every plan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--detector")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    rows = [
        {"network": name, "form": form, **built("--onnx", str(options.folder / f"{name}{suffix}"))}
        for name in options.names for form, suffix in FORMS.items()
    ]
    if options.detector:
        rows.append({"network": "YuNet", "form": "FP32", **built("--detector", options.detector)})
    for row in rows:
        print(f"{row['network']}, {row['form']}: {row['build_seconds']:.1f} s, "
              f"{row['bytes'] / 1e6:.1f} MB")
    write_results(options.json, {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
