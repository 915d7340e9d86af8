"""Three dense layers with ReLU on Fashion-MNIST; FULL has 669,706 parameters."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.data import fashion
from benchmarks.recipe import Recipe

FULL = Recipe(model={"hidden": 512}, data={"count": 10_000}, epochs=12, samples=2000)
QUICK = Recipe(model={"hidden": 128}, data={"count": 4000}, epochs=8, samples=500)


def build(hidden: int) -> nn.Module:
    """Return 784 - hidden - hidden - 10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    )


def data(count: int) -> tuple[Tensor, Tensor]:
    """Return images (count, 1, 28, 28) and classes."""
    return fashion(count)
