"""Ranges from the scales of another tool: any Q/DQ ONNX file, or a TensorRT calibration cache.

Both name tensors as the FP32 graph does, which turns them into the keys of `Ranges`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from feredge.calibration.graphs.placement import (
    SHARES_SCALE,
    keyed_values,
    quantized_convs,
    source_of,
)
from feredge.calibration.ranges import LARGEST, check_bounds
from feredge.runtime.engines.onnx_check import read_onnx
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array

NONNEGATIVE = ("Relu", "Sigmoid", "Softmax")


@dataclass(frozen=True)
class Quantization:
    """How one tensor is quantized: `real = (stored - zero_point) * scale`.

    `scale`, float32, and `zero_point`, of the stored type (INT4 to INT32, FP8), are scalars, or
    `(channels,)` along `axis`; `axis` is None per tensor.
    """

    scale: Array
    zero_point: Array
    axis: int | None

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and largest value of a tensor with one scale.

        A zero point in the middle is symmetric: the largest integer counts both ways.
        """
        least, most = stored_limits(self.zero_point.dtype)
        low, high = least - float(self.zero_point), most - float(self.zero_point)
        low = -high if low == -high - 1 else low
        return low * float(self.scale), high * float(self.scale)


def stored_limits(kind: Any) -> tuple[float, float]:
    """Return the smallest and largest value of an integer or FP8 type, as numpy has it."""
    types: Any = ml_dtypes  # not typed
    try:
        info = types.iinfo(kind)
    except ValueError:
        info = types.finfo(kind)
    return float(info.min), float(info.max)


def quantizations(path: Path) -> dict[str, Quantization]:
    """Return the quantization of each tensor of a Q/DQ graph, by the tensor's name.

    An input of a QuantizeLinear has its own name, a tensor stored as integers that of the
    integers. Parameters may be initializers or Constant nodes.

    Raises:
        CalibrationError: it is no ONNX file, has no Q/DQ, or a scale or zero point is invalid.
    """
    try:
        read_onnx(path)  # bounds size, fields and nodes before each becomes an object
        graph = ir.load(path).graph
        nodes = [node for node in graph.all_nodes() if is_outermost(node)]
    except Exception as error:  # protobuf's DecodeError, OSError, ValueError: any of them
        reason = " ".join(str(error).split())
        raise CalibrationError(f"{path} is not a readable ONNX file: {reason}") from error
    if not nodes:
        raise CalibrationError(f"{path} has no QuantizeLinear and no DequantizeLinear: it is not "
                               "an INT8 graph with Q/DQ")
    return {tensor_name(node): read_parameters(node) for node in nodes}


def is_outermost(node: ir.Node) -> bool:
    """Return whether a node quantizes a tensor, or dequantizes one that is stored as integers."""
    source = node.inputs[0] if node.inputs else None
    if source is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    maker = source.producer()
    return node.op_type == "QuantizeLinear" or maker is None or maker.op_type != "QuantizeLinear"


def tensor_name(node: ir.Node) -> str:
    """Return the name of the tensor that a QuantizeLinear or DequantizeLinear reads."""
    source = node.inputs[0]
    return "" if source is None else str(source.name)


def read_parameters(node: ir.Node) -> Quantization:
    """Return the checked scale and zero point of a QuantizeLinear or DequantizeLinear.

    Raises:
        CalibrationError: they are computed at run time, or invalid; the message names the tensor.
    """
    name = tensor_name(node)
    try:
        found = parameters(node)
    except CalibrationError:
        raise
    except Exception as error:  # of damaged tensors: external data missing, sizes that differ
        reason = " ".join(str(error).split())
        raise CalibrationError(f"{name}: its scale or zero point cannot be read: "
                               f"{reason}") from error
    scales = found.scale
    if not scales.size or not np.isfinite(scales).all() or not (0 < scales).all() or (
            scales.max() > LARGEST):
        raise CalibrationError(f"{name}: its scale is {float(scales.min(initial=np.inf)):g}, "
                               f"expected a number above 0 and at most {LARGEST:g}")
    return found


def parameters(node: ir.Node) -> Quantization:
    """Return the scale and zero point of a QuantizeLinear or DequantizeLinear, unchecked."""
    given = (*node.inputs[1:], None)[:2]
    scale, zero = (None if value is None else ir.convenience.get_const_tensor(value)
                   for value in given)
    if scale is None or (zero is None) != (given[1] is None):
        raise CalibrationError(f"{tensor_name(node)}: its scale or zero point is computed at run "
                               "time, expected a constant")
    scales = scale.numpy().astype(np.float32)
    zeros = np.zeros(scales.shape, stored_type(node).numpy()) if zero is None else zero.numpy()
    stored_limits(zeros.dtype)
    if scales.size == 1:  # one channel is one tensor
        return Quantization(scales.reshape(()), zeros.reshape(()), None)
    return Quantization(scales, zeros, node.attributes.get_int("axis", 1))


def stored_type(node: ir.Node) -> ir.DataType:
    """Return the stored type of a node without a zero point: unsigned 8-bit unless it is given."""
    given = node.attributes.get_int("output_dtype", 0)
    if node.op_type == "QuantizeLinear" and given:
        return ir.DataType(given)
    stored = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    return (stored and stored.dtype) or ir.DataType.UINT8


def ranges_from_onnx(
    path: Path, model: ir.Model
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the activation ranges of another tool's Q/DQ graph, as `Ranges.values`.

    Args:
        path: the Q/DQ graph, made from `model` with its tensor names.
        model: FP32, from `onnx_from_torch`.

    Raises:
        CalibrationError: it cannot be read, or belongs to another network.
    """
    bounds = {name: found.bounds for name, found in quantizations(path).items()
              if found.axis is None}
    return ranges_from_bounds(bounds, model)


def ranges_from_bounds(
    bounds: Mapping[str, tuple[float, float]], model: ir.Model
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the ranges of the tensors that INT8 graphs quantize, from bounds by tensor name.

    A tensor that cannot be negative keeps only the upper half of a symmetric range; a tensor
    spans the bounds of what is cut from it, since they share a scale. Tensors without bounds are
    not included; `Ranges.of` names those that a graph needs.

    Args:
        bounds: smallest and largest value; of `read_cache`, `{name: (-a, a)}`.
        model: FP32, from `onnx_from_torch`.

    Raises:
        CalibrationError: bounds are invalid, or none is of a tensor that the network quantizes.
    """
    values = {}
    for name, (low, high) in bounds.items():
        check_bounds(name, low, high)
    for key, value in keyed_values(model.graph, quantized_convs(model.graph)).items():
        known = [bounds[name] for name in bound_names(value, bounds)]
        if known:
            low, high = min(low for low, _ in known), max(high for _, high in known)
            values[key] = {"max": (0.0 if is_nonnegative(value) else low, high)}
    if not values:
        raise CalibrationError(f"none of the {len(bounds)} quantized tensors is one of this "
                               f"network's, as {next(iter(bounds), 'none')}; the ranges are of "
                               "another network")
    return values


def bound_names(value: ir.Value, bounds: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names with bounds of a tensor and of what is cut from it.

    A tool that removes a ReLU, since its unsigned integers clip, keeps the name of its input.
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
    """Return whether a tensor cannot be negative, for any face."""
    node = source_of(value).producer()
    if node is None or node.op_type in NONNEGATIVE:
        return node is not None
    return node.op_type in ("Add", "Concat") and all(
        given is not None and is_nonnegative(given) for given in node.inputs)
