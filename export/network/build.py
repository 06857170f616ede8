"""A network with its weights: a checkpoint's, seeded ones, or another checkpoint's backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from feredge.export.models.registry import WEIGHTS, Network
from feredge.export.network.checkpoint import (
    Checkpoint,
    backbone_of,
    load_backbone,
    load_checkpoint,
    load_into,
    state_sha256,
)
from feredge.runtime.errors import CheckpointError, ExportError, FeredgeError

if TYPE_CHECKING:
    from feredge.export.job import ExportOptions

SEED = 0
RANDOM = Checkpoint({}, "", {"trained_on": f"nothing: random weights of seed {SEED}"})
LENDS = "; of another task, it may lend its backbone: pass it with --backbone-from"


def weighted(
    network: Network, options: ExportOptions
) -> tuple[nn.Module, Checkpoint, tuple[str, ...], int]:
    """Build a network with the weights that were asked for.

    Returns:
        The network in evaluation mode, what its weights are, its labels, and its side in px.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is another network's.
        ExportError: the network cannot take that side, or is none that can be exported.
    """
    checkpoint = checkpoint_of(network, options)
    labels, side = labels_of(network, checkpoint, options), side_of(network, checkpoint, options)
    module = built(network, checkpoint, len(labels), side)
    side = side_taken(module, side, options.side)
    check_answer(network, module, labels, side)
    if options.backbone_from:
        load_backbone(module, load_checkpoint(options.backbone_from).state, network.backbone)
    if options.random_weights or options.backbone_from:
        checkpoint = replace(checkpoint, sha256=state_sha256(module.state_dict()))
    return module, checkpoint, labels, side


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
    """Return the class names: the arguments win over the metadata, that over the defaults."""
    said = tuple(filter(None, checkpoint.metadata.get("labels", "").split(",")))
    return options.labels or said or network.defaults.labels


def side_of(network: Network, checkpoint: Checkpoint, options: ExportOptions) -> int:
    """Return the input's side in px, chosen as the labels are.

    Raises:
        ExportError: the network cannot take it.
    """
    side = options.side or int(checkpoint.metadata.get("side", network.defaults.side))
    if side % network.defaults.side_multiple:
        raise ExportError(f"side {side}: {network.name} takes a multiple of "
                          f"{network.defaults.side_multiple} px")
    return side


def side_taken(module: nn.Module, side: int, asked: int | None) -> int:
    """Return the side that a network is made for, where it has only one.

    Raises:
        ExportError: another one was asked for.
    """
    own = int(getattr(module, "side_px", side))
    if asked not in (None, own):
        raise ExportError(f"side {asked}: this checkpoint's heads are made for {own} px")
    return own


def built(network: Network, checkpoint: Checkpoint, classes: int, side: int) -> nn.Module:
    """Build the network that a checkpoint was saved from, with its weights, or with seeded ones.

    Raises:
        CheckpointError: the checkpoint is another network's.
        ExportError: the factory builds no network.
    """
    state = checkpoint.state
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


def other_checkpoint(
    network: Network, checkpoint: Checkpoint, missing: KeyError
) -> CheckpointError:
    """Return what to say of a checkpoint that is not a network's."""
    state = checkpoint.state
    lends = LENDS if backbone_of(state, network.backbone) else ""
    return CheckpointError(f"not a {network.name} checkpoint: it has no tensor {missing}; its "
                           f"first are {', '.join(list(state)[:3])}{lends}")


def check_answer(
    network: Network, module: nn.Module, labels: tuple[str, ...], side: int
) -> None:
    """Ask a network once, for one grey face.

    Raises:
        CheckpointError: there are other numbers of classes and labels.
        ExportError: the answer is not `(n, classes)` probabilities.
    """
    try:
        with torch.inference_mode():
            answer = module(torch.full((1, 3, side, side), 0.5))
    except Exception as error:  # as above
        raise ExportError(f"{network.name} does not take (1, 3, {side}, {side}) float32 faces: "
                          f"{one_line(error)}") from error
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != 1:
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ExportError(f"{network.name} answers one face with {found}, expected (1, classes) "
                          "probabilities")
    if answer.shape[1] != len(labels):
        lends = LENDS if network.backbone else ""
        raise CheckpointError(f"the network has {answer.shape[1]} classes, but there are "
                              f"{len(labels)} labels: {','.join(labels)}; name its own, in the "
                              f"order of its output, with --labels a,b,c{lends}")
    if (answer < 0).any() or (answer.sum() - 1).abs() > 1e-3:
        raise ExportError(f"{network.name} answers with numbers from {answer.min():.3g} to "
                          f"{answer.max():.3g} that sum to {answer.sum():.3g}, expected "
                          "probabilities: softmax belongs into the network")


def one_line(error: Exception) -> str:
    """Return an error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
