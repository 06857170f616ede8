"""DSAN, reconstructed: a deeply supervised network with attention, its heads ensembled.

Fan, Li, Lam: "Facial Expression Recognition With Deeply-Supervised Attention Network", IEEE TAFFC
13(2), 2022 (doi 10.1109/taffc.2020.2988264). Neither its text beyond the abstract nor its code is
public, so its accuracy is not claimed here.

Sourced, from the network definition of DSN, the predecessor by the same first author (ICMI 2018):
VGG-16's convolutions or a ResNet's, tapped after each of their five groups and after a pooling; the
side branches and their kernels; the short connections from deep to shallow maps; a linear head on
every map and one on their fusion; equal weights in the loss; 224 px, BGR, channel means, no
scaling. From DSAN's abstract: attention for local features, and the ensemble of all scores.

Reconstructed: CBAM is the attention, on each tapped feature before its side branch; the ensemble is
the mean of the heads' softmax; ResNet-18 is tapped after its stem and its four stages; maps are
upsampled with half-pixel centers; all initial weights but the fusion's; the order of the classes.
`attention="none"` is DSN with that ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feredge.export.models.blocks import BasicBlock, Cbam, stage
from feredge.export.models.registry import Defaults, network
from feredge.runtime.errors import CheckpointError

CHANNELS = {"vgg16": (64, 128, 256, 512, 512), "resnet18": (64, 64, 128, 256, 512)}  # of the groups
VGG16_CONVS = (2, 2, 3, 3, 3)  # in each group
STRIDES = {"vgg16": (1, 2, 4, 8, 16, 16), "resnet18": (2, 4, 8, 16, 32, 32)}  # of the six taps
SIDE_CONVS = ((3, 64), (3, 64), (5, 128), (5, 128), (5, 256), (7, 256))  # kernels and channels
DEEPER = {3: (5, 4), 2: (5, 4), 1: (5, 4, 3, 2), 0: (5, 4, 3, 2)}  # the maps that join a map
FIRST_KERNEL = {"vgg16": 3, "resnet18": 7}
PIXEL_STD = 64  # about that of 0 to 255 less its mean
DEFAULTS = Defaults(
    labels=("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"),
    side=224, side_multiple=32, channels="bgr",
    mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255, 1 / 255, 1 / 255),
)
KEEP_FLOAT = ("*.ChannelGate.*",)
BACKBONE = ("trunk.*",)


def vgg16(channels: Sequence[int]) -> nn.ModuleList:
    """Return VGG-16's five groups of convolutions, each behind the pooling of the one before."""
    groups, before = nn.ModuleList(), 3
    for convs, after in zip(VGG16_CONVS, channels):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if len(groups) else []
        for _ in range(convs):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        groups.append(nn.Sequential(*layers))
    return groups


def resnet18(channels: Sequence[int]) -> nn.ModuleList:
    """Return ResNet-18's stem and its four stages, the first behind the stem's pooling."""
    stem, c1, c2, c3, c4 = channels
    conv = nn.Conv2d(3, stem, 7, 2, padding=3, bias=False)
    return nn.ModuleList([
        nn.Sequential(conv, nn.BatchNorm2d(stem), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 2, padding=1), stage(BasicBlock, stem, c1, 1)),
        stage(BasicBlock, c1, c2, 2), stage(BasicBlock, c2, c3, 2), stage(BasicBlock, c3, c4, 2),
    ])


TRUNKS = {"vgg16": vgg16, "resnet18": resnet18}


class SideBranch(nn.Module):
    """A tapped feature becomes a map of one channel."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2)
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the `(n, 1, h, w)` map of `(n, c, h, w)`."""
        out: Tensor = self.score(F.relu(self.conv(x)))
        return out


def upsample(x: Tensor, factor: int) -> Tensor:
    """Upsample `(n, 1, h, w)` linearly, with half-pixel centers as every backend has them."""
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="bilinear")


