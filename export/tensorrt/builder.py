"""An ONNX file becomes a TensorRT plan, through Polygraphy's loaders.

What the builder is given depends on the version (`versions.py`): a weakly typed one gets
the FP32 graph or its Q/DQ twin with float32 scales, and flags; a strongly typed one gets a graph
that says FP16 and INT8 itself.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feredge.calibration.measure.tensorrt_cache import cache_text, tensor_extremes
from feredge.calibration.ranges import Ranges
from feredge.export.tensorrt.int8_coverage import int8_facts, network_work, plan_work
from feredge.export.tensorrt.progress import interruptible, progress_monitor
from feredge.export.tensorrt.versions import TensorRT
from feredge.runtime.errors import ExportError, PackageError, require

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]
MIB = 1 << 20


@dataclass(frozen=True)
class PlanOptions:
    """How to build a plan; see `fer-export --help`."""

    target: str = "auto"
    fp16: bool = False
    int8: bool = False
    max_batch: int = 16
    workspace_mb: int | None = None
    dla: int | None = None
    calibrator: bool = False
    timing_cache: str | None = None

    @property
    def calibrates(self) -> bool:
        """Tell whether INT8 comes from ranges instead of Q/DQ: a DLA takes nothing else."""
        return self.int8 and (self.calibrator or self.dla is not None)

    @property
    def profile(self) -> tuple[int, int, int]:
        """Return the smallest, usual and largest batch.

        Kernels are chosen for the usual one: a few faces, of which most pictures have no more. A
        DLA takes one shape only.
        """
        if self.dla is not None:
            return self.max_batch, self.max_batch, self.max_batch
        return 1, min(4, self.max_batch), self.max_batch


@dataclass(frozen=True)
class Plan:
    """A plan, what its builder was told, and what it makes of INT8."""

    content: bytes
    flags: tuple[str, ...]
    int8: Mapping[str, Any]


def check_options(options: PlanOptions, rt: TensorRT) -> None:
    """Refuse what a TensorRT cannot do.

    Raises:
        ExportError: says what, and what to do instead.
    """
    name = f"{rt.kind} {rt.version}"
    if options.dla is not None and not rt.has_dla:
        raise ExportError(f"{name} cannot build for a DLA; leave --dla out"
                          + (", or take --target tensorrt on a Jetson" if rt.is_rtx else ""))
    if options.dla is not None and not (options.fp16 or options.int8):
        raise ExportError("a DLA computes in FP16 or INT8 only: pass --fp16 or --int8")
    if options.calibrates and not rt.calibrates:
        raise ExportError(f"{name} takes INT8 as Q/DQ only; leave --calibrator out")
    if options.calibrator and not options.int8:
        raise ExportError("--calibrator is a way to INT8: pass --int8, too")
    if options.timing_cache is not None and not rt.has_timing_cache:
        raise ExportError(f"a timing cache has no effect on {name}; leave --timing-cache out")


def is_typed(options: PlanOptions, rt: TensorRT) -> bool:
    """Tell whether a build's network is strongly typed: with a calibrator or a DLA it is not."""
    return rt.strongly_typed and not options.calibrates and options.dla is None


def plan_from_onnx(
    onnx: Path, shapes: Mapping[str, tuple[Shape, Shape, Shape]], options: PlanOptions,
    rt: TensorRT, ranges: Ranges | None = None, quiet: bool = True,
) -> Plan:
    """Build a plan.

    Args:
        onnx: the graph, in the form that `rt` takes.
        shapes: the smallest, usual and largest shape of every input.
        options: checked by `check_options`.
        rt: the TensorRT.
        ranges: for a calibrator; None without.
        quiet: show no progress.

    Raises:
        ExportError: TensorRT cannot build it, with its reason; or it was to be INT8 and is not.
        PackageError: Polygraphy is missing or too old for TensorRT-RTX.
        KeyboardInterrupt: Ctrl-C was pressed while it built.
    """
    loaders = polygraphy_for(rt)
    monitor = progress_monitor(rt.module, quiet) if rt.has_progress else None
    with tensorrt_errors(onnx), interruptible(monitor):
        parsed = loaders.network_from_onnx_path(str(onnx), strongly_typed=is_typed(options, rt))
        builder, network = parsed[:2]
        flags = builder_flags(options, rt)
        config = build_config(parsed, shapes, options, rt, ranges, monitor)
        content = bytes(loaders.engine_bytes_from_network(
            (builder, network), config=config, save_timing_cache=options.timing_cache))
    return Plan(content, flags, checked_int8(network, content, options, rt))


def polygraphy_for(rt: TensorRT) -> Any:
    """Import Polygraphy's loaders for one TensorRT; a process has room for one of them.

    Raises:
        PackageError: not installed, or too old for TensorRT-RTX.
    """
    require("polygraphy", rt.kind)
    from polygraphy import config
    from polygraphy.logger import G_LOGGER

    if rt.is_rtx and not hasattr(config, "USE_TENSORRT_RTX"):
        raise PackageError("polygraphy: this one does not know TensorRT-RTX; update it with: "
                           f"pip install -U 'feredge[{rt.kind}]'")
    config.USE_TENSORRT_RTX = rt.is_rtx  # before its backends load; what its own variable sets
    G_LOGGER.severity = G_LOGGER.WARNING
    import polygraphy.backend.trt as loaders

    return loaders


