"""Ranges out of what other tools wrote: the scales of any Q/DQ graph, TensorRT's cache.

Both name tensors as the FP32 graph does, so that this graph turns them into our ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from feredge.calibration.graphs.placement import (
    SHARES_SCALE,
    keyed_values,
    quantized_convs,
    source_of,
)
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array

NONNEGATIVE = ("Relu", "Sigmoid", "Softmax")


@dataclass(frozen=True)
class Quantization:
    """How one tensor is quantised: `real = (integer - zero_point) * scale`.

    `scale`, float32, and `zero_point`, of the integers' type, are scalars, or `(channels,)` along
    `axis`; `axis` is None per tensor.
    """

    scale: Array
    zero_point: Array
    axis: int | None

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the reals that a tensor with one scale can hold.

        A zero point in the middle is symmetric: its largest integer counts both ways, as here.
        """
        limits = np.iinfo(self.zero_point.dtype)
        low, high = limits.min - int(self.zero_point), limits.max - int(self.zero_point)
        low = -high if low == -high - 1 else low
        return low * float(self.scale), high * float(self.scale)


def quantizations(path: Path) -> dict[str, Quantization]:
    """Return how each tensor of a Q/DQ graph is quantised, by the tensor's name.

    A tensor that a QuantizeLinear reads goes by its own name, one that is stored as integers by
    that of the integers. Parameters may be initializers or Constant nodes.

    Raises:
        CalibrationError: it is no ONNX file, or it has no Q/DQ.
    """
    try:
        graph = ir.load(path).graph
    except Exception as error:  # protobuf's DecodeError, OSError, ValueError: any of them
        raise CalibrationError(f"{path} is no ONNX file that can be read: {error}") from error
    found = {}
    for node in graph.all_nodes():
        source = node.inputs[0] if node.inputs else None
        if source is None or not is_outermost(node, source):
            continue
        found[str(source.name)] = parameters(node)
    if not found:
        raise CalibrationError(f"{path} has no QuantizeLinear and no DequantizeLinear: it is not "
                               "an INT8 graph with Q/DQ")
    return found


def is_outermost(node: ir.Node, source: ir.Value) -> bool:
    """Tell whether a node quantises a tensor, or restores one that is stored as integers."""
    if node.op_type == "QuantizeLinear":
        return True
    maker = source.producer()
    return node.op_type == "DequantizeLinear" and (
        maker is None or maker.op_type != "QuantizeLinear")


def parameters(node: ir.Node) -> Quantization:
    """Return the scale and zero point of a QuantizeLinear or DequantizeLinear.

    Raises:
        CalibrationError: they are computed at run time.
    """
    given = (*node.inputs[1:], None)[:2]
    scale, zero = (None if value is None else ir.convenience.get_const_tensor(value)
                   for value in given)
    if scale is None or (zero is None) != (given[1] is None):
        raise CalibrationError(f"{node.name}: its scale or zero point is computed at run time, "
                               "expected a constant")
    # Without a zero point it is 0, of unsigned integers unless the graph says otherwise.
    stored = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    integers = (stored and stored.dtype) or ir.DataType.UINT8
    zeros = np.zeros(scale.numpy().shape, integers.numpy()) if zero is None else zero.numpy()
    scales = scale.numpy().astype(np.float32)
    if scales.size == 1:  # one channel is one tensor
        return Quantization(scales.reshape(()), zeros.reshape(()), None)
    return Quantization(scales, zeros, node.attributes.get_int("axis", 1))


def ranges_from_onnx(
    path: Path, model: ir.Model
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the activations' ranges of another tool's Q/DQ graph, as `Ranges` holds them.

    Args:
        path: the Q/DQ graph, made from `model` with its tensors' names.
        model: FP32, from `onnx_from_torch`.

    Raises:
        CalibrationError: it cannot be read, or is of another network.
    """
    bounds = {name: found.bounds for name, found in quantizations(path).items()
              if found.axis is None}
    return ranges_from_bounds(bounds, model)


def ranges_from_bounds(
    bounds: Mapping[str, tuple[float, float]], model: ir.Model
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the ranges of the tensors that our graphs quantise, from bounds by tensor name.

    What cannot be negative keeps only the upper half of a symmetric range; a tensor spans what is
    cut from it, since the two share a scale. Tensors without bounds are left out;
    `Ranges.of` names those that a graph needs.

    Args:
        bounds: smallest and largest value; of `read_cache`, `{name: (-a, a)}`.
        model: FP32, from `onnx_from_torch`.

    Raises:
        CalibrationError: none of the tensors is one that the network quantises.
    """
    values = {}
    for key, value in keyed_values(model.graph, quantized_convs(model.graph)).items():
        known = [bounds[name] for name in bound_names(value, bounds)]
        if known:
            low, high = min(low for low, _ in known), max(high for _, high in known)
            values[key] = {"max": (0.0 if is_nonnegative(value) else low, high)}
    if not values:
        raise CalibrationError(f"none of the {len(bounds)} quantised tensors is one of this "
                               f"network's, as {next(iter(bounds), 'none')}; the ranges are of "
                               "another network")
    return values


def bound_names(value: ir.Value, bounds: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names with bounds of a tensor and of what is cut from it.

    A tool that drops a ReLU, since its unsigned integers clip, keeps the name of the ReLU's input.
    """
    names = [str(name) for name in cut_names(value) if name in bounds]
    node = value.producer()
    if not names and node is not None and node.op_type == "Relu":
        names = [str(given.name) for given in node.inputs if given and given.name in bounds]
    return names


def cut_names(value: ir.Value) -> list[str]:
    """Return the name of a tensor and of every tensor that is cut from it."""
    cuts = [output for use in value.uses() if use.node.op_type in SHARES_SCALE
            for output in use.node.outputs]
    return [str(value.name), *(name for cut in cuts for name in cut_names(cut))]


def is_nonnegative(value: ir.Value) -> bool:
    """Tell whether a tensor cannot be negative, whatever the faces."""
    node = source_of(value).producer()
    if node is None or node.op_type in NONNEGATIVE:
        return node is not None
    return node.op_type in ("Add", "Concat") and all(
        given is not None and is_nonnegative(given) for given in node.inputs)
