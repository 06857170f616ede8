"""Histograms of activations in bounded memory, for any number of faces."""

from __future__ import annotations

import math

import numpy as np

from feredge.runtime.results import Array

BINS = 4096  # the range is a power of two: 2,048 of them or more reach up to the largest value
CHUNK = 1 << 16  # values at a time: the scaled values stay in the processor's cache
LEAST_EXPONENT = -100  # scales of smaller values would overflow float32


class Histogram:
    """Counts of |x| in `BINS` equal bins from 0 to a power of two above the largest value.

    For a larger value the range doubles and neighboring bins merge. As both ends are powers of
    two, no value moves to another bin by rounding: the counts do not depend on the order of the
    faces, and two histograms add up. Zeros are counted separately: INT8 represents them exactly.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.low, self.high = math.inf, -math.inf
        self.exponent = LEAST_EXPONENT

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1, self.exponent) / BINS

    def add(self, values: Array) -> None:
        """Count float32 values of any shape.

        Values that are not finite make `low` and `high` NaN and are not counted.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            self.low = self.high = math.nan  # which min and max keep from here on
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low or high:
            self.grow(math.frexp(max(-low, high))[1])
        flat, scale = values.reshape(-1), np.float32(1 / self.width)
        for start in range(0, flat.size, CHUNK):
            chunk = flat[start : start + CHUNK]
            bins = (np.abs(chunk) * scale).astype(np.int64)
            zeros = chunk.size - int(np.count_nonzero(chunk))
            self.counts += np.bincount(bins, minlength=BINS)
            self.counts[0] -= zeros
            self.zeros += zeros

    def grow(self, exponent: int) -> None:
        """Widen the range to 2 to the `exponent`, if it is smaller."""
        if exponent > self.exponent:
            self.counts, self.exponent = self.merge_bins(exponent), exponent

    def merge_bins(self, exponent: int) -> Array:
        """Return the counts, `(bins,)`, in a range that is as wide or wider."""
        merged = min(1 << (exponent - self.exponent), BINS)
        return np.pad(self.counts.reshape(-1, merged).sum(axis=1), (0, BINS - BINS // merged))

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of the values of both."""
        total = Histogram()
        total.exponent = max(self.exponent, other.exponent)
        total.counts = self.merge_bins(total.exponent) + other.merge_bins(total.exponent)
        total.zeros = self.zeros + other.zeros
        total.low, total.high = min(self.low, other.low), max(self.high, other.high)
        return total
