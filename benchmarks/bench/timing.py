"""Times that can be compared: alternating runs, percentiles, noise, ratios with an interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_ROUNDS = 10
# onnxruntime's threads spin for a while after a run; the next candidate must not share its core
# with them.
SETTLE_S = 0.03
# Above this spread a median of a few seconds moves by as much as what it is meant to show.
NOISY = 0.15
RESAMPLES = 2000


def alternate(
    measurements: Sequence[Callable[[], float]], duration_s: float = 0.0,
    least_rounds: int = LEAST_ROUNDS,
) -> list[list[float]]:
    """Take measurements in turn, so that a drift of the machine affects all of them alike.

    The order within a round is random, so that none always follows the same neighbor.

    Args:
        measurements: each call takes one sample, usually seconds.
        duration_s: rounds go on for this time per measurement.
        least_rounds: rounds that are made in any case.

    Returns:
        The samples of each measurement, one per round.
    """
    order = np.random.default_rng(0)
    samples: list[list[float]] = [[] for _ in measurements]
    end_s = time.perf_counter() + duration_s * len(measurements)
    while len(samples[0]) < least_rounds or time.perf_counter() < end_s:
        for k in order.permutation(len(measurements)):
            samples[k].append(measurements[k]())
    return samples


def warm_up(run: Callable[[], object], seconds: float) -> None:
    """Run at least twice, so that allocation, compilation and caches are not timed."""
    end_s = time.perf_counter() + seconds
    run()
    run()
    while time.perf_counter() < end_s:
        run()


def time_run(run: Callable[[], object]) -> float:
    """Return the seconds of one run, after a pause."""
    time.sleep(SETTLE_S)
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


@dataclass(frozen=True)
class Statistics:
    """Statistics of samples: median and percentiles in seconds.

    `noise` is the interquartile range divided by the median: 0 on an idle machine.
    """

    samples: int
    median_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    noise: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Statistics:
        """Return the statistics of samples in seconds."""
        p25, median, p75, p90, p95, p99 = map(float, np.percentile(
            seconds, (25, 50, 75, 90, 95, 99)))
        return Statistics(len(seconds), median, p90, p95, p99, (p75 - p25) / median)

    @property
    def is_noisy(self) -> bool:
        """Whether the spread makes the numbers useless."""
        return self.noise > NOISY


@dataclass(frozen=True)
class Ratio:
    """The speed-up over the first candidate, with its 95 % interval."""

    value: float
    low: float
    high: float


def speed_up(first_s: Sequence[float], other_s: Sequence[float]) -> Ratio:
    """Return the ratio of two medians of the same rounds.

    The interval is the percentile bootstrap's (Efron, Tibshirani: "An Introduction to the
    Bootstrap", 1993, chapter 13). Rounds are drawn, not samples: what slowed the machine in a round
    slowed both.
    """
    pairs = np.array([first_s, other_s])
    rounds = pairs.shape[1]
    drawn = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    medians = np.median(pairs[:, drawn], axis=2)
    low, high = np.percentile(medians[0] / medians[1], (2.5, 97.5))
    first, other = np.median(pairs, axis=1)
    return Ratio(float(first / other), float(low), float(high))
