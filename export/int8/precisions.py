"""`--sweep-precisions`: FP32, FP16, and INT8 by both calibration methods, compared on one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.qdq import WEIGHT_BITS, Rounding, cpu_graph
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.quality.accuracy import LabeledQuality, measure_quality
from feredge.calibration.quality.agreement import agreements
from feredge.calibration.ranges import Ranges
from feredge.export.int8.ranges import with_method
from feredge.export.job import ExportJob
from feredge.export.network.to_onnx import save
from feredge.export.tensorrt.plan_sources import SUFFIX_HALF
from feredge.runtime.spec import TargetSpec

SWEPT_METHODS = ("max", "entropy")  # those of TensorRT's calibrators
SWEPT_SUFFIXES = tuple(f".int8.{method}.onnx" for method in SWEPT_METHODS)


def write_methods(
    job: ExportJob, ranges: Ranges, keep_float: Sequence[str], rounding: Rounding
) -> None:
    """Write the INT8 graph for CPUs by every swept method.

    Args:
        job: the export.
        ranges: by all methods.
        keep_float: patterns of the layers that stay in FP32.
        rounding: of the weights.

    Raises:
        CalibrationError: the ranges lack a method.
    """
    cpu = job.options.cpu
    for method, suffix in zip(SWEPT_METHODS, SWEPT_SUFFIXES):
        swept = with_method(ranges, method)
        graph = cpu_graph(job.model, swept, keep_float, WEIGHT_BITS[cpu], rounding)
        facts = {"method": method, "faces": ranges.faces, "sha256": ranges.faces_sha256}
        save(graph, replace(job.spec, precision="int8", calibration=facts,
                            target=TargetSpec("onnx", cpu, WEIGHT_BITS[cpu])), job.path(suffix))


def compare_precisions(job: ExportJob) -> dict[str, Any]:
    """Compare the written files with FP32 on validation faces, else on calibration faces.

    Returns:
        The faces, and a row per file; without faces its size alone.
    """
    files = {"FP32": ".onnx", "FP16": SUFFIX_HALF,
             **{f"INT8, {method}": suffix
                for method, suffix in zip(SWEPT_METHODS, SWEPT_SUFFIXES)}}
    paths = {name: job.path(suffix) for name, suffix in files.items()}
    rows: list[dict[str, Any]] = [
        {"precision": name, "file": path.name, "bytes": path.stat().st_size}
        for name, path in paths.items()]
    folder = job.options.validation_data or job.options.calibration_data
    if folder is None:
        return {"faces": None, "rows": rows}
    with job.steps.step("compare the precisions"):
        found = measure_files(job, paths)
    return {"faces": Path(folder).name, "rows": [row | found[row["precision"]] for row in rows]}


def measure_files(job: ExportJob, paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return agreement with FP32, and on labeled faces accuracy and calibration error, by name."""
    reference = session_of(job.model)
    cpu = f"cpu-{WEIGHT_BITS[job.options.cpu]}bit"
    sessions = {name: evaluation_session(cpu if name.startswith("INT8") else name, ir.load(path))
                for name, path in paths.items()}
    if job.options.validation_data is None:
        assert job.faces is not None
        batches = job.steps.bar(job.faces.batches(), job.faces)
        return {name: {"agreement": asdict(agreed)}
                for name, agreed in agreements(reference, sessions, batches).items()}
    faces = FaceFolder(job.options.validation_data, job.spec.input, job.spec.crop, recommended=0)
    labeled = job.steps.bar(faces.labeled_batches(job.spec.labels), faces)
    return labeled_rows(measure_quality(reference, sessions, labeled, job.spec.labels))


def labeled_rows(found: LabeledQuality) -> dict[str, dict[str, Any]]:
    """Return the part of each row that is measured on labeled faces."""
    return {name: {"agreement": asdict(found.costs[name].agreement), "accuracy": graph.accuracy,
                   "calibration_error": graph.calibration_error}
            for name, graph in found.graphs.items()}
