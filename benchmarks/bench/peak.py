"""How much of a device a network uses: the work in its graph against the peak of the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.environment import load_onnxruntime

BEST_OF = 7
MATMUL_SIDE = 1536
COPY_BYTES = 1 << 28  # beyond every cache


@dataclass(frozen=True)
class Work:
    """The work of one batch.

    `macs` are the multiply-accumulates of convolutions and matrix products; `bytes` is the memory
    traffic if weights, and the inputs and outputs of these layers, are moved once.
    """

    macs: int
    bytes: int


@dataclass(frozen=True)
class Peak:
    """The peak of a device: operations (two per multiply-accumulate) and bytes per second."""

    fp32_ops: float
    int8_ops: float
    bandwidth: float
    source: str
    fp16_ops: float | None = None

    def ops(self, precision: str) -> float:
        """Return the peak of a precision; FP16 falls back to FP32."""
        peaks = {"int8": self.int8_ops, "fp16": self.fp16_ops or self.fp32_ops}
        return peaks.get(precision, self.fp32_ops)


def work_of(onnx_path: Path, precision: str, batch: int) -> Work:
    """Return the work of a graph.

    Args:
        onnx_path: any form of the network, with or without Q/DQ.
        precision: of the weights and activations in memory: fp32, fp16 or int8.
        batch: faces per inference.
    """
    import onnx

    model = onnx.load(onnx_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
             for value in (*graph.value_info, *graph.input, *graph.output)}
    sizes.update({value.name: list(value.dims) for value in graph.initializer})
    width = {"int8": 1, "fp16": 2}.get(precision, 4)
    macs = values = 0
    for node in graph.node:
        if node.op_type in DEPTHS:
            first, second, result = (sizes[name]
                                     for name in (*node.input[:2], node.output[0]))
            macs += int(np.prod(result)) * DEPTHS[node.op_type](first, second)
            values += sum(int(np.prod(shape)) for shape in (first, second, result))
    return Work(macs, values * width)


# Multiply-accumulates per value of the result, from the shapes of both operands.
DEPTHS: dict[str, Callable[[list[int], list[int]], int]] = {
    "Conv": lambda _, weights: int(np.prod(weights[1:])),
    "Gemm": lambda first, _: first[-1],
    "MatMul": lambda first, _: first[-1],
}


def share_of(peak: Peak, work: Work, precision: str, seconds: float) -> dict[str, Any]:
    """Return a time as shares of the device's peak and of its memory bandwidth."""
    return {**asdict(work), "compute_share": 2 * work.macs / seconds / peak.ops(precision),
            "bandwidth_share": work.bytes / seconds / peak.bandwidth}


def measure_peak() -> Peak:
    """Measure the peak of this CPU: large matrix products in onnxruntime, and a large copy.

    The peak is that of onnxruntime's and numpy's kernels on all cores, not the hardware's limit.
    """
    operations = 2.0 * MATMUL_SIDE**3
    rng = np.random.default_rng(0)
    bytes_a = rng.integers(0, 127, (MATMUL_SIDE, MATMUL_SIDE), np.uint8)
    floats = bytes_a.astype(np.float32)
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    seconds = [best_s(run) for run in (
        product("MatMul", floats, floats),
        product("MatMulInteger", bytes_a, bytes_a.astype(np.int8)),
        lambda: np.copyto(target, source),
    )]
    return Peak(operations / seconds[0], operations / seconds[1], 2 * COPY_BYTES / seconds[2],
                f"measured: a product of {MATMUL_SIDE}x{MATMUL_SIDE} and a copy of 256 MiB")


def product(operator: str, a: Any, constant: Any) -> Callable[[], Any]:
    """Return a matrix product in onnxruntime; the second factor is a constant, as weights are."""
    from onnx import TensorProto, helper, numpy_helper

    ort = load_onnxruntime()
    kinds = {"MatMul": (TensorProto.FLOAT, TensorProto.FLOAT),
             "MatMulInteger": (TensorProto.UINT8, TensorProto.INT32)}
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])], "product",
        [helper.make_tensor_value_info("a", kinds[operator][0], a.shape)],
        [helper.make_tensor_value_info("c", kinds[operator][1], None)],
        [numpy_helper.from_array(constant, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})


def best_s(run: Callable[[], Any]) -> float:
    """Return the shortest of a few runs, in seconds: the least disturbed one."""
    run()
    seconds = []
    for _ in range(BEST_OF):
        start_s = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start_s)
    return min(seconds)


ORIN_NANO = "NVIDIA Jetson Orin Nano data sheet"
ORIN_NX = "NVIDIA Jetson Orin NX data sheet"
AGX_ORIN = "NVIDIA Jetson AGX Orin technical brief"
AMPERE = "NVIDIA Ampere GA102 whitepaper"
ADA = "NVIDIA Ada whitepaper"
# Dense, at the highest power mode, without DLAs. Longer names come before their prefixes; a
# Jetson is found by its board, since its GPU is called Orin on every board.
PUBLISHED = (
    ("Orin Nano Engineering Reference Developer Kit Super",
     Peak(2.1e12, 33e12, 102e9, ORIN_NANO, 17e12)),
    ("Orin Nano Developer Kit Super", Peak(2.1e12, 33e12, 102e9, ORIN_NANO, 17e12)),
    ("Orin Nano", Peak(1.28e12, 20e12, 68e9, ORIN_NANO, 10e12)),
    ("Orin NX", Peak(1.88e12, 30e12, 102e9, ORIN_NX, 15e12)),
    ("AGX Orin", Peak(5.3e12, 85e12, 205e9, AGX_ORIN, 42.5e12)),
    ("RTX 3080", Peak(29.8e12, 238e12, 760e9, AMPERE, 119e12)),
    ("RTX 3090", Peak(35.6e12, 284e12, 936e9, AMPERE, 142e12)),
    ("RTX 4090", Peak(82.6e12, 660.6e12, 1008e9, ADA, 330.3e12)),
)


def published_peak(board: str | None, gpu: str | None) -> Peak | None:
    """Return the published peak of a board or GPU; None where the table has none."""
    for name, peak in PUBLISHED:
        if name in f"{board or ''} {gpu or ''}":
            return peak
    return None
