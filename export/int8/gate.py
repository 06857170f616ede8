"""The accuracy gate of an export: the faces it uses, the layers it keeps in FP32, its limits."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import onnx_ir as ir

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.gptq import gptq_rounding
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import WEIGHT_BITS, Rounding, cpu_graph, tensorrt_graph
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
from feredge.export.int8.graphs import LEAST_INT8_SHARE, TENSORRT, cpu_key
from feredge.export.job import ExportJob
from feredge.runtime.errors import CalibrationError, ExportError
from feredge.runtime.results import Array


class GateError(ExportError):
    """INT8 costs more than the limits allow; `report` holds the measurements."""

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class GateInput:
    """A network with its ranges and faces, for the gate and the sensitivity table.

    The faces are those that the sweep holds out; the final ranges are measured on all faces,
    including these.
    """

    def __init__(
        self, job: ExportJob, ranges: Ranges, faces: FaceFolder, rounding: Rounding
    ) -> None:
        self.job, self.model, self.ranges, self.rounding = job, job.model, ranges, rounding
        self.keep_float = job.network.keep_float
        self.bits = WEIGHT_BITS[job.options.cpu]
        self.faces = faces_held_out(faces, job.spec.labels)
        self.macs = conv_macs(job.model, job.spec.input.side)
        self.reference = session_of(job.model)
        self.rank = cache(self.rank_layers)

    def graph(self, name: str, layers: Sequence[str]) -> ir.Model:
        """Return one graph with the named layers in FP32."""
        keep_float = with_layers(self.keep_float, layers)
        if name == TENSORRT:
            return tensorrt_graph(self.model, self.ranges, keep_float)
        return cpu_graph(self.model, self.ranges, keep_float, self.bits, self.rounding)

    def graphs(self, layers: Sequence[str]) -> dict[str, ir.Model]:
        """Return both graphs with the named layers in FP32."""
        names = TENSORRT, cpu_key(self.bits, self.rounding)
        return {name: self.graph(name, layers) for name in names}

    def gate(self, limits: Limits) -> GateResult:
        """Keep layers in FP32 until both graphs keep to the limits."""
        with self.job.steps.step("check INT8 against its limits"):
            subject = GateSubject(self.graphs, self.rank, self.reference, self.faces,
                                  self.job.spec.labels)
            return gate(subject, limits, LEAST_INT8_SHARE)

    def rank_layers(self, name: str) -> list[LayerSensitivity]:
        """Return one graph's layers, the most sensitive first."""
        layers = [str(conv.name) for conv in quantized_convs(self.model.graph, self.keep_float)]
        crops = [crops for crops, _ in self.faces]
        with self.job.steps.step(f"sensitivity of the {name} graph's layers"):
            return sensitivities(
                self.reference, lambda kept: evaluation_session(name, self.graph(name, kept)),
                layers, self.macs, crops, self.progress,
            )

    def progress(self, layers: Sequence[str]) -> Iterable[str]:
        """Show a progress bar over layers on a terminal."""
        from tqdm import tqdm

        return tqdm(layers, unit="layer", disable=self.job.steps.quiet or None, leave=False)


def faces_held_out(faces: FaceFolder, labels: Sequence[str]) -> list[tuple[Array, Array]]:
    """Return the crops, `(n, 3, side, side)`, and classes, `(n,)`, of the faces that are held out.

    Of too few faces all are returned.
    """
    few = len(faces.files) < EVERY * LEAST_HELD_OUT
    batches = split_held_out(faces.labeled_batches(labels), len(faces.files))
    found = [(crops[held | few], classes[held | few]) for crops, classes, held in batches]
    return [(crops, classes) for crops, classes in found if len(crops)]


def gptq_on_faces(job: ExportJob, faces: FaceFolder, most: int = MOST_HELD_OUT) -> Rounding:
    """Return the rounding of the CPU graph's weights, fitted on faces that are not held out."""
    convs = quantized_convs(job.model.graph, job.network.keep_float)
    read, batches = 0, []
    for crops, _, held in split_held_out(faces.labeled_batches(()), len(faces.files)):
        batches.append(crops[~held][: most - read])
        read += len(batches[-1])
        if read == most:
            break
    with job.steps.step("round the weights"):
        return gptq_rounding(job.model, convs, (crops for crops in batches if len(crops)))


def with_layers(keep_float: Sequence[str], layers: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of what stays in FP32, with the names of layers added."""
    return (*keep_float, *map(glob.escape, layers))


def apply_gate(subject: GateInput, job: ExportJob) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Run the gate on calibration faces.

    Returns:
        Patterns of what stays in FP32, and the gate's part of the report.

    Raises:
        CalibrationError: too few faces without `--force`, or a limit needs labels and no face has
            any.
        GateError: INT8 costs more than the limits allow with any choice of layers.
    """
    count = sum(len(crops) for crops, _ in subject.faces)
    if job.options.random_weights or (job.options.force and count < LEAST_HELD_OUT):
        return tuple(subject.keep_float), {"tables": []}
    check_face_count(count)
    outcome = subject.gate(calibration_limits(subject, job))
    report = {"gate": asdict(outcome), "tables": [gate_text(outcome)]}
    if not outcome.holds:
        raise GateError(failure_text(outcome), report)
    layers = [row.layer for row in outcome.kept_float]
    return with_layers(subject.keep_float, layers), report


def check_face_count(count: int) -> None:
    """Check that there are enough faces to compare INT8 with FP32.

    Raises:
        CalibrationError: there are fewer.
    """
    if count < LEAST_HELD_OUT:
        raise CalibrationError(f"{count} calibration faces are too few to check INT8 on: expected "
                               f"{LEAST_HELD_OUT} or more, 500 are recommended; --force exports "
                               "without a check")


def calibration_limits(subject: GateInput, job: ExportJob) -> Limits:
    """Return the limits for calibration faces; without labels those on agreement alone.

    The validation faces, where there are any, are checked against all limits at the end.
    """
    labeled = any((classes >= 0).any() for _, classes in subject.faces)
    if job.options.validation_data and not labeled:
        return replace(job.limits, max_accuracy_drop=None, max_class_drop=None)
    return job.limits


def check_validation(job: ExportJob, graphs: Mapping[str, ir.Model]) -> LabeledQuality:
    """Check the finished graphs once on the labeled faces of `--validation-data`.

    Returns:
        Accuracy, recall, flips and calibration error, before and after.

    Raises:
        CalibrationError: no face has a label.
        GateError: a graph costs more than the limits allow.
    """
    assert job.options.validation_data is not None
    spec = job.spec
    faces = FaceFolder(job.options.validation_data, spec.input, spec.crop, recommended=0)
    sessions = {name: evaluation_session(name, graph) for name, graph in graphs.items()}
    with job.steps.step("check INT8 on validation faces"):
        batches = job.steps.bar(faces.labeled_batches(spec.labels), faces)
        found = measure_quality(session_of(job.model), sessions, batches, spec.labels)
    for name, cost in found.costs.items():
        broken = limit_violations(cost.agreement, cost, found.fp32.support, spec.labels, job.limits)
        if broken:
            raise GateError(f"{name} on the validation faces: {'; '.join(broken)}. Calibrate on "
                            "more faces like these (--calibration-data), or raise the limits",
                            {"validation": asdict(found)})
    return found
