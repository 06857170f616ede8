"""Which convolutions INT8 hurts: each alone in INT8, and each alone in float."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feredge.calibration.quality.agreement import FP32, mean_kl, predictions
from feredge.runtime.results import Array


@dataclass(frozen=True)
class LayerSensitivity:
    """What one convolution's INT8 does to the answers, as KL divergence from FP32 in nats.

    `kl_int8` is the divergence where it alone is INT8, `kl_float` by how much the whole INT8
    graph's divergence falls where it alone is float; below zero it rises, as errors can cancel.
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
        layers: the convolutions that are INT8 where nothing is named.
        macs: multiply-accumulates of every convolution of the network, from `conv_macs`.
        batches: `(n, 3, side, side)` float32 crops, 256 faces are enough to rank layers; best are
            faces that the ranges were not measured on.
        progress: wraps the layers while they are gone through, as `tqdm` does.

    Returns:
        One row a layer, the one that alone in INT8 costs most first.

    Raises:
        CalibrationError: there is no face, or an answer is not finite.
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
