"""Which tensors INT8 covers: rules over an FP32 graph whose names are module paths.

| operator              | rule                                                                     |
| --------------------- | ------------------------------------------------------------------------ |
| Conv                  | its input and its weight; float if a pattern matches or it is tiny       |
| Slice, Split, MaxPool | none of their own: they share the scale of their input                   |
| residual Add          | TensorRT: the shortcut only, where a convolution feeds the sum directly  |
| everything else       | TensorRT: float. CPUs: also INT8 between quantized tensors              |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

import numpy as np
import onnx_ir as ir

from feredge.runtime.results import Array

SHARES_SCALE = frozenset(("Slice", "Split", "MaxPool"))
MIN_CHANNELS = 16  # fewer, and a convolution gains nothing from INT8; the 3-channel stem does


def quantized_convs(graph: ir.Graph, keep_float: Sequence[str] = ()) -> list[ir.Node]:
    """Return the convolutions that run in INT8, in the graph's order.

    Args:
        graph: FP32, from `onnx_from_torch`.
        keep_float: patterns of module paths that stay in float, as `*.cbam.*`.
    """
    return [
        node for node in graph
        if node.op_type == "Conv" and not is_tiny(node)
        and not any(fnmatch(str(node.name), pattern) for pattern in keep_float)
    ]


def is_tiny(conv: ir.Node) -> bool:
    """Return whether a convolution has too few channels for INT8."""
    out_channels, in_channels = weight_tensor_of(conv).shape.numpy()[:2]
    return bool(out_channels < MIN_CHANNELS or (in_channels < MIN_CHANNELS and in_channels != 3))


def weight_of(conv: ir.Node) -> Array:
    """Return a convolution's constant weight, `(out, in, kh, kw)` float32."""
    return weight_tensor_of(conv).numpy()


def weight_tensor_of(conv: ir.Node) -> ir.TensorProtocol:
    """Return the constant weight of a convolution as the tensor that clones of its graph share."""
    weight = ir.convenience.get_const_tensor(input_of(conv, 1))
    assert weight is not None, f"{conv.name} has no constant weight"
    return weight


def bias_of(conv: ir.Node) -> Array:
    """Return the constant bias of a convolution, `(out,)` float64; zeros where it has none."""
    if len(conv.inputs) < 3:
        return np.zeros(len(weight_of(conv)))
    bias = ir.convenience.get_const_tensor(input_of(conv, 2))
    assert bias is not None, f"{conv.name} has no constant bias"
    return bias.numpy().astype(np.float64)


def source_of(value: ir.Value) -> ir.Value:
    """Return the tensor that a value is cut from, whose scale it shares."""
    node = value.producer()
    while node is not None and node.op_type in SHARES_SCALE:
        value = input_of(node)
        node = value.producer()
    return value


def input_of(node: ir.Node, index: int = 0) -> ir.Value:
    """Return an input of a node."""
    value = node.inputs[index]
    assert value is not None, f"{node.name} has no input {index}"
    return value


def activation_output(node: ir.Node) -> ir.Value:
    """Return the output of a node, or of the ReLU that is fused with it."""
    output = node.outputs[0]
    consumers = [use.node for use in output.uses()]
    if len(consumers) == 1 and consumers[0].op_type == "Relu":
        return consumers[0].outputs[0]
    return output


def shortcuts(graph: ir.Graph, convs: Iterable[ir.Node]) -> list[tuple[ir.Node, int]]:
    """Return the residual sums, and which of their inputs is the shortcut.

    Only where a convolution feeds the sum directly and the other input is INT8 anyway or a
    projection: then convolution, sum and ReLU fuse. A gated residual does not fuse.
    """
    chosen = set(convs)
    found = []
    for node in graph:
        if node.op_type != "Add":
            continue
        makers = [source_of(input_of(node, k)).producer() for k in (0, 1)]
        if makers[0] in chosen and makers[1] is not None and (
            makers[1] in chosen or makers[1].op_type == "Relu"
        ):
            found.append((node, 1))
    return found


def tensorrt_values(graph: ir.Graph, convs: Sequence[ir.Node]) -> list[ir.Value]:
    """Return the tensors with Q/DQ in the TensorRT graph."""
    inputs = [source_of(input_of(conv)) for conv in convs]
    sums = [source_of(input_of(node, k)) for node, k in shortcuts(graph, convs)]
    return list(dict.fromkeys([*inputs, *sums]))


def cpu_values(graph: ir.Graph, convs: Sequence[ir.Node]) -> list[ir.Value]:
    """Return the tensors with Q/DQ in the CPU graph.

    onnxruntime runs an operator in INT8 only where its inputs and its output are quantized, so
    these cover whole chains: convolutions, and the sums and concatenations between them.
    """
    inputs = {source_of(input_of(conv)) for conv in convs}
    chosen = set(convs)
    values = dict.fromkeys(inputs & set(graph.inputs))
    for node in graph:
        covered = [value in values or source_of(value) in values
                   for value in node.inputs if value is not None]
        if node in chosen:
            values[activation_output(node)] = None
        elif node.op_type in ("Add", "Concat") and all(covered):
            values[activation_output(node)] = None
        elif node.op_type == "Split" and covered[0]:
            values.update(dict.fromkeys(node.outputs))
        elif (node.op_type == "Relu" and covered[0]) or node.outputs[0] in inputs:
            values[node.outputs[0]] = None
    return list(values)


def range_key(value: ir.Value, graph: ir.Graph) -> str:
    """Return the stable key of a tensor's range, whichever convolutions run in INT8.

    `layer1.0.conv1:input` for the first convolution that reads it and is not tiny, else
    `layer1.0.conv2:output` for the node that makes it.
    """
    for conv in quantized_convs(graph):
        if source_of(input_of(conv)) is value:
            return f"{conv.name}:input"
    node = value.producer()
    assert node is not None, f"{value.name} is neither computed nor read by a convolution"
    return f"{node.name}:output"


def keyed_values(graph: ir.Graph, convs: Sequence[ir.Node]) -> dict[str, ir.Value]:
    """Return every tensor that the TensorRT or the CPU graph needs a range for, by its key."""
    wanted = [*tensorrt_values(graph, convs), *map(source_of, cpu_values(graph, convs))]
    return {range_key(value, graph): value for value in dict.fromkeys(wanted)}
