"""Plan files: checked against their sidecar and this machine before TensorRT sees them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

from feredge.runtime.errors import EngineError, PackageError, SpecError, require
from feredge.runtime.spec import DetectorSpec, ModelSpec, TargetSpec

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

Spec = TypeVar("Spec", ModelSpec, DetectorSpec)


def read_plan(path: Path, kind: type[Spec]) -> tuple[bytes, Spec]:
    """Read a plan and its sidecar.

    Raises:
        SpecError: the sidecar is missing or broken.
        EngineError: the plan is not the one that the sidecar describes.
    """
    sidecar = path.with_name(f"{path.name}.json")
    if not sidecar.is_file():
        raise SpecError(f"{path} has no {sidecar.name} beside it, so its labels and crop are "
                        f"unknown; copy it too, build the plan again: {rebuild(path, None)}, or "
                        f"use the ONNX file beside it: {onnx_beside(path)}")
    try:
        spec = kind.from_json(sidecar.read_text())
    except SpecError as error:
        raise SpecError(f"{sidecar} is broken: {error}; build the plan again: "
                        f"{rebuild(path, None)}") from error
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != spec.sha256:
        raise EngineError(f"{path} is not the plan that {sidecar.name} describes (SHA-256 "
                          f"differs); build it again: {rebuild(path, spec.target)}")
    return content, spec


def tensorrt_for(path: Path, target: TargetSpec) -> Any:
    """Import the TensorRT that a plan was built with.

    Raises:
        EngineError: it is not installed, or of another version; says what to do.
    """
    if target.kind not in MODULES:
        raise EngineError(f"{path} is a plan by its name and for {target.kind} by its sidecar; "
                          f"build it again: {rebuild(path, None)}")
    try:
        module = require(MODULES[target.kind], target.kind)
    except PackageError as error:
        raise EngineError(f"{path} needs TensorRT: {error}; or use the ONNX file beside it: "
                          f"{onnx_beside(path)}") from error
    found = str(getattr(module, "__version__", "unknown"))
    if found != target.version:
        raise EngineError(f"{path} was built with {target.kind} {target.version}, here is {found}; "
                          f"build it again: {rebuild(path, target)}")
    return module


def check_gpu(path: Path, target: TargetSpec, compute_capability: str, name: str) -> None:
    """Check that a plan runs on this GPU.

    Raises:
        EngineError: it was built for others.
    """
    built_for = target.compute_capabilities or ()
    if compute_capability not in built_for:
        raise EngineError(f"{path} was built for compute capability {', '.join(built_for)}, this "
                          f"{name} has {compute_capability}; build it again: "
                          f"{rebuild(path, target)}")


def rebuild(path: Path, target: TargetSpec | None) -> str:
    """Return the command that builds a plan anew on this machine."""
    onnx = path.with_suffix(".int8.qdq.onnx")
    for file in sorted(path.parent.glob("*.onnx")):
        wanted = None if target is None else target.onnx_sha256
        if wanted and hashlib.sha256(file.read_bytes()).hexdigest() == wanted:
            onnx = file
    kind = "tensorrt" if target is None else target.kind
    most = "" if target is None or target.profile is None else f" --max-batch {target.profile[2]}"
    return f"fer-export --onnx {onnx} --target {kind}{most} --output {path.parent}"


def onnx_beside(plan: Path) -> str:
    """Name the ONNX file that came out of the same export as a plan."""
    for suffix in (".int8.onnx", ".onnx"):
        if (candidate := plan.with_suffix(suffix)).is_file():
            return str(candidate)
    return f"{plan.with_suffix('.int8.onnx')}, as fer-export writes it"
