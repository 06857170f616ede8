"""The export itself: checkpoint, ONNX, parity, INT8, report; every file whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.ranges import Ranges
from feredge.export.environment import environment
from feredge.export.fp16 import check_fits_half, check_half_answers, half_graph
from feredge.export.int8.gate import GateError, limits_of
from feredge.export.int8.write import bundled_ranges, face_folder, write_int8
from feredge.export.models.registry import Network, network_named
from feredge.export.network.build import load_network
from feredge.export.network.checkpoint import Checkpoint
from feredge.export.network.parity import parity_crops, with_parity
from feredge.export.network.to_onnx import onnx_from_torch, save
from feredge.export.report.html import html_report
from feredge.export.staging import described_files, staged
from feredge.export.steps import Steps
from feredge.export.tensorrt.builder import PlanOptions, check_options
from feredge.export.tensorrt.plan_files import (
    SUFFIX_HALF,
    source_of,
    suffix_for,
    write_plan,
)
from feredge.export.tensorrt.versions import TensorRT, chosen_kind, tensorrt_of
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.errors import CalibrationError, require
from feredge.runtime.spec import CropSpec, InputSpec, ModelSpec, SourceSpec

ONNX_ONLY = PlanOptions("onnx")


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how; None takes the checkpoint's metadata or the network's default."""

    model: str
    checkpoint: str | None = None
    random_weights: bool = False
    backbone_from: str | None = None
    int8: bool = False
    fp16: bool = False
    cpu: str = "avx2"
    calibration_data: str | None = None
    calibration_method: str | None = None
    ranges: str | None = None
    detect: bool = False
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_class_drop: float | None = None
    sensitivity: bool = False
    validation_data: str | None = None
    output: str = "."
    name: str | None = None
    labels: tuple[str, ...] | None = None
    side: int | None = None
    channels: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_scale: float | None = None
    crop_shift_y: float | None = None
    report: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A checkpoint in its network, as torch and as ONNX, with its spec."""

    network: Network
    module: torch.nn.Module
    model: ir.Model
    spec: ModelSpec


def export(
    options: ExportOptions, steps: Steps, plan: PlanOptions = ONNX_ONLY
) -> dict[str, Any]:
    """Export a network; its files appear in `options.output` once all of them are complete.

    Returns:
        The report, as it is written to `NAME.report.json`.

    Raises:
        FeredgeError: what went wrong; no file is left then, but the report of a GateError.
    """
    output, name = Path(options.output), options.name or network_named(options.model).name
    try:
        with staged(output) as folder:
            return written(options, plan, folder, name, steps)
    except GateError as error:
        with staged(output) as folder:
            failed = {"failed": str(error), "int8": error.report, "seconds": steps.seconds,
                      "environment": environment()}
            write_report(failed, folder, name, options.report)
        raise


def written(
    options: ExportOptions, plan: PlanOptions, folder: Path, name: str, steps: Steps
) -> dict[str, Any]:
    """Write every file of an export into a folder, the report last, and return that."""
    limits, rt = limits_of(options), plan_builder(plan)
    prepared = prepare(network_named(options.model), options, steps)
    faces = face_folder(options, prepared.spec) if options.calibration_data else None
    spec = with_parity(prepared.module, prepared.model, prepared.spec, faces, steps)
    prepared = replace(prepared, spec=spec)
    report: dict[str, Any] = {"parity": spec.quality["parity"]}
    save(prepared.model, spec, folder / f"{name}.onnx")
    if options.int8:
        report["int8"] = write_int8(options, prepared, faces, limits, folder, name, steps)
    if options.fp16:
        report["fp16"] = write_half(prepared, faces, folder, name, steps)
    if rt is not None:
        source = source_of(folder / f"{name}{suffix_for(plan, rt)}")
        report["plan"] = write_plan(source, plan, rt, folder, name, steps)
    report = {"model": json.loads(spec.to_json()), **report, "seconds": steps.seconds,
              "files": described_files(folder), "environment": environment()}
    write_report(report, folder, name, options.report)
    return report


def write_report(report: Mapping[str, Any], folder: Path, name: str, form: str | None) -> None:
    """Write the report as JSON, and as a page where `form` is html."""
    (folder / f"{name}.report.json").write_text(json.dumps(report, indent=1) + "\n")
    if form == "html":
        (folder / f"{name}.report.html").write_text(html_report(report), encoding="utf-8")


def plan_builder(plan: PlanOptions) -> TensorRT | None:
    """Return the TensorRT that builds the plan, if one is to be built; before any long step.

    Raises:
        PackageError: it is not installed.
        ExportError: it cannot do what is asked for, or needs a GPU.
    """
    kind = chosen_kind(plan.target)
    if kind is None:
        return None
    rt = tensorrt_of(kind)
    require("polygraphy", kind)
    check_options(plan, rt)
    rt.compute_capabilities()
    return rt


def prepare(network: Network, options: ExportOptions, steps: Steps) -> Prepared:
    """Build the network with its weights and export it to ONNX."""
    with steps.step("read the checkpoint"):
        module, checkpoint, labels, side = load_network(network, options)
        spec = spec_of(network, module, checkpoint, labels, side, options)
    with steps.step("export to ONNX"):
        model = onnx_from_torch(module, spec.input.side)
    return Prepared(network, module, model, spec)


def spec_of(
    network: Network, module: torch.nn.Module, checkpoint: Checkpoint, labels: tuple[str, ...],
    side: int, options: ExportOptions,
) -> ModelSpec:
    """Put a ModelSpec together: the arguments win over the metadata, that over the defaults."""
    said, default = checkpoint.metadata, network.defaults
    triples = {
        key: getattr(options, key) or numbers(said.get(key)) or getattr(default, key)
        for key in ("mean", "std")
    }
    channels = options.channels or said.get("channels", default.channels)
    scale, shift_y = (
        float(said.get(key, fallback)) if chosen is None else chosen
        for key, chosen, fallback in (("crop_scale", options.crop_scale, 1.0),
                                      ("crop_shift_y", options.crop_shift_y, 0.0))
    )
    source = SourceSpec(checkpoint.sha256, said.get("trained_on", "unknown"),
                        said.get("licence", "unknown"), options.random_weights)
    variant = "-".join(filter(None, (getattr(module, "variant", ""), str(side))))
    return ModelSpec(
        model=network.name, variant=variant, labels=labels,
        input=InputSpec(side, channels, **triples), crop=CropSpec(scale, shift_y), source=source,
    )


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Parse `0,0,0`."""
    return None if text is None else tuple(map(float, text.split(",")))


