"""The rows of a report: one per engine and batch, with its share of the peak, and profiles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.bench.baselines import sibling_path
from feredge.benchmarks.bench.candidates import Candidate
from feredge.benchmarks.bench.options import BenchOptions
from feredge.benchmarks.bench.sensors import sensors
from feredge.benchmarks.bench.timing import Statistics, alternate, speed_up, time_run, warm_up
from feredge.runtime.results import Array

SPLITS = 20


def time_rows(
    options: BenchOptions, candidates: Sequence[Candidate],
    differences: Sequence[dict[str, Any]], crops: Array,
) -> Iterator[dict[str, Any]]:
    """Yield one row per candidate and batch.

    Args:
        options: batches and durations.
        candidates: what is timed.
        differences: of each candidate's predictions from the first one's.
        crops: `(n, 3, side, side)` float32, repeated to fill a batch.
    """
    for batch in options.batches:
        faces = np.resize(crops, (batch, *crops.shape[1:]))
        runs = [partial(candidate.infer, faces) for candidate in candidates]
        for run in runs:
            warm_up(run, options.warm_up_s)
        samples = alternate([partial(time_run, run) for run in runs], options.duration_s)
        power_w = sensors()["power_w"] or None
        for candidate, difference, seconds in zip(candidates, differences, samples):
            yield {
                "engine": candidate.name, "precision": candidate.precision, "batch": batch,
                **statistics_row(candidate.name, batch, seconds),
                "speed_up": asdict(speed_up(samples[0], seconds)), "answers": difference,
                "gpu": split_ms(candidate, faces), "power_w": power_w, "seconds": seconds,
            }


def statistics_row(name: str, batch: int, seconds: Sequence[float]) -> dict[str, Any]:
    """Return the statistics of the samples; noisy samples draw a warning."""
    statistics = Statistics.of(seconds)
    if statistics.is_noisy:
        warnings.warn(f"{name}, batch {batch}: half of the samples spread over "
                      f"{statistics.noise:.0%} of the median; something else runs on this "
                      "machine, repeat the run when it is idle", stacklevel=2)
    return {**asdict(statistics), "faces_per_s": batch / statistics.median_s}


def split_ms(candidate: Candidate, crops: Array) -> dict[str, float] | None:
    """Return the median of every part of an inference on a GPU, ms; None on a CPU."""
    if candidate.split is None or not candidate.split(crops):
        return None
    parts = [candidate.split(crops) for _ in range(SPLITS)]
    return {name: float(np.median([part[name] for part in parts])) for name in parts[0]}


def add_shares(report: dict[str, Any], first: Path) -> None:
    """Add to every row its share of the device's peak."""
    from feredge.benchmarks.bench.peak import measure_peak, published_peak, share_of, work_of

    state = report["before"]
    on_gpu = first.suffix == ".plan"
    gpu = (state["gpu"] or {}).get("name")
    peak = published_peak(state["board"], gpu) if on_gpu else measure_peak()
    if peak is None:
        warnings.warn(f"no published peak is known of {gpu or state['board']}", stacklevel=2)
        return
    report["peak"] = asdict(peak)
    graph = sibling_path(first, ".onnx", "--peak")
    for row in report["rows"]:
        work = work_of(graph, row["precision"], row["batch"])
        row["peak"] = share_of(peak, work, row["precision"], row["median_s"])


def profile_operators(options: BenchOptions, crops: Array) -> dict[str, Any]:
    """Return by batch and ONNX engine the milliseconds of every kind of operator."""
    from feredge.benchmarks.bench.operators import operator_ms

    return {str(batch): {path.name: operator_ms(path, np.resize(crops, (batch, *crops.shape[1:])))
                         for path in options.engines if path.suffix == ".onnx"}
            for batch in options.batches}
