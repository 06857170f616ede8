"""Selective classification: how accuracy rises if the least confident predictions are left out.

Geifman, El-Yaniv: "Selective Classification for Deep Neural Networks", NeurIPS 2017. Coverage is
the share of faces that get a label; the risk is the share of wrong labels among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feredge.benchmarks.eval.scores import Interval, interval
from feredge.runtime.results import Array

COVERAGES = (0.9, 0.8, 0.7)
CURVE_POINTS = 100


@dataclass(frozen=True)
class Part:
    """The faces of one class or group: their number, how many get a label, and how many right."""

    faces: int
    labeled: int
    right: int


@dataclass(frozen=True)
class CoveragePoint:
    """Accuracy at one coverage.

    Faces with a confidence of at least `min_confidence` get a label; `classes` and `groups` are by
    the true class and by group.
    """

    coverage: float
    min_confidence: float
    accuracy: Interval
    classes: Mapping[str, Part]
    groups: Mapping[str, Part]


@dataclass(frozen=True)
class Selective:
    """The risk-coverage curve of one network.

    `area` is the area under the curve, the mean risk over all coverages: 0 if every right
    prediction is more confident than every wrong one and none is wrong. `curve` holds pairs of
    coverage and risk.
    """

    area: Interval
    curve: Sequence[tuple[float, float]]
    points: Sequence[CoveragePoint]


def selective_scores(
    probabilities: Array, truth: Array, labels: Sequence[str], groups: Array | None = None,
    confidence: Array | None = None,
) -> Selective:
    """Return the risk-coverage curve.

    Args:
        probabilities: `(n, classes)`, n above 0.
        truth: `(n,)` class numbers.
        labels: the names of the classes.
        groups: `(n,)` names of groups, or None.
        confidence: `(n,)`, that each label is right; None: the largest probability.
    """
    confidence = probabilities.max(axis=1) if confidence is None else confidence
    order = np.argsort(-confidence, kind="stable")
    confidence, truth = confidence[order], truth[order]
    right = probabilities.argmax(axis=1)[order] == truth
    names = np.array(labels, object)[truth]
    risks = risk_curve(right)
    steps = np.unique(np.linspace(1, len(right), min(CURVE_POINTS, len(right))).astype(int))
    return Selective(
        interval(lambda rows: float(risk_curve(right[np.sort(rows)]).mean()), len(right)),
        [(float(step / len(right)), float(risks[step - 1])) for step in steps],
        [coverage_point(coverage, confidence, right, names, None if groups is None
                        else groups[order]) for coverage in COVERAGES],
    )


def risk_curve(right: Array) -> Array:
    """Return the risk among the first k faces for every k, `(n,)`, from `(n,)` bool."""
    risks: Array = np.cumsum(~right) / np.arange(1, len(right) + 1)
    return risks


def coverage_point(
    coverage: float, confidence: Array, right: Array, names: Array, groups: Array | None
) -> CoveragePoint:
    """Return the accuracy at one coverage; all arrays are `(n,)`, by falling confidence."""

    def accuracy(rows: Array) -> float:
        return float(right[np.sort(rows)[: label_count(coverage, len(rows))]].mean())

    count = label_count(coverage, len(right))
    return CoveragePoint(
        coverage, float(confidence[count - 1]), interval(accuracy, len(right)),
        parts(names, right, count), {} if groups is None else parts(groups, right, count),
    )


def label_count(coverage: float, faces: int) -> int:
    """Return the number of faces that get a label, at least 1."""
    return max(round(coverage * faces), 1)


def parts(names: Array, right: Array, count: int) -> dict[str, Part]:
    """Return the part of every name in `(n,)`, where the first `count` faces get a label."""
    found = {}
    for name in sorted(set(names.tolist())):
        inside = names == name
        found[name] = Part(int(inside.sum()), int(inside[:count].sum()),
                           int(right[:count][inside[:count]].sum()))
    return found
