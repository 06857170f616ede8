"""The calibration methods: from the histogram of an activation to its INT8 range."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from feredge.calibration.measure.histograms import Histogram
from feredge.runtime.results import Array

LEVELS = 128  # of |x| in symmetric INT8, zero among them
STEP = 16  # bins between two candidates: at most 1/128 of the largest value


def largest_value(histogram: Histogram) -> float:
    """Return the largest |x|: nothing is clipped."""
    return max(-histogram.low, histogram.high)


def percentile(histogram: Histogram, percent: float) -> float:
    """Return the upper edge of the bin at which `percent` of all |x|, zeros too, are reached."""
    reached = histogram.zeros + np.cumsum(histogram.counts)
    bins = np.searchsorted(reached, percent / 100 * reached[-1])
    return float(bins + 1) * histogram.width


def entropy(histogram: Histogram) -> float:
    """Return the threshold whose 128 levels keep most of the distribution's information.

    Szymon Migacz, "8-bit Inference with TensorRT", NVIDIA, GTC 2017: the least Kullback-Leibler
    divergence of the clipped distribution (clipped values count in the last bin) from its
    quantized form (each level's count spread evenly over its bins that are not empty). Zeros are
    not counted: they are exact in INT8, and would outweigh all other values.
    """
    kept = candidates(histogram)
    losses = [divergence(histogram.counts, bins) for bins in kept.tolist()]
    return float(kept[int(np.argmin(losses))]) * histogram.width if len(kept) else 0.0


def divergence(counts: Array, bins: int) -> float:
    """Return the divergence caused by clipping counts, `(all bins,)`, to the first `bins` bins."""
    inside = counts[:bins].astype(np.float64)
    expected = inside.copy()
    expected[-1] += counts[bins:].sum()
    levels = np.arange(bins) * LEVELS // bins
    totals = np.bincount(levels, inside)
    filled = np.bincount(levels, inside > 0)
    spread = (totals / np.maximum(filled, 1))[levels] * (inside > 0)
    used = expected > 0
    if (spread[used] == 0).any():
        return float("inf")  # values were clipped to a bin that holds none
    share, quantized = expected[used] / expected.sum(), spread[used] / spread.sum()
    return float((share * np.log(share / quantized)).sum())


def mse(histogram: Histogram) -> float:
    """Return the threshold with the least expected squared error of rounding and clipping."""
    kept = candidates(histogram)
    if not len(kept):
        return 0.0
    filled = np.flatnonzero(histogram.counts)
    centers = filled + 0.5
    scales = kept[:, None] / (LEVELS - 1)
    errors = np.minimum(np.rint(centers / scales), LEVELS - 1) * scales - centers
    return float(kept[np.argmin(errors**2 @ histogram.counts[filled])]) * histogram.width


def candidates(histogram: Histogram) -> Array:
    """Return the numbers of bins, `(n,)` int, that a threshold may keep, up to all with values."""
    filled = np.flatnonzero(histogram.counts)
    if not len(filled):
        return filled
    return np.append(np.arange(LEVELS, filled[-1] + 1, STEP), filled[-1] + 1)


# Simplest first: of methods that are equally good, the first is used.
METHODS: dict[str, Callable[[Histogram], float]] = {
    "max": largest_value,
    "percentile-99.999": partial(percentile, percent=99.999),
    "percentile-99.99": partial(percentile, percent=99.99),
    "percentile-99.9": partial(percentile, percent=99.9),
    "entropy": entropy,
    "mse": mse,
}


def bounds(histogram: Histogram) -> dict[str, tuple[float, float]]:
    """Return the range of a tensor by every method: its extremes, clipped to the threshold."""
    low, high = histogram.low, histogram.high
    thresholds = {name: method(histogram) for name, method in METHODS.items()}
    return {name: (max(low, -most), min(high, most)) for name, most in thresholds.items()}
