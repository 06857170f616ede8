"""MA-Net: a global multi-scale branch and a local attention branch, fused by score.

Zhao, Liu, Wang: "Learning Deep Global Multi-scale and Local Attention Features for Facial
Expression Recognition in the Wild", IEEE TIP 30, 2021 (doi 10.1109/tip.2021.3093397). Module names
are the authors', so that their checkpoints load.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feredge.export.models.blocks import BasicBlock, Cbam, conv3x3, projection, stage
from feredge.export.models.registry import Defaults, network

RAF_DB_LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
BETA = 0.6  # weight of the local branch in the fusion (the authors' training script)
GROUPS = 4  # channel groups of a multi-scale block, and quadrants of the local branch


class AttentionBlock(BasicBlock):
    """The local branch's block: a basic block with CBAM on its residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.cbam = Cbam(out_channels)

    def residual(self, x: Tensor) -> Tensor:
        """Return the gated residual."""
        out: Tensor = self.cbam(super().residual(x))
        return out


class MultiScaleBlock(nn.Module):
    """The global branch's block: two chains of grouped convolutions, forwards and backwards."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        group = out_channels // GROUPS
        for chain in (1, 2):
            for step in range(1, GROUPS + 1):
                self.add_module(f"conv{chain}_2_{step}", conv3x3(group, group))
                self.add_module(f"bn{chain}_2_{step}", nn.BatchNorm2d(group))
        self.downsample = projection(in_channels, out_channels, stride)

    def chain(self, number: int, groups: tuple[Tensor, ...], steps: range) -> Tensor:
        """Run one chain: each step takes its group plus the ReLU of the step before it."""
        done: dict[int, Tensor] = {}
        previous: Tensor | None = None
        for step in steps:
            x = groups[step - 1] if previous is None else groups[step - 1] + F.relu(previous)
            convolved = self.get_submodule(f"conv{number}_2_{step}")(x)
            previous = done[step] = self.get_submodule(f"bn{number}_2_{step}")(convolved)
        return torch.cat([done[step] for step in range(1, GROUPS + 1)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's `(n, out_channels, h / stride, w / stride)`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        groups = F.relu(self.bn1(self.conv1(x))).chunk(GROUPS, dim=1)
        forwards = self.chain(1, groups, range(1, GROUPS + 1))
        backwards = self.chain(2, groups, range(GROUPS, 0, -1))
        return F.relu(forwards + backwards + shortcut)


class MaNet(nn.Module):
    """MA-Net with its fusion: normalized faces in, probabilities out."""

    def __init__(self, classes: int = 7, width: float = 1.0) -> None:
        super().__init__()
        self.classes, self.variant = classes, f"w{round(100 * width)}"
        c64, c128, c256, c512 = (round(channels * width) for channels in (64, 128, 256, 512))
        self.conv1 = nn.Conv2d(3, c64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(c64)
        self.layer1 = stage(BasicBlock, c64, c64, 1)
        self.layer2 = stage(BasicBlock, c64, c128, 2)
        for k in range(1, GROUPS + 1):
            self.add_module(f"layer3_1_p{k}", stage(AttentionBlock, c128, c256, 2))
            self.add_module(f"layer4_1_p{k}", stage(AttentionBlock, c256, c512, 1))
        self.layer3_2 = stage(MultiScaleBlock, c128, c256, 2)
        self.layer4_2 = stage(MultiScaleBlock, c256, c512, 2)
        self.fc_1 = nn.Linear(c512, classes)
        self.fc_2 = nn.Linear(c512, classes)

    def logits(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return the local and the global branch's `(n, classes)` scores.

        Args:
            faces: `(n, 3, side, side)` float32, normalized; side a multiple of 32.
        """
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(faces))), 3, 2, padding=1)
        x = self.layer2(self.layer1(x))
        local = self.fc_1(self.local_features(x))
        scales = F.adaptive_avg_pool2d(self.layer4_2(self.layer3_2(x)), 1).flatten(1)
        return local, self.fc_2(scales)

    def local_features(self, x: Tensor) -> Tensor:
        """Return the mean over the four quadrants' maps, `(n, c)`.

        The authors put the quadrants together again before the global average; equal quadrants
        make that the mean of their averages.
        """
        rows, columns = x.shape[2] // 2, x.shape[3] // 2
        top, bottom = x[:, :, :rows], x[:, :, rows:]
        quadrants = [half[..., part] for half in (top, bottom)
                     for part in (slice(None, columns), slice(columns, None))]
        features = [
            F.adaptive_avg_pool2d(
                self.get_submodule(f"layer4_1_p{k}")(self.get_submodule(f"layer3_1_p{k}")(part)), 1
            )
            for k, part in enumerate(quadrants, 1)
        ]
        return (sum(features[1:], start=features[0]) / GROUPS).flatten(1)

    def forward(self, faces: Tensor) -> Tensor:
        """Return `(n, classes)` probabilities of `(n, 3, side, side)` normalized faces."""
        local, scales = self.logits(faces)
        return torch.softmax(BETA * local + (1 - BETA) * scales, dim=1)


@network(
    "manet",
    defaults=Defaults(labels=RAF_DB_LABELS, side=224, side_multiple=32),
    keep_float=("*.cbam.*", "fc_1", "fc_2"),
    backbone=("conv1.*", "bn1.*", "layer*"),
    checkpoint="manet-ferplus.safetensors",
)
def manet(state: Mapping[str, Tensor], classes: int = 7, side: int = 224) -> MaNet:
    """Build an MA-Net whose width and class count are those of a checkpoint's tensors.

    Raises:
        KeyError: the tensors that define the sizes are missing.
    """
    if not state:
        return MaNet(classes)
    return MaNet(classes=len(state["fc_1.bias"]), width=len(state["conv1.weight"]) / 64)
