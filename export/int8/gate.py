"""The accuracy gate of an export: which faces judge, what went back to float, and the last word."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.gptq import gptq_rounding
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import WEIGHT_BITS, Rounding, cpu_graph, nearest, tensorrt_graph
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.measure.sweep import EVERY, LEAST_HELD_OUT, MOST_HELD_OUT, split_held_out
from feredge.calibration.quality.accuracy import LabeledQuality, measure_quality
from feredge.calibration.quality.agreement import conv_macs
from feredge.calibration.quality.gate import (
    GateResult,
    GateSubject,
    failure_text,
    gate,
    gate_text,
)
from feredge.calibration.quality.limits import Limits, limit_violations
from feredge.calibration.quality.sensitivity import LayerSensitivity, sensitivities
from feredge.calibration.ranges import Ranges
from feredge.export.steps import Steps
from feredge.runtime.errors import CalibrationError, ExportError
from feredge.runtime.results import Array

if TYPE_CHECKING:
    from feredge.export.job import ExportOptions, Prepared

# The gates and heads that stay float are under 1 % of the work: less than this is not INT8.
LEAST_INT8_SHARE = 0.9
TENSORRT = "tensorrt"


def cpu_key(bits: int, rounding: Rounding) -> str:
    """Return what a CPU graph is called in reports and ranges files."""
    return f"cpu-{bits}bit" + ("" if rounding is nearest else "-rounded")


class GateError(ExportError):
    """INT8 costs more than was allowed; `report` says what, for whoever wants to know why."""

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


def limits_of(options: ExportOptions) -> Limits:
    """Return what INT8 may cost; asked before any long step.

    Raises:
        CalibrationError: a limit is no share or no points, or there are no faces to judge on.
    """
    limits = Limits(options.max_accuracy_drop, options.min_agreement, options.max_class_drop)
    asked = limits.need_labels or options.min_agreement is not None
    if asked and not (options.calibration_data or options.validation_data):
        raise CalibrationError("a limit needs faces to judge INT8 on: pass --calibration-data DIR, "
                               "or labelled ones: --validation-data DIR")
    if options.sensitivity and not options.calibration_data:
        raise CalibrationError("--sensitivity needs faces: pass --calibration-data DIR")
    if options.validation_data and not Path(options.validation_data).is_dir():
        raise CalibrationError(f"--validation-data {options.validation_data}: there is no such "
                               "folder; it holds labelled faces, a folder a class")
    return limits


class Judged:
    """A network with its ranges, as the gate and the sensitivity table see it.

    The faces are those that the sweep holds out, but its final ranges are made of all faces: these
    among them.
    """

    def __init__(
        self, options: ExportOptions, prepared: Prepared, ranges: Ranges, faces: FaceFolder,
        rounding: Rounding, steps: Steps,
    ) -> None:
        self.model, self.ranges, self.steps = prepared.model, ranges, steps
        self.rounding = rounding
        self.keep_float, self.labels = prepared.network.keep_float, prepared.spec.labels
        self.bits = WEIGHT_BITS[options.cpu]
        self.faces = held_out(faces, self.labels)
        self.macs = conv_macs(prepared.model, prepared.spec.input.side)
        self.reference = session_of(prepared.model)
        self.rank = cache(self.ranked)

    def graph(self, name: str, layers: Sequence[str]) -> ir.Model:
        """Return one graph with the named layers in float."""
        keep_float = with_layers(self.keep_float, layers)
        if name == TENSORRT:
            return tensorrt_graph(self.model, self.ranges, keep_float)
        return cpu_graph(self.model, self.ranges, keep_float, self.bits, self.rounding)

    def graphs(self, layers: Sequence[str]) -> dict[str, ir.Model]:
        """Return both graphs with the named layers in float."""
        names = TENSORRT, cpu_key(self.bits, self.rounding)
        return {name: self.graph(name, layers) for name in names}

    def gate(self, limits: Limits) -> GateResult:
        """Send layers back to float until both graphs hold."""
        with self.steps.step("hold INT8 against its limits"):
            subject = GateSubject(self.graphs, self.rank, self.reference, self.faces, self.labels)
            return gate(subject, limits, LEAST_INT8_SHARE)

    def ranked(self, name: str) -> list[LayerSensitivity]:
        """Return one graph's layers, the most sensitive first."""
        layers = [str(conv.name) for conv in quantized_convs(self.model.graph, self.keep_float)]
        crops = [crops for crops, _ in self.faces]
        with self.steps.step(f"sensitivity of the {name} graph's layers"):
            return sensitivities(
                self.reference, lambda kept: evaluation_session(name, self.graph(name, kept)),
                layers, self.macs, crops, self.progress,
            )

    def progress(self, layers: Sequence[str]) -> Iterable[str]:
        """Show how many layers are done, where somebody watches."""
        from tqdm import tqdm

        return tqdm(layers, unit="layer", disable=self.steps.quiet or None, leave=False)


