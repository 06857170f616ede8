"""Plot of a batch run on a cluster whose actors, nodes and drivers are killed."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

from feredge.benchmarks.experiments.batch_kills import KINDS
from feredge.runtime.files import atomic_write
from feredge.runtime.palette import PLOT_COLORS


def plot_timeline(timeline: dict[str, Any], path: Path) -> None:
    """Draw the rows that are complete over time, with a line at each kill.

    Args:
        timeline: `files`, pairs of seconds and rows; `kills`, pairs of seconds and kind.
        path: PNG or SVG by its suffix.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_kills(axes, timeline["kills"])
    seconds, rows = zip(*timeline["files"])
    axes.step([0, *seconds], [0, *accumulate(rows)], where="post", color="black", linewidth=1.8,
              label="rows in the output")
    axes.set(xlabel="seconds since the first driver started", ylabel="complete rows",
             ylim=(0, None), xlim=(0, None),
             title=f"Two Ray nodes, {len(timeline['kills'])} kills, {sum(rows)} rows, each once")
    axes.legend(loc="upper left", frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def draw_kills(axes: Any, kills: list[tuple[float, str]]) -> None:
    """Draw a vertical line per kill; each kind has its color and one entry in the legend."""
    for kind, color in zip(KINDS, PLOT_COLORS):
        for k, at_s in enumerate(second for second, name in kills if name == kind):
            axes.axvline(at_s, color=color, linestyle="--", linewidth=1.2,
                         label=f"{kind} killed" if k == 0 else None)
