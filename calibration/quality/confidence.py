"""Fit the model of the confidence: a logistic regression on the features of labeled faces.

The weights of all features but the log odds are penalized (ridge) on the scale of a standard
deviation, so that with few faces the model stays close to the calibrated probability.
Cross-validation chooses the penalty, and a second one around it measures the model on faces that
neither chose nor fitted it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feredge.runtime.results import Array

PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
FOLDS, RESAMPLES, SEED = 10, 500, 0
FREE = 1  # the first so many features, the log odds, are all but unpenalized
MOST_STEPS = 25  # Newton's method needs about six


@dataclass(frozen=True)
class Logistic:
    """A logistic model: `weights` `(features,)` and `bias`, in the units of the features."""

    weights: Array
    bias: float

    def predict(self, features: Array) -> Array:
        """Return the probability of each row of `(n, features)`, `(n,)`."""
        log_odds = features @ self.weights + self.bias
        found: Array = 1 / (1 + np.exp(-log_odds.clip(-50, 50)))
        return found


def fit_logistic(features: Array, right: Array, penalty: float) -> Logistic:
    """Fit by Newton's method.

    Args:
        features: `(n, features)`, the log odds first.
        right: `(n,)` bool.
        penalty: of the squared weights of the standardized features.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    table = np.column_stack([np.ones(len(features)), (features - mean) / spread])
    ridge = np.full(table.shape[1], penalty)
    ridge[: 1 + FREE] = 1e-6, *[1.0] * FREE  # 1: finite if the log odds separate the faces
    weights = np.zeros(table.shape[1])
    for _ in range(MOST_STEPS):
        predicted = 1 / (1 + np.exp(-(table @ weights).clip(-50, 50)))
        curvature = (table.T * (predicted * (1 - predicted))) @ table + np.diag(ridge)
        step = np.linalg.solve(curvature, table.T @ (right - predicted) - ridge * weights)
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    scaled = weights[1:] / spread
    return Logistic(scaled, float(weights[0] - scaled @ mean))


def choose_penalty(features: Array, right: Array, folds: Array) -> float:
    """Return the penalty with the least log loss on held-out folds; see `held_out`."""
    losses = {penalty: log_loss(held_out(features, right, folds, penalty), right)
              for penalty in PENALTIES}
    return min(losses, key=lambda penalty: losses[penalty])


def held_out(features: Array, right: Array, folds: Array, penalty: float | None) -> Array:
    """Return the confidence of each face, `(n,)`, by a model of the other folds.

    Args:
        features: `(n, features)`.
        right: `(n,)` bool.
        folds: `(n,)`, the fold of each face.
        penalty: of the models; None: each chooses its own on its faces.
    """
    found = np.zeros(len(right))
    for fold in np.unique(folds):
        inside = folds == fold
        rows, truth = features[~inside], right[~inside]
        chosen = penalty or choose_penalty(rows, truth, random_folds(len(rows), int(fold) + 1))
        found[inside] = fit_logistic(rows, truth, chosen).predict(features[inside])
    return found


def random_folds(faces: int, seed: int) -> Array:
    """Return a fold for each face, `(faces,)`, all folds of about the same size."""
    return np.random.default_rng(seed).permutation(np.arange(faces) % FOLDS)


def log_loss(confidence: Array, right: Array) -> float:
    """Return the mean negative log-likelihood of `(n,)` confidences, in nats."""
    likelihood = np.where(right, confidence, 1 - confidence)
    return float(-np.log(np.maximum(likelihood, 1e-12)).mean())


def weight_intervals(features: Array, right: Array, penalty: float) -> Array:
    """Return 95 % bootstrap intervals of the weights, then the bias, `(features + 1, 2)`."""
    rng = np.random.default_rng(SEED)
    found: list[list[float]] = []
    while len(found) < RESAMPLES:
        rows = rng.integers(len(right), size=len(right))
        if 0 < right[rows].sum() < len(rows):
            model = fit_logistic(features[rows], right[rows], penalty)
            found.append([*model.weights, model.bias])
    intervals: Array = np.percentile(found, (2.5, 97.5), axis=0).T
    return intervals
