"""The plot of the sensitivity table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feredge.calibration.quality.sensitivity import LayerSensitivity
from feredge.runtime.palette import BLUE, VERMILION


def save_sensitivity_plot(rows: Sequence[LayerSensitivity], path: Path, most: int = 30) -> None:
    """Draw the most sensitive layers, worst on top, as `path` with .png and with .svg.

    Args:
        rows: from `sensitivities`, worst first.
        path: of the plot; its suffix is replaced.
        most: how many layers are drawn.
    """
    from matplotlib.figure import Figure

    shown = rows[:most]
    places = range(len(shown))
    figure = Figure(figsize=(8, 1.6 + 0.24 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    axes.hlines(places, 0, [row.kl_int8 for row in shown], color=BLUE, linewidth=1)
    axes.plot([row.kl_int8 for row in shown], places, "o", color=BLUE,
              label="KL with this layer alone in INT8")
    axes.plot([row.kl_float for row in shown], places, "D", color=VERMILION, markerfacecolor="none",
              label="KL saved with this layer alone in float")
    axes.set_yticks(places, [f"{row.layer}  ({row.macs_share:.1%})" for row in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)  # worst on top
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.ticklabel_format(axis="x", scilimits=(-3, 3), useMathText=True)
    axes.set_xlabel("KL divergence from FP32, nats a face")
    left = f", the worst {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    axes.set_title(f"Sensitivity to INT8 by convolution{left} (share of MACs)", fontsize=11)
    axes.legend(loc="lower right")
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
