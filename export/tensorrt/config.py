"""The builder's configuration of one build, through Polygraphy."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feredge.calibration.measure.tensorrt_cache import cache_text, tensor_extremes
from feredge.calibration.ranges import Ranges
from feredge.export.tensorrt.options import PlanOptions, is_typed, uses_calibrator, uses_tf32
from feredge.export.tensorrt.versions import TensorRT
from feredge.runtime.errors import ExportError

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]
Shapes = Mapping[str, tuple[Shape, Shape, Shape]]  # smallest, usual and largest of every input
MIB = 1 << 20


@dataclass(frozen=True)
class Build:
    """One build: the shapes, the options, the TensorRT, and ranges for a calibrator."""

    shapes: Shapes
    options: PlanOptions
    rt: TensorRT
    ranges: Ranges | None = None


def build_config(
    builder: trt.Builder, network: trt.INetworkDefinition, build: Build, monitor: Any
) -> trt.IBuilderConfig:
    """Return the configuration of one build."""
    from polygraphy.backend.trt import Profile

    options, rt = build.options, build.rt
    profile = Profile()
    for name, (least, usual, most) in build.shapes.items():
        profile.add(name, least, usual, most)
    common: dict[str, Any] = {
        "profiles": [profile],
        "profiling_verbosity": rt.module.ProfilingVerbosity.DETAILED,  # what the inspector reads
        "progress_monitor": monitor,
    }
    if options.workspace_mb is not None:
        pool = rt.module.MemoryPoolType.WORKSPACE
        common["memory_pool_limits"] = {pool: options.workspace_mb * MIB}
    if rt.is_rtx:
        return rtx_config(builder, network, build, common)
    config = config_with_flags(builder, network, build, common)
    if options.dla is not None:
        config.DLA_core = options.dla  # Polygraphy knows core 0 only
    return config


def rtx_config(
    builder: trt.Builder, network: trt.INetworkDefinition, build: Build, common: dict[str, Any]
) -> trt.IBuilderConfig:
    """Return a TensorRT-RTX configuration, which names its targets: no GPU need be present."""
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    targets = [(int(name[2:-1]), int(name[-1])) for name in build.rt.rtx_names()]
    config: trt.IBuilderConfig = CreateConfigRTX(compute_capabilities=targets, **common)(
        builder, network)
    if not uses_tf32(build.options):
        config.clear_flag(build.rt.module.BuilderFlag.TF32)  # Polygraphy leaves it on for RTX
    return config


def config_with_flags(
    builder: trt.Builder, network: trt.INetworkDefinition, build: Build, common: dict[str, Any]
) -> trt.IBuilderConfig:
    """Return a TensorRT configuration, with precision flags where the network is weakly typed.

    Raises:
        ExportError: there is no such DLA core.
    """
    from polygraphy.backend.trt import create_config

    options, rt = build.options, build.rt
    if options.dla is not None and options.dla >= builder.num_DLA_cores:
        raise ExportError(f"--dla {options.dla}: this machine has {builder.num_DLA_cores} DLA "
                          f"cores for TensorRT {rt.version}, numbered from 0: Orin NX and AGX have "
                          "two up to 10.7, AGX again from 11.4.1")
    typed, calibrates = is_typed(options, rt), uses_calibrator(options, rt)
    config: trt.IBuilderConfig = create_config(
        builder, network, tf32=uses_tf32(options), fp16=options.fp16 and not typed,
        int8=options.int8 and not typed, use_dla=options.dla is not None,
        allow_gpu_fallback=options.dla is not None, load_timing_cache=options.timing_cache,
        calibrator=calibrator_of(network, build.ranges, rt) if calibrates else None, **common)
    return config


def calibrator_of(
    network: trt.INetworkDefinition, ranges: Ranges | None, rt: TensorRT
) -> trt.IInt8EntropyCalibrator2:
    """Return a calibrator that measures nothing: its cache holds every known range.

    Raises:
        ExportError: no ranges were given.
    """
    from polygraphy.backend.trt import Calibrator

    if ranges is None:
        raise ExportError("a calibrator needs the ranges: NAME.ranges.json beside the ONNX file, "
                          "as fer-export --int8 writes it")
    cache = tempfile.TemporaryFile()  # Polygraphy asks for its size; memory has no fileno
    cache.write(cache_text(tensor_extremes(network, ranges), rt.number).encode())
    cache.seek(0)
    calibrator: trt.IInt8EntropyCalibrator2 = Calibrator(data_loader=[], cache=cache)
    return calibrator
