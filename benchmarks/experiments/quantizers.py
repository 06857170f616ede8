"""INT8 of the same network by other quantisers, on the same faces, in the same run.

Usage: `python -m feredge.benchmarks.experiments.quantizers EXPORTED CALIBRATION LABELLED [--json
FILE]`

EXPORTED is the folder of `fer-export --int8 --cpu avx2`; CALIBRATION holds face crops, LABELLED
one folder of them a class. `--modelopt PYTHON` names the interpreter of an environment with
`nvidia-modelopt[onnx]`; without it NVIDIA's rows are left out. `--only NAME ...` measures some rows
and keeps the others of FILE.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

from feredge.benchmarks.eval.records import write_results
from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.gptq import gptq_rounding
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import cpu_graph, nearest, tensorrt_graph
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.measure.sweep import measure
from feredge.calibration.quality import agreement as quality
from feredge.calibration.ranges import Ranges
from feredge.export.models import manet  # noqa: F401  (enters the registry)
from feredge.export.models.registry import NETWORKS
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, METADATA_KEY, ModelSpec

BATCH = 32
GPTQ_FACES = 256
HISTOGRAM_FACES = 256  # onnxruntime's histograms first hold every activation of every face
SWEPT = "percentile-99.999"  # what `fer-export` chooses on faces held out of these
MODELOPT = """
import sys
import numpy as np
from modelopt.onnx.quantization import quantize
source, faces, method, target = sys.argv[1:]
quantize(source, quantize_mode="int8", calibration_data=np.load(faces), calibration_method=method,
         calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=target)
"""


@dataclass(frozen=True)
class Work:
    """What every quantiser is given: the FP32 graph and the calibration faces."""

    onnx: Path
    model: ir.Model
    crops: Array
    keep_float: tuple[str, ...]
    modelopt: str | None


@dataclass(frozen=True)
class Quantiser:
    """One way to INT8: its settings in words, and how it writes a graph from `Work`."""

    settings: str
    write: Callable[[Work, Path], None]
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
    """Cut crops into batches."""
    return (crops[k : k + BATCH] for k in range(0, len(crops), BATCH))


def ours(
    weight_bits: int | None, method: str = "max", gptq: bool = False
) -> Callable[[Work, Path], None]:
    """Return our CPU graph's writer; without bits, our TensorRT graph's."""

    def write(work: Work, target: Path) -> None:
        convs = quantized_convs(work.model.graph, work.keep_float)
        unlabelled = ((batch, np.full(len(batch), -1)) for batch in batches(work.crops))
        found = measure(work.model, convs, unlabelled, len(work.crops))
        ranges = Ranges("", found.faces, "", {}, found.bounds(), method=method)
        if weight_bits is None:
            return ir.save(tensorrt_graph(work.model, ranges, work.keep_float), target)
        few = np.ascontiguousarray(work.crops[:: max(len(work.crops) // GPTQ_FACES, 1)])
        rounding = gptq_rounding(work.model, convs, batches(few)) if gptq else nearest
        ir.save(cpu_graph(work.model, ranges, work.keep_float, weight_bits, rounding), target)

    return write


def every_operator(graph: ir.Graph) -> list[str]:
    """Exclude nothing."""
    return []


def gates_float(graph: ir.Graph) -> list[str]:
    """Exclude the attention gates."""
    return [str(node.name) for node in graph if ".cbam." in str(node.name)]


def gates_and_heads_float(graph: ir.Graph) -> list[str]:
    """Exclude the gates, and what no convolution follows: pooling, classifiers, softmax."""
    leads: set[ir.Node] = set()
    for node in reversed(list(graph)):
        readers = {use.node for value in node.outputs for use in value.uses()}
        if node.op_type == "Conv" or readers & leads:
            leads.add(node)
    return gates_float(graph) + [str(node.name) for node in graph if node not in leads]


def onnxruntimes(
    method: CalibrationMethod, reduce_range: bool, excluded: Callable[[ir.Graph], list[str]]
) -> Callable[[Work, Path], None]:
    """Return the writer of onnxruntime's own static quantisation."""

    def write(work: Work, target: Path) -> None:
        prepared = target.with_suffix(".prepared.onnx")
        quant_pre_process(str(work.onnx), str(prepared))
        quantize_static(
            prepared, target, Crops(work.crops), QuantFormat.QDQ, per_channel=True,
            reduce_range=reduce_range, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=method,
            nodes_to_exclude=excluded(work.model.graph),
            extra_options={"CalibPercentile": 99.999})

    return write


def modelopts(method: str) -> Callable[[Work, Path], None]:
    """Return the writer of NVIDIA Model Optimizer's ONNX quantisation, in its own environment."""

    def write(work: Work, target: Path) -> None:
        assert work.modelopt is not None
        faces = target.with_suffix(".npy")
        np.save(faces, work.crops)
        done = subprocess.run([work.modelopt, "-c", MODELOPT, work.onnx, faces, method, target],
                              capture_output=True, text=True)
        if done.returncode or not target.is_file():
            raise SystemExit(f"Model Optimizer failed:\n{done.stderr[-2000:]}")

    return write


