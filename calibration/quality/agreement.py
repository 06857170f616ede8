"""Agreement of INT8 graphs with FP32, and the share of the convolution work in INT8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    import onnx_ir as ir  # evaluation runs without the export extra

FP32 = "fp32"
LEAST_PROBABILITY = 1e-12  # a softmax in float32 may round to zero, which has no logarithm


@dataclass(frozen=True)
class Agreement:
    """The difference between an INT8 graph's predictions and FP32's on `faces` faces.

    `top1` is the share of faces with the same label, `mean_change` and `largest_change` are those
    of a probability, `kl` is the mean divergence KL(FP32 || INT8) in nats.
    """

    faces: int
    top1: float
    mean_change: float
    largest_change: float
    kl: float


def agreements(
    reference: Any, sessions: Mapping[str, Any], batches: Iterable[Array]
) -> dict[str, Agreement]:
    """Compare onnxruntime sessions with a reference on the same faces.

    Args:
        reference: the FP32 session.
        sessions: the sessions to compare, by name.
        batches: `(n, 3, side, side)` float32 crops, read once.

    Raises:
        CalibrationError: there is no face, or a prediction is not finite.
    """
    got = predictions({FP32: reference, **sessions}, batches)
    return {name: agreement(got[FP32], got[name]) for name in sessions}


def predictions(sessions: Mapping[str, Any], batches: Iterable[Array]) -> dict[str, Array]:
    """Run every session on the same faces, in one pass.

    Args:
        sessions: onnxruntime's, by name.
        batches: `(n, 3, side, side)` float32 crops, read once.

    Returns:
        `(faces, classes)` float32 probabilities of each.

    Raises:
        CalibrationError: there is no face, or a prediction is not finite.
    """
    found: dict[str, list[Array]] = {name: [] for name in sessions}
    faces = 0
    for crops in batches:
        faces += len(crops)
        for name, session in sessions.items():
            found[name].append(session.run([OUTPUT_NAME], {INPUT_NAME: crops})[0])
    if not faces:
        raise CalibrationError("there is no face to compare predictions on: pass a folder of faces")
    joined = {name: np.concatenate(batched) for name, batched in found.items()}
    for name, probabilities in joined.items():
        check_finite(name, probabilities)
    return joined


def check_finite(name: str, probabilities: Array) -> None:
    """Refuse predictions, `(n, classes)`, that are NaN or infinite: each comparison is false.

    Raises:
        CalibrationError: some are.
    """
    broken = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if broken:
        raise CalibrationError(f"{name} predictions are not finite on {broken} of "
                               f"{len(probabilities)} faces: the checkpoint is damaged, or its "
                               "normalization does not fit")


def agreement(expected: Array, got: Array) -> Agreement:
    """Compare the probabilities of a graph with FP32's, both `(faces, classes)`."""
    change = np.abs(got - expected)
    same = got.argmax(axis=1) == expected.argmax(axis=1)
    return Agreement(len(got), float(same.mean()), float(change.mean()), float(change.max()),
                     mean_kl(expected, got))


def divergences(expected: Array, got: Array) -> Array:
    """Return KL(expected || got) in nats of each face, of two `(faces, classes)`."""
    p, q = (np.maximum(np.asarray(each, np.float64), LEAST_PROBABILITY) for each in (expected, got))
    losses: Array = (p * np.log(p / q)).sum(axis=1)
    return losses


def mean_kl(expected: Array, got: Array) -> float:
    """Return the mean of `divergences` of two `(n, classes)` arrays."""
    return float(divergences(expected, got).mean())


def conv_macs(model: ir.Model, side_px: int) -> dict[str, int]:
    """Return the multiply-accumulates of every convolution for one face, by its name."""
    import onnx
    import onnx_ir as ir

    from feredge.calibration.graphs.placement import weight_of

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
    """Return the convolutions whose input and weight have Q/DQ: TensorRT runs these in INT8."""
    from feredge.calibration.graphs.placement import input_of, source_of

    def is_dequantized(value: ir.Value) -> bool:
        maker = source_of(value).producer()
        return maker is not None and maker.op_type == "DequantizeLinear"

    return {
        str(node.name) for node in model.graph
        if node.op_type == "Conv" and all(is_dequantized(input_of(node, k)) for k in (0, 1))
    }


def cpu_int8_convs(model: ir.Model) -> set[str]:
    """Return the convolutions that onnxruntime runs in integers on this machine."""
    import onnx
    import onnx_ir as ir

    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        content = ir.to_proto(model).SerializeToString()
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(optimized).graph.node
    weights = [node.input[3] for node in nodes if node.op_type == "QLinearConv"]
    return {name.removesuffix(".weight_quantized") for name in weights}


def int8_share(convs: set[str], macs: Mapping[str, int]) -> float:
    """Return the share of the convolutions' multiply-accumulates that run in INT8."""
    return sum(count for name, count in macs.items() if name in convs) / sum(macs.values())
