"""FP16 graphs for TensorRT versions whose networks are strongly typed.

Such a version runs every operator in the type that the graph says, so FP16 is a matter of the graph
and not of a builder flag. The body is FP16 with FP16 scales, which Q/DQ have from opset 19 on; the
input, the classifier's head and the probabilities stay FP32: the head costs nothing, and logits
rounded to FP16 would move the probabilities more than all else together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from feredge.calibration.graphs.placement import input_of
from feredge.calibration.graphs.qdq import constant
from feredge.calibration.graphs.sessions import session_of
from feredge.export.network.to_onnx import AXES_AS_INPUT
from feredge.runtime.errors import ExportError
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME

OPSET = 19
FP16_MAX = float(np.finfo(np.float16).max)  # 65504
FP16_LEAST = np.float16(2.0**-24)  # the smallest number above 0: scales must not become 0
PROBABILITY_LIMIT = 5e-3
HEAD = ("Gemm", "MatMul")
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def fp16_graph(model: ir.Model) -> ir.Model:
    """Return the FP16 form of an FP32 graph or of its Q/DQ twin.

    INT8 weights are stored as integers, rounded from the FP32 weights in units of the FP16 scale.

    Args:
        model: opset 17, from `onnx_from_torch` or `tensorrt_graph`; left as it was.

    Raises:
        ExportError: a weight is too large for FP16.
    """
    model = model.clone()
    graph = model.graph
    raise_to_opset_19(graph)
    store_weights(graph)
    head = nodes_after(graph, HEAD)
    convert_constants(graph, head)
    insert_casts(graph, head)
    for value in {value for node in graph for value in node.outputs} - set(graph.outputs):
        value.type = value.shape = None  # every reader infers them anew from the constants
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.CheckerPass()(model)
    return model


def raise_to_opset_19(graph: ir.Graph) -> None:
    """Undo `lower_to_opset_17`: axes become inputs again, a Split counts its outputs."""
    for node in graph:
        if node.op_type in AXES_AS_INPUT and "axes" in node.attributes:
            axes = np.array(node.attributes.pop("axes").as_ints(), np.int64)
            node.resize_inputs(2)
            node.replace_input_with(1, constant(graph, f"{node.name}.axes", axes))
        elif node.op_type == "Split" and len(node.inputs) == 1:
            node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
    graph.opset_imports[""] = OPSET


def store_weights(graph: ir.Graph) -> None:
    """Round weights behind QuantizeLinear to INT8, in units of the scale that FP16 leaves them."""
    for node in list(graph):
        weight = ir.convenience.get_const_tensor(input_of(node))
        if node.op_type != "QuantizeLinear" or weight is None:
            continue
        scale = fp16_scales(constant_of(node, 1)).astype(np.float32)
        steps = weight.numpy() / scale.reshape(-1, *[1] * (weight.shape.rank() - 1))
        stored = np.clip(np.rint(steps), -127, 127).astype(np.int8)
        value = constant(graph, str(node.outputs[0].name), stored)
        for use in list(node.outputs[0].uses()):
            use.node.replace_input_with(use.idx, value)
        graph.remove(node, safe=True)


def nodes_after(graph: ir.Graph, operators: tuple[str, ...]) -> set[ir.Node]:
    """Return the nodes of some kinds and everything computed from them."""
    found: set[ir.Node] = set()
    for node in graph:
        makers = {value.producer() for value in node.inputs if value is not None}
        if node.op_type in operators or makers & found:
            found.add(node)
    return found


def convert_constants(graph: ir.Graph, head: set[ir.Node]) -> None:
    """Turn every FP32 constant that the body reads into FP16.

    Raises:
        ExportError: one does not fit.
    """
    for value in list(graph.initializers.values()):
        uses = [use for use in value.uses()
                if use.node not in head and use.node.op_type != "Resize"]  # its scales stay FP32
        if value.dtype != ir.DataType.FLOAT or not uses or value.const_value is None:
            continue
        array = value.const_value.numpy()
        largest = float(np.abs(array).max(initial=0))
        if not largest < FP16_MAX:
            raise ExportError(f"{value.name} holds {largest:.4g}, more than FP16's {FP16_MAX:.0f}; "
                              "export without --fp16")
        scale = all(use.node.op_type in QUANTIZERS for use in uses)
        small = constant(graph, f"{value.name}.fp16",
                         fp16_scales(array) if scale else array.astype(np.float16))
        for use in uses:
            use.node.replace_input_with(use.idx, small)


def insert_casts(graph: ir.Graph, head: set[ir.Node]) -> None:
    """Cast where FP32 enters the body, and back where the head reads it."""
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    outputs = [value for node in graph if node not in head for value in node.outputs]
    for value, kind, for_head in [*((value, ir.DataType.FLOAT16, False) for value in graph.inputs),
                                  *((value, ir.DataType.FLOAT, True) for value in outputs)]:
        for use in list(value.uses()):
            if (use.node in head) is not for_head:
                continue
            if (value, kind) not in casts:
                casts[value, kind] = cast(graph, value, kind)
            use.node.replace_input_with(use.idx, casts[value, kind])


def cast(graph: ir.Graph, value: ir.Value, kind: ir.DataType) -> ir.Value:
    """Add a cast of a value, sorted into place later, and return what it makes."""
    node = ir.node("Cast", [value], {"to": kind.value}, name=f"{value.name}.{kind.name.lower()}")
    node.outputs[0].name = node.name
    graph.append(node)
    return node.outputs[0]


def fp16_scales(scale: Array) -> Array:
    """Return scales, of any shape, in FP16, none of them 0."""
    small: Array = np.maximum(scale.astype(np.float16), FP16_LEAST)
    return small


def constant_of(node: ir.Node, index: int) -> Array:
    """Return a constant input that must be there."""
    tensor = ir.convenience.get_const_tensor(input_of(node, index))
    assert tensor is not None, f"{node.name}: input {index} is computed"
    return tensor.numpy()


def check_fp16_fits(
    model: ir.Model, crops: Array, ranges: Mapping[str, Mapping[str, tuple[float, float]]]
) -> float:
    """Refuse a network whose activations FP16 cannot hold.

    Args:
        model: FP32, or its Q/DQ twin.
        crops: `(n, 3, side, side)` float32; every tensor of the graph is looked at on them.
        ranges: recorded ranges by tensor and method; may be empty.

    Returns:
        The largest activation.

    Raises:
        ExportError: one reaches 65504, or is not finite.
    """
    largest = {key: max(map(abs, pair)) for key, methods in ranges.items()
               for pair in methods.values()}
    head = nodes_after(model.graph, HEAD)  # it stays FP32
    names = [str(value.name) for node in model.graph
             if node.op_type != "QuantizeLinear" and node not in head for value in node.outputs]
    session = session_of(model, extra_outputs=names, integer_kernels=False)
    for name, tensor in zip(names, session.run(names, {INPUT_NAME: crops})):
        largest[name] = float(np.abs(tensor).max())
    for name, value in largest.items():
        if not value < FP16_MAX:  # NaN, too
            raise ExportError(f"the activation {name} reaches {value:.4g}, FP16 ends at "
                              f"{FP16_MAX:.0f}; export without --fp16")
    return max(largest.values())


def check_fp16_probabilities(
    fp16: ir.Model, model: ir.Model, crops: Array, quantized: bool = False
) -> float:
    """Compare an FP16 graph with the graph that it was made from.

    onnxruntime has few FP16 kernels on a CPU: it rounds the constants to FP16 and computes most
    operators in FP32, so this proves the graph and its constants, not a GPU's arithmetic.

    Args:
        fp16: from `fp16_graph`.
        model: what it was made from.
        crops: `(n, 3, side, side)` float32.
        quantized: the graphs hold Q/DQ. A scale rounded to FP16 sends some activations to the
            next step of INT8, which moves single probabilities as much as INT8 itself did: the
            mean is held then.

    Returns:
        The largest difference of a probability; the mean if `quantized`.

    Raises:
        ExportError: it is more than `PROBABILITY_LIMIT`.
    """
    outputs = [session_of(graph, integer_kernels=False).run([OUTPUT_NAME], {INPUT_NAME: crops})[0]
               for graph in (fp16, model)]
    differences = np.abs(outputs[0] - outputs[1])
    difference = float(differences.mean() if quantized else differences.max())
    if not difference <= PROBABILITY_LIMIT:
        raise ExportError(f"FP16 moves a probability by {difference:.1e}, more than "
                          f"{PROBABILITY_LIMIT:.0e}; export without --fp16")
    return difference
