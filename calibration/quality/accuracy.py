"""What INT8 loses on labeled faces: accuracy, recall by class, flips, confidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feredge.calibration.class_folders import UNKNOWN
from feredge.calibration.quality.agreement import FP32, Agreement, agreement, predictions
from feredge.calibration.quality.reliability import expected_calibration_error
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of one graph on labeled faces.

    `recall` is None for a class without a face. `confusion` counts faces: true classes are rows,
    predictions are columns. `calibration_error` is that of Guo et al. 2017, 15 bins.
    """

    faces: int
    accuracy: float
    recall: Mapping[str, float | None]
    calibration_error: float
    confusion: Sequence[Sequence[int]]

    @property
    def support(self) -> list[int]:
        """The number of faces per class."""
        return [sum(row) for row in self.confusion]


@dataclass(frozen=True)
class Cost:
    """What an INT8 graph loses against FP32; `agreement` covers all faces, labeled or not.

    `accuracy_drop` and `recall_drop` are in points, below zero where INT8 is better. The flips
    are of labeled faces: the share whose label changed, and how many each way.
    """

    accuracy_drop: float
    recall_drop: Mapping[str, float | None]
    flip_rate: float
    right_to_wrong: int
    wrong_to_right: int
    agreement: Agreement


@dataclass(frozen=True)
class LabeledQuality:
    """FP32 and each INT8 graph on the same faces; `dataclasses.asdict` of it is plain JSON."""

    fp32: Accuracy
    graphs: Mapping[str, Accuracy]
    costs: Mapping[str, Cost]


def measure_quality(
    reference: Any,
    sessions: Mapping[str, Any],
    batches: Iterable[tuple[Array, Array]],
    labels: Sequence[str],
) -> LabeledQuality:
    """Compare INT8 graphs with FP32 and with the labels, in one pass over the faces.

    Args:
        reference: the FP32 session.
        sessions: the INT8 graphs', by name.
        batches: `(n, 3, side, side)` float32 crops with their `(n,)` classes, -1 where unknown;
            read once.
        labels: names of the classes, in the order of the output.

    Raises:
        CalibrationError: there is no labeled face, or a prediction is not finite.
    """
    classes: list[Array] = []

    def crops() -> Iterator[Array]:
        for batch, truth in batches:
            classes.append(truth)
            yield batch

    got = predictions({FP32: reference, **sessions}, crops())
    truth = np.concatenate(classes)
    return LabeledQuality(
        accuracy(got[FP32], truth, labels),
        {name: accuracy(got[name], truth, labels) for name in sessions},
        {name: cost(got[FP32], got[name], truth, labels) for name in sessions},
    )


def check_labels(classes: Array, labels: Sequence[str]) -> None:
    """Refuse faces of which none has a label; `(n,)` int, -1 for no label.

    Raises:
        CalibrationError: the message says how to label them.
    """
    if not (classes != UNKNOWN).any():
        raise CalibrationError(
            f"accuracy needs labels and none of the {len(classes)} faces has one: put them in one "
            f"folder a class, called {', '.join(labels)}, or ask for agreement: --min-agreement"
        )


def confusion(probabilities: Array, classes: Array, count: int) -> Array:
    """Return `(count, count)` numbers of faces, a row per true class, of the labeled faces."""
    known = classes != UNKNOWN
    pairs = classes[known] * count + probabilities[known].argmax(axis=1)
    return np.bincount(pairs, minlength=count**2).reshape(count, count)


def accuracy(probabilities: Array, classes: Array, labels: Sequence[str]) -> Accuracy:
    """Return the accuracy of `(n, classes)` probabilities against `(n,)` true classes.

    Raises:
        CalibrationError: no face is labeled.
    """
    check_labels(classes, labels)
    counts = confusion(probabilities, classes, len(labels))
    right, faces = np.diag(counts), counts.sum(axis=1)
    known = classes != UNKNOWN
    return Accuracy(
        int(faces.sum()), float(right.sum() / faces.sum()),
        {label: float(right[k] / faces[k]) if faces[k] else None for k, label in enumerate(labels)},
        expected_calibration_error(probabilities[known], classes[known]), counts.tolist(),
    )


def cost(expected: Array, got: Array, classes: Array, labels: Sequence[str]) -> Cost:
    """Compare `(n, classes)` probabilities of a graph with FP32's by `(n,)` true classes.

    Raises:
        CalibrationError: no face is labeled.
    """
    check_labels(classes, labels)
    known = classes != UNKNOWN
    before, after, truth = expected[known].argmax(1), got[known].argmax(1), classes[known]
    lost, won = (before == truth) & (after != truth), (before != truth) & (after == truth)
    net = np.bincount(truth[lost], minlength=len(labels)) - np.bincount(
        truth[won], minlength=len(labels))
    faces = np.bincount(truth, minlength=len(labels))
    return Cost(
        accuracy_drop=float(100 * net.sum() / len(truth)),
        recall_drop={label: float(100 * net[k] / faces[k]) if faces[k] else None
                     for k, label in enumerate(labels)},
        flip_rate=float((before != after).mean()),
        right_to_wrong=int(lost.sum()), wrong_to_right=int(won.sum()),
        agreement=agreement(expected, got),
    )


def quality_text(found: LabeledQuality) -> str:
    """Return the report as tables for the terminal."""
    fp32, count = found.fp32, found.fp32.faces
    width = max(len(name) for name in [*found.graphs, *fp32.recall, "accuracy of"]) + 2
    lines = [f"{f'on {count} labeled faces':<{width}}{'accuracy':>10}{'agreement':>11}"
             f"{'flips':>8}{'lost':>6}{'won':>5}{'ECE':>8}",
             f"{'FP32':<{width}}{fp32.accuracy:>10.2%}{'':>30}{fp32.calibration_error:>8.4f}"]
    for name, graph in found.graphs.items():
        lost = found.costs[name]
        lines.append(f"{name:<{width}}{graph.accuracy:>10.2%}{lost.agreement.top1:>11.2%}"
                     f"{lost.flip_rate:>8.2%}{lost.right_to_wrong:>6}{lost.wrong_to_right:>5}"
                     f"{graph.calibration_error:>8.4f}")
    lines.append(f"{'recall of':<{width}}{'faces':>7}{'FP32':>10}"
                 + "".join(f"{name:>{max(len(name) + 2, 12)}}" for name in found.graphs))
    for k, (label, recall) in enumerate(fp32.recall.items()):
        if recall is not None:
            lines.append(f"{label:<{width}}{sum(fp32.confusion[k]):>7}{recall:>10.2%}" + "".join(
                f"{graph.recall[label]:>{max(len(name) + 2, 12)}.2%}"
                for name, graph in found.graphs.items()))
    return "\n".join(lines)
