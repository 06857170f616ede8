"""What differs between the TensorRTs that can build a plan, in one table.

Each row is looked up in the installed module, never derived from an enum's integer. Proven means
that a test builds with it; a TensorRT that needs a GPU has only its API and documentation here.

| difference     | found by                                  | source                     | proven |
| -------------- | ----------------------------------------- | -------------------------- | ------ |
| strongly typed | no `BuilderFlag.INT8`                     | binding wheel of 11.4;     | RTX    |
|                |                                           | RTX: ONNX conversion guide |        |
| ... or may be  | `STRONGLY_TYPED` and version >= 10.12     | 10.12 deprecates the weak  | no     |
|                |                                           | flags; 10.3 lacks kernels  |        |
| precision flags| `BuilderFlag.INT8`                        | binding wheels of 10       | no     |
| calibrator     | `IInt8EntropyCalibrator2`                 | deprecated 10.1, not in 11 | no     |
| DLA            | not RTX, `IBuilderConfig.DLA_core`, and   | TensorRT 10.7: last on     | no     |
|                | `Builder.num_DLA_cores` > 0 there         | Orin; again from 11.4.1    |        |
| timing cache   | not RTX, `create_timing_cache`            | RTX 1.x: no effect         | no     |
| progress       | `IProgressMonitor`                        | since TensorRT 10          | RTX    |
| GPUs built for | `ComputeCapability`: RTX; else the GPU    | RTX: CPU-only AOT builds   | RTX    |
|                | that builds                               |                            |        |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

from feredge.runtime.errors import ExportError, PackageError, require
from feredge.runtime.plans.files import MODULES, is_too_old

TYPED_SINCE = (10, 12)
NEWEST_WEAK_OPSET = 17  # of the graphs that leave the precision to flags
OLDEST_GPU = 80  # RTX builds for 7.5 only on request: its INT8 and FP16 plans are other ones


@dataclass(frozen=True)
class TensorRT:
    """An installed TensorRT: its `kind` as in `--target`, and its differences by the table."""

    kind: str
    module: ModuleType

    @property
    def version(self) -> str:
        """Return its version, `10.3.0`."""
        return str(self.module.__version__)

    @property
    def number(self) -> tuple[int, ...]:
        """Return the version as numbers."""
        return tuple(map(int, re.findall(r"\d+", self.version)[:3]))

    @property
    def is_rtx(self) -> bool:
        """Return whether it is TensorRT-RTX."""
        return self.kind == "tensorrt-rtx"

    @property
    def has_precision_flags(self) -> bool:
        """Return whether the builder has flags for FP16 and INT8."""
        return hasattr(self.module.BuilderFlag, "INT8")

    @property
    def is_strongly_typed(self) -> bool:
        """Return whether graphs carry their types themselves."""
        flags = self.module.NetworkDefinitionCreationFlag
        if not self.has_precision_flags:
            return True
        return hasattr(flags, "STRONGLY_TYPED") and self.number[:2] >= TYPED_SINCE

    @property
    def has_calibrator(self) -> bool:
        """Return whether it takes ranges instead of Q/DQ."""
        return self.has_precision_flags and hasattr(self.module, "IInt8EntropyCalibrator2")

    @property
    def has_dla(self) -> bool:
        """Return whether it can build for a DLA; the builder counts the cores."""
        return not self.is_rtx and hasattr(self.module.IBuilderConfig, "DLA_core")

    @property
    def has_timing_cache(self) -> bool:
        """Return whether a timing cache has an effect."""
        return not self.is_rtx and hasattr(self.module.IBuilderConfig, "create_timing_cache")

    @property
    def has_progress(self) -> bool:
        """Return whether it reports the progress of a build."""
        return hasattr(self.module, "IProgressMonitor")

    def compute_capabilities(self) -> tuple[str, ...]:
        """Return the GPUs that a plan will run on, as `8.7`.

        Raises:
            ExportError: the plan would be for the GPU of this machine, and there is none.
            PackageError: PyCUDA, which is asked for it, is not installed.
        """
        if self.is_rtx:
            return tuple(f"{name[2:-1]}.{name[-1]}" for name in self.rtx_names())
        capability = gpu_here(require("pycuda.driver", self.kind))
        if capability is None:
            raise ExportError("TensorRT builds for the GPU of the machine that it runs on, and "
                              "there is none here; build on the device, or with --target "
                              "tensorrt-rtx")
        return (capability,)

    def rtx_names(self) -> list[str]:
        """Return the names of RTX's targets, `SM86`, oldest first."""
        names = [name for name in self.module.ComputeCapability.__members__
                 if name.startswith("SM") and int(name[2:]) >= OLDEST_GPU]
        return sorted(names, key=lambda name: int(name[2:]))


def gpu_here(driver: ModuleType) -> str | None:
    """Return the compute capability of the first GPU, `8.7`, or None.

    Args:
        driver: `pycuda.driver`.
    """
    try:
        driver.init()
        major, minor = driver.Device(0).compute_capability()
    except driver.Error:
        return None
    return f"{major}.{minor}"


def tensorrt_of(kind: str) -> TensorRT:
    """Import a TensorRT.

    Raises:
        PackageError: it is not installed, with the extra that brings it.
        ExportError: it is older than this package supports.
    """
    module = require(MODULES[kind], kind)
    if not hasattr(module, "Builder"):  # type stubs leave a folder that imports as a package
        raise PackageError(f"{MODULES[kind]}: there is a folder of that name, but not the package; "
                           f"install it with: pip install 'feredge[{kind}]'")
    if kind == "tensorrt" and is_too_old(str(module.__version__)):
        raise ExportError(f"TensorRT {module.__version__} is too old: 10.3 (JetPack 6.1) or later "
                          "is supported; update JetPack")
    return TensorRT(kind, module)


def is_installed(module: str) -> bool:
    """Return whether a module is installed, without loading it; a bare folder is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def chosen_kind(target: str) -> str | None:
    """Return the TensorRT that a `--target` asks for; None for ONNX alone.

    `auto` takes TensorRT where it and a GPU are, else TensorRT-RTX where it is installed.
    """
    if target != "auto":
        return None if target == "onnx" else target
    if is_installed("tensorrt") and is_installed("pycuda"):
        if gpu_here(require("pycuda.driver", "tensorrt")) is not None:
            return "tensorrt"
    return "tensorrt-rtx" if is_installed("tensorrt_rtx") else None
