"""Scores of a classifier with their uncertainty, and what tells two classifiers apart.

Every interval holds 95 % of a bootstrap over faces: what the number may be on other faces like
these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feredge.calibration.quality.reliability import expected_calibration_error, reliability
from feredge.runtime.errors import require
from feredge.runtime.results import Array

RESAMPLES, SEED = 1000, 0
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A measured value, and where 95 % of its bootstrap lie."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """One class: `support` faces of it; None where there is nothing to divide by."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Bin:
    """Faces of similar confidence: how many, how sure the network is, how often it is right."""

    faces: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """How one network answers.

    `balanced_accuracy` is the mean recall of the classes with faces; `confusion[i][j]` counts the
    faces of class i that are called j. A calibration error grows as faces get fewer, so that its
    interval reaches further up than down.
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
    """A network against the first one, on the same faces.

    `mcnemar_p` is McNemar's exact test: how likely the two counts of flips that change whether a
    label is right would be so far apart if neither network were better.
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
    """Accuracy by group, and how far the best is above the worst of them."""

    groups: Mapping[str, Group]
    best: str
    worst: str
    gap: Interval


def interval(metric: Callable[[Array], float], faces: int) -> Interval:
    """Return a metric and its seeded bootstrap interval.

    Args:
        metric: of the faces in some rows; NaN where it has no value.
        faces: their number.
    """
    rng = np.random.default_rng(SEED)
    values = [metric(rng.integers(faces, size=faces)) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(values, PERCENTILES)
    return Interval(float(metric(np.arange(faces))), float(low), float(high))


def mean_interval(values: Array) -> Interval:
    """Return the mean of `(n,)` values and its bootstrap interval."""
    return interval(lambda rows: values[rows].mean(), len(values))


def scored(probabilities: Array, truth: Array, labels: Sequence[str]) -> Scores:
    """Score a network's answers.

    Args:
        probabilities: `(n, classes)`, n above 0.
        truth: `(n,)` class numbers.
        labels: the classes' names.
    """
    metrics = require("sklearn.metrics", "bench")
    said = probabilities.argmax(axis=1)
    right = said == truth

    def balanced(rows: Array) -> float:
        # scikit-learn's balanced_accuracy_score, a hundred times as fast: it is asked 1,000 times.
        faces = np.bincount(truth[rows], minlength=len(labels))
        hits = np.bincount(truth[rows], right[rows], len(labels))
        return float((hits[faces > 0] / faces[faces > 0]).mean())

    places = np.arange(len(labels))
    columns = metrics.precision_recall_fscore_support(
        truth, said, labels=places, zero_division=np.nan)
    bins = reliability(probabilities, truth)
    return Scores(
        int(right.sum()),
        mean_interval(right),
        interval(balanced, len(truth)),
        interval(lambda rows: expected_calibration_error(probabilities[rows], truth[rows]),
                 len(truth)),
        {label: ClassScores(defined(precision), defined(recall), defined(f1), int(support))
         for label, precision, recall, f1, support in zip(labels, *columns)},
        metrics.confusion_matrix(truth, said, labels=places).tolist(),
        [Bin(int(faces), float(confidence), float(accuracy)) for faces, confidence, accuracy
         in zip(bins.faces, bins.confidence, bins.accuracy) if faces],
    )


def defined(value: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN."""
    return None if np.isnan(value) else float(value)


def compared(
    before: Array, after: Array, truth: Array, names: Sequence[str], labels: Sequence[str]
) -> Comparison:
    """Compare a network's answers with those of the first.

    Args:
        before: `(n,)` the first network's class numbers.
        after: `(n,)` the other's.
        truth: `(n,)` the right ones.
        names: the pictures'.
        labels: the classes' names.
    """
    was, is_now = before == truth, after == truth
    lost, won = int((was & ~is_now).sum()), int((~was & is_now).sum())
    change = is_now.astype(float) - was
    flipped = np.flatnonzero(before != after)
    test = require("scipy.stats", "bench").binomtest
    return Comparison(
        1 - len(flipped) / len(truth),
        mean_interval(change),
        lost, won, len(flipped) - lost - won,
        float(test(lost, lost + won).pvalue) if lost + won else 1.0,
        [Flip(names[row], labels[truth[row]], labels[before[row]], labels[after[row]])
         for row in flipped.tolist()],
    )


def grouped(right: Array, groups: Array) -> Groups:
    """Tell accuracy by group.

    The gap is that of the two groups that are best and worst on these faces; its interval may hold
    0, and with few faces a group it is more chance than difference.

    Args:
        right: `(n,)` bool.
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