def write_half(
    prepared: Prepared, faces: FaceFolder | None, folder: Path, name: str, steps: Steps
) -> dict[str, Any]:
    """Write the FP16 graph, and return what the report says of it.

    Raises:
        ExportError: FP16 cannot hold an activation, or answers otherwise.
    """
    with steps.step("halve to FP16"):
        crops, origin = parity_crops(prepared.spec, faces)
        ranges = recorded_ranges(prepared, folder / f"{name}.ranges.json")
        largest = check_fits_half(prepared.model, crops, ranges)
        half = half_graph(prepared.model)
        difference = check_half_answers(half, prepared.model, crops)
    facts = {"largest_activation": largest, "largest_difference": difference, "on": origin,
             "recorded_ranges": len(ranges)}
    spec = replace(prepared.spec, precision="fp16",
                   quality={**prepared.spec.quality, "fp16": facts})
    save(half, spec, folder / f"{name}{SUFFIX_HALF}")
    return facts


def recorded_ranges(prepared: Prepared, path: Path) -> Mapping[str, Any]:
    """Return the ranges of this export or the bundled ones; none where neither are there."""
    if path.is_file():
        return Ranges.from_json(path.read_text()).values
    try:
        return bundled_ranges(prepared.network, prepared.spec).values
    except CalibrationError:
        return {}
