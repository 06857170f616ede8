"""Our ranges as the cache that TensorRT's own calibrators read, for versions up to 10 and DLA.

The file is text: a line `TRT-<version>-EntropyCalibration2`, then a line a tensor, its name and
the scale max(|min|, |max|) / 127 as the eight hex digits of a big-endian float32. TensorRT passes
over a cache of another version, so it is written where the plan is built.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from feredge.calibration.ranges import Ranges
from feredge.runtime.errors import CalibrationError

if TYPE_CHECKING:
    import tensorrt as trt

SHARES_SCALE = ("SLICE", "POOLING")  # TensorRT's layers for Slice, Split and MaxPool
SMALLEST_SCALE = 1e-8


def cache_text(largest: Mapping[str, float], version: Sequence[int]) -> str:
    """Return the content of a calibration cache.

    Args:
        largest: max(|min|, |max|) by TensorRT's name of the tensor.
        version: of the TensorRT that will read it, `(10, 3, 0)`.
    """
    major, minor, patch = version
    # NV_TENSORRT_VERSION: 8602 for 8.6.2, 100300 for 10.3.0.
    number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    lines = [f"{name}: {struct.pack('>f', max(value / 127, SMALLEST_SCALE)).hex()}"
             for name, value in largest.items()]
    return "\n".join([f"TRT-{number}-EntropyCalibration2", *lines]) + "\n"


def tensor_extremes(network: trt.INetworkDefinition, ranges: Ranges) -> dict[str, float]:
    """Return max(|min|, |max|) of every tensor of a parsed FP32 network that a range is known of.

    `layer1.0.conv1:input` is what that layer reads and whatever that is cut from;
    `layer1.0.add:output` is the tensor named after the node that makes it.

    Raises:
        CalibrationError: the ranges name layers that the network does not have.
    """
    layers = [network.get_layer(k) for k in range(network.num_layers)]
    named = {layer.name: layer for layer in layers}
    makers = {layer.get_output(k).name: layer for layer in layers
              for k in range(layer.num_outputs)}
    bounds = {key: max(map(abs, pair)) for key, pair in ranges.of(list(ranges.values)).items()}
    missing = [key for key in bounds if key.rpartition(":")[0] not in named]
    if missing:
        raise CalibrationError(f"the ranges know {len(missing)} layers that the network lacks, as "
                               f"{missing[0]}; they belong to another network")
    found: dict[str, float] = {}
    for key, value in bounds.items():
        name, _, role = key.rpartition(":")
        for tensor in [name] if role == "output" else cut_from(named[name], makers):
            found[tensor] = value
    return found


def cut_from(layer: trt.ILayer, makers: Mapping[str, trt.ILayer]) -> list[str]:
    """Return the tensor that a layer reads and those that it was cut from: they share a scale."""
    names = [layer.get_input(0).name]
    while (maker := makers.get(names[-1])) is not None and maker.type.name in SHARES_SCALE:
        names.append(maker.get_input(0).name)
    return names