QUANTISERS = {
    "ours, CPU 7-bit": Quantiser("max; gates float; runs on every x86", ours(7)),
    "ours, CPU 8-bit": Quantiser("max; gates float", ours(8)),
    "ours, CPU 7-bit, swept, GPTQ": Quantiser(
        "percentile 99.999; gates float; GPTQ on 256 faces", ours(7, SWEPT, gptq=True)),
    "ours, CPU 8-bit, swept, GPTQ": Quantiser(
        "percentile 99.999; gates float; GPTQ on 256 faces", ours(8, SWEPT, gptq=True)),
    "ours, TensorRT": Quantiser("max; gates float; symmetric", ours(None), integer_kernels=False),
    "ours, TensorRT, swept": Quantiser(
        "percentile 99.999; gates float; symmetric", ours(None, SWEPT), integer_kernels=False),
    "onnxruntime min-max, 8-bit": Quantiser(
        "U8S8, per channel, every operator",
        onnxruntimes(CalibrationMethod.MinMax, False, every_operator)),
    "onnxruntime min-max, 8-bit, gates float": Quantiser(
        "U8S8, per channel, CBAM excluded",
        onnxruntimes(CalibrationMethod.MinMax, False, gates_float)),
    "onnxruntime min-max, 7-bit, gates float": Quantiser(
        "U8S8, per channel, CBAM excluded, reduce_range",
        onnxruntimes(CalibrationMethod.MinMax, True, gates_float)),
    "onnxruntime min-max, 8-bit, gates and heads float": Quantiser(
        "U8S8, per channel, CBAM and heads excluded",
        onnxruntimes(CalibrationMethod.MinMax, False, gates_and_heads_float)),
    "onnxruntime min-max, 7-bit, gates and heads float": Quantiser(
        "U8S8, per channel, CBAM and heads excluded, reduce_range",
        onnxruntimes(CalibrationMethod.MinMax, True, gates_and_heads_float)),
    "onnxruntime entropy, 8-bit, gates and heads float": Quantiser(
        "U8S8, per channel, CBAM and heads excluded, 128 bins",
        onnxruntimes(CalibrationMethod.Entropy, False, gates_and_heads_float),
        faces=HISTOGRAM_FACES),
    "onnxruntime percentile, 8-bit, gates and heads float": Quantiser(
        "U8S8, per channel, CBAM and heads excluded, 99.999 %",
        onnxruntimes(CalibrationMethod.Percentile, False, gates_and_heads_float),
        faces=HISTOGRAM_FACES),
    "Model Optimizer max": Quantiser(
        "its own placement, symmetric, per channel", modelopts("max"), integer_kernels=False),
    "Model Optimizer entropy": Quantiser(
        "its own placement, symmetric, per channel", modelopts("entropy"),
        integer_kernels=False, faces=HISTOGRAM_FACES),
}


def answers(model: ir.Model, crops: Array, integer_kernels: bool = True) -> Array:
    """Return the probabilities of a graph, `(n, classes)`."""
    session = session_of(model, integer_kernels=integer_kernels)
    return quality.predictions({"graph": session}, batches(crops))["graph"]


def judged(probabilities: Array, reference: Array, truth: Array) -> dict[str, float]:
    """Return accuracy, agreement with FP32 and the mean KL(FP32 || INT8) in nats."""
    agreed = quality.agreement(reference, probabilities)
    return {
        "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "same_label_as_fp32": agreed.top1,
        "mean_kl": agreed.kl,
    }


def measured(name: str, work: Work, crops: Array, reference: Array, truth: Array) -> dict[str, Any]:
    """Quantise in one way, and judge what comes of it."""
    quantiser = QUANTISERS[name]
    step = 1 if quantiser.faces is None else max(len(work.crops) // quantiser.faces, 1)
    work = replace(work, crops=np.ascontiguousarray(work.crops[::step]))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        start = time.perf_counter()
        quantiser.write(work, target)
        seconds = time.perf_counter() - start
        found = answers(ir.load(target), crops, quantiser.integer_kernels)
        return {"quantiser": name, "settings": quantiser.settings,
                "calibration_faces": len(work.crops), "seconds": seconds,
                "bytes": target.stat().st_size,
                "judged_in": "integers" if quantiser.integer_kernels else "float",
                **judged(found, reference, truth)}


def chosen(options: argparse.Namespace) -> list[str]:
    """Return the names of the rows to be measured."""
    return [name for name in QUANTISERS
            if (options.only is None or name in options.only)
            and (options.modelopt is not None or not name.startswith("Model Optimizer"))]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("exported", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--modelopt", metavar="PYTHON")
    parser.add_argument("--only", nargs="+", choices=QUANTISERS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    onnx = options.exported / "manet.onnx"
    model = ir.load(onnx)
    spec = ModelSpec.from_json(model.metadata_props[METADATA_KEY])
    (calibration, _), (crops, truth) = (
        map(np.concatenate, zip(*FaceFolder(path, spec.input, spec.crop)
                                .labeled_batches(spec.labels)))
        for path in (options.calibration, options.labelled))
    work = Work(onnx, model, calibration, NETWORKS[spec.model].keep_float, options.modelopt)
    reference = answers(model, crops)
    rows = {"FP32": {"quantiser": "FP32", "bytes": onnx.stat().st_size,
                     **judged(reference, reference, truth)}}
    if options.only and options.json and options.json.is_file():
        rows = {row["quantiser"]: row for row in json.loads(options.json.read_text())["rows"]}
    for name in chosen(options):
        rows[name] = measured(name, work, crops, reference, truth)
        print(json.dumps(rows[name]), flush=True)
        write_results(options.json, {"data": options.labelled.name, "faces": len(crops),
                                     "rows": list(rows.values())})
    return 0


if __name__ == "__main__":
    sys.exit(main())
