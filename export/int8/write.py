"""The INT8 files of an export: two graphs from one set of ranges, and the cost of INT8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from feredge.calibration.graphs.gptq import Gptq
from feredge.calibration.graphs.qdq import WEIGHT_BITS, Rounding, round_to_nearest
from feredge.calibration.quality.accuracy import quality_text
from feredge.calibration.quality.plots import save_sensitivity_plot
from feredge.calibration.quality.sensitivity import sensitivity_text
from feredge.calibration.ranges import Ranges
from feredge.export.int8.gate import GateInput, apply_gate, check_validation, gptq_on_faces
from feredge.export.int8.graphs import (
    TENSORRT,
    TENSORRT_FP16,
    Int8Graphs,
    build_graphs,
    measure_agreement,
)
from feredge.export.int8.precisions import write_methods
from feredge.export.int8.ranges import ranges_of
from feredge.export.job import ExportJob
from feredge.export.network.to_onnx import save
from feredge.export.tensorrt.plan_sources import SUFFIX_INT8, SUFFIX_INT8_HALF
from feredge.runtime.spec import TargetSpec


def write_int8(job: ExportJob) -> dict[str, Any]:
    """Write the INT8 graphs and their ranges, and return their part of the report.

    Raises:
        CalibrationError: there are no ranges for this checkpoint, and no faces to measure them on.
        ExportError: too little of a graph is INT8.
        GateError: INT8 costs more than the limits allow.
    """
    ranges, origin = ranges_of(job)
    rounding = round_to_nearest if job.faces is None else gptq_on_faces(job, job.faces)
    keep_float, checks = choose_float_layers(job, ranges, rounding)
    built = build_graphs(job, ranges, keep_float, rounding)
    if job.faces is not None:
        ranges = replace(ranges, recorded=measure_agreement(job, built.graphs))
    job.path(".ranges.json").write_text(ranges.to_json())
    if job.options.sweep_precisions:
        write_methods(job, ranges, keep_float, rounding)
    report = {**ranges_report(job, ranges, origin), **checks, **damping_report(rounding, checks)}
    if job.options.validation_data is not None:
        add_validation(job, built, report)
    return report | write_graphs(job, built, ranges)


def ranges_report(job: ExportJob, ranges: Ranges, origin: str) -> dict[str, Any]:
    """Return the part of the report about the ranges."""
    compared = "recorded with the ranges" if job.faces is None else "measured just now"
    return {"ranges": origin, "faces": ranges.faces, "method": ranges.method,
            "sweep": ranges.sweep, "compared": compared}


def damping_report(rounding: Rounding, checks: dict[str, Any]) -> dict[str, Any]:
    """Return the layers in which GPTQ needed more damping, None where none sufficed."""
    if not isinstance(rounding, Gptq) or not rounding.damping:
        return {}
    damping = {name: value if isfinite(value) else None for name, value in rounding.damping.items()}
    return {"gptq_damping": damping, "tables": [*checks["tables"], rounding.damping_text()]}


def choose_float_layers(
    job: ExportJob, ranges: Ranges, rounding: Rounding
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the patterns of the layers that stay in FP32, and what the report states of them.

    Raises:
        GateError: INT8 costs more than the limits allow with any choice of layers.
    """
    if job.faces is None:
        return tuple(job.network.keep_float), {"tables": []}
    subject = GateInput(job, ranges, job.faces, rounding)
    keep_float, report = apply_gate(subject, job)
    if job.options.sensitivity:
        rows = subject.rank(TENSORRT)
        save_sensitivity_plot(rows, job.path(".sensitivity.png"))
        report["sensitivity"] = [asdict(row) for row in rows]
        report["tables"].append(sensitivity_text(rows))
    return keep_float, report


def add_validation(job: ExportJob, built: Int8Graphs, report: dict[str, Any]) -> None:
    """Measure the written graphs on the faces of `--validation-data`, and add it to the report."""
    found = check_validation(job, {key: built.graphs[key] for key in (TENSORRT, built.cpu)})
    report["validation"] = asdict(found)
    report["tables"].append(quality_text(found))


def write_graphs(job: ExportJob, built: Int8Graphs, ranges: Ranges) -> dict[str, Any]:
    """Write the graphs with their specs, and return the part of the report about each file."""
    report = {}
    calibration = {"method": ranges.method, "faces": ranges.faces, "sha256": ranges.faces_sha256}
    for suffix, key, target in targets(job, built):
        facts = {"int8_share": built.shares[key], "agreement": ranges.recorded.get(key)}
        spec = replace(job.spec, precision="int8", target=target, calibration=calibration,
                       quality={**job.spec.quality, **facts})
        save(built.graphs[key], spec, job.path(suffix))
        report[f"{job.name}{suffix}"] = facts
    return report


def targets(job: ExportJob, built: Int8Graphs) -> Iterator[tuple[str, str, TargetSpec]]:
    """Yield the suffix of each file, the name of its graph, and its target."""
    cpu = job.options.cpu
    yield ".int8.onnx", built.cpu, TargetSpec("onnx", cpu, WEIGHT_BITS[cpu])
    yield SUFFIX_INT8, TENSORRT, TargetSpec("tensorrt")
    if job.options.fp16:
        yield SUFFIX_INT8_HALF, TENSORRT_FP16, TargetSpec("tensorrt", flags=("strongly_typed",))
