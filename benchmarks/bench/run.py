"""One run of fer-bench: open, compare the predictions, then time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from feredge.benchmarks.bench.baselines import BASELINES, Subject
from feredge.benchmarks.bench.candidates import candidate_of, check_comparable
from feredge.benchmarks.bench.options import BenchOptions
from feredge.benchmarks.bench.predictions import compare_predictions, face_crops
from feredge.benchmarks.bench.rows import add_shares, profile_operators, time_rows
from feredge.benchmarks.bench.sensors import sensors
from feredge.benchmarks.eval.records import environment, results_path, write_results
from feredge.runtime.engines import open_engine
from feredge.runtime.errors import SourceError, require
from feredge.runtime.files import check_folder
from feredge.runtime.machine import cores


def benchmark(options: BenchOptions) -> dict[str, Any]:
    """Time networks, and write the report and the plot where the options ask for them.

    Predictions are compared before anything is timed: what predicts something else is another
    network, and its speed says nothing.

    Args:
        options: what to time, and how.

    Returns:
        The report, as it is written to JSON: `rows` has one entry per engine and batch with its
        samples in seconds.

    Raises:
        FeredgeError: what cannot be measured or written; raised before the measurement.
    """
    target = check_outputs(options)
    report = measure(options)
    write_results(target, report)
    if options.plot is not None:
        from feredge.benchmarks.bench.plots import plot_report

        plot_report(report, options.plot)
    return report


def check_outputs(options: BenchOptions) -> Path | None:
    """Check that both files can be written; returns the JSON file's path.

    Raises:
        FeredgeError: they cannot.
    """
    if options.source is not None and not options.source.is_file():
        raise SourceError(f"source {options.source} does not exist")
    if options.plot is not None:
        require("matplotlib", "bench")
        check_folder(options.plot)
    return None if options.json is None else results_path(options.json, conditions(options))


def conditions(options: BenchOptions) -> str:
    """Return a file name that differs between runs under different conditions."""
    sizes = "-".join(map(str, options.batches))
    clip = "" if options.source is None else f"-{options.source.stem}"
    baselines = "".join(f"-{name}" for name in options.baselines)
    return f"{options.engines[0].name}-b{sizes}-{cores()}cores{baselines}{clip}"


def measure(options: BenchOptions) -> dict[str, Any]:
    """Open the engines, compare their predictions, and time them."""
    with ExitStack() as stack:
        engines = [stack.enter_context(open_engine(path)) for path in options.engines]
        check_comparable(options.engines, engines, options.batches)
        candidates = [candidate_of(path, engine) for path, engine in zip(options.engines, engines)]
        subject = Subject(options.engines[0], engines[0], options.checkpoint)
        for name in options.baselines:
            candidates += BASELINES[name](subject)
        crops, content = face_crops(engines[0].spec)
        differences = compare_predictions(candidates, crops)
        report: dict[str, Any] = {
            "side": engines[0].spec.input.side, "threads": cores(), "crops": content,
            "before": sensors(),
            "rows": list(time_rows(options, candidates, differences, crops)),
        }
        if options.peak:
            add_shares(report, options.engines[0])
        if options.profile:
            report["operators"] = profile_operators(options, crops)
    if options.source is not None:
        from feredge.benchmarks.bench.clip import clip_report

        report["clip"] = clip_report(options, options.source)
    return {**report, "environment": environment()}