@contextmanager
def tensorrt_errors(onnx: Path) -> Iterator[None]:
    """Turn Polygraphy's exception into one line with TensorRT's own reason.

    Polygraphy prints what TensorRT logs; stdout is kept free of it for the report.

    Raises:
        ExportError: there was one.
    """
    from polygraphy.exception import PolygraphyException

    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    except PolygraphyException as error:
        errors = [line[4:] for line in said.getvalue().splitlines() if line.startswith("[E]")]
        reason = (errors or str(error).splitlines() or ["no reason given"])[0]
        raise ExportError(f"TensorRT cannot build {onnx.name}: {reason}") from error


def builder_flags(options: PlanOptions, rt: TensorRT) -> tuple[str, ...]:
    """Return what the builder is told, as the sidecar records it."""
    typed = is_typed(options, rt)
    told = {
        "strongly_typed": typed,
        "fp16": options.fp16 and not typed,
        "int8": options.int8 and not typed,
        "tf32": uses_tf32(options),
        "calibrator": options.calibrates,
        "dla": options.dla is not None,
        "gpu_fallback": options.dla is not None,
    }
    return tuple(name for name, holds in told.items() if holds)


def uses_tf32(options: PlanOptions) -> bool:
    """Tell whether what stays FP32 may be rounded to TF32: not where FP32 was asked for."""
    return options.fp16 or options.int8


def build_config(
    parsed: tuple[trt.Builder, trt.INetworkDefinition, Any],
    shapes: Mapping[str, tuple[Shape, Shape, Shape]], options: PlanOptions, rt: TensorRT,
    ranges: Ranges | None, monitor: Any,
) -> trt.IBuilderConfig:
    """Return the configuration of one build."""
    from polygraphy.backend.trt import Profile

    builder, network = parsed[:2]
    profile = Profile()
    for name, (least, usual, most) in shapes.items():
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
        return rtx_config(builder, network, options, rt, common)
    config = flagged_config(builder, network, options, rt, ranges, common)
    if options.dla is not None:
        config.DLA_core = options.dla  # Polygraphy knows core 0 only
    return config


def rtx_config(
    builder: trt.Builder, network: trt.INetworkDefinition, options: PlanOptions, rt: TensorRT,
    common: dict[str, Any],
) -> trt.IBuilderConfig:
    """Return a TensorRT-RTX configuration: its targets are named, since no GPU need be here."""
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    targets = [(int(name[2:-1]), int(name[-1])) for name in rt.rtx_names()]
    config: trt.IBuilderConfig = CreateConfigRTX(compute_capabilities=targets, **common)(
        builder, network)
    if not uses_tf32(options):
        config.clear_flag(rt.module.BuilderFlag.TF32)  # Polygraphy leaves it on for RTX
    return config


def flagged_config(
    builder: trt.Builder, network: trt.INetworkDefinition, options: PlanOptions, rt: TensorRT,
    ranges: Ranges | None, common: dict[str, Any],
) -> trt.IBuilderConfig:
    """Return a TensorRT configuration, with precision flags where the network is weakly typed.

    Raises:
        ExportError: there is no such DLA core.
    """
    from polygraphy.backend.trt import create_config

    if options.dla is not None and options.dla >= builder.num_DLA_cores:
        raise ExportError(f"--dla {options.dla}: this machine has {builder.num_DLA_cores} DLA "
                          "cores, numbered from 0")
    typed = is_typed(options, rt)
    config: trt.IBuilderConfig = create_config(
        builder, network, tf32=uses_tf32(options), fp16=options.fp16 and not typed,
        int8=options.int8 and not typed, use_dla=options.dla is not None,
        allow_gpu_fallback=options.dla is not None, load_timing_cache=options.timing_cache,
        calibrator=calibrator_of(network, ranges, rt) if options.calibrates else None, **common)
    return config


def calibrator_of(
    network: trt.INetworkDefinition, ranges: Ranges | None, rt: TensorRT
) -> trt.IInt8EntropyCalibrator2:
    """Return a calibrator that has nothing to measure: its cache holds every range we know.

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


def checked_int8(
    network: trt.INetworkDefinition, content: bytes, options: PlanOptions, rt: TensorRT
) -> Mapping[str, Any]:
    """Return what is known of a plan's INT8; empty where none was asked for.

    Raises:
        ExportError: it was, and there is none.
    """
    if not options.int8:
        return {}
    read = None if rt.is_rtx else plan_work(content, rt)
    parsed = network_work(network, rt)
    if options.calibrates and read is None:
        return {"int8_share": None, "int8_share_from": "nothing: the plan's layers are opaque"}
    facts: dict[str, Any] = int8_facts(parsed, read, len(content))
    if not facts["int8_share"]:
        raise ExportError(f"none of the convolution work is INT8 (by the "
                          f"{facts['int8_share_from']}), though INT8 was asked for; nothing was "
                          "written")
    return facts
