"""An evaluation as a figure: each network's confusion matrix above its reliability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.eval.evaluation import EngineScores, Evaluation
from feredge.runtime.errors import OutputError, require
from feredge.runtime.files import atomic_write
from feredge.runtime.palette import BLUE, PLOT_COLORS, VERMILION

SUFFIXES = (".png", ".svg")
RIGHT, CONFIDENT = BLUE, VERMILION
COLUMN_IN, HEIGHT_IN, DPI = 6.0, 14.0, 110


def check_plot_path(path: Path) -> None:
    """Check the suffix of a plot's file.

    Raises:
        OutputError: it is neither PNG nor SVG.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"--plot {path}: expected a name that ends in {' or '.join(SUFFIXES)}")


def write_plot(path: Path, evaluation: Evaluation) -> None:
    """Draw an evaluation, one column per network.

    Raises:
        OutputError: the file cannot be written.
    """
    Figure = require("matplotlib.figure", "bench").Figure
    columns = len(evaluation.engines)
    figure = Figure((COLUMN_IN * columns, HEIGHT_IN), layout="constrained")
    grid = figure.add_gridspec(3, columns, height_ratios=(3, 2, 2))
    for column, engine in enumerate(evaluation.engines):
        draw_confusion(figure.add_subplot(grid[0, column]), engine, evaluation)
        draw_reliability(figure.add_subplot(grid[1, column]), engine)
    draw_coverage(figure.add_subplot(grid[2, :]), evaluation.engines)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def draw_confusion(axis: Any, engine: EngineScores, evaluation: Evaluation) -> None:
    """Draw a confusion matrix: shares of a row as shades, faces as numbers."""
    counts = np.array(engine.scores.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axis.text(column, row, counts[row, column], ha="center", va="center",
                  color="white" if share > 0.5 else "black")
    places = range(len(evaluation.labels))
    axis.set_xticks(places, evaluation.labels, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(places, evaluation.labels)
    axis.set(xlabel="predicted label", ylabel="true label")
    accuracy = engine.scores.accuracy
    axis.set_title(f"{engine.engine}\naccuracy {accuracy.value:.1%} "
                   f"[{accuracy.low:.1%}, {accuracy.high:.1%}], {evaluation.faces} faces")


def draw_reliability(axis: Any, engine: EngineScores) -> None:
    """Draw accuracy over confidence; the area of a point grows with its number of faces."""
    bins = engine.scores.reliability
    confidence = [item.confidence for item in bins]
    most = max(item.faces for item in bins)
    axis.plot((0, 1), (0, 1), color="black", linestyle=":", label="perfect calibration")
    axis.vlines(confidence, confidence, [item.accuracy for item in bins], color=CONFIDENT,
                label="calibration error of a bin")
    axis.scatter(confidence, [item.accuracy for item in bins], color=RIGHT, zorder=2,
                 s=[20 + 200 * item.faces / most for item in bins], label="accuracy of a bin")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axis.legend(loc="upper left", markerscale=0.6)
    error = engine.scores.expected_calibration_error
    axis.set_title(f"expected calibration error {error.value:.1%} "
                   f"[{error.low:.1%}, {error.high:.1%}]")


def draw_coverage(axis: Any, engines: Sequence[EngineScores]) -> None:
    """Draw the risk-coverage curves of all networks, and their points with intervals."""
    for k, engine in enumerate(engines):
        color = PLOT_COLORS[k % len(PLOT_COLORS)]
        if engine.by_probability:
            axis.plot(*zip(*engine.by_probability.curve), ":", color=color,
                      label=f"{engine.engine}, by probability alone, area "
                            f"{engine.by_probability.area.value:.1%}")
        selective = engine.selective
        axis.plot(*zip(*selective.curve), color=color,
                  label=f"{engine.engine}, area {selective.area.value:.1%} "
                        f"[{selective.area.low:.1%}, {selective.area.high:.1%}]")
        for point in selective.points:
            place = point.coverage + 0.004 * k  # shifted, so that intervals do not overlap
            axis.vlines(place, 1 - point.accuracy.high, 1 - point.accuracy.low, color=color)
            axis.plot(place, 1 - point.accuracy.value, "o", color=color, markersize=4)
    axis.set(xlim=(0, 1.02), xlabel="coverage: share of faces that get a label",
             ylabel="risk: share of wrong labels")
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left")
    axis.set_title("risk-coverage curve; points with 95 % intervals")
