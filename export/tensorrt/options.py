"""What a plan is built with, and what of it each TensorRT can do."""

from __future__ import annotations

from dataclasses import dataclass

from feredge.export.tensorrt.versions import TensorRT
from feredge.runtime.errors import ExportError


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
    def profile(self) -> tuple[int, int, int]:
        """Return the smallest, usual and largest batch.

        TensorRT chooses kernels for the usual one: most pictures have a few faces. A DLA takes one
        shape only.
        """
        if self.dla is not None:
            return self.max_batch, self.max_batch, self.max_batch
        return 1, min(4, self.max_batch), self.max_batch


def uses_calibrator(options: PlanOptions, rt: TensorRT) -> bool:
    """Return whether INT8 comes from ranges instead of Q/DQ: a DLA up to TensorRT 10 needs that."""
    return options.int8 and (options.calibrator or (options.dla is not None and rt.has_calibrator))


def is_typed(options: PlanOptions, rt: TensorRT) -> bool:
    """Return whether a build's network is strongly typed.

    TensorRT 11 knows nothing else; up to 10, calibrators and DLAs need a weakly typed one.
    """
    if not rt.has_precision_flags:
        return True
    return rt.is_strongly_typed and not uses_calibrator(options, rt) and options.dla is None


def uses_tf32(options: PlanOptions) -> bool:
    """Return whether FP32 layers may be rounded to TF32: not in a plan that is FP32 throughout."""
    return options.fp16 or options.int8


def check_options(options: PlanOptions, rt: TensorRT) -> None:
    """Check that a TensorRT can build what the options ask for.

    Raises:
        ExportError: it cannot; says what to do instead.
    """
    name = f"{rt.kind} {rt.version}"
    if options.dla is not None and not rt.has_dla:
        raise ExportError(f"{name} cannot build for a DLA; leave --dla out"
                          + (", or take --target tensorrt on a Jetson" if rt.is_rtx else ""))
    if options.dla is not None and not options.fp16:
        raise ExportError("a DLA computes in FP16 or INT8 only: pass --fp16, or --int8 --fp16")
    if options.calibrator and not rt.has_calibrator:
        raise ExportError(f"{name} takes INT8 as Q/DQ only; leave --calibrator out")
    if options.calibrator and not options.int8:
        raise ExportError("--calibrator is a way to INT8: pass --int8, too")
    if options.timing_cache is not None and not rt.has_timing_cache:
        raise ExportError(f"a timing cache has no effect on {name}; leave --timing-cache out")


def builder_flags(options: PlanOptions, rt: TensorRT) -> tuple[str, ...]:
    """Return the builder's flags, as the sidecar records them."""
    typed = is_typed(options, rt)
    flags = {
        "strongly_typed": typed,
        "fp16": options.fp16 and not typed,
        "int8": options.int8 and not typed,
        "tf32": uses_tf32(options),
        "calibrator": uses_calibrator(options, rt),
        "dla": options.dla is not None,
        "gpu_fallback": options.dla is not None,
    }
    return tuple(name for name, is_set in flags.items() if is_set)
