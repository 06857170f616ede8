"""INT8 of the same network by several quantizers, on the same faces.

Usage: `python -m feredge.benchmarks.experiments.quantizers EXPORTED CALIBRATION LABELED [--json
FILE]`

EXPORTED is the folder of `fer-export --int8 --cpu avx2`; CALIBRATION holds face crops, LABELED one
folder of them per class. `--modelopt PYTHON` is the interpreter of an environment with
`nvidia-modelopt[onnx]`; without it NVIDIA's rows are left out. `--only NAME ...` measures some rows
and keeps the others of FILE.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from feredge.benchmarks.eval.records import write_results
from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.quantization_methods import QUANTIZERS, Inputs, batches
from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.quality import agreement as quality
from feredge.export.models import manet  # noqa: F401  (enters the registry)
from feredge.export.models.registry import NETWORKS
from feredge.runtime.results import Array
from feredge.runtime.spec import METADATA_KEY, ModelSpec


def predict(model: ir.Model, crops: Array, integer_kernels: bool = True) -> Array:
    """Return the probabilities of a graph, `(n, classes)`."""
    session = session_of(model, integer_kernels=integer_kernels)
    return quality.predictions({"graph": session}, batches(crops))["graph"]


def judge(probabilities: Array, reference: Array, truth: Array) -> dict[str, float]:
    """Return accuracy, top-1 agreement with FP32 and the mean KL(FP32 || INT8) in nats.

    Args:
        probabilities: `(n, classes)` of the INT8 graph.
        reference: `(n, classes)` of the FP32 graph.
        truth: `(n,)` class numbers.
    """
    agreement = quality.agreement(reference, probabilities)
    return {
        "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "same_label_as_fp32": agreement.top1,
        "mean_kl": agreement.kl,
    }


def measure_quantizer(
    name: str, inputs: Inputs, crops: Array, reference: Array, truth: Array
) -> dict[str, Any]:
    """Quantize in one way, and judge the graph on labeled crops."""
    quantizer = QUANTIZERS[name]
    step = 1 if quantizer.faces is None else max(len(inputs.crops) // quantizer.faces, 1)
    inputs = replace(inputs, crops=np.ascontiguousarray(inputs.crops[::step]))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        start_s = time.perf_counter()
        quantizer.write(inputs, target)
        seconds = time.perf_counter() - start_s
        predictions = predict(ir.load(target), crops, quantizer.integer_kernels)
        return {"quantiser": name, "settings": quantizer.settings,
                "calibration_faces": len(inputs.crops), "seconds": seconds,
                "bytes": target.stat().st_size,
                "judged_in": "integers" if quantizer.integer_kernels else "float",
                **judge(predictions, reference, truth)}


def select_names(options: argparse.Namespace) -> list[str]:
    """Return the names of the rows to measure."""
    return [name for name in QUANTIZERS
            if (options.only is None or name in options.only)
            and (options.modelopt is not None or not name.startswith("Model Optimizer"))]


def read_crops(folder: Path, spec: ModelSpec) -> Sequence[Array]:
    """Return all crops of a folder, `(n, 3, side, side)`, and their classes, `(n,)`."""
    faces = FaceFolder(folder, spec.input, spec.crop)
    return list(map(np.concatenate, zip(*faces.labeled_batches(spec.labels))))


def previous_rows(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the rows of FILE by name, if only some rows are measured anew."""
    if not (options.only and options.json and options.json.is_file()):
        return {}
    return {row["quantiser"]: row for row in json.loads(options.json.read_text())["rows"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("exported", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("labeled", type=Path)
    parser.add_argument("--modelopt", metavar="PYTHON")
    parser.add_argument("--only", nargs="+", choices=QUANTIZERS)


def measure(options: argparse.Namespace) -> Results:
    """Measure every quantizer; the results so far are written after each."""
    onnx = options.exported / "manet.onnx"
    model = ir.load(onnx)
    spec = ModelSpec.from_json(model.metadata_props[METADATA_KEY])
    crops, truth = read_crops(options.labeled, spec)
    inputs = Inputs(onnx, model, read_crops(options.calibration, spec)[0],
                    NETWORKS[spec.model].keep_float, options.modelopt)
    reference = predict(model, crops)
    rows = previous_rows(options)
    rows["FP32"] = {"quantiser": "FP32", "bytes": onnx.stat().st_size,
                    **judge(reference, reference, truth)}
    results: Results = {"data": options.labeled.name, "faces": len(crops)}
    for name in select_names(options):
        rows[name] = measure_quantizer(name, inputs, crops, reference, truth)
        results["rows"] = list(rows.values())
        write_results(options.json, results)
    return results


def describe(results: Results) -> str:
    """Return the results as text."""
    return "\n".join(map(json.dumps, results["rows"]))


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
