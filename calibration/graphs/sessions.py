"""onnxruntime sessions of graphs in memory, for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.machine import exact_8_bit_weights


def session_of(
    model: ir.Model, extra_outputs: Sequence[str] = (), integer_kernels: bool = True
) -> Any:
    """Open a graph in onnxruntime.

    Args:
        model: not changed.
        extra_outputs: names of inner tensors to return as well.
        integer_kernels: False computes Q/DQ in float as written: TensorRT's arithmetic, not
            that of onnxruntime's 8-bit kernels.
    """
    model = model.clone()
    named = {value.name: value for node in model.graph for value in node.outputs}
    present = {value.name for value in model.graph.outputs}
    model.graph.outputs.extend(named[name] for name in extra_outputs if name not in present)
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not integer_kernels:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def evaluation_session(name: str, graph: ir.Model) -> Any:
    """Open a graph in the arithmetic of its target.

    A CPU graph runs in onnxruntime's integer kernels where they are exact on this CPU; TensorRT's
    graph, and 8-bit weights on an x86 CPU without VNNI, are computed in float as written.
    """
    exact = name.startswith("cpu-7bit") or bool(exact_8_bit_weights())
    integer = name.startswith("cpu") and exact
    return session_of(graph, integer_kernels=integer)
