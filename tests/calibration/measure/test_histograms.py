"""Histograms that grow, and the methods, against brute force on the values themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feredge.calibration.measure.histograms import BINS, Histogram
from feredge.calibration.measure.methods import LEVELS, METHODS, bounds, candidates, divergence

ACTIVATIONS = arrays(np.float32, st.integers(1, 300),
                     elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


def histogram_of(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def state(histogram):
    return (histogram.counts.tolist(), histogram.exponent, histogram.zeros, histogram.low,
            histogram.high)


@pytest.fixture(scope="module")
def values():
    """What a network has: half zeros, a bell, and a long tail."""
    rng = np.random.default_rng(0)
    bell = np.maximum(rng.normal(0, 1, 20000), 0)
    return np.concatenate([bell, rng.exponential(2, 200) + 2]).astype(np.float32)


@settings(deadline=None)
@given(first=ACTIVATIONS, second=ACTIVATIONS)
def test_counts_depend_neither_on_the_order_of_the_faces_nor_on_their_batches(first, second):
    together = state(histogram_of(np.concatenate([first, second])))
    assert state(histogram_of(first, second)) == together
    assert state(histogram_of(second, first)) == together
    assert state(histogram_of(first) + histogram_of(second)) == together


@settings(deadline=None)
@given(values=ACTIVATIONS)
def test_every_value_is_in_its_bin(values):
    histogram = histogram_of(values)
    sizes = np.abs(values[values != 0]).astype(np.float64)
    expected = np.bincount((sizes / histogram.width).astype(int), minlength=BINS)
    assert (histogram.counts == expected).all()
    assert histogram.zeros == (values == 0).sum()
    assert (histogram.low, histogram.high) == (values.min(), values.max())


def test_more_than_a_chunk_of_values_is_counted_whole(values):
    many = np.tile(values, 9).reshape(3, -1)
    assert (histogram_of(many).counts == 9 * histogram_of(values).counts).all()


def test_at_least_2048_bins_reach_up_to_the_largest_value(values):
    for scale in (1e-6, 0.3, 1, 1.999, 2, 7e4):
        histogram = histogram_of((values * scale).astype(np.float32))
        assert np.flatnonzero(histogram.counts)[-1] >= 2047


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_stays_known(bad, values):
    histogram = histogram_of(values, np.array([1, bad], np.float32), values)
    assert np.isnan(histogram.low) and np.isnan(histogram.high)


def test_a_dead_tensor_has_no_width_by_any_method():
    assert bounds(histogram_of(np.zeros(100, np.float32))) == dict.fromkeys(METHODS, (0, 0))


def test_the_extremes_are_exact(values):
    assert bounds(histogram_of(values - 1))["max"] == ((values - 1).min(), (values - 1).max())


@pytest.mark.parametrize("percent", [99.9, 99.99, 99.999])
def test_percentiles_are_numpys_to_a_bin(percent, values):
    histogram = histogram_of(values)
    found = METHODS[f"percentile-{percent}"](histogram)
    assert 0 <= found - np.percentile(values, percent, method="inverted_cdf") <= histogram.width


def test_mse_is_within_half_a_percent_of_the_least_error_of_the_values(values):
    histogram = histogram_of(values)

    def error(threshold):
        step = threshold / 127
        stored = np.minimum(np.rint(values / step), 127) * step
        return ((stored - values.astype(np.float64)) ** 2).sum()

    least = min(error(threshold) for threshold in np.linspace(0.5, values.max(), 2000))
    assert error(METHODS["mse"](histogram)) <= 1.005 * least


def brute_divergence(counts, kept):
    """Migacz's slides, a bin at a time."""
    reference = [float(count) for count in counts[:kept]]
    reference[-1] += sum(counts[kept:])
    quantized = [0.0] * kept
    for level in range(LEVELS):
        own = [k for k in range(kept) if k * LEVELS // kept == level]
        filled = [k for k in own if counts[k]]
        for k in filled:
            quantized[k] = sum(counts[own]) / len(filled)
    loss = 0.0
    for p, q in zip(reference, quantized):
        if p:
            if not q:
                return np.inf
            loss += p / sum(reference) * np.log(p / sum(reference) / (q / sum(quantized)))
    return loss


def test_entropy_is_the_least_divergence(values):
    histogram = histogram_of(values)
    kept = candidates(histogram)[::12]  # the loops are slow; the last one keeps all
    kept = np.append(kept, candidates(histogram)[-1])
    losses = [brute_divergence(histogram.counts, bins) for bins in kept]
    assert [divergence(histogram.counts, bins) for bins in kept] == pytest.approx(losses)
    best = METHODS["entropy"](histogram) / histogram.width
    assert divergence(histogram.counts, int(best)) <= min(losses) + 1e-9


@pytest.mark.parametrize("shift", [0, -1], ids=["unsigned", "signed"])
def test_clipping_takes_the_same_threshold_from_both_ends(shift, values):
    histogram = histogram_of(values + np.float32(shift))
    for method, (low, high) in bounds(histogram).items():
        threshold = METHODS[method](histogram)
        assert low == max(histogram.low, -threshold) and high == min(histogram.high, threshold)
    assert bounds(histogram)["percentile-99.9"][1] < bounds(histogram)["max"][1]
