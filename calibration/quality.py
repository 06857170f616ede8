"""What INT8 costs and what it covers: agreement with FP32, and the share of the work in INT8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from feredge.calibration.placement import input_of, source_of, weight_of
from feredge.runtime.faces import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME


@dataclass(frozen=True)
class Agreement:
    """How an INT8 graph answers on `faces` faces, against FP32.

    `top1` is the share with the same label, the others the mean and the largest change of a
    probability.
    """

    faces: int
    top1: float
    mean_change: float
    largest_change: float


def agreements(
    reference: Any, sessions: Mapping[str, Any], batches: Iterable[Array]
) -> dict[str, Agreement]:
    """Compare onnxruntime sessions with a reference on the same faces.

    Args:
        reference: the FP32 session.
        sessions: what is compared, by name.
        batches: `(n, 3, side, side)` float32 crops, read once.
    """
    faces = 0
    totals = {name: np.zeros(3) for name in sessions}
    classes = 1
    for crops in batches:
        feed = {INPUT_NAME: crops}
        expected = reference.run([OUTPUT_NAME], feed)[0]
        faces, classes = faces + len(crops), expected.shape[1]
        for name, session in sessions.items():
            got = session.run([OUTPUT_NAME], feed)[0]
            change = np.abs(got - expected)
            same = (got.argmax(axis=1) == expected.argmax(axis=1)).sum()
            totals[name][:2] += same, change.sum()
            totals[name][2] = max(totals[name][2], change.max())
    return {
        name: Agreement(faces, float(same / faces), float(change / faces / classes), float(largest))
        for name, (same, change, largest) in totals.items()
    }


def conv_macs(model: ir.Model, side_px: int) -> dict[str, int]:
    """Return the multiply-accumulates of every convolution for one face, by its name."""
    proto = ir.to_proto(model)
    batch, *_ = proto.graph.input[0].type.tensor_type.shape.dim
    batch.Clear()
    batch.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    return {
        str(node.name): int(np.prod(shapes[str(node.outputs[0].name)])
                            * np.prod(weight_of(node).shape[1:]))
        for node in model.graph if node.op_type == "Conv"
    }


def tensorrt_int8_convs(model: ir.Model) -> set[str]:
    """Return the convolutions between Q/DQ, the form that TensorRT runs in INT8."""

    def restored(value: ir.Value) -> bool:
        maker = source_of(value).producer()
        return maker is not None and maker.op_type == "DequantizeLinear"

    return {
        str(node.name) for node in model.graph
        if node.op_type == "Conv" and restored(input_of(node)) and restored(input_of(node, 1))
    }


def cpu_int8_convs(model: ir.Model) -> set[str]:
    """Return the convolutions that onnxruntime itself turned into integer ones on this machine."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        content = ir.to_proto(model).SerializeToString()
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(optimised).graph.node
    weights = [node.input[3] for node in nodes if node.op_type == "QLinearConv"]
    return {name.removesuffix(".weight_quantized") for name in weights}


def int8_share(convs: set[str], macs: Mapping[str, int]) -> float:
    """Return the share of the convolutions' multiply-accumulates that run in INT8."""
    return sum(count for name, count in macs.items() if name in convs) / sum(macs.values())
