"""The INT8 graphs of an export, and what share of their work is INT8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from feredge.calibration.graphs.qdq import (
    WEIGHT_BITS,
    Rounding,
    cpu_graph,
    round_to_nearest,
    tensorrt_graph,
)
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.quality.agreement import (
    agreements,
    conv_macs,
    cpu_int8_convs,
    int8_share,
    tensorrt_int8_convs,
)
from feredge.calibration.ranges import Ranges
from feredge.export.fp16 import check_fp16_probabilities, fp16_graph
from feredge.export.job import ExportJob
from feredge.export.network.parity import parity_crops
from feredge.runtime.errors import ExportError
from feredge.runtime.machine import exact_8_bit_weights

# The gates and heads that stay float are under 1 % of the work: less than this is not INT8.
LEAST_INT8_SHARE = 0.9
TENSORRT, TENSORRT_FP16 = "tensorrt", "tensorrt-fp16"


@dataclass(frozen=True)
class Int8Graphs:
    """The INT8 graphs by the names of reports and ranges files; `cpu` names the one that ships.

    `shares` states how much of the convolution work is INT8, for the graphs that are written.
    """

    graphs: Mapping[str, ir.Model]
    shares: Mapping[str, float]
    cpu: str


def cpu_key(bits: int, rounding: Rounding) -> str:
    """Return the name of a CPU graph in reports and ranges files."""
    return f"cpu-{bits}bit" + ("" if rounding is round_to_nearest else "-rounded")


def build_graphs(
    job: ExportJob, ranges: Ranges, keep_float: Sequence[str], rounding: Rounding
) -> Int8Graphs:
    """Quantize the network for TensorRT and for CPUs.

    Args:
        job: the export.
        ranges: of the activations.
        keep_float: patterns of the layers that stay in FP32.
        rounding: of the weights in the CPU graph.

    Raises:
        ExportError: too little of the convolution work is INT8.
    """
    bits = WEIGHT_BITS[job.options.cpu]
    cpu = cpu_key(bits, rounding)
    with job.steps.step("quantize"):
        graphs = tensorrt_graphs(job, ranges, keep_float)
        written = [*graphs, cpu]
        graphs |= {f"cpu-{b}bit": cpu_graph(job.model, ranges, keep_float, b) for b in (7, 8)}
        if rounding is not round_to_nearest:
            graphs[cpu] = cpu_graph(job.model, ranges, keep_float, bits, rounding)
        shares = int8_shares(job, {key: graphs[key] for key in written})
    check_shares(shares)
    return Int8Graphs(graphs, shares, cpu)


def tensorrt_graphs(
    job: ExportJob, ranges: Ranges, keep_float: Sequence[str]
) -> dict[str, ir.Model]:
    """Return the Q/DQ graph, and with `--fp16` its FP16 form, checked against it."""
    graphs = {TENSORRT: tensorrt_graph(job.model, ranges, keep_float)}
    if job.options.fp16:
        graphs[TENSORRT_FP16] = fp16_graph(graphs[TENSORRT])
        crops, _ = parity_crops(job.spec, job.faces)
        check_fp16_probabilities(graphs[TENSORRT_FP16], graphs[TENSORRT], crops, quantized=True)
    return graphs


def int8_shares(job: ExportJob, graphs: Mapping[str, ir.Model]) -> dict[str, float]:
    """Return how much of each graph's convolution work is INT8."""
    macs = conv_macs(job.model, job.spec.input.side)
    return {key: int8_share(cpu_int8_convs(graph) if key.startswith("cpu")
                            else tensorrt_int8_convs(graph), macs)
            for key, graph in graphs.items()}


def check_shares(shares: Mapping[str, float]) -> None:
    """Check that the graphs are INT8.

    Raises:
        ExportError: too little of a graph's convolution work is.
    """
    for key, share in shares.items():
        if share < LEAST_INT8_SHARE:
            raise ExportError(f"only {share:.1%} of the {key} graph's convolution work is INT8, "
                              f"expected {LEAST_INT8_SHARE:.0%} or more; nothing was written")


def measure_agreement(job: ExportJob, graphs: Mapping[str, ir.Model]) -> dict[str, Any]:
    """Compare every INT8 graph with FP32 on the faces, in the arithmetic of its target."""
    assert job.faces is not None
    sessions = {key: evaluation_session(key, graph) for key, graph in graphs.items()
                if not key.startswith("cpu-8bit") or exact_8_bit_weights()}
    with job.steps.step("compare INT8 with FP32"):
        batches = job.steps.bar(job.faces.batches(), job.faces)
        found = agreements(session_of(job.model), sessions, batches)
    return {key: asdict(agreement) for key, agreement in found.items()}
