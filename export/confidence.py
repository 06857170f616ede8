"""Calibrated confidence: a temperature, fitted on labeled faces and folded into the graph.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Probabilities p become
softmax(log p / T), which changes no label; for a softmax of scores it divides the scores by T.
One half of the faces fits T, the other half measures the calibration error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.qdq import constant
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.quality.reliability import (
    ReliabilityBins,
    expected_calibration_error,
    reliability,
)
from feredge.export.job import ExportJob
from feredge.runtime.errors import CalibrationError
from feredge.runtime.palette import BLUE, VERMILION
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME

LEAST_FACES = 200
LOWEST, HIGHEST = 0.2, 5.0  # temperatures
GOLDEN = (5**0.5 - 1) / 2
STEPS = 40


def calibrate_confidence(job: ExportJob) -> tuple[ExportJob, dict[str, Any]]:
    """Fit a temperature on `--validation-data` and fold it into the job's graph.

    Returns:
        The job with the calibrated graph, and its part of the report.

    Raises:
        CalibrationError: there are fewer than `LEAST_FACES` labeled faces.
    """
    with job.steps.step("calibrate the confidence"):
        probabilities, classes = predict_labeled(job, job.model)
        fits = np.arange(len(classes)) % 2 == 0
        temperature = fit_temperature(probabilities[fits], classes[fits])
        held, truth = probabilities[~fits], classes[~fits]
        before = expected_calibration_error(held, truth)
        after = expected_calibration_error(scale_probabilities(held, temperature), truth)
        save_plot({"before": reliability(held, truth),
                   "after": reliability(scale_probabilities(held, temperature), truth)},
                  job.path(".reliability.png"))
    facts = {"temperature": temperature, "fitted_on": int(fits.sum()),
             "measured_on": int((~fits).sum()), "faces": job.options.validation_data and
             Path(job.options.validation_data).name, "error_before": before, "error_after": after}
    spec = replace(job.spec, quality={**job.spec.quality, "confidence": facts})
    return replace(job, model=with_temperature(job.model, temperature), spec=spec), facts


def int8_error(job: ExportJob) -> float:
    """Return the calibration error of the written INT8 graph on the half that did not fit."""
    probabilities, classes = predict_labeled(job, ir.load(job.path(".int8.onnx")))
    return expected_calibration_error(probabilities[1::2], classes[1::2])


def predict_labeled(job: ExportJob, model: ir.Model) -> tuple[Array, Array]:
    """Return the probabilities, `(n, classes)`, and the classes, `(n,)`, of the labeled faces.

    Raises:
        CalibrationError: there are too few.
    """
    assert job.options.validation_data is not None
    faces = FaceFolder(job.options.validation_data, job.spec.input, job.spec.crop, recommended=0)
    session, found, truth = session_of(model), [], []
    for crops, classes in job.steps.bar(faces.labeled_batches(job.spec.labels), faces):
        found.append(session.run([OUTPUT_NAME], {INPUT_NAME: crops})[0][classes >= 0])
        truth.append(classes[classes >= 0])
    classes = np.concatenate(truth)
    if len(classes) < LEAST_FACES:
        raise CalibrationError(f"{len(classes)} labeled faces in {faces.folder} are too few to "
                               f"calibrate the confidence: expected {LEAST_FACES} or more")
    probabilities: Array = np.concatenate(found)
    return probabilities, classes


def scale_probabilities(probabilities: Array, temperature: float) -> Array:
    """Return probabilities, `(n, classes)`, at another temperature, float64."""
    with np.errstate(divide="ignore"):
        logits: Array = np.log(probabilities.astype(np.float64)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = powers / powers.sum(axis=1, keepdims=True)
    return found


def fit_temperature(probabilities: Array, classes: Array) -> float:
    """Return the temperature with the least mean negative log-likelihood, by golden section.

    Args:
        probabilities: `(n, classes)`, of the network.
        classes: `(n,)`, the true ones.
    """

    def loss(log_temperature: float) -> float:
        found = scale_probabilities(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(found[np.arange(len(classes)), classes], 1e-12)).mean())

    low, high = float(np.log(LOWEST)), float(np.log(HIGHEST))
    for _ in range(STEPS):
        width = GOLDEN * (high - low)
        if loss(high - width) < loss(low + width):
            high = low + width
        else:
            low = high - width
    return round(float(np.exp((low + high) / 2)), 4)


def with_temperature(model: ir.Model, temperature: float) -> ir.Model:
    """Return a graph whose probabilities are those of `model` at a temperature.

    Args:
        model: output `probabilities`, `(n, classes)`; left as it was.
        temperature: above 0; over 1 lowers the confidence.
    """
    model = model.clone()
    graph = model.graph
    output = graph.outputs[0]
    name, kind, shape = output.name, output.type, output.shape
    output.name = "raw_probabilities"
    factor = constant(graph, "inverse_temperature", np.array(1 / temperature, np.float32))
    log = ir.node("Log", [output], name="confidence.log")
    log.outputs[0].name = "confidence.log"
    scale = ir.node("Mul", [log.outputs[0], factor], name="confidence.scale")
    scale.outputs[0].name = "confidence.scale"
    softmax = ir.node("Softmax", [scale.outputs[0]], {"axis": 1}, name="confidence.softmax")
    softmax.outputs[0].name, softmax.outputs[0].type, softmax.outputs[0].shape = name, kind, shape
    graph.extend([log, scale, softmax])
    graph.outputs[0] = softmax.outputs[0]
    return model


def save_plot(forms: Mapping[str, ReliabilityBins], path: Path) -> None:
    """Draw accuracy over confidence, before and after, as a PNG of one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, label="calibrated")
    for (name, bins), color in zip(forms.items(), (VERMILION, BLUE)):
        axes.plot(*points(bins), color=color, linewidth=1,
                  label=f"{name}: error {bins.expected_calibration_error:.1%}")
        axes.scatter(*points(bins), color=color, s=10 + 150 * bins.faces[bins.faces > 0]
                     / bins.faces.max(), alpha=0.7)
    axes.set_xlabel("confidence: probability of the predicted label")
    axes.set_ylabel("accuracy: share of correct labels")
    axes.set_title("Reliability on the faces that did not fit; area: faces", fontsize=11)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=150)


def points(bins: ReliabilityBins) -> tuple[Sequence[float], Sequence[float]]:
    """Return the confidence and the accuracy of the bins that have faces."""
    used = bins.faces > 0
    return bins.confidence[used].tolist(), bins.accuracy[used].tolist()
