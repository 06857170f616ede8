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

from feredge.export.models.registry import Defaults, network

RAF_DB_LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
BETA = 0.6  # weight of the local branch in the fusion (the authors' training script)
GROUPS = 4  # channel groups of a multi-scale block, and quadrants of the local branch


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the map's size up to its stride."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class ChannelGate(nn.Module):
    """CBAM's channel gate: average- and max-pooled vectors through one shared MLP, summed."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale `(n, c, h, w)` by a gate a channel.

        Both pooled vectors stand side by side in one `(n, c, 1, 2)` map: the shared first layer is
        a 1x1 convolution over it, the second a 1x2 convolution that also sums the two.
        """
        squeeze, excite = self.mlp[1], self.mlp[3]
        assert isinstance(squeeze, nn.Linear) and isinstance(excite, nn.Linear)
        pooled = torch.cat((F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)), dim=3)
        hidden = F.relu(F.conv2d(pooled, squeeze.weight[:, :, None, None], squeeze.bias))
        weight = excite.weight[:, :, None, None].expand(-1, -1, 1, 2)
        return x * torch.sigmoid(F.conv2d(hidden, weight, 2 * excite.bias))


class ConvBn(nn.Module):
    """A convolution and its batch norm, under the authors' names."""

    def __init__(self, in_channels: int, out_channels: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, side, padding=side // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised convolution of `x`."""
        out: Tensor = self.bn(self.conv(x))
        return out


class SpatialGate(nn.Module):
    """CBAM's spatial gate: a 7x7 convolution over the channels' maximum and mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = ConvBn(2, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        """Scale `(n, c, h, w)` by a gate a position."""
        summary = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.spatial(summary))


class Cbam(nn.Module):
    """CBAM (Woo et al., ECCV 2018): the channel gate, then the spatial gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Gate `(n, c, h, w)` by channel, then by position."""
        out: Tensor = self.SpatialGate(self.ChannelGate(x))
        return out


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return the 1x1 shortcut of a residual block that changes its shape, else None."""
    if stride == 1 and in_channels == out_channels:
        return None
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """ResNet's basic block."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = projection(in_channels, out_channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        """Return what the block adds to its shortcut."""
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's `(n, out_channels, h / stride, w / stride)`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.residual(x) + shortcut)


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


def stage(
    block: type[nn.Module], in_channels: int, out_channels: int, stride: int
) -> nn.Sequential:
    """Return two blocks of which the first changes the shape."""
    return nn.Sequential(
        block(in_channels, out_channels, stride), block(out_channels, out_channels, 1)
    )


class MaNet(nn.Module):
    """MA-Net with its fusion: normalised faces in, probabilities out."""

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
            faces: `(n, 3, side, side)` float32, normalised; side a multiple of 32.
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
        """Return `(n, classes)` probabilities of `(n, 3, side, side)` normalised faces."""
        local, scales = self.logits(faces)
        return torch.softmax(BETA * local + (1 - BETA) * scales, dim=1)


@network(
    "manet",
    defaults=Defaults(labels=RAF_DB_LABELS, side=224, side_multiple=32),
    keep_float=("*.cbam.*", "fc_1", "fc_2"),
    checkpoint="manet-ferplus.safetensors",
)
def manet(state: Mapping[str, Tensor]) -> MaNet:
    """Build an MA-Net whose width and class count are those of a checkpoint's tensors.

    Raises:
        KeyError: the tensors that tell the sizes are missing.
    """
    return MaNet(classes=len(state["fc_1.bias"]), width=len(state["conv1.weight"]) / 64)
