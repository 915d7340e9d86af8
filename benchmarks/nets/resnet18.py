"""torchvision's ResNet-18 with the stem that small images get, on Fashion-MNIST in three channels; 11,173,962 parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.data import fashion
from benchmarks.recipe import Recipe

FULL = Recipe(model={"narrower": 1}, data={"count": 2000, "side": 32}, epochs=4, batch=32, samples=16)
QUICK = Recipe(model={"narrower": 4}, data={"count": 600, "side": 16}, epochs=4, batch=32, samples=8)


class Small(ResNet):  # type: ignore[misc]
    """ResNet-18 with a first convolution 3x3 of stride 1, without the first pooling, and with 1 in so many channels."""

    def __init__(self, narrower: int) -> None:
        self.narrower = narrower
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=10)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.maxpool = nn.Identity()
        self.fc = nn.Linear(512 // narrower, 10)

    def _make_layer(self, block: Any, planes: int, *rest: Any, **named: Any) -> nn.Sequential:
        stage: nn.Sequential = super()._make_layer(block, planes // self.narrower, *rest, **named)
        return stage


def build(narrower: int) -> nn.Module:
    """Return it; narrower than torchvision's by that factor in the four stages."""
    return Small(narrower)


def data(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Return images (count, 3, side, side) and classes."""
    return fashion(count, side=side, channels=3)
