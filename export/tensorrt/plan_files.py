"""Plans as files: which ONNX file a TensorRT is given, and the sidecar beside every plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from feredge.calibration.ranges import Ranges
from feredge.export.staging import described_files, file_sha256, staged
from feredge.export.steps import Steps
from feredge.export.tensorrt.builder import (
    Plan,
    PlanOptions,
    check_options,
    is_typed,
    plan_from_onnx,
)
from feredge.export.tensorrt.versions import NEWEST_WEAK_OPSET, TensorRT, chosen_kind, tensorrt_of
from feredge.runtime.errors import CalibrationError, EngineError, ExportError, require
from feredge.runtime.spec import INPUT_NAME, DetectorSpec, ModelSpec, TargetSpec

STRIDE_MAX = 32  # a detector's canvas has sides that this divides
SUFFIX_INT8, SUFFIX_HALF, SUFFIX_INT8_HALF = ".int8.qdq.onnx", ".fp16.onnx", ".int8.fp16.onnx"


@dataclass(frozen=True)
class Source:
    """An ONNX file to build from, with its ModelSpec."""

    onnx: Path
    spec: ModelSpec

    @property
    def name(self) -> str:
        """Return what its export was called."""
        endings = (SUFFIX_INT8, SUFFIX_INT8_HALF, ".int8.onnx", SUFFIX_HALF, ".onnx")
        ending = next((end for end in endings if self.onnx.name.endswith(end)), "")
        return self.onnx.name.removesuffix(ending)

    @property
    def is_typed(self) -> bool:
        """Tell whether its types say what runs in FP16, so that only strong typing takes it."""
        return self.spec.precision == "fp16" or "strongly_typed" in self.spec.target.flags


def source_of(onnx: Path) -> Source:
    """Open an ONNX file that `fer-export` wrote.

    Raises:
        EngineError: it is missing or damaged.
        SpecError: it carries no ModelSpec.
    """
    from feredge.runtime.engines.onnxruntime import check_signature, embedded_spec, open_session

    if not onnx.is_file():
        raise EngineError(f"{onnx} does not exist; export it with: fer-export --model manet --int8")
    session = open_session(onnx)
    spec = embedded_spec(session, onnx)
    check_signature(session, spec, onnx)
    return Source(onnx, spec)


def suffix_for(options: PlanOptions, rt: TensorRT) -> str:
    """Return how the file is called, behind NAME, that a TensorRT is given for a precision."""
    typed = is_typed(options, rt)
    if options.int8 and not options.calibrates:
        return SUFFIX_INT8_HALF if typed and options.fp16 else SUFFIX_INT8
    return SUFFIX_HALF if typed and options.fp16 else ".onnx"


def settled(source: Source, options: PlanOptions) -> PlanOptions:
    """Return the options with the precision that a file itself has.

    Raises:
        ExportError: the file cannot give what was asked for.
    """
    spec, file = source.spec, source.onnx.name
    if spec.precision == "int8" and spec.target.kind == "onnx":
        raise ExportError(f"{file} is the INT8 graph for CPUs, whose form TensorRT refuses; build "
                          f"from {source.name}{SUFFIX_INT8}")
    options = replace(options, int8=options.int8 or spec.precision == "int8",
                      fp16=options.fp16 or source.is_typed)
    if options.calibrates and spec.precision != "fp32":
        raise ExportError(f"a calibrator starts from FP32: build from {source.name}.onnx")
    if options.int8 and not options.calibrates and spec.precision != "int8":
        raise ExportError(f"{file} is {spec.precision.upper()}, INT8 was asked for; build from "
                          f"{source.name}{SUFFIX_INT8}")
    return options


def check_form(source: Source, options: PlanOptions, rt: TensorRT) -> None:
    """Refuse a graph whose types a TensorRT would take for something else.

    Raises:
        ExportError: names the file to build from.
    """
    wanted = f"{source.name}{suffix_for(options, rt)}"
    if source.is_typed and not is_typed(options, rt):
        raise ExportError(f"{source.onnx.name} says its types itself (opset 19), {rt.kind} "
                          f"{rt.version} builds from opset {NEWEST_WEAK_OPSET} and flags; build "
                          f"from {wanted}")
    if options.fp16 and is_typed(options, rt) and not source.is_typed:
        raise ExportError(f"{source.onnx.name} is FP32 where it is not INT8, and {rt.kind} "
                          f"{rt.version} takes types from the graph alone; build from {wanted}, "
                          "which fer-export --model writes with --fp16")


def write_plan(
    source: Source, options: PlanOptions, rt: TensorRT, folder: Path, name: str, steps: Steps
) -> dict[str, Any]:
    """Build `NAME.plan` with its sidecar, and return what the report says of it."""
    options = settled(source, options)
    check_options(options, rt)
    check_form(source, options, rt)
    side, spec = source.spec.input.side, source.spec
    shapes = tuple((batch, 3, side, side) for batch in options.profile)
    ranges = ranges_beside(source) if options.calibrates else None
    gpus = rt.compute_capabilities()
    with steps.step(f"build the plan with {rt.kind} {rt.version}"):
        plan = plan_from_onnx(source.onnx, {INPUT_NAME: (shapes[0], shapes[1], shapes[2])},
                              options, rt, ranges, steps.quiet)
    precision = "int8" if options.int8 else "fp16" if options.fp16 else "fp32"
    path = folder / f"{name}.plan"
    path.write_bytes(plan.content)
    target = target_of(plan, rt, gpus, options.profile, source.onnx)
    spec = replace(spec, precision=precision, target=target, sha256=file_sha256(path),
                   quality={**spec.quality, **plan.int8})
    path.with_name(f"{path.name}.json").write_text(spec.to_json() + "\n")
    return plan_report(path, plan, spec.target, precision, steps)


def target_of(
    plan: Plan, rt: TensorRT, gpus: tuple[str, ...], profile: tuple[int, int, int], onnx: Path
) -> TargetSpec:
    """Return what a plan was made for."""
    return TargetSpec(rt.kind, version=rt.version, compute_capabilities=gpus, profile=profile,
                      flags=plan.flags, onnx_sha256=file_sha256(onnx))


def plan_report(
    path: Path, plan: Plan, target: TargetSpec, precision: str, steps: Steps
) -> dict[str, Any]:
    """Return what a report says of a plan."""
    return {
        "file": path.name, "kind": target.kind, "version": target.version, "precision": precision,
        "compute_capabilities": target.compute_capabilities, "profile": target.profile,
        "flags": target.flags, "bytes": len(plan.content),
        "build_seconds": list(steps.seconds.values())[-1], **plan.int8,
    }


def ranges_beside(source: Source) -> Ranges:
    """Read the ranges that were exported with an ONNX file.

    Raises:
        CalibrationError: they are missing, damaged, or of other weights.
    """
    path = source.onnx.with_name(f"{source.name}.ranges.json")
    try:
        ranges = Ranges.from_json(path.read_text())
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}; a calibrator needs the "
                               "ranges that fer-export --int8 writes beside the ONNX file"
                               ) from error
    ranges.check_belongs(source.spec.source.checkpoint_sha256)
    return ranges


def device_tensorrt(target: str) -> TensorRT:
    """Return the TensorRT of a build that makes nothing but a plan.

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
    with staged(output) as folder:
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
    with staged(output) as folder:
        with steps.step(f"build the detector's plan with {rt.kind} {rt.version}"):
            plan = plan_from_onnx(onnx, shapes, options, rt, quiet=steps.quiet)
        path = folder / f"{name}.plan"
        path.write_bytes(plan.content)
        target = target_of(plan, rt, gpus, (1, 1, 1), onnx)
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