def held_out(faces: FaceFolder, labels: Sequence[str]) -> list[tuple[Array, Array]]:
    """Return the faces that judge, crops and classes: those held out, or all of a few."""
    few = len(faces.files) < EVERY * LEAST_HELD_OUT
    batches = split_held_out(faces.labeled_batches(labels), len(faces.files))
    found = [(crops[held | few], classes[held | few]) for crops, classes, held in batches]
    return [(crops, classes) for crops, classes in found if len(crops)]


def faces_rounding(
    prepared: Prepared, faces: FaceFolder, steps: Steps, most: int = MOST_HELD_OUT
) -> Rounding:
    """Measure on faces that are not held out how the CPU graph's weights are rounded best."""
    convs = quantized_convs(prepared.model.graph, prepared.network.keep_float)
    read, batches = 0, []
    for crops, _, held in split_held_out(faces.labeled_batches(()), len(faces.files)):
        batches.append(crops[~held][: most - read])
        read += len(batches[-1])
        if read == most:
            break
    with steps.step("round the weights"):
        return gptq_rounding(prepared.model, convs, (crops for crops in batches if len(crops)))


def with_layers(keep_float: Sequence[str], layers: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of what stays float, with the layers named as they are."""
    return (*keep_float, *map(glob.escape, layers))


def held_to_limits(
    judged: Judged, limits: Limits, options: ExportOptions
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Run the gate on calibration faces.

    Returns:
        Patterns of what stays float, and what the report says of it.

    Raises:
        CalibrationError: a limit needs labels, and neither these faces nor others have any.
        GateError: nothing holds.
    """
    if options.random_weights:  # whose answers mean nothing, in FP32 either
        return tuple(judged.keep_float), {"tables": []}
    count = sum(len(crops) for crops, _ in judged.faces)
    if count < LEAST_HELD_OUT:
        warnings.warn(f"{count} faces cannot tell what INT8 costs, {LEAST_HELD_OUT} are the least: "
                      "it is held to no limit; 500 faces or more are recommended", stacklevel=2)
        return tuple(judged.keep_float), {"tables": []}
    labelled = any((classes >= 0).any() for _, classes in judged.faces)
    if options.validation_data and not labelled:  # which will judge them at the end
        limits = replace(limits, max_accuracy_drop=None, max_class_drop=None)
    outcome = judged.gate(limits)
    report = {"gate": asdict(outcome), "tables": [gate_text(outcome)]}
    if not outcome.holds:
        raise GateError(failure_text(outcome), report)
    layers = [row.layer for row in outcome.kept_float]
    return with_layers(judged.keep_float, layers), report


def last_word(
    options: ExportOptions, prepared: Prepared, graphs: Mapping[str, ir.Model], limits: Limits,
    steps: Steps,
) -> LabeledQuality:
    """Judge the finished graphs once on the labelled faces of `--validation-data`.

    Returns:
        Accuracy, recall, flips and calibration error, before and after.

    Raises:
        CalibrationError: no face has a label.
        GateError: a graph costs more than was allowed.
    """
    assert options.validation_data is not None
    spec = prepared.spec
    faces = FaceFolder(options.validation_data, spec.input, spec.crop, recommended=0)
    sessions = {name: evaluation_session(name, graph) for name, graph in graphs.items()}
    with steps.step("judge INT8 on validation faces"):
        found = measure_quality(session_of(prepared.model), sessions,
                                 steps.bar(faces.labeled_batches(spec.labels), faces), spec.labels)
    for name, cost in found.costs.items():
        broken = limit_violations(cost.agreement, cost, found.fp32.support, spec.labels, limits)
        if broken:
            raise GateError(f"{name} on the validation faces: {'; '.join(broken)}. Calibrate on "
                            "more faces like these (--calibration-data), or allow more",
                            {"validation": asdict(found)})
    return found
