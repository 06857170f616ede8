"""CBAM's gates of parallel branches, computed together: their form in the CPU graph.

A gate on a small map is twenty operators of a few microseconds each, so their number is their cost.
The maps of branches at the same depth are stacked to `(n, branches, h * w, channels)`: each pool is
one reduction, each layer of the channel gate one batched matrix product, and so is the spatial
gate's convolution, whose kernel covers a small map almost entirely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from feredge.calibration.graphs.placement import bias_of, input_of, weight_of
from feredge.calibration.graphs.writer import Writer
from feredge.runtime.results import Array

# Of a map: a matrix over the positions of a larger one costs more than it saves.
MOST_POSITIONS = 64
TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Gate:
    """The CBAM gates of a residual block.

    Attributes:
        source: the map to gate, `(n, c, h, w)`.
        squeeze: the channel gate's first layer, a 1x1 convolution.
        excite: its second layer, a 1x2 convolution that sums both pools (see `ChannelGate`).
        spatial: the spatial gate's convolution.
        add: the sum with the shortcut, its second input.
        output: of the ReLU after the sum, `(n, c, h, w)`.
        depth: how many gates precede this one.
    """

    source: ir.Value
    squeeze: ir.Node
    excite: ir.Node
    spatial: ir.Node
    add: ir.Node
    output: ir.Value
    depth: int

    @property
    def stack_key(self) -> tuple[int, ...]:
        """What gates of one stack have in common: depth and shapes."""
        return (self.depth, *map_shape(self.source), *weight_of(self.squeeze).shape)


def stack_gates(model: ir.Model) -> None:
    """Compute the gates at the same depth together; the network's output stays the same.

    Args:
        model: FP32, from `onnx_from_torch`; changed. The other convolutions, and the names of the
            tensors that they read and write, stay.
    """
    passes.ShapeInferencePass()(model)
    stacks: dict[tuple[ir.Value, ...], ir.Value] = {}
    gates = sorted(find_gates(model.graph), key=lambda gate: gate.stack_key)
    for _, group in groupby(gates, key=lambda gate: gate.stack_key):
        write_stack(model.graph, list(group), stacks)
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)


def find_gates(graph: ir.Graph) -> list[Gate]:
    """Return the gates on small maps, in the graph's order."""
    gates: list[Gate] = []
    depths: dict[ir.Value | None, int] = {}
    for node in graph:
        depth = max((depths.get(value, 0) for value in node.inputs), default=0)
        gate = gate_of(node, depth)
        if gate is not None:
            gates.append(gate)
            depth += 1
        depths.update(dict.fromkeys(node.outputs, depth))
    return gates


def gate_of(relu: ir.Node, depth: int) -> Gate | None:
    """Return the gate whose block ends with a ReLU, or None."""
    block = chain(relu.outputs[0], "Relu", "Add", "Mul", "Mul")
    if not block:
        return None
    _, add, positions, channels = block
    spatial = chain(input_of(positions, 1), "Sigmoid", "Conv", "Concat")
    channel = chain(input_of(channels, 1), "Sigmoid", "Conv", "Relu", "Conv", "Concat")
    if not spatial or not channel:
        return None
    gate = Gate(input_of(channels), channel[3], channel[1], spatial[1], add, relu.outputs[0], depth)
    pooled = pools(channel[4]), pools(spatial[2])
    source, gated = gate.source, input_of(positions)
    expected = ([("ReduceMean", {2, 3}, source), ("ReduceMax", {2, 3}, source)],
                [("ReduceMax", {1}, gated), ("ReduceMean", {1}, gated)])
    return gate if pooled == expected and is_small(gate) else None


def chain(value: ir.Value, *op_types: str) -> list[ir.Node]:
    """Return the nodes that make a value, along first inputs, if they are of these types."""
    nodes: list[ir.Node] = []
    for op_type in op_types:
        node = value.producer()
        if node is None or node.op_type != op_type:
            return []
        nodes.append(node)
        value = input_of(node)
    return nodes


def pools(concat: ir.Node) -> list[tuple[str, set[int], ir.Value]]:
    """Return the reductions that a concatenation joins: operator, axes and input."""
    found = [value.producer() for value in concat.inputs if value is not None]
    return [(node.op_type, {axis % 4 for axis in node.attributes.get_ints("axes", ())},
             input_of(node)) for node in found if node is not None]


