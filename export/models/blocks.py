"""The blocks that networks share: ResNet's basic block, and CBAM.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Woo et al., "CBAM:
Convolutional Block Attention Module", ECCV 2018. Module names are those of MA-Net's authors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        """Return the normalized convolution of `x`."""
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


def stage(
    block: type[nn.Module], in_channels: int, out_channels: int, stride: int
) -> nn.Sequential:
    """Return two blocks of which the first changes the shape."""
    return nn.Sequential(
        block(in_channels, out_channels, stride), block(out_channels, out_channels, 1)
    )
