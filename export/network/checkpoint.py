"""Read checkpoints of every kind without running what a pickle asks for."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from feredge.runtime.errors import CheckpointError

STATE_KEYS = ("state_dict", "model_state_dict", "model")
PARALLEL_PREFIX = "module."  # what DataParallel puts before every name


@dataclass(frozen=True)
class Checkpoint:
    """Weights as they were saved: tensors by name, text metadata, and the file's SHA-256."""

    state: Mapping[str, Tensor]
    sha256: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a safetensors file, a plain state dict, or a training script's `.pth.tar`.

    Raises:
        CheckpointError: missing, damaged, or without a state dict.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    try:
        if is_safetensors(content):
            state = state_of(load(content), path)
            return Checkpoint(state, digest, safetensors_metadata(content))
        document = torch.load(path, map_location="cpu", weights_only=False, pickle_module=INERT)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError,
            ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"checkpoint {path} is damaged or no checkpoint: {reason}") from error
    return Checkpoint(state_of(document, path), digest)


def is_safetensors(content: bytes) -> bool:
    """Tell a safetensors file by its header: a length, then JSON."""
    return content[8:9] == b"{"


def safetensors_metadata(content: bytes) -> dict[str, str]:
    """Return the text metadata of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return metadata


def state_of(document: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what a checkpoint holds, and strip DataParallel's prefix.

    Raises:
        CheckpointError: there is none.
    """
    if isinstance(document, dict):
        nested = (document[key] for key in STATE_KEYS if isinstance(document.get(key), dict))
        document = next(nested, document)
    if not isinstance(document, dict) or not document or not all(
        isinstance(value, Tensor) for value in document.values()
    ):
        raise CheckpointError(f"checkpoint {path} holds no state dict: expected tensors by name, "
                              f"or a dict with one under {', '.join(STATE_KEYS)}")
    return {str(name).removeprefix(PARALLEL_PREFIX): value for name, value in document.items()}


class Inert:
    """Stands in for every class of a pickle but a tensor's: takes anything, does nothing."""

    def __new__(cls, *args: object, **keywords: object) -> Inert:
        """Accept whatever a constructor was called with."""
        return super().__new__(cls)

    def __init__(self, *args: object, **keywords: object) -> None:
        """Ignore it."""

    def __setstate__(self, state: object) -> None:
        """Ignore it."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore it."""

    def append(self, value: object) -> None:
        """Ignore it."""

    def extend(self, values: object) -> None:
        """Ignore it."""


TENSOR_MACHINERY: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class InertUnpickler(pickle.Unpickler):
    """Resolves the tensor machinery by name and nothing else.

    The authors' files hold an object of a class of their script, which `weights_only=True` refuses
    and which need not exist here; a hostile file may name anything at all.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the tensor machinery's own function, or a placeholder."""
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name, Inert)
        return TENSOR_MACHINERY.get((module, name), Inert)


INERT = ModuleType("inert_pickle")  # torch.load wants a module with these names
INERT.Unpickler = InertUnpickler  # type: ignore[attr-defined]
INERT.load = lambda file, **keywords: InertUnpickler(file, **keywords).load()  # type: ignore[attr-defined]


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's tensors into a network, in float32.

    Raises:
        CheckpointError: keys are missing, unexpected, or of another shape; names the first few.
    """
    own = module.state_dict()
    wrong = differences(own, state)
    if wrong:
        raise CheckpointError(f"the checkpoint does not fit the network of {len(own)} tensors: "
                              f"{wrong}")
    module.load_state_dict(in_float32(state))


def load_backbone(
    module: nn.Module, state: Mapping[str, Tensor], patterns: Sequence[str]
) -> None:
    """Copy the backbone of a checkpoint of any task into a network, which keeps its own heads.

    Args:
        module: the network.
        state: a checkpoint's tensors.
        patterns: of the backbone's names, as `trunk.*`.

    Raises:
        CheckpointError: the backbone is missing or another one; names the first few tensors.
    """
    if not patterns:
        raise CheckpointError("the network does not tell its backbone: name its tensors in "
                              "@network(..., backbone=(...))")
    own, given = (backbone_of(tensors, patterns) for tensors in (module.state_dict(), state))
    wrong = differences(own, given)
    if wrong:
        raise CheckpointError(f"the checkpoint's backbone does not fit the network's, {len(own)} "
                              f"tensors called {', '.join(patterns)}: {wrong}")
    module.load_state_dict(in_float32(given), strict=False)


def backbone_of(state: Mapping[str, Tensor], patterns: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors whose names fit a pattern."""
    return {name: tensor for name, tensor in state.items()
            if any(fnmatch(name, pattern) for pattern in patterns)}


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Say how a checkpoint's tensors differ from a network's; nothing if they fit."""
    shapes = {
        f"{name} is {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own.keys() & given.keys() if given[name].shape != own[name].shape
    }
    found = {
        "missing": sorted(own.keys() - given.keys()),
        "unexpected": sorted(given.keys() - own.keys()),
        "of another shape": sorted(shapes),
    }
    return "; ".join(f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if names[3:] else ''}"
                     for what, names in found.items() if names)


def in_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with every floating-point one in float32."""
    return {name: value.float() if value.is_floating_point() else value
            for name, value in state.items()}


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights that no file holds."""
    return hashlib.sha256(save(dict(state))).hexdigest()
