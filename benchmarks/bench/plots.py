"""Plots of a report: latency distributions, throughput against batch, stages of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.files import atomic_write
from feredge.runtime.palette import PLOT_COLORS

MARKERS = "osD^vPX*"
FORMATS = (".png", ".svg")
WIDTH_IN, DPI = 6.5, 95  # one column: text can be read on a phone, too
TITLE_PT, TEXT_PT = 10, 9


def plot_report(report: dict[str, Any], path: Path) -> None:
    """Draw a report as one picture.

    Args:
        report: as it is written to JSON.
        path: PNG or SVG by its suffix.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, clip = report["rows"], report.get("clip")
    names = list(dict.fromkeys(row["engine"] for row in rows))
    panels = at_smallest_batch(rows)
    count = len(panels)
    figure = Figure(figsize=(WIDTH_IN, 1.3 * count + 5 + (3 if clip else 0)), dpi=DPI,
                    layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(count + (5 if clip else 3), 1)
    # Up to the worst 95th percentile: one interrupted sample must not squeeze the others.
    bins = np.linspace(min(min(row["seconds"]) for row in panels),
                       1.1 * max(row["p95_s"] for row in panels), 81) * 1e3
    for k, row in enumerate(panels):
        draw_distribution(figure.add_subplot(grid[k]), row, bins,
                          PLOT_COLORS[k % len(PLOT_COLORS)], last=k == count - 1)
    draw_throughput(figure.add_subplot(grid[count : count + 3]), rows, names)
    if clip:
        draw_stages(figure.add_subplot(grid[count + 3 :]), clip)
    figure.suptitle(title(report), fontsize=TITLE_PT)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def title(report: dict[str, Any]) -> str:
    """Return the side of the network's input and the machine."""
    machine = report["environment"]
    return f"{report['side']} px, {machine['cpu']}, {machine['cores']} cores"


def at_smallest_batch(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the smallest batch."""
    smallest = min(row["batch"] for row in rows)
    return [row for row in rows if row["batch"] == smallest]


def draw_distribution(axes: Any, row: dict[str, Any], bins: Any, color: str, last: bool) -> None:
    """Draw the times of one engine as a histogram, with median and 95th percentile."""
    milliseconds = np.array(row["seconds"]) * 1e3
    axes.hist(milliseconds, bins=bins, color=color)
    axes.set_xlim(bins[0], bins[-1])
    for style, key in (("-", "median_s"), ("--", "p95_s")):
        axes.axvline(row[key] * 1e3, color="black", linestyle=style, linewidth=1)
    axes.set_title(f"{row['engine']}: median {row['median_s'] * 1e3:.2f}, 95th percentile "
                   f"{row['p95_s'] * 1e3:.2f} ms", fontsize=TEXT_PT, loc="left")
    axes.set_ylabel("samples", fontsize=TEXT_PT)
    axes.tick_params(labelsize=TEXT_PT, labelbottom=last)
    if last:
        axes.set_xlabel(f"latency at batch {row['batch']}, ms", fontsize=TEXT_PT)


def draw_throughput(axes: Any, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Draw faces per second against the batch, one line per engine."""
    for k, name in enumerate(names):
        own = [row for row in rows if row["engine"] == name]
        axes.plot([row["batch"] for row in own], [row["faces_per_s"] for row in own],
                  marker=MARKERS[k % len(MARKERS)], color=PLOT_COLORS[k % len(PLOT_COLORS)],
                  label=name)
    batches = sorted({row["batch"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch, faces", fontsize=TEXT_PT)
    axes.set_ylabel("throughput, faces/s", fontsize=TEXT_PT)
    axes.tick_params(labelsize=TEXT_PT)
    axes.legend(fontsize=TEXT_PT, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def draw_stages(axes: Any, clip: dict[str, Any]) -> None:
    """Draw the median of every stage, one bar per run."""
    parts = ("read", "detect", "crop", "infer", "crop and infer", "track", "draw", "write")
    runs = {"at full\nspeed": clip["offline"], "at the clip's\nframe rate": clip["live"]}
    present = [part for part in parts if part in clip["offline"]["stages"]]
    lefts = np.zeros(len(runs))
    for k, part in enumerate(present):
        # Reading a live source includes the wait for its next frame.
        widths = np.array([0.0 if part == "read" and run is clip["live"]
                           else run["stages"][part]["median_s"] * 1e3 for run in runs.values()])
        axes.barh(list(runs), widths, left=lefts, color=PLOT_COLORS[k % len(PLOT_COLORS)],
                  label=part, edgecolor="white")
        lefts += widths
    age = clip["live"]["stages"]["age"]
    axes.set_title(f"{clip['clip']}: {clip['offline']['frames_per_s']:.0f} frames/s\nLive, the "
                   f"age of a result is {age['median_s'] * 1e3:.0f} ms (95th percentile "
                   f"{age['p95_s'] * 1e3:.0f}); {clip['live']['dropped']} frames dropped",
                   fontsize=TEXT_PT, loc="left")
    axes.set_xlabel("median per frame, ms", fontsize=TEXT_PT)
    axes.margins(y=0.25)
    axes.tick_params(labelsize=TEXT_PT)
    axes.legend(fontsize=TEXT_PT, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
