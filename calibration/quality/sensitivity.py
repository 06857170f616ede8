"""The sensitivity of each convolution to INT8: it alone in INT8, and it alone in float."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feredge.calibration.quality.agreement import FP32, mean_kl, predictions
from feredge.runtime.results import Array


@dataclass(frozen=True)
class LayerSensitivity:
    """The effect of INT8 in one convolution, as KL divergence from FP32 in nats.

    `kl_int8` is the divergence with this convolution alone in INT8. `kl_float` is how much the
    divergence of the INT8 graph falls with it alone in float; negative where it rises, as errors
    can cancel.
    `macs_share` is its share of all convolutions' multiply-accumulates.
    """

    layer: str
    kl_int8: float
    kl_float: float
    macs_share: float


def sensitivities(
    reference: Any,
    open_graph: Callable[[Sequence[str]], Any],
    layers: Sequence[str],
    macs: Mapping[str, int],
    batches: Sequence[Array],
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> list[LayerSensitivity]:
    """Measure every layer on the same faces.

    Args:
        reference: the FP32 session.
        open_graph: opens a session of the INT8 graph in which the named layers stay float.
        layers: the convolutions in INT8 where none is named.
        macs: multiply-accumulates of every convolution of the network, from `conv_macs`.
        batches: `(n, 3, side, side)` float32 crops, 256 faces are enough to rank layers; use
            faces that the ranges were not measured on.
        progress: wraps the sequence of layers, as `tqdm` does.

    Returns:
        One row per layer, the largest `kl_int8` first.

    Raises:
        CalibrationError: there is no face, or a prediction is not finite.
    """
    expected = predictions({FP32: reference}, batches)[FP32]

    def divergence(keep_float: Sequence[str]) -> float:
        return mean_kl(expected, predictions({"INT8": open_graph(keep_float)}, batches)["INT8"])

    whole, total = divergence(()), sum(macs.values())
    rows = [
        LayerSensitivity(
            layer,
            kl_int8=divergence([other for other in layers if other != layer]),
            kl_float=whole - divergence([layer]),
            macs_share=macs[layer] / total,
        )
        for layer in progress(layers)
    ]
    return sorted(rows, key=lambda row: row.kl_int8, reverse=True)


def sensitivity_text(rows: Sequence[LayerSensitivity], most: int = 10) -> str:
    """Return the worst layers as a table for the terminal."""
    width = max(len(row.layer) for row in rows)
    lines = [f"{'layer':<{width}}{'KL, alone in INT8':>20}{'KL saved in float':>20}{'MACs':>8}"]
    lines += [f"{row.layer:<{width}}{row.kl_int8:>20.2e}{row.kl_float:>+20.2e}"
              f"{row.macs_share:>8.1%}" for row in rows[:most]]
    if len(rows) > most:
        lines.append(f"... and {len(rows) - most} less sensitive ones")
    return "\n".join(lines)
