"""Copy a checkpoint's tensors into a network, all of them or its backbone's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

from torch import Tensor, nn

from feredge.export.network.archives import safe_name
from feredge.export.network.state import common_prefix
from feredge.runtime.errors import CheckpointError

BATCH_COUNTER = "num_batches_tracked"  # of no use in evaluation; files before torch 0.4.1 lack it


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's tensors into a network, in float32.

    Raises:
        CheckpointError: keys are missing, unexpected, or of another shape; names the first few.
    """
    own = module.state_dict()
    given = fit_names(own, state)
    check_fit(own, given, f"the checkpoint does not fit the network of {len(own)} tensors")
    module.load_state_dict(convert_to_float32(given))


def check_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Compare names, shapes and kinds of numbers.

    Raises:
        CheckpointError: they differ; `what` opens its message.
    """
    if wrong := differences(own, given):
        raise CheckpointError(f"{what}: {wrong}")


def fit_names(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under the network's names.

    A prefix that the network itself has is put back, and counters of batches that are missing are
    taken from the network.
    """
    prefix = common_prefix(own)
    if prefix and not any(name.startswith(prefix) for name in given):
        given = {prefix + name: tensor for name, tensor in given.items()}
    counters = {name: tensor for name, tensor in own.items() if name.endswith(BATCH_COUNTER)}
    return {**counters, **given}


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
        raise CheckpointError("the network names no backbone: name its tensors in "
                              "@network(..., backbone=(...))")
    whole = module.state_dict()
    own, given = (backbone_of(tensors, patterns) for tensors in (whole, fit_names(whole, state)))
    check_fit(own, given, f"the checkpoint's backbone does not fit the network's, {len(own)} "
                          f"tensors called {', '.join(patterns)}")
    module.load_state_dict(convert_to_float32(given), strict=False)


def backbone_of(state: Mapping[str, Tensor], patterns: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors whose names fit a pattern."""
    return {name: tensor for name, tensor in state.items()
            if any(fnmatch(name, pattern) for pattern in patterns)}


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Say how a checkpoint's tensors differ from a network's; nothing if they fit."""
    both = own.keys() & given.keys()
    found = {
        "missing": sorted(own.keys() - given.keys()),
        "unexpected": sorted(map(safe_name, given.keys() - own.keys())),
        "of another shape": sorted(
            f"{name} is {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
            for name in both if given[name].shape != own[name].shape),
        "of another type": sorted(
            f"{name} is {given[name].dtype}, expected {own[name].dtype}"
            for name in both if given[name].is_floating_point() != own[name].is_floating_point()),
    }
    return "; ".join(f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if names[3:] else ''}"
                     for what, names in found.items() if names)


def convert_to_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with every floating-point one in float32."""
    return {name: value.float() if value.is_floating_point() else value
            for name, value in state.items()}
