"""The ONNX file that a plan is built from: its form must suit the TensorRT and the precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from feredge.calibration.ranges import Ranges
from feredge.export.tensorrt.options import PlanOptions, is_typed, uses_calibrator
from feredge.export.tensorrt.versions import NEWEST_WEAK_OPSET, TensorRT
from feredge.runtime.errors import CalibrationError, EngineError, ExportError
from feredge.runtime.spec import ModelSpec

SUFFIX_INT8, SUFFIX_HALF, SUFFIX_INT8_HALF = ".int8.qdq.onnx", ".fp16.onnx", ".int8.fp16.onnx"


@dataclass(frozen=True)
class Source:
    """An ONNX file to build from, with its ModelSpec."""

    onnx: Path
    spec: ModelSpec

    @property
    def name(self) -> str:
        """Return the name of its export."""
        endings = (SUFFIX_INT8, SUFFIX_INT8_HALF, ".int8.onnx", SUFFIX_HALF, ".onnx")
        ending = next((end for end in endings if self.onnx.name.endswith(end)), "")
        return self.onnx.name.removesuffix(ending)

    @property
    def is_typed(self) -> bool:
        """Return whether its own types are FP16 in part, which only strong typing accepts."""
        return self.spec.precision == "fp16" or "strongly_typed" in self.spec.target.flags


def source_of(onnx: Path) -> Source:
    """Open an ONNX file that `fer-export` wrote.

    Raises:
        EngineError: it is missing or damaged.
        SpecError: it carries no ModelSpec.
    """
    from feredge.runtime.engines.onnxruntime import check_signature, embedded_spec, open_session

    if not onnx.is_file():
        raise EngineError(f"{onnx} does not exist; export it with: fer-export --model manet --int8")
    session = open_session(onnx)
    spec = embedded_spec(session, onnx)
    check_signature(session, spec, onnx)
    return Source(onnx, spec)


def suffix_for(options: PlanOptions, rt: TensorRT) -> str:
    """Return the suffix, after NAME, of the file that a TensorRT builds a precision from."""
    typed = is_typed(options, rt)
    if options.int8 and not uses_calibrator(options, rt):
        return SUFFIX_INT8_HALF if typed and options.fp16 else SUFFIX_INT8
    return SUFFIX_HALF if typed and options.fp16 else ".onnx"


def with_file_precision(
    source: Source, options: PlanOptions, rt: TensorRT
) -> PlanOptions:
    """Return the options with the precision of the file itself.

    Raises:
        ExportError: the file cannot give what was asked for.
    """
    spec, file = source.spec, source.onnx.name
    if spec.precision == "int8" and spec.target.kind == "onnx":
        raise ExportError(f"{file} is the INT8 graph for CPUs, whose form TensorRT refuses; build "
                          f"from {source.name}{SUFFIX_INT8}")
    options = replace(options, int8=options.int8 or spec.precision == "int8",
                      fp16=options.fp16 or source.is_typed)
    if uses_calibrator(options, rt) and spec.precision != "fp32":
        raise ExportError(f"a calibrator starts from FP32: build from {source.name}.onnx")
    if options.int8 and not uses_calibrator(options, rt) and spec.precision != "int8":
        raise ExportError(f"{file} is {spec.precision.upper()}, INT8 was asked for; build from "
                          f"{source.name}{SUFFIX_INT8}")
    return options


def check_form(source: Source, options: PlanOptions, rt: TensorRT) -> None:
    """Check that a TensorRT reads a graph's types as they are meant.

    Raises:
        ExportError: names the file to build from.
    """
    wanted = f"{source.name}{suffix_for(options, rt)}"
    if source.is_typed and not is_typed(options, rt):
        raise ExportError(f"{source.onnx.name} has types of its own (opset 19), {rt.kind} "
                          f"{rt.version} builds from opset {NEWEST_WEAK_OPSET} and flags; build "
                          f"from {wanted}")
    if options.fp16 and is_typed(options, rt) and not source.is_typed:
        raise ExportError(f"{source.onnx.name} is FP32 where it is not INT8, and {rt.kind} "
                          f"{rt.version} takes types from the graph alone; build from {wanted}, "
                          "which fer-export --model writes with --fp16")


def ranges_beside(source: Source) -> Ranges:
    """Read the ranges that were exported with an ONNX file.

    Raises:
        CalibrationError: they are missing, damaged, or of other weights.
    """
    path = source.onnx.with_name(f"{source.name}.ranges.json")
    try:
        ranges = Ranges.from_json(path.read_text())
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}; a calibrator needs the "
                               "ranges that fer-export --int8 writes beside the ONNX file"
                               ) from error
    ranges.check_belongs(source.spec.source.checkpoint_sha256)
    return ranges
