"""The table of batch runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feredge.benchmarks.bench.text import markdown_table

Results = dict[str, dict[str, Any]]


def batch(results: Results) -> str:
    """Return what was measured of `fer-batch`."""
    return markdown_table([["what", "measured"], *map(list, batch_rows(results["batch"]))])


def batch_rows(measured: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was measured, and the numbers."""
    kills, tasks, resume = measured["kills"], measured["tasks"], measured["resume"]
    kinds = ", ".join(f"{count} {kind}s" for kind, count in sorted(kills["kills"].items()))
    yield (f"{sum(kills['kills'].values())} kills at random times ({kinds}), two Ray nodes",
           f"{kills['rows']:,} rows of {kills['outputs']} outputs: {kills['lost']} lost, "
           f"{kills['doubled']} doubled, {kills['different']} different")
    rates = measured["throughput"]
    speeds = ", ".join(f"{name} {min(values):.1f} to {max(values):.1f}"
                       for name, values in rates["pictures_per_s"].items())
    yield (f"pictures/s, alternating, {rates['pictures']:,} pictures, 2 busy cores", speeds)
    yield ("share of `fer-run`'s pictures/s, median of pairs",
           ", ".join(f"{name} {share:.2f}" for name, share in rates["of_fer_run"].items()))
    tasks_per_s = ", ".join(f"{count} workers {rate:,.0f}"
                            for count, rate in tasks["tasks_per_s"].items())
    yield (f"tasks/s with empty workers, {tasks['units_per_task']} pictures each",
           f"{tasks_per_s}; the driver alone with 100 workers "
           f"{tasks['ideal_backend_tasks_per_s']:,.0f}; Ray Data "
           f"{tasks['ray_data_tasks_per_s']:,.0f}")
    yield (f"resuming a finished run of {resume['pictures']:,} pictures",
           f"{resume['seconds']:.1f} s, {resume['peak_mb']} MB")
