"""A report of fer-bench as text, aligned for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

COLUMNS = ("engine", "batch", "median", "p90", "p95", "p99", "noise", "samples", "faces/s",
           "speed-up", "top-1 agreement", "largest change", "agreement at export")


def report_text(report: dict[str, Any], markdown: bool = False) -> str:
    """Return the tables of a report.

    Args:
        report: what `benchmark` returns.
        markdown: tables in Markdown instead of aligned columns.
    """
    table = [list(COLUMNS), *(row_cells(row) for row in report["rows"])]
    return "\n".join([markdown_table(table) if markdown else aligned_table(table),
                      *blocks(report)])


def blocks(report: dict[str, Any]) -> Iterator[str]:
    """Yield what follows the table of times."""
    yield (f"ms; {report['side']} px, {report['threads']} threads; predictions compared with the "
           f"first engine's on {report['crops']}; {report['environment']['cpu']}")
    yield from (gpu_text(row) for row in report["rows"] if row["gpu"])
    yield from (peak_text(row) for row in report["rows"] if "peak" in row)
    for batch, profiles in report.get("operators", {}).items():
        from feredge.benchmarks.bench.operators import operator_table

        yield f"\nbatch {batch}\n\n{operator_table(profiles)}"
    if "clip" in report:
        yield from (clip_text(name, report["clip"][name]) for name in ("offline", "live"))


def row_cells(row: dict[str, Any]) -> list[str]:
    """Return a row as the table's texts; times in milliseconds."""
    times = [f"{row[key] * 1e3:.2f}" for key in ("median_s", "p90_s", "p95_s", "p99_s")]
    ratio, difference = row["speed_up"], row["answers"]
    recorded = difference["recorded"] or {}
    return [row["engine"], str(row["batch"]), *times, f"{row['noise']:.1%}", str(row["samples"]),
            f"{row['faces_per_s']:.1f}",
            f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
            f"{difference['same_label']:.1%}", f"{difference['largest_change']:.4f}",
            f"{recorded['top1']:.2%} of {recorded['faces']}" if recorded else ""]


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """Return rows of text, the first of them the header, as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def aligned_table(table: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns, the first column aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]) for row in table)


def gpu_text(row: dict[str, Any]) -> str:
    """Return the parts of an inference on a GPU."""
    parts = ", ".join(f"{name} {value:.3f}" for name, value in row["gpu"].items())
    return f"{row['engine']}, batch {row['batch']}: {parts} ms"


def peak_text(row: dict[str, Any]) -> str:
    """Return the shares of the device's peak that a row reaches."""
    peak = row["peak"]
    return (f"{row['engine']}, batch {row['batch']}: {peak['macs'] / 1e9:.2f} G "
            f"multiply-accumulates, {peak['compute_share']:.0%} of the {row['precision'].upper()} "
            f"peak; {peak['bytes'] / 1e6:.0f} MB, {peak['bandwidth_share']:.0%} of the bandwidth")


def clip_text(name: str, run: dict[str, Any]) -> str:
    """Return a run over the clip as one line."""
    stages = ", ".join(f"{stage} {times['median_s'] * 1e3:.1f} ({times['p95_s'] * 1e3:.1f})"
                       for stage, times in run["stages"].items())
    return (f"{name}: {run['frames']} frames ({run['dropped']} dropped), {run['faces']} faces, "
            f"{run['frames_per_s']:.1f} frames/s; median (95th percentile) ms: {stages}")
