"""Times that can be compared: candidates in turn, percentiles, noise, ratios with an interval."""

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


def alternated(
    runs: Sequence[Callable[[], object]], duration_s: float, warm_up_s: float
) -> list[list[float]]:
    """Time candidates in turn, so that a drift of the machine hits all of them alike.

    The order within a round is drawn anew, so that none always follows the same neighbour.

    Args:
        runs: one inference of each candidate.
        duration_s: for every candidate, pauses included; at least ten rounds are made.
        warm_up_s: for every candidate, untimed, and at least two runs.

    Returns:
        The seconds of each candidate, round by round.
    """
    for run in runs:
        warmed_up(run, warm_up_s)
    order = np.random.default_rng(0)
    samples: list[list[float]] = [[] for _ in runs]
    end_s = time.perf_counter() + duration_s * len(runs)
    while len(samples[0]) < LEAST_ROUNDS or time.perf_counter() < end_s:
        for k in order.permutation(len(runs)):
            samples[k].append(timed_s(runs[k]))
    return samples


def warmed_up(run: Callable[[], object], seconds: float) -> None:
    """Run until allocations, compilations and caches have settled."""
    end_s = time.perf_counter() + seconds
    run()
    run()
    while time.perf_counter() < end_s:
        run()


def timed_s(run: Callable[[], object]) -> float:
    """Return the seconds of one run, after a pause."""
    time.sleep(SETTLE_S)
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


@dataclass(frozen=True)
class Statistics:
    """What samples say: median and percentiles in seconds.

    `noise` is the interquartile range over the median: 0 on a machine that does nothing else.
    """

    samples: int
    median_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    noise: float

    @staticmethod
    def of(seconds: Sequence[float]) -> Statistics:
        """Summarise samples."""
        p25, median, p75, p90, p95, p99 = map(float, np.percentile(
            seconds, (25, 50, 75, 90, 95, 99)))
        return Statistics(len(seconds), median, p90, p95, p99, (p75 - p25) / median)

    @property
    def is_noisy(self) -> bool:
        """Tell whether the spread makes the numbers useless."""
        return self.noise > NOISY


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the first candidate, with its 95 % interval."""

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
