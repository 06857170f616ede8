"""A checkpoint of MA-Net at full width with seeded weights, for latency alone.

Usage: `python -m feredge.benchmarks.full_width PATH`
"""

from __future__ import annotations

import sys

import torch

from feredge.export.models.manet import MaNet


def main(path: str) -> int:
    """Write the checkpoint: 7 classes, weights of torch's own initialisation from seed 0."""
    torch.manual_seed(0)
    torch.save(MaNet().state_dict(), path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