def is_small(gate: Gate) -> bool:
    """Return whether the map is small and the convolutions are CBAM's."""
    channels, height, width = map_shape(gate.source)
    hidden = len(weight_of(gate.squeeze))
    excite, (ones, twos, *kernel) = weight_of(gate.excite), weight_of(gate.spatial).shape
    pads = gate.spatial.attributes.get_ints("pads", ())
    return (height * width <= MOST_POSITIONS
            and weight_of(gate.squeeze).shape == (hidden, channels, 1, 1)
            and excite.shape == (channels, hidden, 1, 2)
            and np.array_equal(excite[..., 0], excite[..., 1])
            and (ones, twos) == (1, 2) and list(pads) == [side // 2 for side in kernel] * 2)


def map_shape(value: ir.Value) -> tuple[int, int, int]:
    """Return channels, height and width of a map."""
    assert value.shape is not None, f"{value.name} has no shape"
    _, channels, height, width = value.shape
    assert isinstance(channels, int) and isinstance(height, int) and isinstance(width, int)
    return channels, height, width


def write_stack(
    graph: ir.Graph, gates: list[Gate], stacks: dict[tuple[ir.Value, ...], ir.Value]
) -> None:
    """Write blocks at the same depth from their gates on, and read their outputs from the stack.

    Args:
        graph: changed.
        gates: of the blocks.
        stacks: earlier stacks by the outputs that were cut from them; the new one is added.
    """
    writer = Writer(graph, str(gates[0].add.name))
    shortcuts = [input_of(gate.add, 1) for gate in gates]
    gated = write_gates(writer, gates, stack(writer, [gate.source for gate in gates]))
    shortcut = stacks.get(tuple(shortcuts)) or stack(writer, shortcuts)
    output = writer.add("Relu", writer.add("Add", gated, shortcut))
    parts = unstack(writer, output, gates)
    for gate, part in zip(gates, parts):
        part.name, gate.output.name = gate.output.name, f"{gate.output.name}.before"
        part.shape, part.type = gate.output.shape, gate.output.type
        ir.convenience.replace_all_uses_with(gate.output, part)
    stacks[tuple(parts)] = output


def write_gates(writer: Writer, gates: Sequence[Gate], x: ir.Value) -> ir.Value:
    """Write both gates of a stack `(n, branches, h * w, c)`."""
    def constants(arrays: Sequence[Array]) -> ir.Value:
        return writer.constant(np.stack(arrays).astype(np.float32))

    squeeze = constants([weight_of(gate.squeeze)[:, :, 0, 0].T for gate in gates])
    excite = constants([weight_of(gate.excite)[:, :, 0, 0].T for gate in gates])
    biases = [constants([bias_of(conv)[None] for conv in convs]) for convs in zip(
        *((gate.squeeze, gate.excite, gate.spatial) for gate in gates))]
    pooled = [writer.add(f"Reduce{pool}", x, axes=[2]) for pool in ("Mean", "Max")]
    hidden = writer.add("MatMul", writer.add("Concat", *pooled, axis=2), squeeze)
    hidden = writer.add("Relu", writer.add("Add", hidden, biases[0]))
    hidden = writer.add("ReduceSum", hidden, writer.constant(np.array([2])))
    scores = writer.add("Add", writer.add("MatMul", hidden, excite), biases[1])
    x = writer.add("Mul", x, writer.add("Sigmoid", scores))
    _, height, width = map_shape(gates[0].source)
    spatial = constants([matrix_of(weight_of(gate.spatial)[0], height, width) for gate in gates])
    pooled = [writer.add(f"Reduce{pool}", x, axes=[3]) for pool in ("Max", "Mean")]
    scores = writer.add("MatMul", spatial, writer.add("Concat", *pooled, axis=2))
    return writer.add("Mul", x, writer.add("Sigmoid", writer.add("Add", scores, biases[2])))


def matrix_of(kernel: Array, height: int, width: int) -> Array:
    """Return a convolution as the matrix over all positions, `(h * w, channels * h * w)`.

    Args:
        kernel: `(channels, kh, kw)` of one output channel, padded to the same size, odd sides.
        height: of the map.
        width: of the map.
    """
    sides = kernel.shape[1:]
    padded = np.pad(kernel, ((0, 0), (height, height), (width, width)))
    rows, columns = (np.arange(length)[None] - np.arange(length)[:, None] + side // 2 + length
                     for length, side in zip((height, width), sides))
    taps = padded[:, rows[:, None, :, None], columns[None, :, None, :]]
    matrix: Array = taps.transpose(1, 2, 0, 3, 4).reshape(height * width, -1)
    return matrix


def stack(writer: Writer, maps: Sequence[ir.Value]) -> ir.Value:
    """Stack maps `(n, c, h, w)` to `(n, maps, h * w, c)`."""
    channels, height, width = map_shape(maps[0])
    rows = [writer.add("Transpose", value, perm=TO_CHANNELS_LAST) for value in maps]
    shape = writer.constant(np.array([0, len(maps), height * width, channels]))
    return writer.add("Reshape", writer.add("Concat", *rows, axis=1), shape)


def unstack(writer: Writer, stacked: ir.Value, gates: Sequence[Gate]) -> list[ir.Value]:
    """Return the maps of a stack, `(n, c, h, w)` each."""
    channels, height, width = map_shape(gates[0].source)
    shape = writer.constant(np.array([0, len(gates) * height, width, channels]))
    rows = writer.add("Reshape", stacked, shape)
    parts = writer.node("Split", [rows], {"axis": 1}, len(gates)).outputs
    return [writer.add("Transpose", part, perm=TO_CHANNELS_FIRST) for part in parts]
