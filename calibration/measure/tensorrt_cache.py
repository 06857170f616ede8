"""The calibration cache of TensorRT up to 10 and of a DLA: written and read.

The file is text: a line `TRT-<version>-EntropyCalibration2`, then one line per tensor: its name and
the scale max(|min|, |max|) / 127 as the hex digits of a big-endian float32. TensorRT ignores a
cache of another version or algorithm, so it is written where the plan is built.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from feredge.calibration.ranges import Ranges, check_bounds
from feredge.runtime.errors import CalibrationError

if TYPE_CHECKING:
    import tensorrt as trt

ENTROPY = "EntropyCalibration2"
SHARES_SCALE = ("SLICE", "POOLING")  # TensorRT's layers for Slice, Split and MaxPool
SMALLEST_SCALE = 1e-8
HEADER = re.compile(r"TRT-\d+-\w+")
LINE = re.compile(r"(.+): ([0-9a-fA-F]{8}|0)")  # TensorRT does not pad: a scale of zero is `0`


def cache_header(version: Sequence[int], algorithm: str = ENTROPY) -> str:
    """Return the first line of a cache for a TensorRT version, as `(10, 3, 0)`."""
    major, minor, patch = version[:3]
    # NV_TENSORRT_VERSION: 8602 for 8.6.2, 100300 for 10.3.0.
    number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    return f"TRT-{number}-{algorithm}"


def cache_text(
    largest: Mapping[str, float], version: Sequence[int], algorithm: str = ENTROPY
) -> str:
    """Return the content of a calibration cache.

    Args:
        largest: max(|min|, |max|) by TensorRT's tensor name.
        version: of the TensorRT that will read it, `(10, 3, 0)`.
        algorithm: the calibrator's, as in the header.
    """
    lines = [f"{name}: {struct.pack('>f', max(value / 127, SMALLEST_SCALE)).hex()}"
             for name, value in largest.items()]
    return "\n".join([cache_header(version, algorithm), *lines]) + "\n"


def read_cache(text: str, header: str | None = None) -> dict[str, float]:
    """Return max(|min|, |max|) by tensor from a cache of TensorRT or of `cache_text`.

    A byte-order mark, blank lines and Windows line ends are accepted.

    Args:
        text: the content of the file.
        header: the `cache_header` that is required; None accepts any version.

    Raises:
        CalibrationError: it is of another version or algorithm, truncated, or no cache.
    """
    found, *lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    if not HEADER.fullmatch(found):
        raise CalibrationError(f"not a TensorRT calibration cache: it begins with {found[:40]!r}, "
                               f"expected a line like TRT-100300-{ENTROPY}")
    if header is not None and found != header:
        raise CalibrationError(f"the calibration cache is of {found}, expected {header}: TensorRT "
                               "would ignore it; calibrate where the plan is built")
    return dict(parse_line(number, line) for number, line in enumerate(lines, 2)
                if line.strip())


def parse_line(number: int, line: str) -> tuple[str, float]:
    """Return the tensor of a line of a cache, and its max(|min|, |max|).

    Raises:
        CalibrationError: the line is damaged, or its scale is invalid.
    """
    match = LINE.fullmatch(line)
    scale = -1.0 if match is None else struct.unpack(">f", bytes.fromhex(match[2].zfill(8)))[0]
    if match is None or not 0 <= scale < inf:
        raise CalibrationError(f"calibration cache, line {number}: {line[-40:]!r}, expected a "
                               "tensor's name and the eight hex digits of its scale; the file is "
                               "truncated or damaged: calibrate again")
    check_bounds(match[1], -127 * scale, 127 * scale)
    return match[1], 127 * scale


def tensor_extremes(network: trt.INetworkDefinition, ranges: Ranges) -> dict[str, float]:
    """Return max(|min|, |max|) of every tensor of a parsed FP32 network that has a range.

    `layer1.0.conv1:input` is the input of that layer and the tensors it is cut from;
    `layer1.0.add:output` is the tensor named after its node.

    Raises:
        CalibrationError: the ranges have layers that the network does not have.
    """
    layers = [network.get_layer(k) for k in range(network.num_layers)]
    named = {layer.name: layer for layer in layers}
    makers = {layer.get_output(k).name: layer for layer in layers
              for k in range(layer.num_outputs)}
    bounds = {key: max(map(abs, pair)) for key, pair in ranges.of(list(ranges.values)).items()}
    missing = [key for key in bounds if key.rpartition(":")[0] not in named]
    if missing:
        raise CalibrationError(f"the ranges have {len(missing)} layers that the network lacks, as "
                               f"{missing[0]}; they belong to another network")
    found: dict[str, float] = {}
    for key, value in bounds.items():
        name, _, role = key.rpartition(":")
        for tensor in [name] if role == "output" else scale_sharers(named[name], makers):
            found[tensor] = value
    for layer in layers:  # in the order of the graph: what is cut from a tensor has its range, too
        if layer.type.name in SHARES_SCALE and layer.get_input(0).name in found:
            for k in range(layer.num_outputs):
                found.setdefault(layer.get_output(k).name, found[layer.get_input(0).name])
    return found


def scale_sharers(layer: trt.ILayer, makers: Mapping[str, trt.ILayer]) -> list[str]:
    """Return the input tensor of a layer and those it is cut from, which share its scale."""
    names = [layer.get_input(0).name]
    while (maker := makers.get(names[-1])) is not None and maker.type.name in SHARES_SCALE:
        names.append(maker.get_input(0).name)
    return names
