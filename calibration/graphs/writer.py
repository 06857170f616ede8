"""Operators and constants that are added to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from feredge.runtime.results import Array


class Writer:
    """Adds operators and constants to a graph, named after one tensor."""

    def __init__(self, graph: ir.Graph, name: str) -> None:
        self.graph, self.name, self.count = graph, name, 0

    def add(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add an operator with one output, and return the output."""
        return self.node(op_type, inputs, attributes).outputs[0]

    def node(
        self, op_type: str, inputs: Sequence[ir.Value], attributes: dict[str, Any], outputs: int = 1
    ) -> ir.Node:
        """Add an operator."""
        name = self.new_name()
        node = ir.node(op_type, inputs, attributes, name=name, num_outputs=outputs)
        for k, output in enumerate(node.outputs):
            output.name = name if k == 0 else f"{name}.{k}"
        self.graph.append(node)
        return node

    def new_name(self) -> str:
        """Return a name that the graph has not yet."""
        self.count += 1
        return f"{self.name}.stack_{self.count}"

    def constant(self, array: Array) -> ir.Value:
        """Add an initializer."""
        tensor = ir.tensor(array, name=self.new_name())
        value = ir.Value(name=tensor.name, const_value=tensor, shape=ir.Shape(array.shape),
                         type=ir.TensorType(tensor.dtype))
        self.graph.register_initializer(value)
        return value
