"""Scores of a classifier with their uncertainty, and the comparison of two classifiers.

Every interval is the 95 % interval of a bootstrap over faces: the range expected on other faces of
the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feredge.calibration.quality.agreement import agreement
from feredge.calibration.quality.reliability import expected_calibration_error, reliability
from feredge.runtime.errors import require
from feredge.runtime.results import Array

RESAMPLES, SEED = 1000, 0
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """The scores of a class with `support` faces; None where the denominator is 0."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Bin:
    """Faces of similar confidence: their number, mean confidence and accuracy."""

    faces: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """The scores of one network.

    `balanced_accuracy` is the mean recall of the classes with faces; `confusion[i][j]` counts the
    faces of class i with the predicted label j. With fewer faces a calibration error is larger, so
    that its interval reaches further up than down.
    """

    right: int
    accuracy: Interval
    balanced_accuracy: Interval
    expected_calibration_error: Interval
    classes: Mapping[str, ClassScores]
    confusion: Sequence[Sequence[int]]
    reliability: Sequence[Bin]


@dataclass(frozen=True)
class Flip:
    """A picture that two networks label differently."""

    picture: str
    truth: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """A network compared with the first one on the same faces.

    `mcnemar_p` is the p-value of McNemar's exact test: the probability that `right_to_wrong` and
    `wrong_to_right` differ at least so much if neither network is better.
    """

    agreement: float
    accuracy_change: Interval
    right_to_wrong: int
    wrong_to_right: int
    wrong_to_wrong: int
    mcnemar_p: float
    flips: Sequence[Flip]


@dataclass(frozen=True)
class Group:
    """Accuracy on the faces of one group."""

    faces: int
    accuracy: Interval


@dataclass(frozen=True)
class Groups:
    """Accuracy by group, and the gap between the best and the worst group."""

    groups: Mapping[str, Group]
    best: str
    worst: str
    gap: Interval


def interval(metric: Callable[[Array], float], faces: int) -> Interval:
    """Return a metric and its seeded bootstrap interval.

    Args:
        metric: a function of row numbers; NaN where it has no value.
        faces: the number of rows.
    """
    rng = np.random.default_rng(SEED)
    values = [metric(rng.integers(faces, size=faces)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(values, PERCENTILES)
    return Interval(float(metric(np.arange(faces))), float(low), float(high))


def mean_interval(values: Array) -> Interval:
    """Return the mean of `(n,)` values and its bootstrap interval."""
    return interval(lambda rows: values[rows].mean(), len(values))


def score(probabilities: Array, truth: Array, labels: Sequence[str]) -> Scores:
    """Score the predictions of a network.

    Args:
        probabilities: `(n, classes)`, n above 0.
        truth: `(n,)` class numbers.
        labels: the names of the classes.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == truth
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (truth, predicted), 1)

    def balanced_accuracy(rows: Array) -> float:
        # scikit-learn's balanced_accuracy_score is a hundred times slower.
        faces = np.bincount(truth[rows], minlength=len(labels))
        hits = np.bincount(truth[rows], right[rows], len(labels))
        return float((hits[faces > 0] / faces[faces > 0]).mean())

    def calibration_error(rows: Array) -> float:
        return expected_calibration_error(probabilities[rows], truth[rows])

    return Scores(
        int(right.sum()), mean_interval(right), interval(balanced_accuracy, len(truth)),
        interval(calibration_error, len(truth)), class_scores(truth, predicted, labels),
        counts.tolist(), reliability_bins(probabilities, truth),
    )


def class_scores(truth: Array, predicted: Array, labels: Sequence[str]) -> dict[str, ClassScores]:
    """Return the scores of every class from `(n,)` true and predicted class numbers."""
    columns = require("sklearn.metrics", "bench").precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(labels)), zero_division=np.nan)
    return {label: ClassScores(none_if_nan(precision), none_if_nan(recall), none_if_nan(f1),
                               int(support))
            for label, precision, recall, f1, support in zip(labels, *columns)}


def reliability_bins(probabilities: Array, truth: Array) -> list[Bin]:
    """Return the bins of confidence that hold a face, of two `(n,)` arrays."""
    bins = reliability(probabilities, truth)
    return [Bin(int(faces), float(confidence), float(accuracy)) for faces, confidence, accuracy
            in zip(bins.faces, bins.confidence, bins.accuracy) if faces]


def none_if_nan(value: float) -> float | None:
    """Return a number for JSON: None for NaN."""
    return None if np.isnan(value) else float(value)


def compare(
    first: Array, other: Array, truth: Array, names: Sequence[str], labels: Sequence[str]
) -> Comparison:
    """Compare the predictions of a network with those of the first.

    Args:
        first: `(n, classes)` probabilities of the first network.
        other: `(n, classes)` of the other network.
        truth: `(n,)` class numbers.
        names: the names of the pictures.
        labels: the names of the classes.
    """
    before, after = first.argmax(axis=1), other.argmax(axis=1)
    was_right, is_right = before == truth, after == truth
    lost, won = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum())
    flipped = np.flatnonzero(before != after)
    test = require("scipy.stats", "bench").binomtest
    return Comparison(
        agreement(first, other).top1,
        mean_interval(is_right.astype(float) - was_right),
        lost, won, len(flipped) - lost - won,
        float(test(lost, lost + won).pvalue) if lost + won else 1.0,
        [Flip(names[row], labels[truth[row]], labels[before[row]], labels[after[row]])
         for row in flipped.tolist()],
    )


def score_groups(right: Array, groups: Array) -> Groups:
    """Return accuracy by group.

    The gap is between the groups that are best and worst on these faces; its interval may hold 0,
    and with few faces per group the gap is mostly chance.

    Args:
        right: `(n,)` bool: whether the predicted label is right.
        groups: `(n,)` the group of each face.
    """
    found: dict[str, Group] = {}
    for name in sorted(set(groups.tolist())):
        inside = right[groups == name]
        found[name] = Group(len(inside), mean_interval(inside))
    best, worst = (pick(found, key=lambda name: found[name].accuracy.value) for pick in (max, min))

    def gap(rows: Array) -> float:
        high, low = (right[rows][groups[rows] == name] for name in (best, worst))
        return float(high.mean() - low.mean()) if len(high) and len(low) else np.nan

    return Groups(found, best, worst, interval(gap, len(right)))
