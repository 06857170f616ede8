"""A network with its weights: a checkpoint's, seeded ones, or another checkpoint's backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from feredge.export.models.registry import WEIGHTS, Network
from feredge.export.network.archives import safe_name
from feredge.export.network.checkpoint import Checkpoint, load_checkpoint, state_sha256
from feredge.export.network.loading import (
    backbone_of,
    check_fit,
    fit_names,
    load_backbone,
    load_into,
)
from feredge.runtime.errors import CheckpointError, ExportError, FeredgeError

if TYPE_CHECKING:
    from feredge.export.options import ExportOptions

SEED = 0
MOST_SIDE_PX = 1024
RANDOM = Checkpoint({}, "", {"trained_on": f"nothing: random weights of seed {SEED}"})
LENDS = "; of another task, it may lend its backbone: pass it with --backbone-from"


class LoadedNetwork(NamedTuple):
    """A network in evaluation mode, the origin of its weights, its labels and its input side."""

    module: nn.Module
    checkpoint: Checkpoint
    labels: tuple[str, ...]
    side_px: int


def load_network(network: Network, options: ExportOptions) -> LoadedNetwork:
    """Build a network with the weights that were asked for.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is another network's.
        ExportError: the network cannot take that side, or cannot be exported.
    """
    checkpoint = checkpoint_of(network, options)
    labels, side = labels_of(network, checkpoint, options), side_of(network, checkpoint, options)
    module = build_module(network, checkpoint, len(labels), side)
    side = own_side(module, side, options.side)
    check_probabilities(network, module, labels, side)
    if options.backbone_from:
        load_backbone(module, load_checkpoint(options.backbone_from).state, network.backbone)
    if options.random_weights or options.backbone_from:
        checkpoint = replace(checkpoint, sha256=state_sha256(module.state_dict()))
    return LoadedNetwork(module, checkpoint, labels, side)


def checkpoint_of(network: Network, options: ExportOptions) -> Checkpoint:
    """Read the checkpoint that was named, or the bundled one; seeded weights have no tensors yet.

    Raises:
        CheckpointError: none was named and none is bundled, or it cannot be read.
    """
    if options.random_weights:
        return RANDOM
    if options.checkpoint is not None:
        return load_checkpoint(options.checkpoint)
    if network.checkpoint is None:
        raise CheckpointError(f"no weights are bundled for {network.name}: pass --checkpoint PATH, "
                              "or --random-weights where only its speed matters")
    return load_checkpoint(WEIGHTS / network.checkpoint)


def labels_of(
    network: Network, checkpoint: Checkpoint, options: ExportOptions
) -> tuple[str, ...]:
    """Return the class names: of the options, else of the metadata, else the defaults."""
    stated = tuple(filter(None, checkpoint.metadata.get("labels", "").split(",")))
    return options.labels or stated or network.defaults.labels


def side_of(network: Network, checkpoint: Checkpoint, options: ExportOptions) -> int:
    """Return the side of the input in px, chosen as the labels are.

    Raises:
        CheckpointError: the checkpoint's metadata states no number.
        ExportError: the network cannot take it.
    """
    stated = checkpoint.metadata.get("side", "")
    if stated and not (stated.isdecimal() and len(stated) < 6):
        raise CheckpointError(f"the checkpoint's metadata states the side {safe_name(stated)}, "
                              "expected px: pass --side")
    side = options.side or int(stated or network.defaults.side)
    if side % network.defaults.side_multiple or not 0 < side <= MOST_SIDE_PX:
        raise ExportError(f"side {side}: {network.name} takes a multiple of "
                          f"{network.defaults.side_multiple} px, up to {MOST_SIDE_PX}")
    return side


def own_side(module: nn.Module, side: int, requested: int | None) -> int:
    """Return the side that a network is made for, where it has only one.

    Raises:
        ExportError: another one was asked for, or it is larger than any network's.
    """
    own = int(getattr(module, "side_px", side))
    if requested not in (None, own):
        raise ExportError(f"side {requested}: this checkpoint's heads are made for {own} px")
    if own > MOST_SIDE_PX:
        raise ExportError(f"side {own}: expected {MOST_SIDE_PX} px or less")
    return own


def build_module(network: Network, checkpoint: Checkpoint, classes: int, side: int) -> nn.Module:
    """Build the network that a checkpoint was saved from, with its weights, or with seeded ones.

    Raises:
        CheckpointError: the checkpoint is another network's.
        ExportError: the factory builds no network.
    """
    state = checkpoint.state
    if state:
        check_sizes(network, state, classes, side)
    try:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(SEED)
            module = network.factory(state, classes, side)
    except FeredgeError:
        raise
    except Exception as error:  # the factory may be a user's: anything may be wrong with it
        if isinstance(error, KeyError) and state:
            raise other_checkpoint(network, checkpoint, error) from error
        raise ExportError(f"the factory of {network.name} failed: {one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ExportError(f"the factory of {network.name} returned {type(module).__name__}, "
                          "expected a torch.nn.Module")
    if state:
        load_into(module, state)
    return module.eval()


def check_sizes(network: Network, state: Mapping[str, Tensor], classes: int, side: int) -> None:
    """Compare a checkpoint with its network before memory is taken for the network.

    The network is built without memory first, as the sizes that a file states may be any. A
    factory that cannot be run so is left to the comparison after it.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        with torch.device("meta"):
            module = network.factory(state, classes, side)
        own = module.state_dict()
    except Exception as error:  # reported by the real call, unless that would take the memory
        if "overflow" in str(error):
            raise CheckpointError("the checkpoint's tensors state a network larger than any "
                                  "memory: it is damaged") from error
        return
    check_fit(own, fit_names(own, state),
              f"the checkpoint does not fit the network of {len(own)} tensors")


def other_checkpoint(
    network: Network, checkpoint: Checkpoint, missing: KeyError
) -> CheckpointError:
    """Return the error for a checkpoint that is not a network's."""
    state = checkpoint.state
    lends = LENDS if backbone_of(state, network.backbone) else ""
    return CheckpointError(f"not a {network.name} checkpoint: it has no tensor {missing}; its "
                           f"first are {', '.join(map(safe_name, list(state)[:3]))}{lends}")


def check_probabilities(
    network: Network, module: nn.Module, labels: tuple[str, ...], side: int
) -> None:
    """Run a network once, on one gray face.

    Raises:
        CheckpointError: the numbers of classes and labels differ.
        ExportError: the output is not `(n, classes)` probabilities.
    """
    try:
        with torch.inference_mode():
            output = module(torch.full((1, 3, side, side), 0.5))
    except Exception as error:  # as above
        raise ExportError(f"{network.name} does not take (1, 3, {side}, {side}) float32 faces: "
                          f"{one_line(error)}") from error
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 1:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ExportError(f"{network.name} returns {found} for one face, expected (1, classes) "
                          "probabilities")
    if output.shape[1] != len(labels):
        lends = LENDS if network.backbone else ""
        raise CheckpointError(f"the network has {output.shape[1]} classes, but there are "
                              f"{len(labels)} labels: {','.join(labels)}; name its own, in the "
                              f"order of its output, with --labels a,b,c{lends}")
    if not (output >= 0).all() or not (output.sum() - 1).abs() <= 1e-3:  # NaN, too
        raise ExportError(f"{network.name} returns numbers from {output.min():.3g} to "
                          f"{output.max():.3g} that sum to {output.sum():.3g}, expected "
                          "probabilities: softmax belongs into the network")


def one_line(error: BaseException) -> str:
    """Return an error's class and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
