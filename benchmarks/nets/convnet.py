"""Four convolutions with BatchNorm on Fashion-MNIST; FULL has 241,898 parameters."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.data import fashion
from benchmarks.recipe import Recipe

FULL = Recipe(model={"width": 32}, data={"count": 10_000}, epochs=8, samples=256)
QUICK = Recipe(model={"width": 8}, data={"count": 2000}, epochs=4, batch=32, samples=64)


def build(width: int) -> nn.Module:
    """Return convolutions with width, 2 width, 4 width and 4 width channels, pooled after the first two and at the end."""
    pool = nn.MaxPool2d(2)
    return nn.Sequential(
        *_layer(1, width),
        pool,
        *_layer(width, 2 * width),
        pool,
        *_layer(2 * width, 4 * width),
        *_layer(4 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def data(count: int) -> tuple[Tensor, Tensor]:
    """Return images (count, 1, 28, 28) and classes."""
    return fashion(count)


def _layer(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
