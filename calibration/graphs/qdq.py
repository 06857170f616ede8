"""Two INT8 graphs from one set of ranges: one for TensorRT, one for onnxruntime on CPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from feredge.calibration.graphs.gates import stack_gates
from feredge.calibration.graphs.placement import (
    bias_of,
    input_of,
    quantized_convs,
    shortcuts,
    source_of,
    weight_of,
)
from feredge.calibration.graphs.scales import symmetric_scales, unsigned_scales, weight_scales
from feredge.calibration.ranges import Ranges
from feredge.runtime.results import Array

# x86 without VNNI adds two products of an unsigned 8-bit activation and a weight in 16 bits, which
# holds weights up to 64; VNNI and Arm are exact with all 8 bits.
LARGEST_WEIGHT = {7: 64, 8: 127}
WEIGHT_BITS = {"avx2": 7, "vnni": 8, "arm": 8}
INT32_MAX = 2**31 - 1
Rounding = Callable[[str, Array, Array, int], Array]


def round_to_nearest(name: str, weight: Array, scale: Array, largest: int) -> Array:
    """Round a weight to the nearest integers; a `Rounding`.

    Args:
        name: of its convolution.
        weight: `(out, in, kh, kw)` float32.
        scale: `(out,)`.
        largest: the largest integer.

    Returns:
        `(out, in, kh, kw)` int8.
    """
    steps = np.rint(weight / scale[:, None, None, None])
    integers: Array = np.clip(steps, -largest, largest).astype(np.int8)
    return integers


def tensorrt_graph(model: ir.Model, ranges: Ranges, keep_float: Sequence[str]) -> ir.Model:
    """Return the Q/DQ graph for TensorRT 8.6 and later.

    Symmetric INT8: activations per tensor, weights per output channel, stored in float before
    their Q/DQ; biases in float.

    Args:
        model: FP32, from `onnx_from_torch`; not changed.
        ranges: of its activations.
        keep_float: patterns of module paths that stay in float.

    Raises:
        CalibrationError: the ranges do not cover the graph.
    """
    model = model.clone()
    graph = model.graph
    convs = quantized_convs(graph, keep_float)
    scales = symmetric_scales(graph, convs, ranges)
    readers = [source_use(conv, 0) for conv in convs]
    readers += [source_use(node, k) for node, k in shortcuts(graph, convs)]
    pairs = {value: insert_qdq(graph, value, scale, np.int8(0))
             for value, scale in scales.items()}
    for node, index in dict.fromkeys(readers):
        node.replace_input_with(index, pairs[input_of(node, index)])
    for conv in convs:
        weight = input_of(conv, 1)
        if weight not in pairs:  # two convolutions may share a weight
            scale = weight_scales(conv, 127)
            zeros = np.zeros(len(scale), np.int8)
            pairs[weight] = insert_qdq(graph, weight, scale, zeros, axis=0)
        conv.replace_input_with(1, pairs[weight])
    return finish_graph(model)


def source_use(node: ir.Node, index: int) -> tuple[ir.Node, int]:
    """Return the node and input that read the tensor from which an input is cut."""
    maker = input_of(node, index).producer()
    if maker is None or source_of(input_of(node, index)) is input_of(node, index):
        return node, index
    return source_use(maker, 0)


def cpu_graph(
    model: ir.Model, ranges: Ranges, keep_float: Sequence[str], weight_bits: int,
    rounding: Rounding = round_to_nearest,
) -> ir.Model:
    """Return the Q/DQ graph that onnxruntime runs in integers on a CPU.

    Unsigned activations, INT8 weights per output channel, INT32 biases.

    Args:
        model: FP32, from `onnx_from_torch`; not changed.
        ranges: of its activations.
        keep_float: patterns of module paths that stay in float.
        weight_bits: 7 is exact on every CPU, 8 only with VNNI or on Arm.
        rounding: rounds weights to integers.

    Raises:
        CalibrationError: the ranges do not cover the graph.
    """
    model = model.clone()
    stack_gates(model)
    graph = model.graph
    convs = quantized_convs(graph, keep_float)
    affine = unsigned_scales(graph, convs, ranges)
    input_scales = {conv: affine[source_of(input_of(conv))][0] for conv in convs}
    pairs = {value: insert_qdq(graph, value, *scale) for value, scale in affine.items()}
    for value, pair in pairs.items():
        for use in list(value.uses()):
            if use.node.op_type != "QuantizeLinear":
                use.node.replace_input_with(use.idx, pair)
    clip_integers(graph, pairs)
    for conv in convs:
        store_integers(graph, conv, input_scales[conv], LARGEST_WEIGHT[weight_bits], rounding)
    return finish_graph(model)


def clip_integers(graph: ir.Graph, pairs: Mapping[ir.Value, ir.Value]) -> None:
    """Compute each ReLU between quantized tensors as a Clip of the integers that it reads.

    These are the ReLUs of tensors that another operator reads as well. onnxruntime would run them
    through float, with a second rounding; clipping integers at their zero point is exact.

    Args:
        graph: the CPU graph; changed.
        pairs: the dequantized form of each quantized tensor.
    """
    for value, pair in pairs.items():
        relu = value.producer()
        read = None if relu is None or relu.op_type != "Relu" else input_of(relu).producer()
        if read is None or read.op_type != "DequantizeLinear":
            continue
        stored, *parameters = read.inputs
        clip = ir.node("Clip", [stored, parameters[1]], name=f"{value.name}_clip")
        restore = ir.node("DequantizeLinear", [clip.outputs[0], *parameters],
                          name=f"{value.name}_clip_dequantize")
        clip.outputs[0].name = f"{value.name}_clipped"
        restore.outputs[0].name = f"{value.name}_clip_dequantized"
        graph.extend([clip, restore])
        ir.convenience.replace_all_uses_with(pair, restore.outputs[0])


def store_integers(
    graph: ir.Graph, conv: ir.Node, input_scale: np.float32, largest: int, rounding: Rounding
) -> None:
    """Replace the weight and bias of a convolution by integers with a DequantizeLinear."""
    weight = weight_of(conv)
    offsets = bias_of(conv)
    # A bias must fit INT32 in units of its scale; the weight scale of a dead channel grows for it.
    floor = np.abs(offsets) / (float(input_scale) * INT32_MAX / 2)
    scale = np.maximum(weight_scales(conv, largest), floor).astype(np.float32)
    integers = rounding(str(conv.name), weight, scale, largest)
    bias_scale = (scale * input_scale).astype(np.float32)
    bias = np.rint(offsets / bias_scale).astype(np.int32)
    roles = ((1, "weight", integers, scale), (2, "bias", bias, bias_scale))
    for index, role, stored, per_channel in roles[: len(conv.inputs) - 1]:
        name = f"{conv.name}.{role}"
        value = constant(graph, f"{name}_quantized", stored)
        zero = constant(graph, f"{name}_zero", np.zeros(len(scale), stored.dtype))
        inputs = [value, constant(graph, f"{name}_scale", per_channel), zero]
        restored = ir.node("DequantizeLinear", inputs, {"axis": 0}, name=f"{name}_dequantize")
        restored.outputs[0].name = f"{name}_dequantized"
        graph.insert_before(conv, restored)
        conv.replace_input_with(index, restored.outputs[0])


def insert_qdq(
    graph: ir.Graph, value: ir.Value, scale: Array | np.float32,
    zero: Array | np.int8 | np.uint8, axis: int | None = None,
) -> ir.Value:
    """Add QuantizeLinear and DequantizeLinear after a value, and return the result.

    Nothing reads the result yet.
    """
    name = str(value.name)
    parameters = [constant(graph, f"{name}_scale", np.asarray(scale, np.float32)),
                  constant(graph, f"{name}_zero", np.asarray(zero))]
    attributes = {} if axis is None else {"axis": axis}
    quantize = ir.node("QuantizeLinear", [value, *parameters], attributes, name=f"{name}_quantize")
    stored = quantize.outputs[0]
    restore = ir.node("DequantizeLinear", [stored, *parameters], attributes,
                      name=f"{name}_dequantize")
    stored.name, restore.outputs[0].name = f"{name}_quantized", f"{name}_dequantized"
    graph.extend([quantize, restore])  # `finish_graph` sorts them
    return restore.outputs[0]


def constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add an initializer."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype),
                     shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def finish_graph(model: ir.Model) -> ir.Model:
    """Sort the nodes, remove unused ones, and check the graph."""
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.CheckerPass()(model)
    return model
