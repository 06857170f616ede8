"""Write a full-width MA-Net checkpoint whose weights follow a formula: for latency and regressions.

Usage: `python -m feredge.benchmarks.experiments.full_width PATH`

The weights are the same on every machine. The network is not trained and predicts almost the same
probabilities for every face, so INT8 is compared with its FP32 only.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from feredge.export.models.manet import MaNet


def golden_state() -> dict[str, torch.Tensor]:
    """Return the state dict for which the logits of the authors' implementation are known."""
    state = MaNet().state_dict()
    return {name: golden_tensor(name, tensor, k) for k, (name, tensor) in enumerate(state.items())}


def golden_tensor(name: str, tensor: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th tensor of the state dict, a scaled cosine; integers are kept."""
    if not tensor.is_floating_point():
        return tensor
    wave = np.cos(0.37 * np.arange(tensor.numel()) + k)
    if name.endswith("running_var"):
        wave = 1 + 0.5 * np.abs(wave)
    elif name.endswith("running_mean"):
        wave = 0.05 * wave
    elif tensor.dim() >= 2:
        wave = wave * np.sqrt(4 / (tensor.numel() / tensor.shape[0]))
    elif name.endswith("weight"):
        wave = 1 + 0.1 * wave
    else:
        wave = 0.1 * wave
    return torch.tensor(wave.reshape(tensor.shape), dtype=torch.float32)


def main(path: str) -> int:
    """Write the checkpoint, 7 classes."""
    torch.save(golden_state(), path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
