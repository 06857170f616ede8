"""Plan files: checked against their sidecar and this machine before TensorRT reads them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, TypeVar

from feredge.runtime.errors import EngineError, PackageError, SpecError, require
from feredge.runtime.placeholder import placeholder_hint
from feredge.runtime.spec import DetectorSpec, ModelSpec, TargetSpec

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
OLDEST_TENSORRT = (10, 3)  # JetPack 6.1; before, contexts could not share a profile
MAX_SIDECAR_BYTES = 1 << 20

Spec = TypeVar("Spec", ModelSpec, DetectorSpec)


def read_plan(path: Path, kind: type[Spec]) -> tuple[bytes, Spec]:
    """Read a plan and its sidecar.

    Raises:
        SpecError: the sidecar is missing or broken.
        EngineError: the plan is not the one that the sidecar describes, or cannot be read.
    """
    content = plan_content(path)
    sidecar = path.with_name(f"{path.name}.json")
    if not sidecar.is_file():
        raise SpecError(f"{path} has no {sidecar.name} beside it, so its labels and crop are "
                        f"unknown; copy it too, build the plan again: {rebuild(path, None)}, or "
                        f"use the ONNX file beside it: {onnx_beside(path)}")
    try:
        spec = kind.from_json(sidecar_text(sidecar))
    except SpecError as error:
        raise SpecError(f"{sidecar} is broken: {error}; build the plan again: "
                        f"{rebuild(path, None)}") from error
    if hashlib.sha256(content).hexdigest() != spec.sha256:
        raise EngineError(f"{path} is not the plan that {sidecar.name} describes (SHA-256 "
                          f"differs); build it again: {rebuild(path, spec.target)}")
    return content, spec


def plan_content(path: Path) -> bytes:
    """Read a plan.

    Raises:
        EngineError: it cannot be read, or is a pointer or web page in a plan's place.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content or (hint := placeholder_hint(content)) is not None:
        raise EngineError(f"{path} {hint if content else 'is empty; build or copy it again'}")
    return content


def sidecar_text(sidecar: Path) -> str:
    """Read a sidecar.

    Raises:
        SpecError: it cannot be read, is not text, or is too large to be one.
    """
    try:
        if sidecar.stat().st_size > MAX_SIDECAR_BYTES:
            raise SpecError(f"it is larger than {MAX_SIDECAR_BYTES >> 20} MiB")
        return sidecar.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SpecError("it is not UTF-8 text") from error


def tensorrt_for(path: Path, target: TargetSpec) -> Any:
    """Import the TensorRT that a plan was built with.

    Raises:
        EngineError: it is not installed, of another version, or older than this package supports.
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
    if target.kind == "tensorrt" and is_too_old(found):
        raise EngineError(f"{path} needs TensorRT 10.3 (JetPack 6.1) or later, here is {found}; "
                          f"update JetPack, or use the ONNX file beside it: {onnx_beside(path)}")
    if found != target.version:
        raise EngineError(f"{path} was built with {target.kind} {target.version}, here is {found}; "
                          f"build it again: {rebuild(path, target)}")
    return module


def is_too_old(version: str) -> bool:
    """Return whether a TensorRT is older than the oldest one supported."""
    return tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_TENSORRT


def check_gpu(
    path: Path, target: TargetSpec, compute_capability: tuple[int, int], name: str
) -> None:
    """Check that a plan runs on this GPU.

    Raises:
        EngineError: it was built for others.
    """
    built_for = target.compute_capabilities or ()
    found = "{}.{}".format(*compute_capability)
    if found not in built_for:
        raise EngineError(f"{path} was built for compute capability {', '.join(built_for)}, this "
                          f"{name} has {found}; build it again: {rebuild(path, target)}")


def rebuild(path: Path, target: TargetSpec | None) -> str:
    """Return the command that builds a plan again on this machine."""
    onnx = path.with_suffix(".int8.qdq.onnx")
    for file in sorted(path.parent.glob("*.onnx")):
        expected = None if target is None else target.onnx_sha256
        if expected and hashlib.sha256(file.read_bytes()).hexdigest() == expected:
            onnx = file
    kind = "tensorrt" if target is None else target.kind
    most = "" if target is None or target.profile is None else f" --max-batch {target.profile[2]}"
    return f"fer-export --onnx {onnx} --target {kind}{most} --output {path.parent}"


def onnx_beside(plan: Path) -> str:
    """Return the name of the ONNX file of the same export as a plan."""
    for suffix in (".int8.onnx", ".onnx"):
        if (candidate := plan.with_suffix(suffix)).is_file():
            return str(candidate)
    return f"{plan.with_suffix('.int8.onnx')}, as fer-export writes it"
