"""The limits of the accuracy gate: how much INT8 may lose, and whether a graph exceeds that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from feredge.calibration.class_folders import UNKNOWN
from feredge.calibration.quality.accuracy import Cost, cost
from feredge.calibration.quality.agreement import Agreement, agreement
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array

MIN_AGREEMENT = 0.98
MAX_CLASS_DROP = 10.0


@dataclass(frozen=True)
class Limits:
    """How much INT8 may lose on the faces that evaluate it.

    A limit on classes is needed because a network that loses its rare classes only keeps its
    accuracy. Few faces prove little, so a class may always lose one face more than it gains: of 3
    faces one, of 30 three, of 1,000 a hundred. A rare class is thus judged on two lost faces or
    more, which the one or two per cent of labels that INT8 flips anywhere rarely cost it.

    Attributes:
        max_accuracy_drop: in points; needs labels.
        min_agreement: share of faces with FP32's label; 0.98 where neither is given.
        max_class_drop: points of a class's recall; None is 10 where faces have labels.

    Raises:
        CalibrationError: a limit is no share or not from 0 to 100 points.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_class_drop: float | None = None

    def __post_init__(self) -> None:
        if self.max_accuracy_drop is None and self.min_agreement is None:
            object.__setattr__(self, "min_agreement", MIN_AGREEMENT)
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise CalibrationError(f"agreement of {self.min_agreement:g}: expected a share of the "
                                   "faces from 0 to 1, as 0.98")
        for name in ("max_accuracy_drop", "max_class_drop"):
            points = getattr(self, name)
            if points is not None and not 0 <= points <= 100:
                raise CalibrationError(f"{name.replace('_', ' ')} of {points:g}: expected points "
                                       "from 0 to 100, as 0.5")

    @property
    def need_labels(self) -> bool:
        """Whether a limit was given that only labeled faces can check."""
        return self.max_accuracy_drop is not None or self.max_class_drop is not None


@dataclass(frozen=True)
class GraphCheck:
    """What one graph loses, and the limits that it exceeds; `cost` is None without labels."""

    agreement: Agreement
    cost: Cost | None
    broken: tuple[str, ...]


def check_graph(
    expected: Array, got: Array, classes: Array, labels: Sequence[str], limits: Limits
) -> GraphCheck:
    """Compare the `(faces, classes)` probabilities of a graph with FP32's and the limits."""
    agreed = agreement(expected, got)
    known = classes[classes != UNKNOWN]
    lost = cost(expected, got, classes, labels) if len(known) else None
    faces = np.bincount(known, minlength=len(labels)).tolist()
    return GraphCheck(agreed, lost, limit_violations(agreed, lost, faces, labels, limits))


def limit_violations(
    agreed: Agreement, lost: Cost | None, faces: Sequence[int], labels: Sequence[str],
    limits: Limits,
) -> tuple[str, ...]:
    """Return one message per limit that a graph exceeds.

    Args:
        agreed: with FP32.
        lost: against the labels; None without any.
        faces: the number of faces per class.
        labels: names of the classes, in the order of the output.
        limits: how much INT8 may lose.
    """
    broken = []
    if limits.min_agreement is not None and agreed.top1 < limits.min_agreement:
        broken.append(f"agreement {agreed.top1:.2%}, at least {limits.min_agreement:.2%} wanted")
    if lost is None:
        return tuple(broken)
    if limits.max_accuracy_drop is not None and lost.accuracy_drop > limits.max_accuracy_drop:
        broken.append(f"accuracy falls by {lost.accuracy_drop:.2f} points, at most "
                      f"{limits.max_accuracy_drop:g} allowed")
    limit = MAX_CLASS_DROP if limits.max_class_drop is None else limits.max_class_drop
    return (*broken, *class_violations(lost, faces, labels, limit))


def class_violations(
    lost: Cost, faces: Sequence[int], labels: Sequence[str], limit: float
) -> Iterator[str]:
    """Yield one message per class that loses more recall than `limit`, in points."""
    for label, count in zip(labels, faces):
        drop = lost.recall_drop[label]
        # One lost face is no evidence; the small term covers rounding.
        if drop is not None and drop > max(limit, 100 / count) + 1e-9:
            yield (f"recall of {label} falls by {drop:.1f} points on {count} faces, at most "
                   f"{limit:g} allowed")