class Dsan(nn.Module):
    """DSAN with its ensemble: normalized faces in, probabilities out.

    Args:
        backbone: `vgg16` or `resnet18`.
        classes: scores of every head.
        side: of the faces, px, a multiple of 32; the heads are made for it.
        attention: `cbam`, or `none` for the predecessor.
        width: multiplies every channel count.
    """

    def __init__(self, backbone: str = "vgg16", classes: int = 7, side: int = 224,
                 attention: str = "cbam", width: float = 1.0) -> None:
        super().__init__()
        self.side_px, self.variant = side, f"{attention}-w{round(100 * width)}"
        self.strides = STRIDES[backbone]
        channels = [round(width * c) for c in CHANNELS[backbone]]
        self.trunk = TRUNKS[backbone](channels)
        channels.append(channels[-1])
        self.attention = nn.ModuleList(
            Cbam(c) if attention == "cbam" else nn.Identity() for c in channels
        )
        self.sides = nn.ModuleList(
            SideBranch(c, round(width * out), kernel)
            for c, (kernel, out) in zip(channels, SIDE_CONVS)
        )
        self.joins = nn.ModuleDict(
            {str(k): nn.Conv2d(1 + len(deeper), 1, 1) for k, deeper in DEEPER.items()}
        )
        self.fusion = nn.Conv2d(len(self.strides), 1, 1)
        self.heads = nn.ModuleList(nn.Linear((side // s) ** 2, classes) for s in self.strides)
        self.fused_head = nn.Linear(side**2, classes)
        self.init_weights()

    def init_weights(self) -> None:
        """Set the weights to start from: He's for convolutions, an equal share of joined maps."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, BasicBlock):  # sums would grow until statistics are learned
                nn.init.constant_(module.bn2.weight, 0.5)
        for join in (self.fusion, *self.joins.values()):
            weight = join.get_parameter("weight")
            nn.init.constant_(weight, 1 / weight.shape[1])
        with torch.no_grad():  # the input is not scaled, so the first convolution is
            self.get_parameter("trunk.0.0.weight").div_(PIXEL_STD)

    def taps(self, faces: Tensor) -> list[Tensor]:
        """Return the trunk's six features, shallow to deep."""
        features, x = [], faces
        for group in self.trunk:
            x = group(x)
            features.append(x)
        return [*features, F.avg_pool2d(x, 3, 1, padding=1)]

    def maps(self, faces: Tensor) -> list[Tensor]:
        """Return the six `(n, 1, h, w)` maps, shallow to deep, each joined by deeper ones."""
        maps = [side(attend(x)) for side, attend, x
                in zip(self.sides, self.attention, self.taps(faces))]
        for k, deeper in DEEPER.items():  # from deep to shallow: what joins is joined itself
            joining = [upsample(maps[d], self.strides[d] // self.strides[k]) for d in deeper]
            maps[k] = self.joins[str(k)](torch.cat([maps[k], *joining], dim=1))
        return maps

    def logits(self, faces: Tensor) -> list[Tensor]:
        """Return the `(n, classes)` scores of every head, shallow to deep, the fusion's last.

        Args:
            faces: `(n, 3, side, side)` float32, normalized.
        """
        maps = self.maps(faces)
        whole = torch.cat([upsample(x, s) for x, s in zip(maps, self.strides)], dim=1)
        scores = [head(x.flatten(1)) for head, x in zip(self.heads, maps)]
        return [*scores, self.fused_head(self.fusion(whole).flatten(1))]

    def forward(self, faces: Tensor) -> Tensor:
        """Return `(n, classes)` probabilities of `(n, 3, side, side)` normalized faces."""
        return torch.stack(self.logits(faces)).softmax(dim=2).mean(dim=0)


def dsan_from_state(backbone: str, state: Mapping[str, Tensor], classes: int, side: int) -> Dsan:
    """Build a network with the sizes of a checkpoint's tensors, or without any at full width.

    Raises:
        CheckpointError: the checkpoint has another backbone.
        KeyError: the tensors that define the sizes are missing.
    """
    if not state:
        return Dsan(backbone, classes, side)
    first, head = state["trunk.0.0.weight"], state["fused_head.weight"]
    if first.shape[-1] != FIRST_KERNEL[backbone]:
        raise CheckpointError(f"the checkpoint's backbone is not {backbone}: --model dsan takes "
                              "vgg16, --model dsan-resnet18 takes resnet18")
    attention = "cbam" if any(name.startswith("attention.") for name in state) else "none"
    return Dsan(backbone, len(head), isqrt(head.shape[1]), attention, len(first) / 64)


@network("dsan", DEFAULTS, KEEP_FLOAT, backbone=BACKBONE)
def dsan(state: Mapping[str, Tensor], classes: int = 7, side: int = 224) -> Dsan:
    """Build a DSAN on VGG-16; a checkpoint's tensors define classes, side, attention and width."""
    return dsan_from_state("vgg16", state, classes, side)


@network("dsan-resnet18", DEFAULTS, KEEP_FLOAT, backbone=BACKBONE,
         checkpoint="dsan-resnet18-ferplus.safetensors")
def dsan_resnet18(state: Mapping[str, Tensor], classes: int = 7, side: int = 224) -> Dsan:
    """Build a DSAN on ResNet-18, for small devices; sizes as of `dsan`."""
    return dsan_from_state("resnet18", state, classes, side)
