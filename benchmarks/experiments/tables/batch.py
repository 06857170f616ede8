"""The table of batch runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feredge.benchmarks.bench.text import markdown_table

Results = dict[str, dict[str, Any]]


def batch(results: Results) -> str:
    """Return what was measured of `fer-batch`."""
    measured = results["batch"]
    rows = [row for part, describe in ROWS.items() if part in measured
            for row in describe(measured[part])]
    return markdown_table([["what", "measured"], *map(list, rows)])


def kill_rows(kills: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was killed, and what became of the rows."""
    kinds = ", ".join(f"{count} {kind}s" for kind, count in sorted(kills["kills"].items()))
    yield (f"{sum(kills['kills'].values())} kills at random times ({kinds}), two Ray nodes",
           f"{kills['rows']:,} rows of {kills['outputs']} outputs: {kills['lost']} lost, "
           f"{kills['doubled']} doubled, {kills['different']} different")


def throughput_rows(rates: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield pictures per second, and their share of those of `fer-run`."""
    speeds = ", ".join(f"{name} {min(values):.1f} to {max(values):.1f}"
                       for name, values in rates["pictures_per_s"].items())
    yield f"pictures/s, alternating, {rates['pictures']:,} pictures", speeds
    yield ("share of `fer-run`'s pictures/s, median of pairs",
           ", ".join(f"{name} {share:.2f}" for name, share in rates["of_fer_run"].items()))


def task_rows(tasks: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield tasks per second."""
    tasks_per_s = ", ".join(f"{count} workers {rate:,.0f}"
                            for count, rate in tasks["tasks_per_s"].items())
    yield (f"tasks/s with empty workers, {tasks['units_per_task']} pictures each",
           f"{tasks_per_s}; the driver alone with 100 workers "
           f"{tasks['ideal_backend_tasks_per_s']:,.0f}; Ray Data "
           f"{tasks['ray_data_tasks_per_s']:,.0f}")


def resume_rows(resume: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the time of a run with nothing to do."""
    yield (f"resuming a finished run of {resume['pictures']:,} pictures",
           f"{resume['seconds']:.1f} s, {resume['peak_mb']} MB")


ROWS = {"kills": kill_rows, "throughput": throughput_rows, "tasks": task_rows,
        "resume": resume_rows}
