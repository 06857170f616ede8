"""One set of ranges becomes two INT8 graphs: one for TensorRT, one for onnxruntime on CPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from feredge.calibration.graphs.placement import (
    cpu_values,
    input_of,
    quantized_convs,
    range_key,
    shortcuts,
    source_of,
    tensorrt_values,
    weight_of,
    weight_tensor_of,
)
from feredge.calibration.ranges import Ranges
from feredge.runtime.results import Array

SMALLEST_SCALE = 1e-8  # a dead channel's or tensor's: scales must be above zero
# Two products of an unsigned 8-bit activation with a weight of at most 64 fit 16 bits, which is
# what x86 without VNNI adds them in; with VNNI and on Arm all 8 bits are safe.
LARGEST_WEIGHT = {7: 64, 8: 127}
WEIGHT_BITS = {"avx2": 7, "vnni": 8, "arm": 8}
INT32_MAX = 2**31 - 1
Rounding = Callable[[str, Array, Array, int], Array]


def nearest(name: str, weight: Array, scale: Array, largest: int) -> Array:
    """Round a weight to the nearest integers, `(out, in, kh, kw)` int8; a `Rounding`.

    Args:
        name: of its convolution.
        weight: `(out, in, kh, kw)` float32.
        scale: `(out,)`.
        largest: integer.
    """
    steps = np.rint(weight / scale[:, None, None, None])
    integers: Array = np.clip(steps, -largest, largest).astype(np.int8)
    return integers


def tensorrt_graph(model: ir.Model, ranges: Ranges, keep_float: Sequence[str]) -> ir.Model:
    """Return the Q/DQ graph that every TensorRT since 8.6 takes.

    Symmetric INT8, activations per tensor, weights per output channel and still float before
    their Q/DQ, biases float.

    Args:
        model: FP32, from `onnx_from_torch`; left as it was.
        ranges: the one truth.
        keep_float: patterns of module paths that stay float.

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
        if weight not in pairs:  # two convolutions may share theirs
            scale = weight_scales(conv, 127)
            zeros = np.zeros(len(scale), np.int8)
            pairs[weight] = insert_qdq(graph, weight, scale, zeros, axis=0)
        conv.replace_input_with(1, pairs[weight])
    return finish_graph(model)


def source_use(node: ir.Node, index: int) -> tuple[ir.Node, int]:
    """Return where the tensor that an input is cut from enters the cutting."""
    maker = input_of(node, index).producer()
    if maker is None or source_of(input_of(node, index)) is input_of(node, index):
        return node, index
    return source_use(maker, 0)


def symmetric_scales(
    graph: ir.Graph, convs: Sequence[ir.Node], ranges: Ranges
) -> dict[ir.Value, np.float32]:
    """Return max(|min|, |max|) / 127 of every tensor that carries Q/DQ."""
    keys = {value: range_key(value, graph) for value in tensorrt_values(graph, convs)}
    bounds = ranges.of(list(keys.values()))
    return {value: positive(max(map(abs, bounds[key])) / 127) for value, key in keys.items()}


def cpu_graph(
    model: ir.Model, ranges: Ranges, keep_float: Sequence[str], weight_bits: int,
    rounding: Rounding = nearest,
) -> ir.Model:
    """Return the Q/DQ graph that onnxruntime runs in integers on a CPU.

    Unsigned activations, INT8 weights per output channel, INT32 biases.

    Args:
        model: FP32, from `onnx_from_torch`; left as it was.
        ranges: the one truth.
        keep_float: patterns of module paths that stay float.
        weight_bits: 7 is right on every CPU, 8 only with VNNI or on Arm.
        rounding: makes weights integers.

    Raises:
        CalibrationError: the ranges do not cover the graph.
    """
    model = model.clone()
    graph = model.graph
    convs = quantized_convs(graph, keep_float)
    affine = unsigned_scales(graph, convs, ranges)
    input_scales = {conv: affine[source_of(input_of(conv))][0] for conv in convs}
    pairs = {value: insert_qdq(graph, value, *scale) for value, scale in affine.items()}
    for value, pair in pairs.items():
        for use in list(value.uses()):
            if use.node.op_type != "QuantizeLinear":
                use.node.replace_input_with(use.idx, pair)
    for conv in convs:
        store_integers(graph, conv, input_scales[conv], LARGEST_WEIGHT[weight_bits], rounding)
    return finish_graph(model)


