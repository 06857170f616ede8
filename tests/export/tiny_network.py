"""A network of one's own: fer-export --model tiny_network:tiny."""

from torch import nn

from feredge.export.models.registry import Defaults, network


class Tiny(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU(),
        )
        self.head = nn.Linear(32, classes)

    def forward(self, faces):
        return self.head(self.features(faces).mean((2, 3))).softmax(dim=1)


@network(
    "tiny",
    defaults=Defaults(labels=("calm", "tense"), side=32, mean=(0.5, 0.5, 0.5)),
    keep_float=("head",),
    backbone=("features.*",),
)
def tiny(state, classes, side):
    return Tiny(classes)
