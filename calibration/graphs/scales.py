"""The scales of INT8 graphs: of activations from their ranges, of weights from the weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnx_ir as ir

from feredge.calibration.graphs.placement import (
    cpu_values,
    range_key,
    source_of,
    tensorrt_values,
    weight_tensor_of,
)
from feredge.calibration.ranges import Ranges
from feredge.runtime.results import Array

SMALLEST_SCALE = 1e-8  # of a tensor or channel that is always zero: scales must be above zero


def symmetric_scales(
    graph: ir.Graph, convs: Sequence[ir.Node], ranges: Ranges
) -> dict[ir.Value, np.float32]:
    """Return max(|min|, |max|) / 127 of every tensor with Q/DQ in the TensorRT graph."""
    keys = {value: range_key(value, graph) for value in tensorrt_values(graph, convs)}
    bounds = ranges.of(list(keys.values()))
    return {value: positive_scale(max(map(abs, bounds[key])) / 127) for value, key in keys.items()}


def unsigned_scales(
    graph: ir.Graph, convs: Sequence[ir.Node], ranges: Ranges
) -> dict[ir.Value, tuple[np.float32, np.uint8]]:
    """Return scale and zero point of every tensor with Q/DQ in the CPU graph.

    The zero point is 0 where the range has no negative part, else 128.
    """
    values = cpu_values(graph, convs)
    keys = {value: range_key(source_of(value), graph) for value in values}
    bounds = ranges.of(list(keys.values()))
    scales = {}
    for value in values:
        low, high = bounds[keys[value]]
        signed = low < 0
        largest = max(-low, high) / 127 if signed else high / 255
        scales[value] = positive_scale(largest), np.uint8(128 if signed else 0)
    return scales


def positive_scale(scale: float) -> np.float32:
    """Return a scale above zero, also for a tensor that is always zero."""
    single: np.float32 = np.float32(max(scale, SMALLEST_SCALE))
    return single


def weight_scales(conv: ir.Node, largest: int) -> Array:
    """Return `channel_scales`, `(channels,)` float32, of the weight of a convolution."""
    return cached_channel_scales(weight_tensor_of(conv), largest)  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def cached_channel_scales(weight: ir.TensorProtocol, largest: int) -> Array:
    """Return `channel_scales`, `(channels,)`, computed once for all graphs that share a weight.

    Clones of a graph share their tensors (the cache compares by identity), and the sensitivity
    table builds some two hundred graphs.
    """
    scales = channel_scales(weight.numpy(), largest)
    scales.flags.writeable = False
    return scales


def channel_scales(weight: Array, largest: int) -> Array:
    """Return one float32 scale per output channel, `(out,)`.

    Of scales from 0.6 to 1 times the one that just covers the largest weight, the one with the
    least squared error: clipping a few outliers helps most at 7 bits.

    Args:
        weight: `(out, in, kh, kw)` float32.
        largest: the largest integer, 127 or 64.
    """
    sizes = np.abs(weight).reshape(len(weight), -1)
    widest = np.maximum(sizes.max(axis=1) / largest, SMALLEST_SCALE)
    candidates = widest * np.linspace(0.6, 1, 41)[:, None]
    errors = []
    for scale in candidates[:, :, None]:
        stored = np.minimum(np.rint(sizes / scale), largest) * scale
        errors.append(((stored - sizes) ** 2).sum(axis=1))
    best = np.argmin(errors, axis=0)
    scales: Array = candidates[best, np.arange(len(best))].astype(np.float32)
    return scales