def unsigned_scales(
    graph: ir.Graph, convs: Sequence[ir.Node], ranges: Ranges
) -> dict[ir.Value, tuple[np.float32, np.uint8]]:
    """Return scale and zero point of every tensor: 0 where nothing is negative, else 128."""
    values = cpu_values(graph, convs)
    keys = {value: range_key(source_of(value), graph) for value in values}
    bounds = ranges.of(list(keys.values()))
    scales = {}
    for value in values:
        low, high = bounds[keys[value]]
        signed = low < 0
        largest = max(-low, high) / 127 if signed else high / 255
        scales[value] = positive(largest), np.uint8(128 if signed else 0)
    return scales


def store_integers(
    graph: ir.Graph, conv: ir.Node, input_scale: np.float32, largest: int, rounding: Rounding
) -> None:
    """Replace a convolution's weight and bias by integers and what turns them back."""
    weight = weight_of(conv)
    offsets = bias_of(conv)
    # A bias must fit INT32 in units of its scale; a dead channel's weight scale grows for it.
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


def bias_of(conv: ir.Node) -> Array:
    """Return a convolution's constant bias, `(out,)` float64; zeros where it has none."""
    if len(conv.inputs) < 3:
        return np.zeros(len(weight_of(conv)))
    bias = ir.convenience.get_const_tensor(input_of(conv, 2))
    assert bias is not None, f"{conv.name} has no constant bias"
    return bias.numpy().astype(np.float64)


def positive(scale: float) -> np.float32:
    """Return a scale that is above zero even for a tensor that never is."""
    single: np.float32 = np.float32(max(scale, SMALLEST_SCALE))
    return single


def weight_scales(conv: ir.Node, largest: int) -> Array:
    """Return `channel_scales` of a convolution's weight."""
    return cached_channel_scales(weight_tensor_of(conv), largest)  # type: ignore[arg-type]  # by identity


@lru_cache(maxsize=256)
def cached_channel_scales(weight: ir.TensorProtocol, largest: int) -> Array:
    """Return `channel_scales`, searched for once however many graphs a weight goes into.

    Clones of a graph share their tensors, and the sensitivity table builds some two hundred.
    """
    scales = channel_scales(weight.numpy(), largest)
    scales.flags.writeable = False
    return scales


def channel_scales(weight: Array, largest: int) -> Array:
    """Return one float32 scale per output channel of `(out, in, kh, kw)`.

    Of scales from 0.6 to 1 times the one that just holds the largest weight, the one with the
    least squared error: clipping a few outliers pays most at 7 bits.
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


def insert_qdq(
    graph: ir.Graph, value: ir.Value, scale: Array | np.float32,
    zero: Array | np.int8 | np.uint8, axis: int | None = None,
) -> ir.Value:
    """Insert Q and DQ behind a value, unused as yet, and return what they make of it."""
    name = str(value.name)
    parameters = [constant(graph, f"{name}_scale", np.asarray(scale, np.float32)),
                  constant(graph, f"{name}_zero", np.asarray(zero))]
    attributes = {} if axis is None else {"axis": axis}
    quantize = ir.node("QuantizeLinear", [value, *parameters], attributes, name=f"{name}_quantize")
    stored = quantize.outputs[0]
    restore = ir.node("DequantizeLinear", [stored, *parameters], attributes,
                      name=f"{name}_dequantize")
    stored.name, restore.outputs[0].name = f"{name}_quantized", f"{name}_dequantized"
    graph.extend([quantize, restore])  # sorted into place when the graph is finished
    return restore.outputs[0]


def constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add an initializer."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype),
                     shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def finish_graph(model: ir.Model) -> ir.Model:
    """Sort the nodes, drop what nothing reads, and check the graph."""
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.CheckerPass()(model)
    return model
