"""Times that can be compared: fair turns, percentiles, noise, intervals."""

import time

import numpy as np
import pytest

from feredge.benchmarks.bench import timing
from feredge.benchmarks.bench.timing import LEAST_ROUNDS, Statistics, alternate, speed_up


def test_candidates_take_turns_and_none_follows_always_the_same():
    calls = []
    runs = [lambda name=name: calls.append(name) or 0.5 for name in "abc"]
    samples = alternate(runs, 1e-9)
    rounds = ["".join(calls[k : k + 3]) for k in range(0, len(calls), 3)]
    assert all(sorted(one) == list("abc") for one in rounds) and len(set(rounds)) > 2
    assert samples == [[0.5] * LEAST_ROUNDS] * 3


def test_a_warm_up_runs_at_least_twice():
    calls = []
    timing.warm_up(lambda: calls.append(1), 0)
    assert len(calls) == 2


def test_a_run_is_timed_without_the_pause_before_it():
    assert 0.02 <= timing.time_run(lambda: time.sleep(0.02)) < 0.02 + timing.SETTLE_S


def test_statistics_are_those_of_the_samples():
    found = Statistics.of([k / 100 for k in range(1, 102)])
    assert (found.samples, found.median_s) == (101, 0.51)
    assert (found.p90_s, found.p95_s, found.p99_s) == pytest.approx((0.91, 0.96, 1.0))
    assert found.noise == pytest.approx(0.5 / 0.51) and found.is_noisy
    assert not Statistics.of([1.0, 1.01, 1.02]).is_noisy


def test_the_interval_holds_the_ratio_and_narrows_with_the_noise():
    rng = np.random.default_rng(1)
    drift = rng.uniform(1, 2, 200)  # of the machine: hits both alike
    wide = speed_up(2 * drift, drift * rng.normal(1, 0.2, 200))
    narrow = speed_up(2 * drift, drift)
    assert narrow.low == narrow.high == narrow.value == 2
    assert wide.low < wide.value < wide.high and 1.7 < wide.low and wide.high < 2.4
