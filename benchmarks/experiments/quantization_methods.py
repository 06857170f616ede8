"""Ways to quantize a network to INT8: ours, onnxruntime's, NVIDIA Model Optimizer's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from feredge.calibration.graphs.gptq import gptq_rounding
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import cpu_graph, round_to_nearest, tensorrt_graph
from feredge.calibration.measure.sweep import measure
from feredge.calibration.ranges import Ranges
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME

BATCH = 32
GPTQ_FACES = 256
HISTOGRAM_FACES = 256  # onnxruntime's histograms keep every activation of every face in memory
SWEPT = "percentile-99.999"  # the method that `fer-export` selects
MODELOPT = """
import sys
import numpy as np
from modelopt.onnx.quantization import quantize
source, faces, method, target = sys.argv[1:]
quantize(source, quantize_mode="int8", calibration_data=np.load(faces), calibration_method=method,
         calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=target)
"""


@dataclass(frozen=True)
class Inputs:
    """The input of every quantizer: the FP32 graph and `(n, 3, side, side)` calibration crops."""

    onnx: Path
    model: ir.Model
    crops: Array
    keep_float: tuple[str, ...]
    modelopt: str | None


@dataclass(frozen=True)
class Quantizer:
    """One way to INT8: a description of its settings, and a function that writes the graph."""

    settings: str
    write: Callable[[Inputs, Path], None]
    integer_kernels: bool = True
    faces: int | None = None


class Crops(CalibrationDataReader):  # type: ignore[misc]
    """Calibration crops as onnxruntime reads them."""

    def __init__(self, crops: Array) -> None:
        self.batches = iter({INPUT_NAME: batch} for batch in batches(crops))

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch, None at the end."""
        return next(self.batches, None)


def batches(crops: Array) -> Iterator[Array]:
    """Return the batches of crops, `(n, 3, side, side)`."""
    return (crops[k : k + BATCH] for k in range(0, len(crops), BATCH))


