"""The networks that can be exported: one file and one decorated factory each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

Factory = Callable[[Mapping[str, "Tensor"]], "nn.Module"]


@dataclass(frozen=True)
class Defaults:
    """What a checkpoint without metadata is taken to be, and what its input's side must divide by.

    `labels`, `side` (px) and normalisation are the authors'.
    """

    labels: tuple[str, ...]
    side: int
    side_multiple: int = 1
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Network:
    """A network that `fer-export --model NAME` knows.

    `factory` builds it with the sizes of a checkpoint's tensors, and gives it `classes` and a
    short `variant`; `keep_float` holds patterns of module paths that INT8 must leave alone;
    `checkpoint` is the bundled weights' file name.
    """

    name: str
    factory: Factory
    defaults: Defaults
    keep_float: tuple[str, ...] = ()
    checkpoint: str | None = None


NETWORKS: dict[str, Network] = {}


def network(
    name: str,
    defaults: Defaults,
    keep_float: tuple[str, ...] = (),
    checkpoint: str | None = None,
) -> Callable[[Factory], Factory]:
    """Register the decorated factory under `name`."""

    def register(factory: Factory) -> Factory:
        NETWORKS[name] = Network(name, factory, defaults, keep_float, checkpoint)
        return factory

    return register
