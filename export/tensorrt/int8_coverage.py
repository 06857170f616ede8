"""How much of a plan's convolution work is INT8: by the plan, or by what it was built from.

TensorRT's engine inspector shows it of the plan itself, which must be deserialized for that: on the
GPU that it was built for. For another GPU the parsed network counts, whose Q/DQ nodes oblige a
strongly typed builder, and the plan's size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from feredge.export.tensorrt.versions import TensorRT

if TYPE_CHECKING:
    import tensorrt as trt

CUTS = ("SLICE", "POOLING", "CAST")  # what may stand between DequantizeLinear and a convolution
FP16_BYTES = 2


@dataclass(frozen=True)
class ConvWork:
    """One convolution: multiply-accumulates for one face, weights, and whether it is INT8."""

    macs: int
    weights: int
    int8: bool


def network_work(network: trt.INetworkDefinition, rt: TensorRT) -> list[ConvWork]:
    """Return the convolutions of a parsed network; INT8 are those between Q/DQ."""
    layers = [network.get_layer(k) for k in range(network.num_layers)]
    makers = {layer.get_output(k).name: layer for layer in layers
              for k in range(layer.num_outputs)}
    return [conv_work(layer, makers, rt) for layer in layers if layer.type.name == "CONVOLUTION"]


def conv_work(layer: Any, makers: Mapping[str, trt.ILayer], rt: TensorRT) -> ConvWork:
    """Return one convolution's work."""
    layer.__class__ = rt.module.IConvolutionLayer  # the bindings hand out the base class
    channels = layer.get_input(0).shape[1] // layer.num_groups
    weights = layer.num_output_maps * channels * prod(layer.kernel_size_nd)
    int8 = layer.num_inputs > 1 and all(
        layer.get_input(k) is not None and is_restored(layer.get_input(k).name, makers)
        for k in (0, 1)
    )
    return ConvWork(weights * prod(layer.get_output(0).shape[2:]), weights, int8)


def is_restored(tensor: str, makers: Mapping[str, trt.ILayer]) -> bool:
    """Return whether a tensor comes from a DequantizeLinear."""
    maker = makers.get(tensor)
    while maker is not None and maker.type.name in CUTS:
        maker = makers.get(maker.get_input(0).name)
    return maker is not None and maker.type.name == "DEQUANTIZE"


def plan_work(plan: bytes, rt: TensorRT) -> list[ConvWork] | None:
    """Return the convolutions of a plan as the engine inspector shows them.

    Returns:
        None where the plan cannot be read here, or its layers are opaque (DLA).
    """
    runtime = rt.module.Runtime(rt.module.Logger(rt.module.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    return inspected_work(inspector.get_engine_information(rt.module.LayerInformationFormat.JSON))


def inspected_work(document: str) -> list[ConvWork] | None:
    """Read the engine inspector's JSON of a plan built with detailed profiling verbosity.

    Where shapes are dynamic the batch is -1 and formats are missing; a weight's type is always
    there. A DLA's part is one opaque layer: the rest does not represent the whole.
    """
    layers = [layer for layer in json.loads(document)["Layers"] if isinstance(layer, dict)]
    convs = [layer for layer in layers
             if layer.get("ParameterType") == "Convolution" and "Weights" in layer]
    if not convs or any("DLA" in layer.get("LayerType", "") for layer in layers):
        return None
    return [
        ConvWork(layer["Weights"]["Count"] * prod(layer["Outputs"][0]["Dimensions"][2:]),
                 layer["Weights"]["Count"], layer["Weights"]["Type"].lower() == "int8")
        for layer in convs
    ]


def int8_facts(parsed: list[ConvWork], read: list[ConvWork] | None, plan_bytes: int) -> Any:
    """Return the report's facts on a plan's INT8: the share, and what it was read from."""
    work = read or parsed
    total = sum(conv.macs for conv in work)
    fp16_bytes = sum(conv.weights for conv in parsed) * FP16_BYTES
    facts = {
        "int8_share": sum(conv.macs for conv in work if conv.int8) / total,
        "int8_share_from": "engine inspector" if read else "parsed network",
    }
    return facts if read else facts | {"size_against_fp16_weights": plan_bytes / fp16_bytes}
