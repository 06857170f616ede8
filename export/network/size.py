"""The size of a network, counted on the built network without weights; run: write the record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from feredge.export.models.registry import SIZES, Network, known_networks
from feredge.runtime.files import atomic_write


@dataclass(frozen=True)
class NetworkSize:
    """A network's parameters, and its multiply-accumulates for one face of `side` px.

    `channels` is the order of its input's; `bundled` says whether trained weights come with it.
    """

    name: str
    parameters: int
    macs: int
    side: int
    channels: str
    bundled: bool


def size_of(network: Network) -> NetworkSize:
    """Count a network at its published sizes: convolutions and linear layers make the MACs."""
    defaults = network.defaults
    counter = FlopCounterMode(display=False)
    with torch.device("meta"):  # shapes alone: nothing is stored or computed
        module = network.factory({}, len(defaults.labels), defaults.side).eval()
        with counter, torch.inference_mode():
            module(torch.empty(1, 3, defaults.side, defaults.side))
    parameters = sum(tensor.numel() for tensor in module.parameters())
    return NetworkSize(network.name, parameters, counter.get_total_flops() // 2, defaults.side,
                       defaults.channels, network.checkpoint is not None)


def sizes_json() -> str:
    """Return the record of the networks' sizes that `fer-export --list` shows without torch."""
    return json.dumps([asdict(size_of(network)) for network in known_networks().values()],
                      indent=1) + "\n"


if __name__ == "__main__":
    with atomic_write(SIZES) as file:
        file.write_text(sizes_json())
