"""Plans as files: built, with a sidecar and a report beside each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from feredge.export.staging import StagingFolder, described_files, file_sha256
from feredge.export.steps import Steps
from feredge.export.tensorrt.builder import Build, Plan, PlanOptions, check_options, plan_from_onnx
from feredge.export.tensorrt.options import uses_calibrator
from feredge.export.tensorrt.plan_sources import (
    SUFFIX_HALF,
    SUFFIX_INT8,
    SUFFIX_INT8_HALF,
    Source,
    check_form,
    ranges_beside,
    source_of,
    suffix_for,
    with_file_precision,
)
from feredge.export.tensorrt.versions import TensorRT, chosen_kind, tensorrt_of
from feredge.runtime.errors import EngineError, ExportError, require
from feredge.runtime.spec import INPUT_NAME, DetectorSpec, TargetSpec

__all__ = [
    "SUFFIX_HALF", "SUFFIX_INT8", "SUFFIX_INT8_HALF", "build_detector", "build_from_onnx",
    "source_of", "suffix_for", "write_plan",
]

STRIDE_MAX = 32  # a detector's canvas has sides that this divides


def write_plan(
    source: Source, options: PlanOptions, rt: TensorRT, folder: Path, name: str, steps: Steps
) -> dict[str, Any]:
    """Build `NAME.plan` with its sidecar, and return what the report says of it."""
    options = with_file_precision(source, options, rt)
    check_options(options, rt)
    check_form(source, options, rt)
    side, spec = source.spec.input.side, source.spec
    shapes = tuple((batch, 3, side, side) for batch in options.profile)
    ranges = ranges_beside(source) if uses_calibrator(options, rt) else None
    build = Build({INPUT_NAME: (shapes[0], shapes[1], shapes[2])}, options, rt, ranges)
    gpus = rt.compute_capabilities()
    with steps.step(f"build the plan with {rt.kind} {rt.version}"):
        plan = plan_from_onnx(source.onnx, build, steps.quiet)
    precision = "int8" if options.int8 else "fp16" if options.fp16 else "fp32"
    path = folder / f"{name}.plan"
    path.write_bytes(plan.content)
    target = target_of(plan, build, gpus, options.profile, source.onnx)
    spec = replace(spec, precision=precision, target=target, sha256=file_sha256(path),
                   quality={**spec.quality, **plan.int8})
    path.with_name(f"{path.name}.json").write_text(spec.to_json() + "\n")
    return plan_report(path, plan, spec.target, precision, steps)


def target_of(
    plan: Plan, build: Build, gpus: tuple[str, ...], profile: tuple[int, int, int], onnx: Path
) -> TargetSpec:
    """Return the target of a plan, as its sidecar records it."""
    return TargetSpec(build.rt.kind, version=build.rt.version, compute_capabilities=gpus,
                      profile=profile, flags=plan.flags, onnx_sha256=file_sha256(onnx),
                      dla_core=build.options.dla)


def plan_report(
    path: Path, plan: Plan, target: TargetSpec, precision: str, steps: Steps
) -> dict[str, Any]:
    """Return the report's section on a plan."""
    return {
        "file": path.name, "kind": target.kind, "version": target.version, "precision": precision,
        "compute_capabilities": target.compute_capabilities, "profile": target.profile,
        "flags": target.flags, "bytes": len(plan.content),
        "build_seconds": list(steps.seconds.values())[-1], **plan.int8,
    }


def device_tensorrt(target: str) -> TensorRT:
    """Return the TensorRT of a build from an ONNX file.

    Raises:
        ExportError: `--target` is onnx, or `auto` found none.
        PackageError: the one that was asked for is not installed.
    """
    if target == "onnx":
        raise ExportError("--target onnx builds no plan; pass --target tensorrt or tensorrt-rtx")
    kind = chosen_kind(target)
    if kind is None:
        raise ExportError("there is no plan to build: neither TensorRT with a GPU nor TensorRT-RTX "
                          "is here; pip install 'feredge[tensorrt]' or 'feredge[tensorrt-rtx]', "
                          "and pass --target tensorrt or tensorrt-rtx")
    rt = tensorrt_of(kind)
    require("polygraphy", kind)
    return rt


def build_from_onnx(
    onnx: Path, options: PlanOptions, output: Path, name: str | None, steps: Steps
) -> dict[str, Any]:
    """Build a plan from an exported ONNX file: no torch, no onnx, one extra.

    Returns:
        The report, as it is written to `NAME.plan.report.json`.

    Raises:
        FeredgeError: what went wrong; no file is left then.
    """
    source = source_of(onnx)
    rt = device_tensorrt(options.target)
    with StagingFolder(output) as folder:
        built = write_plan(source, options, rt, folder, name or source.name, steps)
        return with_report(built, folder, name or source.name, steps)


def with_report(built: dict[str, Any], folder: Path, name: str, steps: Steps) -> dict[str, Any]:
    """Write the report of a build, and return it."""
    report = {"plan": built, "seconds": steps.seconds, "files": described_files(folder)}
    (folder / f"{name}.plan.report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def build_detector(
    onnx: Path, size_px: int, options: PlanOptions, output: Path, name: str | None, steps: Steps
) -> dict[str, Any]:
    """Build the plan of a YuNet-format face detector, in FP32, for canvases up to `size_px`.

    Raises:
        FeredgeError: what went wrong; no file is left then.
    """
    if options.fp16 or options.int8:
        raise ExportError("a detector's plan is FP32: its scores in less have not been checked; "
                          "leave --fp16 and --int8 out")
    rt = device_tensorrt(options.target)
    check_options(options, rt)
    shapes, size_px = detector_shapes(onnx, size_px)
    gpus = rt.compute_capabilities()
    name = name or onnx.stem
    with StagingFolder(output) as folder:
        with steps.step(f"build the detector's plan with {rt.kind} {rt.version}"):
            build = Build(shapes, options, rt)
            plan = plan_from_onnx(onnx, build, steps.quiet)
        path = folder / f"{name}.plan"
        path.write_bytes(plan.content)
        target = target_of(plan, build, gpus, (1, 1, 1), onnx)
        sidecar = DetectorSpec(target, file_sha256(path), size_px)
        path.with_name(f"{path.name}.json").write_text(sidecar.to_json() + "\n")
        return with_report(plan_report(path, plan, target, "fp32", steps), folder, name, steps)


def detector_shapes(
    onnx: Path, size_px: int
) -> tuple[Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]], int]:
    """Return the shapes of a detector's input, and the longest side of its canvas.

    Usual is a picture of 16 to 9, lying.

    Raises:
        EngineError: it is missing, or not in YuNet's format.
    """
    from feredge.runtime.detect.yunet import input_of
    from feredge.runtime.engines.onnxruntime import open_session

    if not onnx.is_file():
        raise EngineError(f"detector {onnx} does not exist")
    input_name, fixed = input_of(open_session(onnx), onnx)
    if fixed is not None:
        shape = (1, 3, *fixed)
        return {input_name: (shape, shape, shape)}, max(fixed)
    most = -(-size_px // STRIDE_MAX) * STRIDE_MAX
    height = -(-size_px * 9 // 16 // STRIDE_MAX) * STRIDE_MAX
    least = (1, 3, STRIDE_MAX, STRIDE_MAX)
    return {input_name: (least, (1, 3, height, most), (1, 3, most, most))}, most
