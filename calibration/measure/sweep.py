"""The choice of the calibration method: each is evaluated on faces it was not measured on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from feredge.calibration.graphs.qdq import cpu_graph, tensorrt_graph
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.measure.activations import Activations
from feredge.calibration.measure.histograms import Histogram
from feredge.calibration.measure.methods import METHODS, bounds
from feredge.calibration.quality.agreement import agreement, divergences, predictions
from feredge.calibration.ranges import Ranges
from feredge.runtime.results import Array

EVERY = 4  # one of so many faces is held out, in the folder's order: a share of every class
MOST_HELD_OUT = 256  # more would cost memory and time and not separate the methods better
LEAST_HELD_OUT = 16  # fewer cannot compare methods
BATCH = 8  # at 224 px and full width the activations of 32 faces would need a gigabyte
STANDARD_ERRORS = 2  # smaller differences are noise


@dataclass(frozen=True)
class Measured:
    """Histograms of the calibrating faces and of those held out, and the crops of the latter."""

    calibrating: dict[str, Histogram]
    held_out: dict[str, Histogram]
    crops: Array
    classes: Array
    faces: int

    def bounds(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Return the ranges by every method, of all faces: histograms add up."""
        return {key: bounds(part + self.held_out[key]) for key, part in self.calibrating.items()}


def split_held_out(
    batches: Iterable[tuple[Array, Array]], pictures: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield crops, their classes, and which of them are held out, `(n,)` bool.

    One of every `EVERY` faces, at most `MOST_HELD_OUT`: a scene holds many faces.

    Args:
        batches: crops and classes, from `FaceFolder.labeled_batches`.
        pictures: the approximate number of faces.
    """
    every = max(EVERY, -(-pictures // MOST_HELD_OUT))
    read = kept = 0
    for crops, classes in batches:
        held_out = np.arange(read, read + len(crops)) % every == every - 1
        held_out &= np.cumsum(held_out) + kept <= MOST_HELD_OUT
        yield crops, classes, held_out
        read, kept = read + len(crops), kept + int(held_out.sum())


def measure(
    model: ir.Model, convs: Sequence[ir.Node], batches: Iterable[tuple[Array, Array]], pictures: int
) -> Measured:
    """Read the faces once; hold some out.

    Args:
        model: FP32, from `onnx_from_torch`; not changed.
        convs: its convolutions that will run in INT8.
        batches: crops and classes, from `FaceFolder.labeled_batches`.
        pictures: the approximate number of faces.

    Raises:
        CalibrationError: an activation is not finite.
    """
    activations = Activations(model, convs)
    parts = activations.histograms(), activations.histograms()
    kept = []
    faces = 0
    for crops, classes, held in split_held_out(batches, pictures):
        for histograms, chosen in zip(parts, (~held, held)):
            activations.add(crops[chosen], histograms)
        kept.append((crops[held], classes[held]))
        faces += len(crops)
    crops, classes = map(np.concatenate, zip(*kept))
    return Measured(*parts, crops, classes, faces)


def choose_method(
    model: ir.Model, keep_float: Sequence[str], measured: Measured, ranges: Ranges
) -> Ranges:
    """Choose the method and return its ranges of all faces.

    The methods are compared on the held-out faces, with the ranges of the calibrating faces. The
    ranges of the chosen one are then taken from all faces, as histograms add up.

    Args:
        model: FP32; not changed.
        keep_float: patterns of module paths that stay in float.
        measured: from `measure`.
        ranges: the identity of weights, faces, crop and input; its values are replaced.
    """
    ranges = replace(ranges, values=measured.bounds())
    if len(measured.crops) < LEAST_HELD_OUT:
        warnings.warn(f"{len(measured.crops)} faces could be held out, {LEAST_HELD_OUT} are needed "
                      "to compare the calibration methods: the ranges are the extremes (max); "
                      "500 faces or more are recommended", stacklevel=2)
        return ranges
    calibrated = replace(ranges, values={key: bounds(part)
                                         for key, part in measured.calibrating.items()})
    expected = predict(session_of(model), measured.crops)
    trials = {}
    for method in METHODS:
        tried = replace(calibrated, method=method)
        trials[method] = {name: predict(evaluation_session(name, graph), measured.crops)
                          for name, graph in int8_graphs(model, tried, keep_float)}
    rows = [{"method": method, "faces": len(expected),
             **method_quality(expected, trials[method], measured.classes)} for method in METHODS]
    return replace(ranges, method=best_method(expected, trials, measured.classes), sweep=rows)


def int8_graphs(
    model: ir.Model, ranges: Ranges, keep_float: Sequence[str]
) -> Iterable[tuple[str, ir.Model]]:
    """Yield the INT8 graphs one by one, as each holds all weights.

    The CPU's has 7-bit weights, which are exact on every CPU.
    """
    yield "tensorrt", tensorrt_graph(model, ranges, keep_float)
    yield "cpu-7bit", cpu_graph(model, ranges, keep_float, 7)


def predict(session: Any, crops: Array) -> Array:
    """Return the probabilities of `(n, 3, side, side)` crops, `(n, classes)`."""
    parts = (crops[start : start + BATCH] for start in range(0, len(crops), BATCH))
    return predictions({"graph": session}, parts)["graph"]


def method_quality(expected: Array, graphs: Mapping[str, Array], classes: Array) -> dict[str, Any]:
    """Return agreement, divergence and accuracy of a method by graph, for the report."""
    known = classes >= 0
    agreed = {name: agreement(expected, got) for name, got in graphs.items()}
    return {
        "top1": {name: found.top1 for name, found in agreed.items()},
        "mean_kl": {name: found.kl for name, found in agreed.items()},
        "accuracy": {name: float((got.argmax(axis=1) == classes)[known].mean())
                     for name, got in graphs.items()} if known.any() else None,
    }


def best_method(expected: Array, trials: Mapping[str, Mapping[str, Array]], classes: Array) -> str:
    """Return the method with the least loss; of those within noise of it, the simplest.

    A method with more errors than another on labeled faces is excluded; among the others the
    divergence from FP32 decides. A face counts with its mean over the graphs.
    """
    known = classes >= 0
    contenders = list(trials)
    if known.any():
        errors = {method: np.mean([(got.argmax(axis=1) != classes)[known]
                                   for got in graphs.values()], axis=0)
                  for method, graphs in trials.items()}
        contenders = leading_methods(errors)
    losses = {method: np.mean([divergences(expected, got) for got in trials[method].values()],
                              axis=0) for method in contenders}
    return leading_methods(losses)[0]


def leading_methods(losses: Mapping[str, Array]) -> list[str]:
    """Return the methods, in their order, whose loss does not exceed the least one significantly.

    The faces are the same, so the difference is taken by face: its mean must exceed
    `STANDARD_ERRORS` of its standard error.
    """
    least = min(losses.values(), key=lambda loss: float(loss.mean()))
    found = []
    for method, loss in losses.items():
        excess = loss - least
        noise = excess.std(ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else np.inf
        if excess.mean() <= STANDARD_ERRORS * noise:
            found.append(method)
    return found
