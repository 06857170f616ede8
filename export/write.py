"""The files of an export, in order; all of them appear at the end, or none."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from feredge.calibration.ranges import Ranges
from feredge.export.confidence import calibrate_confidence, int8_error
from feredge.export.confidence_file import confidence_of
from feredge.export.fp16 import check_fp16_fits, check_fp16_probabilities, fp16_graph
from feredge.export.int8.gate import GateError
from feredge.export.int8.precisions import SWEPT_SUFFIXES, compare_precisions
from feredge.export.int8.ranges import bundled_ranges
from feredge.export.int8.write import write_int8
from feredge.export.job import ExportJob
from feredge.export.models.registry import network_named
from feredge.export.network.parity import check_parity, parity_crops
from feredge.export.network.to_onnx import save
from feredge.export.options import ExportOptions
from feredge.export.prepare import open_job
from feredge.export.report.html import html_report
from feredge.export.serving import ServedModel, plan_for_servers, write_serving
from feredge.export.staging import (
    StagingFolder,
    check_inputs,
    check_name,
    check_served,
    check_space,
    described_files,
)
from feredge.export.steps import Steps
from feredge.export.tensorrt.options import PlanOptions, check_options
from feredge.export.tensorrt.plan_files import (
    SUFFIX_HALF,
    SUFFIX_INT8,
    source_of,
    suffix_for,
    write_plan,
)
from feredge.export.tensorrt.versions import TensorRT, chosen_kind, tensorrt_of
from feredge.runtime.errors import CalibrationError, PackageError, require
from feredge.runtime.machine import describe_machine

# Of every file that an export may write.
SUFFIXES = (".onnx", ".int8.onnx", ".int8.qdq.onnx", ".fp16.onnx", ".int8.fp16.onnx", ".plan",
            ".plan.json", ".ranges.json", ".sensitivity.png", ".sensitivity.svg", ".report.json",
            ".report.html", ".reliability.png", *SWEPT_SUFFIXES)


def write_export(options: ExportOptions) -> dict[str, Any]:
    """Export a network; see `feredge.export.export`."""
    name = check_name(options.name or network_named(options.model).name)
    output, steps = Path(options.output), Steps(options.quiet)
    check_inputs(output, [f"{name}{suffix}" for suffix in SUFFIXES],
                 (options.checkpoint, options.backbone_from, options.ranges, options.confidence),
                 (options.calibration_data, options.validation_data))
    if options.serving is not None:
        check_served(output / f"{name}.{options.serving}",
                     (options.checkpoint, options.backbone_from, options.ranges,
                      options.calibration_data, options.validation_data))
    try:
        with StagingFolder(output) as folder:
            return write_files(options, folder, name, steps)
    except GateError as error:
        with StagingFolder(output) as folder:
            report = {"failed": str(error), "int8": error.report, "seconds": steps.seconds,
                      "environment": describe_machine()}
            write_report(report, folder, name, options.report)
        raise


def write_files(options: ExportOptions, folder: Path, name: str, steps: Steps) -> dict[str, Any]:
    """Write every file of an export into a folder, the report last, and return the report."""
    rt = plan_builder(options.plan)
    job = open_job(options, folder, name, steps)
    check_space(folder, size_of_files(job))
    job, report = apply_temperature(check_parity(job))
    job = with_confidence(job)
    save(job.model, job.spec, job.path(".onnx"))
    report |= {"model": json.loads(job.spec.to_json()), "parity": job.spec.quality["parity"]}
    if options.int8:
        report["int8"] = write_int8(job)
        if options.calibrate_confidence:
            report["confidence"]["int8_error_after"] = int8_error(job)
    if options.fp16:
        report["fp16"] = write_fp16(job)
    if options.sweep_precisions:
        report["precisions"] = compare_precisions(job)
    if rt is not None:
        source = source_of(job.path(suffix_for(options.plan, rt)))
        report["plan"] = write_plan(source, options.plan, rt, folder, name, steps)
    if options.serving is not None:
        write_serving(options.serving, served_model(job), job.path(f".{options.serving}"))
    report |= {"seconds": steps.seconds, "files": described_files(folder),
               "environment": describe_machine()}
    write_report(report, folder, name, options.report)
    return report


def served_model(job: ExportJob) -> ServedModel:
    """Return the files of an export that an inference server runs."""
    files = {suffix: job.path(suffix) for suffix in (".int8.onnx", SUFFIX_INT8, ".plan")
             if job.path(suffix).is_file()}
    return ServedModel(job.name, job.spec, files.get(".int8.onnx", job.path(".onnx")),
                       files.get(SUFFIX_INT8), plan_for_servers(files.get(".plan")),
                       job.options.plan.max_batch)


def size_of_files(job: ExportJob) -> int:
    """Return about how many bytes an export writes: FP32, Q/DQ, INT8, FP16 and a plan."""
    weights = sum(tensor.nbytes for tensor in job.module.state_dict().values())
    int8 = 1.4 * job.options.int8 + 0.6 * job.options.sweep_precisions
    return int(weights * (1 + int8 + job.options.fp16
                          + (job.options.plan.target != "onnx")))


def apply_temperature(job: ExportJob) -> tuple[ExportJob, dict[str, Any]]:
    """Return the job and the start of its report, with `--calibrate-confidence` calibrated."""
    if not job.options.calibrate_confidence:
        return job, {}
    job, facts = calibrate_confidence(job)
    return job, {"confidence": facts}


def with_confidence(job: ExportJob) -> ExportJob:
    """Return the job with the model of the confidence in its spec; see `confidence_of`."""
    options = job.options
    model = confidence_of(job.network, job.spec, options.confidence, options.detector.path is None)
    return replace(job, spec=replace(job.spec, confidence=model))


def write_report(report: Mapping[str, Any], folder: Path, name: str, form: str | None) -> None:
    """Write the report as JSON, and as a page if `form` is html."""
    (folder / f"{name}.report.json").write_text(json.dumps(report, indent=1) + "\n")
    if form == "html":
        (folder / f"{name}.report.html").write_text(html_report(report), encoding="utf-8")


def plan_builder(plan: PlanOptions) -> TensorRT | None:
    """Return the TensorRT that builds the plan; None if no plan is to be built.

    The target `auto` builds one if everything is installed, and continues without it otherwise.

    Raises:
        PackageError: it is not installed.
        ExportError: it does not support the options, or needs a GPU.
    """
    try:
        kind = chosen_kind(plan.target)
        if kind is None:
            return None
        rt = tensorrt_of(kind)
        require("polygraphy", kind)
    except PackageError as error:
        if plan.target != "auto":
            raise
        warnings.warn(f"no plan is built: {error}", stacklevel=2)
        return None
    check_options(plan, rt)
    rt.compute_capabilities()
    return rt


def write_fp16(job: ExportJob) -> dict[str, Any]:
    """Write the FP16 graph, and return its part of the report.

    Raises:
        ExportError: FP16 cannot hold an activation, or changes the probabilities.
    """
    with job.steps.step("convert to FP16"):
        crops, origin = parity_crops(job.spec, job.faces)
        ranges = known_ranges(job)
        largest = check_fp16_fits(job.model, crops, ranges)
        graph = fp16_graph(job.model)
        difference = check_fp16_probabilities(graph, job.model, crops)
    facts = {"largest_activation": largest, "largest_difference": difference, "on": origin,
             "recorded_ranges": len(ranges)}
    spec = replace(job.spec, precision="fp16", quality={**job.spec.quality, "fp16": facts})
    save(graph, spec, job.path(SUFFIX_HALF))
    return facts


def known_ranges(job: ExportJob) -> Mapping[str, Any]:
    """Return the ranges of this export or the bundled ones; empty if there are none."""
    path = job.path(".ranges.json")
    if path.is_file():
        return Ranges.from_json(path.read_text()).values
    try:
        return bundled_ranges(job.network, job.spec).values
    except CalibrationError:
        return {}
