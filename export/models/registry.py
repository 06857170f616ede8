"""The networks that can be exported: one file and one decorated factory each."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from feredge.export import models
from feredge.runtime.errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor, nn

Factory = Callable[[Mapping[str, "Tensor"], int, int], "nn.Module"]
WEIGHTS = Path(__file__).parents[1] / "weights"  # the bundled checkpoints and their ranges
SIZES = Path(__file__).parent / "sizes.json"  # written by feredge.export.network.size


@dataclass(frozen=True)
class Defaults:
    """What a checkpoint without metadata is taken to be, and what its input's side must divide by.

    `labels`, `side` (px) and normalization are the authors'; `mean` and `std` are in the order of
    `channels`, on the [0, 1] scale.
    """

    labels: tuple[str, ...]
    side: int
    side_multiple: int = 1
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Network:
    """A network of `fer-export --model NAME`.

    Attributes:
        name: the name on the command line.
        factory: builds a module from a checkpoint's tensors (empty: random weights), the number of
            classes and the side in px; the module maps `(n, 3, side, side)` normalized faces to
            `(n, classes)` probabilities. If the tensors have other sizes, the module has those, and
            may name them in `side_px` and a short `variant`.
        defaults: what holds for a checkpoint without metadata.
        keep_float: patterns of module paths that stay in float in INT8.
        backbone: patterns of the tensors that another checkpoint may provide.
        checkpoint: file name of the bundled weights.
    """

    name: str
    factory: Factory
    defaults: Defaults
    keep_float: tuple[str, ...] = ()
    backbone: tuple[str, ...] = ()
    checkpoint: str | None = None


NETWORKS: dict[str, Network] = {}


def network(
    name: str,
    defaults: Defaults,
    keep_float: tuple[str, ...] = (),
    backbone: tuple[str, ...] = (),
    checkpoint: str | None = None,
) -> Callable[[Factory], Factory]:
    """Register the decorated factory under `name`.

    Raises:
        TypeError: the defaults are none.
        ValueError: another network has that name.
    """
    if not isinstance(defaults, Defaults):
        raise TypeError(f"network {name!r} needs defaults=Defaults(labels=..., side=...)")

    def register(factory: Factory) -> Factory:
        if name in NETWORKS:
            raise ValueError(f"there is a network called {name!r} already")
        NETWORKS[name] = Network(name, factory, defaults, keep_float, backbone, checkpoint)
        return factory

    return register


def known_networks() -> dict[str, Network]:
    """Return the networks of this package, by name: every file beside this one is imported."""
    for file in pkgutil.iter_modules(models.__path__):
        import_module(f"{models.__name__}.{file.name}")
    return dict(sorted(NETWORKS.items()))


def network_named(model: str) -> Network:
    """Return a network by its name, or a user's own by `package.module:factory`.

    Raises:
        ExportError: there is none; says what there is.
    """
    known = known_networks()
    module, colon, factory = model.partition(":")
    if colon:
        return own_network(module, factory)
    if model not in known:
        raise ExportError(f"no network is called {model}: there are {', '.join(known)}; your own "
                          "is named package.module:factory")
    return known[model]


def own_network(module: str, factory: str) -> Network:
    """Import a user's module, from the current directory too, and return its network.

    Raises:
        ExportError: it cannot be imported, or has no such decorated factory.
    """
    try:
        with current_directory_on_path():
            found = getattr(import_module(module), factory, None)
    except Exception as error:  # it is the user's code: anything may be wrong with it
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ExportError(f"{module} cannot be imported: {reason}") from error
    for registered in NETWORKS.values():
        if registered.factory is found:
            return registered
    wrong = "does not exist" if found is None else "is not decorated with @network"
    raise ExportError(f"{module}:{factory} {wrong}; expected a function of {module} "
                      "under @network(name, defaults=Defaults(...))")


@contextmanager
def current_directory_on_path() -> Iterator[None]:
    """Let imports find the current directory, which a console script's path lacks."""
    folder = os.getcwd()
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