def own_quantizer(
    weight_bits: int | None, method: str = "max", gptq: bool = False
) -> Callable[[Inputs, Path], None]:
    """Return the writer of our CPU graph, or without bits of our TensorRT graph."""

    def write(inputs: Inputs, target: Path) -> None:
        convs = quantized_convs(inputs.model.graph, inputs.keep_float)
        unlabelled = ((batch, np.full(len(batch), -1)) for batch in batches(inputs.crops))
        measured = measure(inputs.model, convs, unlabelled, len(inputs.crops))
        ranges = Ranges("", measured.faces, "", {}, measured.bounds(), method=method)
        if weight_bits is None:
            return ir.save(tensorrt_graph(inputs.model, ranges, inputs.keep_float), target)
        few = np.ascontiguousarray(inputs.crops[:: max(len(inputs.crops) // GPTQ_FACES, 1)])
        rounding = gptq_rounding(inputs.model, convs, batches(few)) if gptq else round_to_nearest
        ir.save(cpu_graph(inputs.model, ranges, inputs.keep_float, weight_bits, rounding), target)

    return write


def every_operator(graph: ir.Graph) -> list[str]:
    """Exclude nothing."""
    return []


def find_gates(graph: ir.Graph) -> list[str]:
    """Exclude the attention gates of CBAM."""
    return [str(node.name) for node in graph if ".cbam." in str(node.name)]


def gates_and_heads_float(graph: ir.Graph) -> list[str]:
    """Exclude the gates, and all after the last convolution: pooling, classifiers, softmax."""
    before_conv: set[ir.Node] = set()
    for node in reversed(list(graph)):
        readers = {use.node for value in node.outputs for use in value.uses()}
        if node.op_type == "Conv" or readers & before_conv:
            before_conv.add(node)
    return find_gates(graph) + [str(node.name) for node in graph if node not in before_conv]


def onnxruntime_quantizer(
    method: CalibrationMethod, reduce_range: bool, excluded: Callable[[ir.Graph], list[str]]
) -> Callable[[Inputs, Path], None]:
    """Return the writer of onnxruntime's static quantization."""

    def write(inputs: Inputs, target: Path) -> None:
        prepared = target.with_suffix(".prepared.onnx")
        quant_pre_process(str(inputs.onnx), str(prepared))
        quantize_static(
            prepared, target, Crops(inputs.crops), QuantFormat.QDQ, per_channel=True,
            reduce_range=reduce_range, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=method,
            nodes_to_exclude=excluded(inputs.model.graph),
            extra_options={"CalibPercentile": 99.999})

    return write


def modelopt_quantizer(method: str) -> Callable[[Inputs, Path], None]:
    """Return the writer of NVIDIA Model Optimizer's ONNX quantization, in its own environment."""

    def write(inputs: Inputs, target: Path) -> None:
        assert inputs.modelopt is not None
        faces = target.with_suffix(".npy")
        np.save(faces, inputs.crops)
        done = subprocess.run([inputs.modelopt, "-c", MODELOPT, inputs.onnx, faces, method, target],
                              capture_output=True, text=True)
        if done.returncode or not target.is_file():
            raise SystemExit(f"Model Optimizer failed:\n{done.stderr[-2000:]}")

    return write


QUANTIZERS = {
    "ours, CPU 7-bit": Quantizer("max; gates float; runs on every x86", own_quantizer(7)),
    "ours, CPU 8-bit": Quantizer("max; gates float", own_quantizer(8)),
    "ours, CPU 7-bit, swept, GPTQ": Quantizer(
        "percentile 99.999; gates float; GPTQ on 256 faces", own_quantizer(7, SWEPT, gptq=True)),
    "ours, CPU 8-bit, swept, GPTQ": Quantizer(
        "percentile 99.999; gates float; GPTQ on 256 faces", own_quantizer(8, SWEPT, gptq=True)),
    "ours, TensorRT": Quantizer("max; gates float; symmetric", own_quantizer(None),
                                integer_kernels=False),
    "ours, TensorRT, swept": Quantizer(
        "percentile 99.999; gates float; symmetric", own_quantizer(None, SWEPT),
        integer_kernels=False),
    "onnxruntime min-max, 8-bit": Quantizer(
        "U8S8, per channel, every operator",
        onnxruntime_quantizer(CalibrationMethod.MinMax, False, every_operator)),
    "onnxruntime min-max, 8-bit, gates float": Quantizer(
        "U8S8, per channel, CBAM excluded",
        onnxruntime_quantizer(CalibrationMethod.MinMax, False, find_gates)),
    "onnxruntime min-max, 7-bit, gates float": Quantizer(
        "U8S8, per channel, CBAM excluded, reduce_range",
        onnxruntime_quantizer(CalibrationMethod.MinMax, True, find_gates)),
    "onnxruntime min-max, 8-bit, gates and heads float": Quantizer(
        "U8S8, per channel, CBAM and heads excluded",
        onnxruntime_quantizer(CalibrationMethod.MinMax, False, gates_and_heads_float)),
    "onnxruntime min-max, 7-bit, gates and heads float": Quantizer(
        "U8S8, per channel, CBAM and heads excluded, reduce_range",
        onnxruntime_quantizer(CalibrationMethod.MinMax, True, gates_and_heads_float)),
    "onnxruntime entropy, 8-bit, gates and heads float": Quantizer(
        "U8S8, per channel, CBAM and heads excluded, 128 bins",
        onnxruntime_quantizer(CalibrationMethod.Entropy, False, gates_and_heads_float),
        faces=HISTOGRAM_FACES),
    "onnxruntime percentile, 8-bit, gates and heads float": Quantizer(
        "U8S8, per channel, CBAM and heads excluded, 99.999 %",
        onnxruntime_quantizer(CalibrationMethod.Percentile, False, gates_and_heads_float),
        faces=HISTOGRAM_FACES),
    "Model Optimizer max": Quantizer(
        "its own placement, symmetric, per channel", modelopt_quantizer("max"),
        integer_kernels=False),
    "Model Optimizer entropy": Quantizer(
        "its own placement, symmetric, per channel", modelopt_quantizer("entropy"),
        integer_kernels=False, faces=HISTOGRAM_FACES),
}
