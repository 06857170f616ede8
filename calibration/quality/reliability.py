"""Reliability: how far the confidence of a network is from its accuracy. Needs numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feredge.runtime.results import Array

BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """Faces by the probability of their best class, in bins of equal width.

    `faces` `(bins,)` int64; `confidence` and `accuracy` `(bins,)` float64, means over a bin's
    faces, NaN where it has none.
    """

    faces: Array
    confidence: Array
    accuracy: Array

    @property
    def expected_calibration_error(self) -> float:
        """Return the mean distance of confidence from accuracy, each bin weighted by its faces."""
        distance = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(self.faces * distance) / self.faces.sum())


def reliability(probabilities: Array, classes: Array, bins: int = BINS) -> ReliabilityBins:
    """Count faces in bins of confidence (Guo et al., "On Calibration of Modern Neural Networks").

    Args:
        probabilities: `(n, c)`, n above 0.
        classes: `(n,)` integers, the true ones.
        bins: their number, over [0, 1], each closed on the right.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == classes
    rows = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    faces = np.bincount(rows, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(rows, values, bins) / faces for values in (confidence, right)]
    return ReliabilityBins(faces, *means)


def expected_calibration_error(probabilities: Array, classes: Array, bins: int = BINS) -> float:
    """Return the expected calibration error of probabilities `(n, c)` for classes `(n,)`."""
    return reliability(probabilities, classes, bins).expected_calibration_error
