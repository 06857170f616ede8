"""An ONNX file becomes a TensorRT plan, through Polygraphy's loaders.

A weakly typed builder gets the FP32 graph or its Q/DQ twin with float32 scales, and flags; a
strongly typed one gets a graph whose own types are FP16 and INT8 (`versions.py`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feredge.export.tensorrt.config import Build, build_config
from feredge.export.tensorrt.int8_coverage import int8_facts, network_work, plan_work
from feredge.export.tensorrt.options import (
    PlanOptions,
    builder_flags,
    check_options,
    is_typed,
    uses_calibrator,
)
from feredge.export.tensorrt.progress import allow_interrupt, progress_monitor
from feredge.export.tensorrt.versions import TensorRT
from feredge.runtime.errors import ExportError, PackageError, require

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Build", "Plan", "PlanOptions", "check_options", "is_typed", "plan_from_onnx"]


@dataclass(frozen=True)
class Plan:
    """A plan, the builder's flags, and the facts about its INT8."""

    content: bytes
    flags: tuple[str, ...]
    int8: Mapping[str, Any]


def plan_from_onnx(onnx: Path, build: Build, quiet: bool = True) -> Plan:
    """Build a plan.

    Args:
        onnx: the graph, in the form that the TensorRT takes.
        build: shapes, options (checked by `check_options`), TensorRT and ranges.
        quiet: show no progress.

    Raises:
        ExportError: TensorRT cannot build it, with its reason; or it was to be INT8 and is not.
        PackageError: Polygraphy is missing or too old for TensorRT-RTX.
        KeyboardInterrupt: Ctrl-C was pressed during the build.
    """
    options, rt = build.options, build.rt
    loaders = polygraphy_for(rt)
    monitor = progress_monitor(rt.module, quiet) if rt.has_progress else None
    with tensorrt_errors(onnx), allow_interrupt(monitor):
        parsed = loaders.network_from_onnx_path(str(onnx), strongly_typed=is_typed(options, rt))
        builder, network = parsed[:2]
        config = build_config(builder, network, build, monitor)
        content = bytes(loaders.engine_bytes_from_network(
            (builder, network), config=config, save_timing_cache=options.timing_cache))
    return Plan(content, builder_flags(options, rt), check_int8(network, content, options, rt))


def polygraphy_for(rt: TensorRT) -> Any:
    """Import Polygraphy's loaders for one TensorRT; a process can load one of them only.

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

    Polygraphy prints TensorRT's log to stdout, which belongs to the report: it is caught here.

    Raises:
        ExportError: there was one.
    """
    from polygraphy.exception import PolygraphyException

    log = io.StringIO()
    try:
        with redirect_stdout(log):
            yield
    except PolygraphyException as error:
        errors = [line[4:] for line in log.getvalue().splitlines() if line.startswith("[E]")]
        reason = (errors or str(error).splitlines() or ["no reason given"])[0]
        raise ExportError(f"TensorRT cannot build {onnx.name}: {reason}") from error


def check_int8(
    network: trt.INetworkDefinition, content: bytes, options: PlanOptions, rt: TensorRT
) -> Mapping[str, Any]:
    """Return the facts about a plan's INT8; empty where none was asked for.

    Raises:
        ExportError: INT8 was asked for, and none of the convolution work is.
    """
    if not options.int8:
        return {}
    read = None if rt.is_rtx else plan_work(content, rt)
    parsed = network_work(network, rt)
    if uses_calibrator(options, rt) and read is None:
        return {"int8_share": None, "int8_share_from": "nothing: the plan's layers are opaque"}
    facts: dict[str, Any] = int8_facts(parsed, read, len(content))
    if not facts["int8_share"]:
        raise ExportError(f"none of the convolution work is INT8 (by the "
                          f"{facts['int8_share_from']}), though INT8 was asked for; nothing was "
                          "written")
    return facts
